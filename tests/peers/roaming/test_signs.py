"""The relay's word that another peer is there again: a session without a path asks at once then."""

import asyncio
import dataclasses
import itertools
from collections.abc import Iterator

import pytest

from peers import UNKNOWN, Identity, Mode, Peer, PeerConfig, Presence, Session, SessionLost
from peers.roaming import pauses
from protocol.errors import PathFailed, PeerOffline, Refused, RoamRelayError
from protocol.messages import PeerState
from relay.server import RelayServer
from tests.peers.roaming.fakes import CALLEE, THERE, World, turns
from tests.support.fake_path import FakePath
from tests.support.faults import reset
from tests.support.rooms import rooms
from tests.support.sessions import pair
from tests.support.virtual_time import run

ONLINE = Presence(THERE.guid, PeerState.ONLINE, 0.0, moved=False)
MOVED = Presence(THERE.guid, PeerState.ONLINE, 0.0, moved=True)
SUSPECT = Presence(THERE.guid, PeerState.SUSPECT, 1.0, moved=False)
OFFLINE, FAILED = PeerOffline("gone"), PathFailed("no way")


@pytest.fixture(autouse=True)
def no_time_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two rounds there is an hour, unless something cuts it short."""

    def hours(random: object) -> Iterator[float]:
        return itertools.repeat(3600.0)

    monkeypatch.setattr(pauses, "backoff", hours)
    monkeypatch.setattr(pauses, "LONGEST_WITHOUT_PATH", 3600.0)
    monkeypatch.setattr(pauses, "_LONGEST", 7200.0)


async def pathless(world: World, error: RoamRelayError) -> Session:
    """A session that has lost its path, and one round for the next one."""
    path = FakePath()
    session = await world.opened(path=path)
    path.lose("gone")
    await turns()
    assert world.watched == [], "who may come back at once is not watched"
    world.rounds.last.fails(error)
    await turns()
    assert world.watched == [THERE.guid]
    return session


@pytest.mark.parametrize(
    ("error", "said", "asks"),
    [
        (OFFLINE, [ONLINE], True),
        (FAILED, [ONLINE], False),
        (FAILED, [ONLINE, MOVED], True),
        (OFFLINE, [SUSPECT], False),
        (OFFLINE, [SUSPECT, ONLINE], True),
        (OFFLINE, [Refused("not yours")], False),
        (OFFLINE, [SUSPECT, Refused("not any more")], True),
    ],
)
def test_what_is_a_reason_to_ask_at_once(
    error: RoamRelayError, said: list[Presence | RoamRelayError], asks: bool
) -> None:
    async def scene() -> None:
        world = World()
        session = await pathless(world, error)
        rounds = len(world.rounds.calls)
        for one in said:
            world.presences.put_nowait(one)
        await turns()
        assert len(world.rounds.calls) - rounds == int(asks)
        session.abort()
        await turns()
        assert world.watched == []

    run(scene())


@pytest.mark.parametrize(
    ("error", "said", "asks"),
    [
        (OFFLINE, [SUSPECT], False),
        (OFFLINE, [], True),
        (FAILED, [SUSPECT], True),
        (OFFLINE, [Refused("not yours")], True),
        (OFFLINE, [SUSPECT, Refused("not any more")], True),
        (OFFLINE, [SUSPECT, dataclasses.replace(SUSPECT, state=UNKNOWN)], True),
    ],
)
def test_only_who_will_be_told_asks_seldom(
    monkeypatch: pytest.MonkeyPatch,
    error: RoamRelayError,
    said: list[Presence | RoamRelayError],
    asks: bool,
) -> None:
    monkeypatch.setattr(pauses, "LONGEST_WITHOUT_PATH", 1.0)

    async def scene() -> None:
        world = World()
        session = await pathless(world, error)
        for one in said:
            world.presences.put_nowait(one)
        await asyncio.sleep(2.0)
        if world.rounds.last.waits:
            world.rounds.last.fails(error)
        await turns()
        rounds = len(world.rounds.calls)
        await asyncio.sleep(1.5)
        assert (len(world.rounds.calls) > rounds) is asks
        session.abort()
        await turns()

    run(scene())


def test_who_has_a_path_again_waits_for_no_sign() -> None:
    async def scene() -> None:
        world = World()
        session = await pathless(world, OFFLINE)
        world.presences.put_nowait(ONLINE)
        await turns()
        living = world.rounds.last.finds()
        await turns()
        assert session.path is living
        assert world.watched == []
        session.abort()

    run(scene())


def test_sessions_with_one_peer_share_one_watch() -> None:
    async def scene() -> None:
        world = World()
        first = await pathless(world, OFFLINE)
        path = FakePath()
        second = world.accepted(path, CALLEE).session
        path.lose("gone")
        await asyncio.sleep(1)
        world.rounds.last.fails(OFFLINE)
        await turns()
        assert world.watched == [THERE.guid]
        first.abort()
        await turns()
        assert world.watched == [THERE.guid], "the other one waits still"
        rounds = len(world.rounds.calls)
        world.presences.put_nowait(ONLINE)
        await turns()
        assert len(world.rounds.calls) == rounds + 1
        second.abort()
        await turns()
        assert world.watched == []

    run(scene())


def test_a_watch_that_was_refused_is_begun_anew_with_the_next_round() -> None:
    """The relay still knew the program that was there before, which disclosed nothing."""

    async def scene() -> None:
        world = World()
        session = await pathless(world, FAILED)
        world.presences.put_nowait(Refused("not yours"))
        await turns()
        assert world.watched == []
        for driver_rounds in (1, 2):
            world.sessions.relay_found()
            await turns()
            world.rounds.last.fails(OFFLINE)
            await turns()
            assert world.watched == [THERE.guid], driver_rounds
        rounds = len(world.rounds.calls)
        for one in (SUSPECT, Refused("not any more")):
            world.presences.put_nowait(one)
        await turns()
        assert len(world.rounds.calls) == rounds + 1
        session.abort()

    run(scene())


def test_whoever_was_unknown_may_have_been_there_all_the_time() -> None:
    async def scene() -> None:
        world = World()
        session = await pathless(world, FAILED)
        rounds = len(world.rounds.calls)
        for one in (SUSPECT, dataclasses.replace(SUSPECT, state=UNKNOWN), ONLINE):
            world.presences.put_nowait(one)
        await turns()
        assert len(world.rounds.calls) == rounds
        session.abort()

    run(scene())


@pytest.mark.parametrize("mode", [Mode.P2P, Mode.COMBINED, Mode.CENTRAL])
async def test_a_contact_that_was_restarted(relay: RelayServer, bob: Peer, mode: Mode) -> None:
    """No pause ends in this test: only the relay's word can."""
    identity = Identity.generate()
    config = PeerConfig(close_timeout=0.1)
    async with Peer(identity, relay.url, config=config) as before, asyncio.timeout(60):
        here, there = await pair(before, bob, mode)
        await here.send(b"1")
        assert await there.receive() == b"1"
        # As one that was killed: nothing of it says anything any more.
        await rooms(before).registration.close()
        rooms(before).direct.close()
        await rooms(before).local.tasks.close()
        reset(there)
        if not here.is_over:
            async for event in here.events():
                if event.path is None:
                    break
        await here.send(b"2")
        lost = asyncio.create_task(here.receive())
        # A round has failed, with all the time that it takes; the next one is hours away.
        while not relay.watches:
            await asyncio.sleep(0.01)
        async with Peer(identity, relay.url) as after:
            after.listen("chat")
            await after.published()
            with pytest.raises(SessionLost, match="given the session up") as caught:
                await lost
    assert caught.value.messages == (b"2",)


