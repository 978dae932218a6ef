"""A session as the application sees it: messages, the end, and the path that it is on.

First over paths that are made of nothing, on a clock that jumps; then between real peers.
"""

import asyncio
import contextlib
import dataclasses
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import pytest

from peers import (
    Identity,
    Mode,
    Peer,
    PeerConfig,
    SessionLost,
    SessionSettings,
    Unsupported,
)
from peers.config import PathKind
from peers.session import (
    FlightKeysChanged,
    LocationTold,
    Over,
    PathLost,
    Pinned,
    SessionEnd,
    SessionNews,
    Terms,
    Trace,
)
from protocol.errors import ProtocolViolation, SessionClosed
from protocol.messages import PathHello, PathWelcome
from protocol.session import State
from protocol.session.settings import MESSAGE_WEIGHT
from relay.server import RelayServer
from tests.peers.roaming.fakes import CALLEE, CALLER, PATIENT, signed, turns
from tests.support.fake_path import FakePath, linked
from tests.support.faults import reset
from tests.support.rooms import rooms
from tests.support.sessions import exchange, pair, pathless
from tests.support.slow_proxy import SlowProxy
from tests.support.virtual_time import run

# -- over paths that are made of nothing ------------------------------------------------------


class End:
    """One end of a session, and what it has told."""

    def __init__(self, terms: Terms = CALLER, settings: SessionSettings = PATIENT) -> None:
        self.told: list[SessionNews] = []
        """But for the keys of flights, which come with every path (test_flights.py)."""
        trace = Trace(asyncio.get_running_loop().time)
        self.session = SessionEnd(b"s" * 16, terms, settings, trace, self._tell)

    def takes(
        self, path: FakePath, there: PathHello | PathWelcome, number: int = 1, *, here: bool = True
    ) -> None:
        self.session.take_path(path.path, number, there, dialed_here=here)

    def _tell(self, news: SessionNews) -> None:
        if not isinstance(news, FlightKeysChanged):
            self.told.append(news)

    @property
    def news(self) -> list[type[Any]]:
        return [type(one) for one in self.told]


class Pair:
    """Both ends of a session; `join` gives them a path."""

    def __init__(self, settings: SessionSettings = PATIENT) -> None:
        self.caller, self.callee = End(CALLER, settings), End(CALLEE, settings)
        self.number = 0

    def join(self) -> tuple[FakePath, FakePath]:
        here, there = linked()
        self.number += 1
        hello = self.caller.session.hello(self.number, ())
        welcome = self.callee.session.welcome(())
        self.callee.takes(there, hello, self.number, here=False)
        self.caller.takes(here, welcome, self.number)
        return here, there


def test_messages_arrive_in_order_once_over_whatever_paths_there_are() -> None:
    async def scene() -> None:
        pair = Pair()
        caller, callee = pair.caller.session, pair.callee.session
        pair.join()
        sent = [b"%d" % number for number in range(300)]

        async def send() -> None:
            for number, message in enumerate(sent):
                await caller.send(message)
                if number % 50 == 25:
                    caller.drop_path("test")
                if number % 50 == 40:
                    pair.join()
                if number % 7 == 0:
                    await asyncio.sleep(0)
            await caller.close()

        sending = asyncio.create_task(send())
        assert [message async for message in callee] == sent
        await sending
        assert (caller.outstanding, caller.state, callee.state) == (0, State.CLOSED, State.CLOSED)

    run(scene())


def test_a_sender_waits_for_room_and_a_cancelled_one_has_sent_nothing() -> None:
    async def scene() -> None:
        pair = Pair(msgspec.structs.replace(PATIENT, window=1024))
        caller, callee = pair.caller.session, pair.callee.session
        early = asyncio.create_task(caller.send(b"no path yet"))
        await turns()
        assert not early.done(), "nothing fits before the other side has said what it can hold"
        pair.join()
        await early
        await caller.send(bytes(1000))
        cancelled = asyncio.create_task(caller.send(b"never"))
        waits = asyncio.create_task(caller.send(b"later"))
        await turns()
        assert not waits.done()
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        assert await callee.receive() == b"no path yet"
        assert await callee.receive() == bytes(1000)
        await waits
        assert await callee.receive() == b"later"
        caller.abort()

    run(scene())


