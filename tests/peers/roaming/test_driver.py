"""What looks after the paths of one session: timers, rounds, looks, and who waits for the relay.

First on a clock that jumps, above fakes; then with real peers, whose every message arrives once and
in order. What is decided when is tested in test_search.py and test_monitor.py.
"""

import asyncio
import contextlib
import dataclasses
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers import (
    Identity,
    Mode,
    PathKind,
    Peer,
    PeerConfig,
    SessionSettings,
)
from peers.choice import Candidate
from peers.roaming.monitor import ROUNDS
from peers.session import Terms
from peers.tasks import LONGEST_WITHOUT_PATH
from protocol.endpoint import Endpoint
from protocol.errors import Code, ConnectionClosed, PathFailed, RoamRelayError, SessionLost
from protocol.messages import PathWelcome
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.roaming.fakes import CALLEE, CALLER, CONFIG, World, turns
from tests.support import scale
from tests.support.fake_path import FakePath
from tests.support.faults import mute, reset
from tests.support.rooms import rooms
from tests.support.sessions import MODES, exchange, joined, moving, pair
from tests.support.virtual_time import run

# -- above fakes ------------------------------------------------------------------------------


def test_a_session_is_opened_by_its_first_round() -> None:
    async def scene() -> None:
        world = World()
        task = await world.opening()
        call = world.rounds.last
        assert (call.timeout, world.rounds.firsts, world.registration.held) == (7.0, 1, 1)
        path = call.finds()
        session = await task
        assert session.path is path
        assert world.registration.held == 0
        session.abort()

    run(scene())


def test_a_session_that_cannot_be_opened_is_over_and_says_why() -> None:
    async def scene() -> None:
        world = World()
        task = await world.opening()
        world.rounds.last.fails(PathFailed("nobody answers"))
        with pytest.raises(PathFailed, match="nobody answers"):
            await task
        assert world.sessions.live == []
        await asyncio.sleep(100)
        assert len(world.rounds.calls) == 1, "there is no second round"

    run(scene())


def test_who_stops_waiting_leaves_nothing() -> None:
    async def scene() -> None:
        world = World()
        task = await world.opening()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns()
        assert world.rounds.last.cancelled
        assert (world.sessions.live, world.registration.held) == ([], 0)
        assert len(world.local.tasks) == 0

    run(scene())


def test_a_path_that_is_lost_at_once_has_opened_the_session_all_the_same() -> None:
    """The other side has accepted it: that it was lost is for the next round to mend."""

    async def scene() -> None:
        world = World()
        task = await world.opening()
        world.rounds.last.finds(FakePath(lost_at_once=True))
        session = await task
        assert session.path is None
        assert world.registration.held == 1
        await turns()
        assert len(world.rounds.calls) == 2
        second = world.rounds.last.finds()
        await turns()
        assert session.path is second
        assert world.registration.held == 0
        session.abort()

    run(scene())


@pytest.mark.parametrize("held_finds", [True, False])
def test_what_leads_nowhere_does_not_hold_up_a_session_whose_other_side_asks(
    held_finds: bool,
) -> None:
    """What was told and is dead takes seconds to say so, that nobody learns what was there."""

    async def scene() -> None:
        world, loop = World(), asyncio.get_running_loop()
        first = FakePath()
        session = await world.opened(path=first)
        route = world.sessions.find(session.id)
        assert route is not None
        first.lose("gone")
        await turns()
        held, lost = world.rounds.last, loop.time()
        await asyncio.sleep(0.1)
        world.sessions.resume_asked(route)
        while world.rounds.last is held:
            await asyncio.sleep(0.01)
        assert loop.time() - lost == pytest.approx(4 * CONFIG.stagger, abs=0.05)
        beside = world.rounds.last
        found = held if held_finds else beside
        path = found.finds()
        await turns()
        assert session.path is path
        other = beside if held_finds else held
        if not other.cancelled:
            other.fails(PathFailed("nobody was there"))
            await turns()
        assert session.path is path
        assert len(world.rounds.calls) == 3
        session.abort()

    run(scene())


def test_a_next_path_that_is_lost_at_once_costs_a_pause() -> None:
    async def scene() -> None:
        world = World()
        first = FakePath()
        session = await world.opened(path=first)
        first.lose("gone")
        await turns()
        loop = asyncio.get_running_loop()
        began = loop.time()
        world.rounds.last.finds(FakePath(lost_at_once=True))
        while len(world.rounds.calls) < 3:
            await asyncio.sleep(0.01)
        assert loop.time() > began, "what ends at once is not tried in a circle"
        session.abort()

    run(scene())


