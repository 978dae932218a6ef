"""The sessions of one peer in its three tables: announced, live, and closed but still answering.

First above fakes, on a clock that jumps; then between real peers.
"""

import asyncio
import dataclasses
import gc
import weakref
from typing import Any

import msgpack
import pytest

from peers import (
    Mode,
    Peer,
)
from peers.roaming import closed as closed_sessions
from peers.roaming import sessions
from peers.roaming.route import Route
from peers.session import Terms
from protocol.errors import PathFailed
from protocol.messages import PathWelcome
from protocol.session import State
from relay.server import RelayServer
from tests.peers.roaming.fakes import CALLEE, CALLER, CONFIG, HERE, THERE, World, signed, turns
from tests.support.fake_path import FakePath
from tests.support.faults import mute, reset
from tests.support.sessions import MODES, exchange, joined, moving, pair
from tests.support.virtual_time import run

# -- above fakes ------------------------------------------------------------------------------

CLOSE, CLOSED = msgpack.packb([2, 0]), msgpack.packb([3, 0])


def announced(world: World, name: bytes = b"a" * 16, seconds: float = 30.0) -> Route:
    """Announce a session that another peer wants."""
    route = world.sessions.make(name, CALLEE)
    world.sessions.announce(route, seconds)
    return route


def closed(world: World, name: bytes, terms: Terms = CALLEE) -> Route:
    """Accept a session, and let the other side close it."""
    path = FakePath()
    route = world.accepted(path, terms, name)
    path.arrives(CLOSE + CLOSED)
    assert route.session.state is State.CLOSED
    return route


async def accept(world: World, route: Route) -> None:
    path = FakePath()
    assert world.sessions.accept(route, path.path, 1, PathWelcome(), dialed_here=False)


async def accept_what_cannot_be(world: World, route: Route) -> None:
    path = FakePath()
    there = PathWelcome(received=5)
    assert not world.sessions.accept(route, path.path, 1, there, dialed_here=False)
    assert path.end == "aborted"


async def not_come(world: World, route: Route) -> None:
    await asyncio.sleep(31)


async def service_closed(world: World, route: Route) -> None:
    world.sessions.end_announced("mail")
    assert world.sessions.find_announced(route.session.id) is route, "another service's stays"
    world.sessions.end_announced("chat")


async def aborted(world: World, route: Route) -> None:
    route.session.abort()


async def peer_closed(world: World, route: Route) -> None:
    await world.sessions.close(5.0)


async def peer_aborted(world: World, route: Route) -> None:
    world.sessions.abort()


@pytest.mark.parametrize(
    "end",
    [accept, accept_what_cannot_be, not_come, service_closed, aborted, peer_closed, peer_aborted],
    ids=lambda end: end.__name__,
)
@pytest.mark.parametrize("shared", [False, True])
def test_an_announced_session_gives_its_share_back(
    monkeypatch: pytest.MonkeyPatch, end: Any, shared: bool
) -> None:
    monkeypatch.setattr(sessions, "_MAX_ANNOUNCED_EACH", 2 if shared else 1)

    async def scene() -> None:
        world = World()
        if shared:
            announced(world, b"b" * 16, 1000.0)
        assert world.sessions.may_announce(THERE.guid)
        route = announced(world)
        assert not world.sessions.may_announce(THERE.guid)
        assert world.sessions.may_announce(HERE.guid), "another peer has a share of its own"
        await end(world, route)
        assert world.sessions.may_announce(THERE.guid)
        assert world.sessions.find_announced(route.session.id) is None
        if end is not accept:
            assert route.session.is_over
        # What the clock says later is about nothing that is there.
        another = announced(world, seconds=1000.0)
        await asyncio.sleep(31)
        assert world.sessions.find_announced(another.session.id) is another
        world.sessions.abort()
        assert world.sessions.may_announce(THERE.guid)

    run(scene())


def test_a_session_goes_from_table_to_table_and_is_in_one_of_them() -> None:
    async def scene() -> None:
        world = World()
        route = announced(world)
        name = route.session.id
        assert (world.sessions.find(name), world.sessions.find_announced(name)) == (None, route)
        path = FakePath()
        assert world.sessions.accept(route, path.path, 1, PathWelcome(), dialed_here=False)
        assert (world.sessions.find(name), world.sessions.find_announced(name)) == (route, None)
        assert world.sessions.live == [route.session]
        path.arrives(CLOSE + CLOSED)
        assert world.sessions.live == []
        assert world.sessions.find(name) is None
        left = world.sessions.find_closed(name)
        assert left is not None, "it still answers"
        assert not left.would_take(1)
        assert left.would_take(2)
        late = FakePath()
        assert not world.sessions.accept(route, late.path, 2, PathWelcome(), dialed_here=False)
        assert late.end == "aborted"
        await asyncio.sleep(CONFIG.session.linger + 1)
        assert world.sessions.find_closed(name) is None

    run(scene())