def test_a_cancelled_reader_loses_no_message() -> None:
    async def scene() -> None:
        pair = Pair()
        pair.join()
        reading = asyncio.create_task(pair.callee.session.receive())
        await turns()
        reading.cancel()
        await pair.caller.session.send(b"kept")
        await asyncio.gather(reading, return_exceptions=True)
        assert await pair.callee.session.receive() == b"kept"
        pair.caller.session.abort()

    run(scene())


def test_two_readers_at_once_are_a_mistake_of_the_program() -> None:
    async def scene() -> None:
        pair = Pair()
        pair.join()
        reading = asyncio.create_task(pair.callee.session.receive())
        await turns()
        with pytest.raises(RuntimeError, match="two tasks"):
            await pair.callee.session.receive()
        await pair.caller.session.send(b"to the first")
        assert await reading == b"to the first"
        pair.caller.session.abort()

    run(scene())


@pytest.mark.parametrize("message", ["text", 7, None, [b"x"]])
def test_a_message_is_bytes(message: Any) -> None:
    async def scene() -> None:
        pair = Pair()
        pair.join()
        with pytest.raises(TypeError, match="encode it first"):
            await pair.caller.session.send(message)
        for given in (b"1", bytearray(b"2"), memoryview(b"3")):
            await pair.caller.session.send(given)
            assert await pair.callee.session.receive() == bytes(given)
        pair.caller.session.abort()

    run(scene())


def test_what_changes_after_it_was_sent_is_sent_as_it_was() -> None:
    async def scene() -> None:
        pair = Pair()
        pair.join()
        buffer = bytearray(b"now")
        await pair.caller.session.send(buffer)
        buffer[:] = b"???"
        assert await pair.callee.session.receive() == b"now"
        pair.caller.session.abort()

    run(scene())


def test_who_finishes_gets_the_answers_and_the_other_side_s_loop_ends() -> None:
    async def scene() -> None:
        pair = Pair()
        pair.join()
        caller, callee = pair.caller.session, pair.callee.session
        questions = [b"%d" % number for number in range(1000)]

        async def answer() -> None:
            async with callee:
                async for question in callee:
                    await callee.send(b"answer to " + question)

        answering = asyncio.create_task(answer())
        for question in questions:
            await caller.send(question)
        await caller.finish()
        await caller.finish()
        assert caller.state is State.HALF_CLOSED_LOCAL
        with pytest.raises(SessionClosed, match="this side has finished"):
            await caller.send(b"late")
        assert [answer async for answer in caller] == [b"answer to " + one for one in questions]
        await answering
        assert (caller.state, callee.state) == (State.CLOSED, State.CLOSED)
        await caller.finish()

    run(scene())


def test_a_session_that_both_have_finished_closes_by_itself() -> None:
    async def scene() -> None:
        pair = Pair()
        pair.join()
        caller, callee = pair.caller.session, pair.callee.session
        reading = asyncio.create_task(callee.receive())
        await caller.finish()
        with pytest.raises(SessionClosed, match="the other side has finished"):
            await reading
        await callee.send(bytes(100_000))
        await callee.finish()
        assert [message async for message in caller] == [bytes(100_000)]
        await turns()
        assert (caller.is_over, callee.is_over) == (True, True)
        await caller.close()

    run(scene())


def test_who_waits_for_room_is_told_that_its_side_has_finished() -> None:
    async def scene() -> None:
        pair = Pair(msgspec.structs.replace(PATIENT, window=1024))
        pair.join()
        session = pair.caller.session
        await session.send(bytes(1024))
        waiting = asyncio.create_task(session.send(b"x"))
        await turns()
        await session.finish()
        with pytest.raises(SessionClosed, match="this side has finished"):
            await waiting
        session.abort()
        with pytest.raises(SessionLost):
            await session.finish()

    run(scene())


def test_a_version_that_cannot_be_told_to_finish_is_named_and_nothing_changes() -> None:
    async def scene() -> None:
        pair = Pair()
        caller, callee = pair.caller.session, pair.callee.session
        here, there = linked()
        hello = msgspec.structs.replace(caller.hello(1, ()), features=("something-else",))
        welcome = msgspec.structs.replace(callee.welcome(()), features=())
        pair.callee.takes(there, hello, here=False)
        pair.caller.takes(here, welcome)
        for session in (caller, callee):
            with pytest.raises(Unsupported, match="cannot be told to finish"):
                await session.finish()
            assert session.state is State.OPEN
        await caller.send(bytes(100_000))
        assert await callee.receive() == bytes(100_000)
        unpacker = msgpack.Unpacker()
        for data in here.sent + there.sent:
            unpacker.feed(data)
        assert {frame[0] for frame in unpacker} <= set(range(8))
        await asyncio.gather(caller.close(), callee.close())

    run(scene())