@pytest.mark.parametrize(("terms", "wait"), [(CALLER, 0.0), (CALLEE, CONFIG.stagger)])
def test_the_caller_tries_first_and_the_other_side_a_stagger_later(
    terms: Terms, wait: float
) -> None:
    async def scene() -> None:
        world = World()
        path = FakePath()
        session = world.accepted(path, terms).session
        loop = asyncio.get_running_loop()
        began = loop.time()
        path.lose("gone")
        assert world.registration.held == 1
        while not world.rounds.calls:
            await asyncio.sleep(0.01)
        assert began + wait <= loop.time() <= began + wait + 0.02
        session.abort()

    run(scene())


def test_rounds_that_fail_are_followed_by_others_until_one_finds() -> None:
    async def scene() -> None:
        world = World()
        path = FakePath()
        session = await world.opened(path=path)
        path.lose("gone")
        await turns()
        for number in range(12):
            assert len(world.rounds.calls) == 2 + number
            world.rounds.last.fails(PathFailed("not yet"))
            await asyncio.sleep(LONGEST_WITHOUT_PATH)
            await turns()
        assert (world.registration.held, session.is_over) == (1, False)
        found = world.rounds.last.finds()
        await turns()
        assert session.path is found
        session.abort()

    run(scene())


@pytest.mark.parametrize("asked", [False, True])
def test_the_other_side_s_path_ends_the_round_unless_its_hello_has_left(asked: bool) -> None:
    async def scene() -> None:
        world = World()
        task = await world.opening()
        call = world.rounds.last
        if asked:
            call.say_hello()
        theirs = FakePath()
        (driver,) = world.sessions.live
        route = world.sessions.find(driver.id)
        assert route is not None
        assert world.sessions.accept(route, theirs.path, 1, PathWelcome(), dialed_here=False)
        session = await task
        await turns()
        assert call.cancelled is not asked
        assert (session.path, world.registration.held) == (theirs, 0)
        session.abort()
        await turns()
        assert not call.waits

    run(scene())


@pytest.mark.parametrize(("theirs", "adopted"), [(1, True), (2, False)])
def test_a_late_round_brings_the_newer_path_or_one_that_is_dropped(
    theirs: int, adopted: bool
) -> None:
    """Both sides judge by the number, and of two alike by who is the caller: it may be adopted
    although the session has a path by now."""

    async def scene() -> None:
        world = World()
        first = FakePath()
        task = await world.opening()
        call = world.rounds.last
        call.say_hello()
        (session,) = world.sessions.live
        route = world.sessions.find(session.id)
        assert route is not None
        world.sessions.accept(route, first.path, theirs, PathWelcome(), dialed_here=False)
        await task
        late = call.finds()
        await turns()
        assert session.path is (late if adopted else first)
        assert late.end == ("" if adopted else "aborted")
        assert world.registration.held == 0
        await asyncio.sleep(100)
        assert len(world.rounds.calls) == 1
        session.abort()

    run(scene())


def test_a_late_round_that_fails_disturbs_nothing() -> None:
    async def scene() -> None:
        world = World()
        session = await world.opened()
        path = session.path
        assert isinstance(path, FakePath)
        path.lose("gone")
        await turns()
        call = world.rounds.last
        call.say_hello()
        route = world.sessions.find(session.id)
        assert route is not None
        theirs = FakePath()
        world.sessions.accept(route, theirs.path, 9, PathWelcome(), dialed_here=False)
        call.fails(PathFailed("too late"))
        await asyncio.sleep(100)
        assert session.path is theirs
        assert len(world.rounds.calls) == 2
        session.abort()

    run(scene())


def test_a_round_that_was_overtaken_by_another_one_ends_without_a_word() -> None:
    async def scene() -> None:
        world = World()
        path = FakePath()
        session = await world.opened(path=path)
        route = world.sessions.find(session.id)
        assert route is not None
        path.lose("gone")
        await turns()
        late = world.rounds.last
        late.say_hello()
        theirs = FakePath()
        world.sessions.accept(route, theirs.path, 9, PathWelcome(), dialed_here=False)
        theirs.lose("gone too")
        await turns()
        now = world.rounds.last
        assert now is not late
        late.fails(PathFailed("too late"))
        await asyncio.sleep(100)
        assert now.waits
        assert world.rounds.last is now, "one round at a time"
        now.finds()
        await turns()
        assert session.path is not None
        session.abort()

    run(scene())


