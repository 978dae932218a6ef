"""Names: the zone of a relay of one version, registered in and asked by peers of the other one."""

import pytest

from tests.compat.children import Said, all_of
from tests.compat.past import NEW, OLD
from tests.compat.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(("relay", "named", "asking"), [(OLD, NEW, OLD), (NEW, OLD, NEW)])
async def test_a_peer_is_found_by_its_name_and_followed(
    world: World, relay: str, named: str, asking: str
) -> None:
    # The key comes from the relay; everything after that goes through the zone alone.
    at_home = await world.open(named, world.relays[relay].url)
    zone = await at_home("dns_key")
    await at_home("shut")
    callee = await world.open(named, None, ddns=zone, key=at_home.key, services={"talk": {}})
    del zone["key"]
    caller = await world.open(asking, None, ddns=zone)
    found = await caller("locate", guid=callee.guid, service="talk")
    assert found == {"hosts": callee.hosts[:1], "source": "dns", "dropped": []}
    # Nobody but the other side itself can say that it knows the session no more.
    talk = await world.talk(caller, callee, "p2p")
    await talk.exchange(8)
    await talk.callee("abort", cutting=True)
    with pytest.raises(Said, match="SessionLost"):
        await talk.caller("receive", count=1)
    talk = await world.talk(caller, callee, "p2p")
    await talk.exchange(8, 100_000)
    # Neither knows where the other one is now: the zone does.
    await all_of(*(end.move(end.peer.hosts[1:2], [8, 9]) for end in talk.ends))
    await all_of(*(end("receive", count=2) for end in talk.ends))
    await all_of(*(end("joined", host=end.peer.hosts[1]) for end in talk.ends))
    await talk.exchange(8)
    await talk.close(talk.caller)