def test_bytes_of_a_record_that_is_not_whole_keep_a_path_alive() -> None:
    async def scene() -> None:
        end = End(settings=SessionSettings(ping_interval=2.0, silence_limit=6.0))
        path = FakePath()
        end.takes(path, PathWelcome())
        for _ in range(20):
            await asyncio.sleep(1)
            end.session.path_heard(path.path)
        assert end.news == []
        end.session.path_heard(FakePath().path)
        await asyncio.sleep(7)
        assert end.news == [PathLost]
        end.session.abort()

    run(scene())


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("waits", ["send", "receive", "close"])
def test_who_waits_is_told_that_it_is_over(end: str, waits: str) -> None:
    async def scene() -> None:
        pair = Pair(msgspec.structs.replace(PATIENT, window=1024))
        session = pair.caller.session
        pair.join()
        if waits == "send":
            await session.send(bytes(1024))
        work: Callable[[], Any] = {
            "send": lambda: session.send(b"x"),
            "receive": session.receive,
            "close": session.close,
        }[waits]
        waiting = asyncio.create_task(work())
        if waits != "close":
            await turns()
            assert not waiting.done()
        other = pair.callee.session
        closing = asyncio.create_task(other.close()) if end == "close" else other.abort("enough")
        told = (await asyncio.gather(waiting, return_exceptions=True))[0]
        if waits == "close" and end == "close":
            assert told is None
        else:
            assert isinstance(told, SessionClosed if end == "close" else SessionLost)
        session.abort()
        if closing is not None:
            await asyncio.gather(closing, return_exceptions=True)

    run(scene())


def test_after_a_clean_close_what_has_arrived_can_still_be_read() -> None:
    async def scene() -> None:
        pair = Pair()
        pair.join()
        await pair.caller.session.send(b"last words")
        await asyncio.gather(pair.caller.session.close(), pair.callee.session.close())
        assert await pair.callee.session.receive() == b"last words"
        with pytest.raises(SessionClosed):
            await pair.callee.session.receive()
        with pytest.raises(SessionClosed):
            await pair.callee.session.send(b"late")
        await pair.callee.session.close()

    run(scene())


def test_a_block_closes_at_its_end_and_ends_where_the_program_fails() -> None:
    async def scene() -> None:
        pair = Pair()
        pair.join()
        async with pair.caller.session as session:
            await session.send(b"x")
            closing = asyncio.create_task(pair.callee.session.close())
        assert session.state is State.CLOSED
        await closing
        failing = Pair()
        failing.join()

        async def fails() -> None:
            async with failing.caller.session:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fails()
        with pytest.raises(SessionLost, match="ZeroDivisionError"):
            await failing.callee.session.receive()

    run(scene())


@pytest.mark.parametrize("how", ["abort", "lose", "close", "violation", "window"])
def test_the_end_is_told_once_and_last(how: str) -> None:
    async def scene() -> None:
        pair = Pair(msgspec.structs.replace(PATIENT, resume_window=5.0))
        caller = pair.caller.session
        path, _ = pair.join()
        events = caller.events()
        match how:
            case "abort":
                caller.abort()
            case "lose":
                caller.lose("the other side has given it up")
            case "close":
                await asyncio.gather(caller.close(), pair.callee.session.close())
            case "violation":
                path.arrives(msgpack.packb([99]))
            case "window":
                path.lose("gone")
                await asyncio.sleep(6)
        await turns()
        assert caller.is_over
        path.arrives(msgpack.packb([4, 1]))
        path.lose("gone")
        caller.drop_path("again")
        caller.abort()
        caller.lose("again")
        caller.pin()
        await asyncio.sleep(1000)
        assert pair.caller.news == ([PathLost] if how == "window" else []) + [Over]
        reasons = [one.reason async for one in events]
        assert len(reasons) == 2 if how == "window" else reasons == ["now"]

    run(scene())


def test_a_pin_is_told_once_for_each_change() -> None:
    async def scene() -> None:
        end = End()
        for pinned in (True, True, False, False, True):
            end.session.pin(pinned)
        assert [type(one) for one in end.told] == [Pinned] * 3
        assert end.session.explain().pinned
        end.session.abort()

    run(scene())