def test_a_round_whose_numbers_cannot_be_true_is_one_that_failed() -> None:
    async def scene() -> None:
        world = World()
        task = await world.opening()
        path = world.rounds.last.finds(received=7)
        with pytest.raises(PathFailed, match="broke the protocol"):
            await task
        assert path.end == "aborted"
        assert (world.sessions.live, world.registration.held) == ([], 0)

    run(scene())


@pytest.mark.expected_errors("nobody thought of it")
def test_what_a_round_did_not_expect_ends_this_session_and_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene() -> None:
        world = World()
        other = world.accepted(terms=CALLEE).session
        path = FakePath()
        session = await world.opened(path=path)
        path.lose("gone")
        await turns()
        world.rounds.last.fails(ZeroDivisionError("nobody thought of it"))
        await turns()
        with pytest.raises(SessionLost, match="nobody thought of it"):
            await session.receive()
        assert world.sessions.live == [other]
        task = await world.opening()
        world.rounds.last.fails(ZeroDivisionError("nobody thought of it"))
        with pytest.raises(RoamRelayError, match="nobody thought of it") as told:
            await task
        assert told.value.code is Code.INTERNAL
        assert (world.sessions.live, world.registration.held) == ([other], 0)
        other.abort()

    with caplog.at_level(logging.ERROR, "peers"):
        run(scene())
    assert [bool(one.exc_info) for one in caplog.records] == [True, True], "each once"


@pytest.mark.expected_errors("nobody thought of it")
def test_what_a_look_did_not_expect_ends_this_session_too() -> None:
    async def scene() -> None:
        world = World(probe_interval=1.0)
        session = await world.opened()
        world.probes.fault = ZeroDivisionError("nobody thought of it")
        await asyncio.sleep(1.5)
        with pytest.raises(SessionLost, match="nobody thought of it"):
            await session.receive()
        assert world.registration.held == 0

    run(scene())


def test_a_closed_peer_opens_nothing() -> None:
    async def scene() -> None:
        world = World()
        await world.local.tasks.close()
        with pytest.raises(ConnectionClosed, match="closed"):
            await world.sessions.open(CALLER, 5.0)
        assert (world.sessions.live, world.registration.held) == ([], 0)

    run(scene())


def test_an_opening_session_that_ends_is_told_to_who_opens_it() -> None:
    async def scene() -> None:
        world = World()
        task = await world.opening()
        world.sessions.abort()
        with pytest.raises(ConnectionClosed, match="before it was opened"):
            await task
        await turns()
        assert world.rounds.last.cancelled
        assert world.registration.held == 0

    run(scene())


def test_addresses_that_go_take_their_paths_with_them() -> None:
    async def scene() -> None:
        world = World()
        path = FakePath(local_host="10.0.0.1")
        session = await world.opened(path=path)
        world.sessions.network_changed(frozenset({"10.9.9.9"}))
        await turns()
        assert session.path is path
        assert path.sent, "it must answer soon, and hears where this side is now"
        world.sessions.network_changed(frozenset({"10.0.0.1"}))
        await turns()
        assert (session.path, path.end) == (None, "aborted")
        assert world.ways.changes == [frozenset({"10.9.9.9"}), frozenset({"10.0.0.1"})]
        # What is tried began in another network.
        before = world.rounds.last
        world.sessions.network_changed(frozenset())
        await turns()
        assert before.cancelled
        assert world.rounds.last.waits
        session.abort()

    run(scene())


def test_a_relayed_session_in_auto_looks_for_a_direct_path_and_takes_it() -> None:
    auto = dataclasses.replace(CALLER, mode=Mode.AUTO)

    async def scene() -> None:
        world = World()
        relayed = FakePath(PathKind.RELAYED)
        session = await world.opened(auto, relayed)
        await turns()
        (look,) = world.ways.directs
        assert look.only is None
        look.fails(PathFailed("not yet"))
        await asyncio.sleep(59)
        assert len(world.ways.directs) == 1
        await asyncio.sleep(2)
        assert world.registration.held == 0, "nobody waits for the relay meanwhile"
        direct = world.ways.directs[1].finds()
        await turns()
        assert session.path is direct
        assert relayed.end == "finished"
        session.abort()

    run(scene())