def test_what_sessions_with_one_peer_agreed_on_is_kept_once() -> None:
    async def scene() -> None:
        world = World()
        names = [number.to_bytes(16) for number in range(1, 5)]
        others = dataclasses.replace(CALLEE, service="files")
        for name, terms in zip(
            names, (CALLEE, dataclasses.replace(CALLEE), others, CALLEE), strict=True
        ):
            closed(world, name, terms)
        found = [world.sessions.find_closed(name) for name in names]
        kept = [one.terms for one in found if one is not None]
        assert kept == [CALLEE, CALLEE, others, CALLEE]
        assert kept[1] is kept[0]

    run(scene())


def test_a_session_that_was_lost_does_not_answer() -> None:
    async def scene() -> None:
        world = World()
        route = world.accepted()
        route.session.abort()
        assert world.sessions.find_closed(route.session.id) is None

    run(scene())


def test_sessions_that_still_answer_have_a_bound_and_the_oldest_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(closed_sessions, "_MAX_CLOSED", 5)

    async def scene() -> None:
        world = World()
        names = [number.to_bytes(16) for number in range(8)]
        for name in names:
            closed(world, name)
        found = [world.sessions.find_closed(name) is not None for name in names]
        assert found == [False] * 3 + [True] * 5
        await asyncio.sleep(CONFIG.session.linger + 1)
        assert not any(world.sessions.find_closed(name) for name in names)

    run(scene())