def test_a_path_that_is_lost_is_told_and_one_that_was_replaced_is_not() -> None:
    async def scene() -> None:
        end = End()
        first, second = FakePath(), FakePath(remote="192.0.2.2:9")
        end.takes(first, PathWelcome())
        end.takes(second, PathWelcome(), 2)
        assert first.end == "finished", "who dials ends the old one at once"
        end.session.path_lost(first.path, "late")
        end.session.path_data(first.path, msgpack.packb([99]))
        assert (end.told, end.session.path) == ([], second)
        second.lose("really")
        (lost,) = end.told
        assert isinstance(lost, PathLost)
        assert (lost.reason, end.session.path) == ("really", None)
        assert end.session.round_trip is None, "there is nothing to compare with"
        assert end.session.usual_round_trip == second.usual_round_trip
        end.session.abort()

    run(scene())


def test_a_path_that_the_other_side_has_replaced_stays_open_for_a_while() -> None:
    async def scene() -> None:
        end = End(CALLEE)
        first, second = FakePath(), FakePath()
        end.takes(first, PathWelcome(), here=False)
        end.takes(second, PathWelcome(), 2, here=False)
        await turns()
        assert first.end == "", "it has not read our welcome yet"
        await asyncio.sleep(1.1)
        assert (first.end, second.end) == ("finished", "")
        end.session.abort()

    run(scene())


def test_numbers_that_cannot_be_true_leave_the_session_as_it_was() -> None:
    async def scene() -> None:
        end = End()
        first, second = FakePath(), FakePath()
        end.takes(first, PathWelcome())
        with pytest.raises(ProtocolViolation):
            end.takes(second, PathWelcome(received=1), 2)
        assert (end.session.path, first.end, second.sent) == (first, "", [])
        assert end.session.would_take(2, dialed_here=True)
        end.session.abort()

    run(scene())


def test_what_is_sent_in_one_turn_leaves_in_one_write_and_waits_while_the_path_is_full() -> None:
    async def scene() -> None:
        end = End()
        path = FakePath()
        end.takes(path, PathWelcome())
        await turns()
        path.sent.clear()
        for _ in range(10):
            await end.session.send(b"x" * 100)
        await turns()
        assert len(path.sent) == 1
        path.paused = True
        await end.session.send(b"held back")
        await turns()
        assert len(path.sent) == 1
        path.takes_again()
        assert len(path.sent) == 2
        end.session.abort()

    run(scene())


def test_a_path_that_says_nothing_is_pinged_and_given_up() -> None:
    async def scene() -> None:
        settings = SessionSettings(ping_interval=2.0, silence_limit=6.0)
        end = End(settings=settings)
        path = FakePath()
        end.takes(path, PathWelcome())
        await asyncio.sleep(2.5)
        assert any(msgpack.unpackb(data)[0] == 4 for data in path.sent[1:])
        await asyncio.sleep(4)
        assert (path.end, end.news) == ("aborted", [PathLost])
        end.session.abort()

    run(scene())


def test_a_path_that_must_answer_soon_is_given_up_where_it_does_not() -> None:
    async def scene() -> None:
        pair = Pair()
        pair.join()
        pair.caller.session.probe_path(0.5)
        await asyncio.sleep(1)
        assert pair.caller.news == [], "it has answered"
        assert pair.caller.session.round_trip is not None
        silent = End()
        path = FakePath()
        silent.takes(path, PathWelcome())
        silent.session.probe_path(0.5)
        await asyncio.sleep(0.6)
        assert (silent.news, path.end) == ([PathLost], "aborted")
        for session in (silent.session, pair.caller.session):
            session.abort()

    run(scene())


def test_where_the_other_side_is_now_is_told_as_it_says() -> None:
    async def scene() -> None:
        pair = Pair()
        entries = signed("192.0.2.9")
        pair.caller.session.tell_location(entries)  # Without a path nobody hears it.
        pair.join()
        await turns()
        assert pair.callee.told == []
        pair.caller.session.tell_location(entries)
        await turns()
        assert pair.callee.told == [LocationTold(pair.callee.session, entries)]
        pair.caller.session.abort()

    run(scene())