def test_a_path_that_is_found_for_a_session_that_was_pinned_meanwhile_is_dropped() -> None:
    auto = dataclasses.replace(CALLER, mode=Mode.AUTO)

    async def scene() -> None:
        world = World()
        relayed = FakePath(PathKind.RELAYED)
        session = await world.opened(auto, relayed)
        await turns()
        session.pin()
        direct = world.ways.directs[0].finds()
        await asyncio.sleep(200)
        assert (session.path, direct.end) == (relayed, "aborted")
        assert len(world.ways.directs) == 1
        session.pin(False)
        await turns()
        assert len(world.ways.directs) == 2, "it is looked after again"
        session.abort()
        await turns()
        assert world.ways.directs[1].cancelled

    run(scene())


def test_a_candidate_that_stayed_better_is_moved_to_and_the_rule_is_told() -> None:
    better = Candidate(Endpoint("192.0.2.7", 9))

    async def scene() -> None:
        world = World(probe_interval=5.0)
        first = FakePath()
        session = await world.opened(path=first)
        await asyncio.sleep(5.5)
        assert world.probes.looks == 1
        for _ in range(ROUNDS):
            world.probes.seen.note(None, 0.1)
            world.probes.seen.note(better, 0.01)
        world.probes.best = better
        await asyncio.sleep(5)
        (move,) = world.ways.directs
        assert move.only is better
        assert world.probes.seen.better() is not None
        move.fails(PathFailed("not just now"))
        await turns()
        assert world.probes.seen.better() is None, "it has to show it anew"
        await asyncio.sleep(5)
        _, move = world.ways.directs
        second = move.finds(FakePath(remote="192.0.2.7:9"))
        await turns()
        assert session.path is second
        assert "better than 192.0.2.1:9 in 5 probes" in session.explain().rule
        session.abort()
        await asyncio.sleep(100)
        assert world.probes.looks == 3, "nothing is measured for a session that is over"

    run(scene())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [*("found", "found late", "failed", "hello", "theirs", "lost", "lost", "moved")]
            + [*("gone", "pin", "unpin", "hurry", "told", "time", "abort")]
        ),
        st.floats(0, 3),
    ),
    max_size=25,
)


@given(caller=st.booleans(), auto=st.booleans(), steps=STEPS)
def test_the_relay_is_awaited_exactly_while_a_session_has_no_path(
    caller: bool, auto: bool, steps: list[tuple[str, float]]
) -> None:
    """In whatever order rounds end, paths are lost and taken, and this host moves."""
    terms = dataclasses.replace(CALLER if caller else CALLEE, mode=Mode.AUTO if auto else Mode.P2P)

    async def scene() -> None:
        world = World(probe_interval=1.0, session=SessionSettings())
        number = 1
        session = world.accepted(FakePath(PathKind.RELAYED), terms).session
        route = world.sessions.find(session.id)
        assert route is not None
        for what, seconds in steps:
            calls = [one for one in (*world.rounds.calls, *world.ways.directs) if one.waits]
            path = session.path
            match what:
                case "found" if calls:
                    calls[-1].finds()
                case "found late" if calls:
                    calls[0].finds(FakePath(lost_at_once=True))
                case "failed" if calls:
                    calls[-1].fails(PathFailed("no"))
                case "hello" if calls:
                    with contextlib.suppress(PathFailed):
                        calls[-1].say_hello()
                case "theirs" if not session.is_over:
                    number = max(number + 1, route.number)
                    world.sessions.accept(
                        route, FakePath().path, number, PathWelcome(), dialed_here=False
                    )
                case "lost" if path is not None:
                    assert isinstance(path, FakePath)
                    path.lose("gone")
                case "moved":
                    world.sessions.network_changed(frozenset())
                case "gone":
                    world.sessions.network_changed(frozenset({"10.0.0.1"}))
                case "pin" | "unpin":
                    session.pin(what == "pin")
                case "hurry":
                    world.sessions.relay_found()
                case "told":
                    world.sessions.resume_asked(route)
                case "abort" if seconds < 0.2:
                    session.abort()
                case "time":
                    await asyncio.sleep(seconds)
                case _:
                    pass
            await turns()
            searching = not session.is_over and session.path is None
            assert world.registration.held == searching
            # Nothing is under way that nobody waits for, and something is where one waits.
            under_way = [one for one in world.rounds.calls if one.waits]
            if session.is_over:
                assert not [one for one in (*under_way, *world.ways.directs) if one.waits]
        if not session.is_over and session.path is None:
            await asyncio.sleep(31)
            assert [one for one in world.rounds.calls if one.waits], "it is never silent for ever"
        session.abort()
        await turns()
        assert (world.registration.held, len(world.local.tasks)) == (0, 0)

    run(scene())