def test_a_first_path_that_cannot_be_ends_what_it_was_to_begin(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene() -> None:
        world = World()
        route = world.sessions.make(b"n" * 16, CALLEE)
        path = FakePath()
        there = PathWelcome(consumed=10**6)
        assert not world.sessions.accept(route, path.path, 1, there, dialed_here=False)
        assert (path.end, route.session.is_over, world.sessions.live) == ("aborted", True, [])
        assert world.registration.held == 0
        # A later one that cannot be costs the session nothing.
        route = world.accepted()
        later = FakePath()
        assert not world.sessions.accept(route, later.path, 2, there, dialed_here=False)
        assert (later.end, world.sessions.live) == ("aborted", [route.session])
        world.sessions.abort()

    run(scene())


def test_news_of_a_session_that_has_another_s_name_is_not_about_that_one() -> None:
    async def scene() -> None:
        world = World()
        live = world.accepted(name=b"x" * 16)
        impostor = world.sessions.make(b"x" * 16, CALLEE)
        impostor.session.pin()
        impostor.session.abort()
        assert world.sessions.live == [live.session]
        assert world.sessions.find(b"x" * 16) is live
        world.sessions.abort()

    run(scene())


def test_what_the_other_side_tells_is_learned_and_tried() -> None:
    async def scene() -> None:
        world = World()
        path = FakePath()
        route = world.accepted(path, CALLER)
        moved = signed("192.0.2.9", seq=5)
        fields = [[one.body, one.signature] for one in moved]
        path.lose("gone")
        await turns()
        world.rounds.last.fails(PathFailed("not there"))
        await turns()
        second = FakePath()
        assert world.sessions.accept(route, second.path, 3, PathWelcome(), dialed_here=False)
        second.arrives(msgpack.packb([7, fields]))
        assert route.remote_entries == moved
        world.sessions.abort()

    run(scene())


@pytest.mark.parametrize("hurries", ["resume_asked", "relay_found"])
def test_a_session_that_waits_tries_at_once_where_something_has_become_possible(
    hurries: str,
) -> None:
    async def scene() -> None:
        world = World()
        path = FakePath()
        route = world.accepted(path, CALLER)
        path.lose("gone")
        await turns()
        world.rounds.last.fails(PathFailed("not there"))
        await turns()
        assert len(world.rounds.calls) == 1
        if hurries == "relay_found":
            world.sessions.relay_found()
        else:
            world.sessions.resume_asked(route)
        await turns()
        assert len(world.rounds.calls) == 2
        world.sessions.abort()
        world.sessions.resume_asked(route)

    run(scene())


def test_where_this_side_is_is_told_to_those_who_may_know() -> None:
    async def scene() -> None:
        world = World()
        told, silent = FakePath(), FakePath()
        world.accepted(told, name=b"t" * 16)
        hidden = dataclasses.replace(CALLEE, discloses=False)
        world.accepted(silent, hidden, name=b"h" * 16)
        await turns()
        before = len(told.sent), len(silent.sent)
        world.sessions.tell_locations()
        await turns()
        assert (len(told.sent), len(silent.sent)) == (before[0] + 1, before[1])
        world.sessions.abort()

    run(scene())


def test_whoever_moves_tries_first_on_either_side() -> None:
    async def scene() -> None:
        world = World()
        route = world.accepted(terms=CALLEE)
        world.sessions.network_changed(frozenset({"10.0.0.1"}))
        await turns()
        assert len(world.rounds.calls) == 1, "not one stagger later"
        path = world.rounds.last.finds()
        await turns()
        assert route.session.path is path
        path.lose("by itself")
        await turns()
        assert len(world.rounds.calls) == 1
        world.sessions.abort()

    run(scene())


@pytest.mark.parametrize("cancelled", [False, True])
def test_closing_leaves_no_session_although_the_other_sides_do_not_answer(cancelled: bool) -> None:
    async def scene() -> None:
        world = World()
        answers, silent = FakePath(), FakePath()
        first = world.accepted(answers, name=b"1" * 16).session
        second = world.accepted(silent, name=b"2" * 16).session
        third = announced(world).session
        closing = asyncio.create_task(world.sessions.close(5.0))
        await turns()
        answers.arrives(CLOSE + CLOSED)
        await turns()
        assert (first.state, second.is_over, third.is_over) == (State.CLOSED, False, False)
        if cancelled:
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
        else:
            await closing
        assert (second.is_over, third.is_over, world.sessions.live) == (True, True, [])

    run(scene())


@pytest.mark.parametrize("how", ["announced", "closed"])
def test_nothing_of_a_closed_peer_is_held_by_what_would_have_come_later(how: str) -> None:
    """The loop holds a timer, and a timer holds the peer with all that it has."""

    async def scene() -> None:
        world = World()
        left = weakref.ref(world.sessions)
        if how == "closed":
            closed(world, b"1" * 16)
        else:
            announced(world)
        await world.sessions.close(5.0)
        await turns()
        del world
        gc.collect()
        assert left() is None

    run(scene())


def test_a_session_that_has_come_is_not_held_by_the_time_it_had_for_coming() -> None:
    async def scene() -> None:
        world = World()
        route = announced(world)
        left = weakref.ref(route)
        await accept(world, route)
        route.session.abort()
        await turns()
        del route
        gc.collect()
        assert left() is None

    run(scene())


# -- between real peers -----------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("who", ["caller", "callee", "both"])
async def test_a_session_follows_its_ends_to_their_new_addresses(
    relay: RelayServer, mode: Mode, who: str
) -> None:
    async with moving(relay, 21) as (alice, here, a), moving(relay, 22) as (bob, there, b):
        caller, callee = await pair(alice, bob, mode)
        for turn in (1, 2, 0):
            if who in ("caller", "both"):
                there.set(b[turn])
            if who in ("callee", "both"):
                here.set(a[turn])
            await exchange(caller, callee)
            if who in ("caller", "both"):
                await joined(caller, host=b[turn])
            if who in ("callee", "both"):
                await joined(callee, host=a[turn])
        await caller.close()


async def test_an_address_that_is_merely_added_disturbs_no_session(relay: RelayServer) -> None:
    """The draft's rule (§4.2.1)."""
    async with moving(relay, 21) as (alice, here, a), moving(relay, 22) as (bob, _, _):
        caller, callee = await pair(alice, bob, Mode.P2P)
        path = caller.path
        before = (await bob.locate(alice.guid, "chat")).entries
        here.set(a[0], a[1])
        async with asyncio.timeout(60):
            while (found := await bob.locate(alice.guid, "chat")).entries[0].host != a[1]:
                await asyncio.sleep(0)
        assert found.entries[0].seq > before[0].seq
        assert {entry.host for entry in found.entries} == {a[0], a[1]}
        await exchange(caller, callee)
        assert caller.path is path
        # New sessions try the new address first, at once.
        other = await bob.connect(alice.guid, "chat", mode="p2p", select="latest")
        tried = [event.where for event in other.explain().events if event.what == "candidate"]
        assert [where.partition(":")[0] for where in tried] == [a[1], a[0]]
        await other.close()


async def test_a_close_whose_last_answer_was_lost_is_still_clean(alice: Peer, bob: Peer) -> None:
    caller, callee = await pair(alice, bob, Mode.P2P)
    await caller.send(b"last words")
    closing = asyncio.create_task(caller.close())
    assert await callee.receive() == b"last words"
    # What the callee says from now on does not arrive: its "closed" is lost with the path.
    assert callee.path is not None
    mute(callee)
    reset(callee)
    await callee.close()
    await closing