def test_a_hello_says_what_has_arrived_and_whether_there_was_a_path_before() -> None:
    async def scene() -> None:
        pair = Pair()
        first = pair.caller.session.hello(1, ())
        assert (first.resume, first.received, first.path) == (False, 0, 1)
        pair.join()
        await pair.callee.session.send(b"one")
        await turns()
        again = pair.caller.session.hello(2, signed("192.0.2.9"))
        assert (again.resume, again.received, again.consumed, again.path) == (True, 1, 0, 2)
        await pair.caller.session.receive()
        assert pair.caller.session.welcome(()).consumed > 0
        pair.caller.session.abort()

    run(scene())


def test_the_explanation_is_of_the_path_of_now() -> None:
    async def scene() -> None:
        terms = dataclasses.replace(CALLEE, select=lambda every: every)
        end = End(terms)
        assert (end.session.explain().path, end.session.explain().rule) == ("none", "")
        path = FakePath(PathKind.RELAYED, remote="198.51.100.1:80")
        end.takes(path, PathWelcome(), here=False)
        told = end.session.explain()
        assert told.path == "relayed, 198.51.100.1:80"
        assert told.rule == "the other side has dialed"
        assert (told.select, told.round_trip) == ("the program's own", path.round_trip)
        end.session.drop_path("gone")
        assert end.session.explain().rule == ""
        assert end.session.explain().events[-1].what == "lost"
        assert "with" in repr(end.session)
        end.session.abort()

    run(scene())


# -- between real peers -----------------------------------------------------------------------


async def test_the_resume_window_passes_and_both_sides_know_what_is_missing(
    relay: RelayServer,
) -> None:
    short = PeerConfig(
        relay=relay.url, session=SessionSettings(resume_window=0.5), request_timeout=0.2
    )
    async with contextlib.AsyncExitStack() as stack:
        alice = await stack.enter_async_context(Peer(Identity.generate(), config=short))
        bob = await stack.enter_async_context(Peer(Identity.generate(), config=short))
        caller, callee = await pair(alice, bob, Mode.P2P)
        await exchange(caller, callee)
        for peer in (alice, bob):
            rooms(peer).direct.close()
        reset(caller)
        await pathless(caller)
        await caller.send(b"one")
        await caller.send(b"two")
        with pytest.raises(SessionLost, match=r"no path for 0\.5 s") as lost:
            await caller.receive()
        assert lost.value.unacknowledged == 2
        with pytest.raises(SessionLost) as lost:
            await callee.receive()
        assert lost.value.unacknowledged == 0


async def test_a_receiver_that_does_not_read_stops_its_sender(alice: Peer, bob: Peer) -> None:
    """Whatever is sent, memory stays within the windows and what the sockets hold."""
    caller, callee = await pair(alice, bob, Mode.P2P)
    window = SessionSettings().window
    message = bytes(100_000)

    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await caller.send(bytes(message))
            sent += 1

    # One message may reach past the window: there is room for it before it, not after.
    room = -(-window // (len(message) + MESSAGE_WEIGHT))

    tracemalloc.start()
    try:
        sending = asyncio.create_task(flood())
        async with asyncio.timeout(60):
            while caller.outstanding or sent < room:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (sent, sending.done()) == (room, False)
    # All that was sent has arrived and waits for its reader: one window, and one more while under
    # way, in the copies that TLS and the stream make of it.
    assert callee.welcome(()).received * len(message) <= window + len(message)
    assert peak < 4 * window
    assert len(await callee.receive()) == len(message)
    sending.cancel()


async def test_what_has_arrived_of_a_message_is_not_sent_again_over_the_next_plane(
    relay: RelayServer,
) -> None:
    """The relay takes all of it at once, whoever receives it or not."""
    message = bytes(1 << 20)
    async with contextlib.AsyncExitStack() as stack:
        slow = await stack.enter_async_context(SlowProxy(relay.url, 1 << 21).open())
        alice = await stack.enter_async_context(Peer(Identity.generate(), relay=slow.url))
        bob = await stack.enter_async_context(Peer(Identity.generate(), relay=relay.url))
        caller, callee = await pair(alice, bob, Mode.CENTRAL)
        before = slow.moved
        await caller.send(message)
        receiving = asyncio.create_task(callee.receive())
        async with asyncio.timeout(60):
            for share in (0.3, 0.6, 0.9):
                while callee.welcome(()).partial < share * len(message):
                    await asyncio.sleep(0.01)
                reset(callee)
                await pathless(callee)
            assert await receiving == message
        moved = slow.moved - before
        assert moved < 2 * len(message), "without that it would be nearly three times as much"
        await asyncio.gather(caller.close(), callee.close())
