"""Sessions between an old party and a new one: opened, used, moved and closed from either side."""

import pytest

from tests.compat.children import Said, all_of
from tests.compat.doorway import doorway
from tests.compat.past import NEW
from tests.compat.world import EVERY_CAST, MODES, Cast, World, direct_or_relayed

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVERY_MODE = pytest.mark.parametrize("mode", MODES)

MIB = 1 << 20
SMALL = [8, 0, 100, 9000] * 3


@EVERY_CAST
@EVERY_MODE
async def test_every_message_arrives_once_and_in_order_whoever_closes(
    world: World, cast: Cast, mode: str
) -> None:
    for closing in ("caller", "callee", "both"):
        await _talk(world, cast, mode, ("raw", "raw"), closing)


@EVERY_CAST
@EVERY_MODE
async def test_every_message_arrives_over_websockets_too(
    world: World, cast: Cast, mode: str
) -> None:
    await _talk(world, cast, mode, ("websocket", "websocket"), "caller")


@EVERY_CAST
@pytest.mark.parametrize("carriers", [("raw", "websocket"), ("websocket", "raw")], ids="-".join)
async def test_the_two_legs_of_a_plane_may_differ(
    world: World, cast: Cast, carriers: tuple[str, str]
) -> None:
    await _talk(world, cast, "central", carriers, "callee")


async def _talk(
    world: World, cast: Cast, mode: str, carriers: tuple[str, str], closing: str
) -> None:
    talk = await world.talk(*await world.cast(cast, carriers), mode)
    await talk.exchange(*SMALL)
    await talk.joined(kind=direct_or_relayed(mode))
    if closing != "both":
        await talk.exchange(MIB, 8)
    # What is sent before the close is read after it.
    await all_of(*(end("send", sizes=SMALL) for end in talk.ends))
    await talk.close(*{"caller": [talk.caller], "callee": [talk.callee]}.get(closing, talk.ends))


@EVERY_CAST
@pytest.mark.parametrize("mode", ["p2p", "combined"])
async def test_a_second_network_before_the_first_one_goes(
    world: World, cast: Cast, mode: str
) -> None:
    """No old side is asked for a path that stands ready: it would go over to it."""
    talk = await world.talk(*await world.cast(cast), mode)
    for end in talk.ends:
        first, second = end.peer.hosts[:2]
        await end.peer("addresses", hosts=[first, second])
        await talk.exchange(*SMALL)
        await end("joined", host=first)
        await end.move([second], SMALL)
        await talk.other(end)("receive", count=len(SMALL))
        await end("joined", host=second)
        await talk.exchange(*SMALL)
    await talk.close(talk.callee)
    for end in talk.ends:
        await end.peer("addresses", hosts=[end.peer.hosts[0]])


@EVERY_CAST
@EVERY_MODE
async def test_a_session_outlives_its_paths_and_addresses(
    world: World, cast: Cast, mode: str
) -> None:
    talk = await world.talk(*await world.cast(cast), mode)
    kind = direct_or_relayed(mode)
    await talk.joined(kind=kind)
    for end in talk.ends:
        cutting, sending = end("cut", sizes=SMALL), talk.other(end)("send", sizes=SMALL)
        await all_of(cutting, sending, *(one("receive", count=len(SMALL)) for one in talk.ends))
        await end("joined", other=True)
        await talk.exchange(*SMALL)
    for turn, moving in ((1, [talk.caller]), (1, [talk.callee]), (2, talk.ends), (0, talk.ends)):
        await all_of(
            *(end.move([end.peer.hosts[turn]], SMALL) for end in moving),
            *(end("send", sizes=SMALL) for end in talk.ends if end not in moving),
            *(end("receive", count=len(SMALL)) for end in talk.ends),
        )
        await all_of(*(end("joined", host=end.peer.hosts[turn]) for end in moving))
        await talk.exchange(*SMALL)
    await talk.joined(kind=kind)
    await talk.close(talk.callee)


@EVERY_CAST
async def test_the_next_plane_needs_its_ticket_and_nobody_else(world: World, cast: Cast) -> None:
    _, callee = await world.cast(cast)
    async with doorway(world.relays[cast.relay].url) as door:
        caller = await world.open(cast.caller, door.url)
        talk = await world.talk(caller, callee, "central")
        await talk.exchange(*SMALL)
        # Without a control connection the caller can neither ask nor be asked for.
        door.close()
        for _ in range(2):
            await talk.caller("cut", sizes=SMALL)
            await talk.caller("joined", other=True)
            await talk.callee("receive", count=len(SMALL))
            await talk.exchange(*SMALL)
        await talk.close(talk.caller)
        await caller("shut")


@EVERY_CAST
async def test_an_old_party_is_not_told_of_half_a_close(world: World, cast: Cast) -> None:
    talk = await world.talk(*await world.cast(cast), "auto")
    versions = (cast.caller, cast.callee)
    new = [end for end, version in zip(talk.ends, versions, strict=True) if version == NEW]
    if len(new) == 2:
        await all_of(*(end("send", sizes=SMALL) for end in talk.ends))
        await talk.caller("finish")
        await all_of(*(end("receive", count=len(SMALL)) for end in talk.ends))
        await talk.callee("send", sizes=[MIB])
        await talk.close(talk.callee)
        return
    for end in new:
        with pytest.raises(Said) as said:
            await end("finish")
        assert said.value.kind == "Unsupported"
    await talk.exchange(MIB, *SMALL)
    await talk.close(talk.callee)
