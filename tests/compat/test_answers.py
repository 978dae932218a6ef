"""What relays and peers of different versions answer one another: refusals, news, farewells."""

import pytest

from peers import Identity
from tests.compat.children import Said, all_of
from tests.compat.past import NEW, OLD
from tests.compat.world import CASTS, EVERY_CAST, MODES, Cast, Peer, Talk, World, direct_or_relayed

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHORT = {"ping_interval": 0.2, "silence_limit": 1.0}


async def refusal(caller: Peer, guid: str, service: str, mode: str) -> tuple[str, str | None]:
    """Return why a session cannot be opened."""
    with pytest.raises(Said) as said:
        await caller("connect", end="refused", guid=guid, service=service, mode=mode)
    return said.value.kind, said.value.code


@EVERY_CAST
async def test_a_refusal_has_its_code_and_what_is_hidden_is_reached_through_the_relay(
    world: World, cast: Cast
) -> None:
    caller, callee = await world.cast(cast)
    nobody = Identity.generate().guid
    for mode in MODES:
        assert await refusal(caller, nobody, "talk", mode) == ("UnknownPeer", "unknown_peer")
        unknown = await refusal(caller, callee.guid, "absent", mode)
        assert unknown == ("UnknownService", "unknown_service")
        assert await refusal(caller, callee.guid, "private", mode) == ("Refused", "refused")
        if mode == "p2p":
            assert await refusal(caller, callee.guid, "hidden", mode) == ("Refused", "refused")
        else:
            # Where no address is told there is the relay.
            left = "auto" if mode == "combined" else mode
            talk = await world.talk(caller, callee, mode, becomes=left, service="hidden")
            await talk.joined(kind="relayed")
            await talk.close(talk.caller)


@EVERY_CAST
async def test_metadata_is_said_and_seen_by_new_parties_and_passed_over_by_old_ones(
    world: World, cast: Cast
) -> None:
    """An old caller says none, and is refused by a program that wants some; an old callee sees
    none, and takes the session."""
    caller, callee = await world.cast(cast)
    word = b"room 7".hex()
    if cast.callee == OLD:
        for mode in MODES:
            talk = await world.talk(caller, callee, mode, metadata=word)
            await talk.exchange(10)
            await talk.close(talk.caller)
        return
    url = world.relays[cast.relay].url
    asks = await world.open(NEW, url, services={"asked": {"takes": word}})
    for mode in MODES:
        if cast.caller == OLD:
            assert await refusal(caller, asks.guid, "asked", mode) == ("Refused", "refused")
        else:
            talk = await world.talk(caller, asks, mode, service="asked", metadata=word)
            await talk.close(talk.caller)
    await asks("shut")


async def test_a_peer_is_watched_while_it_comes_moves_and_goes(world: World) -> None:
    # All at once, as a relay tells of one peer once in a second.
    for cast, told in zip(
        CASTS, await all_of(*(_watched(world, cast) for cast in CASTS)), strict=True
    ):
        # As long as it offers nothing it is away, under whatever number.
        came = told.index("online")
        assert set(told[:came]) == {"away"}, cast
        assert set(told[came + 1 : -1]) == {"moved"}, cast


async def _watched(world: World, cast: Cast) -> list[str]:
    url = world.relays[cast.relay].url
    caller = await world.peer(cast.relay, cast.caller, "caller")
    before = await world.open(cast.callee, url, services={"talk": {}})
    await before("shut")
    offline = await refusal(caller, before.guid, "talk", "combined")
    assert offline == ("PeerOffline", "peer_offline")
    about = {"guid": before.guid, "service": "later", "mode": "combined", "wait": True}

    async def come() -> Peer:
        await caller.party("told", guid=before.guid, word="away")
        callee = await world.open(cast.callee, url, services={"talk": {}}, key=before.key)
        await caller.party("told", guid=before.guid, word="online")
        await callee("offer", service="later")
        return callee

    async def come_and_go() -> None:
        _, callee = await all_of(caller("connect", end=f"to {before.guid}", **about), come())
        await caller.party("told", guid=before.guid, word="moved")
        await callee("shut")

    told, _ = await all_of(caller("watch", guid=before.guid), come_and_go())
    return list(told)


@EVERY_CAST
async def test_the_newest_instance_takes_the_place_of_the_other(world: World, cast: Cast) -> None:
    url = world.relays[cast.relay].url
    first = await world.open(cast.caller, url, services={"talk": {}})
    second = await world.open(cast.callee, url, services={"talk": {}}, key=first.key)
    assert second.guid == first.guid
    # What 186971b raises is the base of what is raised since.
    kind = "RelayUnavailable" if cast.caller == "old" else "Superseded"
    assert await first("dismissed") == {"kind": kind, "code": "superseded"}


@EVERY_CAST
async def test_who_gives_a_session_up_says_so_or_is_asked(world: World, cast: Cast) -> None:
    caller, callee = await world.cast(cast)
    for mode in MODES:
        for giving_up in (0, 1):
            for cutting in (False, True):
                talk = await world.talk(caller, callee, mode)
                await talk.exchange(8)
                await talk.joined(kind=direct_or_relayed(mode))
                await talk.ends[giving_up]("abort", cutting=cutting)
                with pytest.raises(Said) as said:
                    await talk.ends[1 - giving_up]("receive", count=1)
                assert said.value.kind == "SessionLost"
                assert ("enough" in said.value.reason) == (not cutting), said.value


async def test_sessions_in_which_nothing_is_said_keep_their_paths(world: World) -> None:
    talks = await all_of(
        *(_quiet_talk(world, cast, mode) for cast in CASTS for mode in ("p2p", "central"))
    )
    quiet = await all_of(*(end("quiet", seconds=1.5) for talk in talks for end in talk.ends))
    assert not any(quiet), quiet
    await all_of(*(talk.exchange(8) for talk in talks))


async def _quiet_talk(world: World, cast: Cast, mode: str) -> Talk:
    url = world.relays[cast.relay].url
    caller = await world.open(cast.caller, url, session=SHORT)
    callee = await world.open(cast.callee, url, session=SHORT, services={"talk": {}})
    return await world.talk(caller, callee, mode)
