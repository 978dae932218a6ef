"""A relay that is replaced by one of the other version while peers of both are in conversation."""

import contextlib

import pytest

from tests.compat.children import Relay, all_of
from tests.compat.past import NEW, OLD
from tests.compat.world import MODES, World, direct_or_relayed
from tests.support.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAME = "relay that is replaced"


async def test_sessions_and_names_outlive_an_upgrade_and_its_way_back(world: World) -> None:
    file = world.config(NAME, free_port(), free_port())
    relay = Relay(world.trees[OLD], file)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(world.running(relay))
        url = relay.url
        at_home = await world.open(OLD, url)
        zone = await at_home("dns_key")
        await at_home("shut")
        named = await world.open(OLD, None, ddns=zone, key=at_home.key, services={"talk": {}})
        asking = await world.open(NEW, None, ddns=zone | {"key": None})
        callers = [await world.open(version, url) for version in (OLD, NEW)]
        callees = [await world.open(version, url, services={"talk": {}}) for version in (NEW, OLD)]
        pairs = list(zip(callers, callees, strict=True))
        talks = [(mode, await world.talk(*pair, mode)) for pair in pairs for mode in MODES]
        ends = [end for _, talk in talks for end in talk.ends]
        for version in (NEW, OLD):
            await all_of(*(talk.joined(kind=direct_or_relayed(mode)) for mode, talk in talks))
            await relay.stop()
            await all_of(*(end("send", sizes=[8, 9]) for end in ends))
            relay = Relay(world.trees[version], file)
            await stack.enter_async_context(world.running(relay))
            await all_of(*(end("receive", count=2) for end in ends))
            await all_of(*(talk.exchange(8, 100_000) for _, talk in talks))
            for pair in pairs:
                talk = await world.talk(*pair, "central")
                await talk.exchange(8)
                await talk.close(talk.caller)
            if version == NEW:
                # By what the old relay has stored. A store goes up, and need not come down again.
                found = await asking("locate", guid=named.guid, service="talk")
                assert found == {"hosts": named.hosts[:1], "source": "dns", "dropped": []}
                await named("shut")
                for part in file.parent.glob("dns.sqlite*"):
                    part.unlink()
        await all_of(*(talk.close(talk.callee) for _, talk in talks))
        # They take leave while there is a relay.
        for peer in (asking, *callers, *callees):
            await peer("shut")