@pytest.mark.parametrize("mode", [Mode.P2P, Mode.COMBINED, Mode.CENTRAL, Mode.AUTO])
async def test_a_caller_that_was_restarted(relay: RelayServer, bob: Peer, mode: Mode) -> None:
    """It offers nothing, so that nobody may watch it; but who has asked for it may know."""
    identity = Identity.generate()
    config = PeerConfig(close_timeout=0.1)
    async with Peer(identity, relay.url, config=config) as before, asyncio.timeout(60):
        here, there = await pair(bob, before, mode)
        await here.send(b"1")
        assert await there.receive() == b"1"
        await rooms(before).registration.close()
        rooms(before).direct.close()
        await rooms(before).local.tasks.close()
        reset(here)
        lost = asyncio.create_task(there.receive())
        while not relay.watches:
            await asyncio.sleep(0.01)
        async with Peer(identity, relay.url):
            with pytest.raises(SessionLost, match="given the session up"):
                await lost


async def test_a_contact_that_was_restarted_while_a_round_is_under_way(
    relay: RelayServer, alice: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is dialed where it was, and nothing answers there; the round is never over by itself."""
    identity = Identity.generate()
    config = PeerConfig(close_timeout=0.1)
    async with Peer(identity, relay.url, config=config) as before, asyncio.timeout(60):
        here, there = await pair(before, alice, Mode.P2P)

        async def silent(*args: object, **named: object) -> object:
            await asyncio.sleep(3600)
            raise AssertionError

        monkeypatch.setattr(rooms(alice).ways, "direct", silent)
        await rooms(before).registration.close()
        rooms(before).direct.close()
        await rooms(before).local.tasks.close()
        reset(there)
        lost = asyncio.create_task(here.receive())
        while not relay.watches:
            await asyncio.sleep(0.01)
        async with Peer(identity, relay.url) as after:
            after.listen("chat")
            with pytest.raises(SessionLost, match="given the session up"):
                await lost