# -- between real peers -----------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("side", ["caller", "callee"])
async def test_a_cut_path_is_replaced_and_nothing_is_lost(
    alice: Peer, bob: Peer, mode: Mode, side: str
) -> None:
    here, there = await pair(alice, bob, mode)
    for _ in range(5):
        await joined(here)
        await joined(there)
        first = here.path
        reset(here if side == "caller" else there)
        await exchange(here, there)
        assert here.path is not first
    await here.close()
    await there.close()


@MODES
async def test_a_path_that_goes_silent_is_given_up(relay: RelayServer, mode: Mode) -> None:
    async with moving(relay, 21) as (alice, _, _), moving(relay, 22) as (bob, _, _):
        caller, callee = await pair(alice, bob, mode)
        await exchange(caller, callee)
        assert mute(callee)
        await exchange(caller, callee)


async def test_without_any_network_a_session_waits(relay: RelayServer) -> None:
    async with moving(relay, 21) as (alice, here, a), moving(relay, 22) as (bob, _, _):
        caller, callee = await pair(alice, bob, Mode.COMBINED)
        here.set()
        async for event in callee.events():
            if event.path is None:
                assert "gone" in event.reason
                break
        waiting = asyncio.create_task(exchange(caller, callee))
        here.set(a[2])
        await waiting
        # What was missed may have come before the path, in a sealed flight.
        await joined(callee, host=a[2])


async def test_auto_moves_to_a_direct_path_and_back(alice: Peer, bob: Peer) -> None:
    caller, callee = await pair(alice, bob, Mode.AUTO)
    assert caller.path is not None
    talking = asyncio.create_task(exchange(caller, callee, 3000))
    await joined(caller, PathKind.DIRECT)
    await joined(callee, PathKind.DIRECT)
    rooms(alice).direct.close()
    rooms(bob).direct.close()
    reset(caller)
    await joined(caller, PathKind.RELAYED)
    await joined(callee, PathKind.RELAYED)
    await talking


async def test_the_move_to_a_direct_path_leaves_no_moment_without_one(
    alice: Peer, bob: Peer
) -> None:
    for number in range(5):
        listener = alice.listen(f"chat-{number}")
        await alice.published()
        here = await bob.connect(alice.guid, f"chat-{number}", mode=Mode.AUTO)
        there = await asyncio.wait_for(anext(listener), 60)
        for end in (here, there):
            kinds = []
            async with asyncio.timeout(60):
                async for event in end.events():
                    kinds.append(event.path.kind if event.path else None)
                    if kinds[-1] is PathKind.DIRECT:
                        break
            assert None not in kinds
        await here.close()


async def test_direct_sessions_do_not_notice_a_relay_that_dies() -> None:
    config = RelayConfig(port=0)
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer(config))
        peer = PeerConfig(relay=relay.url)
        alice = await stack.enter_async_context(Peer(Identity.generate(), config=peer))
        bob = await stack.enter_async_context(Peer(Identity.generate(), config=peer))
        caller, callee = await pair(alice, bob, Mode.P2P)
        path = caller.path
        for connection in list(relay.connections):
            connection.abort("killed")
        await exchange(caller, callee)
        assert caller.path is path


async def test_mutual_loss_settles_on_one_path(alice: Peer, bob: Peer) -> None:
    """Both sides see the loss at once and search at once, again and again."""
    caller, callee = await pair(alice, bob, Mode.COMBINED)
    for _ in range(scale.of(15, 30)):
        for end in (caller, callee):
            await joined(end)
        for end in (caller, callee):
            if end.path is not None:
                end.drop_path("cut by the test")
            rooms(alice).sessions.relay_found()
            rooms(bob).sessions.relay_found()
        await exchange(caller, callee, 20)
