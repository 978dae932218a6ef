"""Closing a session takes a time that is known, and says what has not arrived; and what several
tasks, cancellations and an end meanwhile may do to `send` and `receive`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgpack
import msgspec
import pytest

from peers import Session, SessionClosed, SessionLost, UsageError
from peers.session.session import CLOSE_PATIENCE
from protocol.messages import PathWelcome
from protocol.session import State
from protocol.session.frames import Frame
from tests.peers.roaming.fakes import PATIENT, turns
from tests.peers.session.test_session import End, Pair
from tests.support.fake_path import FakePath
from tests.support.virtual_time import run

Closes = Callable[[Session], Coroutine[Any, Any, None]]


async def block(session: Session) -> None:
    async with session:
        pass


@pytest.mark.parametrize(
    ("closes", "seconds"),
    [
        (lambda session: session.close(), CLOSE_PATIENCE),
        (block, CLOSE_PATIENCE),
        (lambda session: session.close(timeout=2), 2.0),
        (lambda session: session.close(0.5), 0.5),
    ],
)
@pytest.mark.parametrize("path_is_lost", [True, False])
def test_a_dead_other_side_is_not_waited_for_without_end(
    closes: Closes, seconds: float, path_is_lost: bool
) -> None:
    async def scene() -> None:
        end, path = End(), FakePath()
        end.takes(path, PathWelcome(0, 0, 1 << 20))
        for number in range(3):
            await end.session.send(b"%d" % number)
        await turns()
        path.arrives(msgpack.packb([Frame.ACK, 1, 0]))
        if path_is_lost:
            path.lose("reset")
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(SessionLost, match=r"not answered within .* \(2 messages") as caught:
            await closes(end.session)
        assert loop.time() - began == pytest.approx(seconds)
        assert caught.value.unacknowledged == 2
        assert caught.value.messages == (b"1", b"2"), "to be sent again, in their order"
        assert end.session.state is State.LOST

    run(scene())


def test_a_slow_link_is_waited_for_as_long_as_it_gets_on() -> None:
    async def scene() -> None:
        end, path = End(), FakePath()
        end.takes(path, PathWelcome(0, 0, 1 << 20))
        for number in range(8):
            await end.session.send(b"%d" % number)
        closing = asyncio.create_task(end.session.close())
        for number in range(1, 9):
            await asyncio.sleep(0.6 * CLOSE_PATIENCE)
            path.arrives(msgpack.packb([Frame.ACK, number, 0]))
        path.arrives(msgpack.packb([Frame.CLOSED, 8]))
        path.arrives(msgpack.packb([Frame.CLOSE, 0]))
        await closing
        assert end.session.state is State.CLOSED

    run(scene())


def test_a_process_that_was_stopped_reads_before_it_judges() -> None:
    async def scene() -> None:
        end, path = End(), FakePath()
        end.takes(path, PathWelcome(0, 0, 1 << 20))
        loop = asyncio.get_running_loop()
        closing = asyncio.create_task(end.session.close())

        def stopped() -> None:
            loop._jumping.now += 3600.0  # type: ignore[attr-defined]

        def read(turns: int) -> None:
            if turns:
                loop.call_soon(read, turns - 1)
                return
            path.arrives(msgpack.packb([Frame.CLOSED, 0]))
            path.arrives(msgpack.packb([Frame.CLOSE, 0]))

        loop.call_later(1.0, stopped)
        loop.call_later(CLOSE_PATIENCE + 1.0, read, 5)
        await closing
        assert end.session.state is State.CLOSED

    run(scene())


def test_a_time_of_the_program_s_own_is_for_all_of_it() -> None:
    async def scene() -> None:
        end, path = End(), FakePath()
        end.takes(path, PathWelcome(0, 0, 1 << 20))
        for number in range(8):
            await end.session.send(b"%d" % number)
        closing = asyncio.create_task(end.session.close(timeout=3))
        for number in range(1, 6):
            await asyncio.sleep(1)
            if not closing.done():
                path.arrives(msgpack.packb([Frame.ACK, number, 0]))
        with pytest.raises(SessionLost, match="within 3 s"):
            await closing

    run(scene())


def test_a_close_that_is_cancelled_goes_on_and_another_one_waits_for_it() -> None:
    async def scene() -> None:
        pair = Pair()
        here, there = pair.caller.session, pair.callee.session
        closing = asyncio.create_task(here.close())
        await turns()
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        assert here.state is State.CLOSING
        pair.join()
        await asyncio.gather(here.close(), here.close(5), there.close())
        assert here.state is there.state is State.CLOSED

    run(scene())


def test_several_tasks_send_and_each_keeps_its_order() -> None:
    async def scene() -> None:
        pair = Pair(msgspec.structs.replace(PATIENT, window=1024))
        here, there = pair.caller.session, pair.callee.session
        pair.join()

        async def send(name: int) -> None:
            for number in range(50):
                await here.send(bytes([name, number]) + bytes(100))

        async def close_after(*tasks: "asyncio.Task[None]") -> None:
            await asyncio.gather(*tasks)
            await here.close()

        closing = asyncio.create_task(
            close_after(*[asyncio.create_task(send(name)) for name in range(4)])
        )
        got = [(message[0], message[1]) async for message in there]
        await closing
        assert sorted(got) == [(name, number) for name in range(4) for number in range(50)]
        for name in range(4):
            assert [number for who, number in got if who == name] == list(range(50))

    run(scene())


@pytest.mark.parametrize("count", range(12))
def test_a_send_that_is_cancelled_at_any_await_was_sent_whole_or_not_at_all(count: int) -> None:
    async def scene() -> None:
        pair = Pair(msgspec.structs.replace(PATIENT, window=1024))
        here, there = pair.caller.session, pair.callee.session
        pair.join()
        await here.send(bytes(1100))
        sending = asyncio.create_task(here.send(b"perhaps"))
        reading = asyncio.create_task(there.receive())
        for _ in range(count):
            await asyncio.sleep(0)
        sending.cancel()
        (outcome,) = await asyncio.gather(sending, return_exceptions=True)
        await reading
        await here.send(b"last")
        closing = asyncio.create_task(here.close())
        got = [message async for message in there]
        await closing
        assert got == ([b"perhaps"] if isinstance(outcome, int) else []) + [b"last"]

    run(scene())


@pytest.mark.parametrize("count", range(8))
def test_a_receive_that_is_cancelled_at_any_await_loses_nothing(count: int) -> None:
    async def scene() -> None:
        pair = Pair()
        here, there = pair.caller.session, pair.callee.session
        pair.join()
        reading = asyncio.create_task(there.receive())
        await turns()
        await here.send(b"1")
        await here.send(b"2")
        for _ in range(count):
            await asyncio.sleep(0)
        reading.cancel()
        (first,) = await asyncio.gather(reading, return_exceptions=True)
        rest = [first] if isinstance(first, bytes) else []
        while len(rest) < 2:
            rest.append(await there.receive())
        assert rest == [b"1", b"2"]
        here.abort()

    run(scene())


@pytest.mark.parametrize("end", ["close", "close there", "abort", "abort there", "lost"])
def test_whoever_waits_when_it_ends_is_told(end: str) -> None:
    async def scene() -> None:
        pair = Pair(msgspec.structs.replace(PATIENT, window=1024))
        here, there = pair.caller.session, pair.callee.session
        pair.join()
        await there.send(b"arrived")
        await turns()
        await here.send(bytes(1100))
        sending = [asyncio.create_task(here.send(b"no room")) for _ in range(3)]
        await turns()
        assert not any(task.done() for task in sending)
        match end:
            case "close":
                closing = asyncio.create_task(here.close())
            case "close there":
                closing = asyncio.create_task(there.close())
            case "abort":
                here.abort()
            case "abort there":
                there.abort()
            case _:
                here.drop_path("test")
                await asyncio.sleep(PATIENT.resume_window + 1)
        await turns()
        told = await asyncio.gather(*sending, return_exceptions=True)
        kind = SessionClosed if end.startswith("close") else SessionLost
        assert [type(one) for one in told] == [kind] * 3
        assert await here.receive() == b"arrived", "what had arrived can be read"
        if end.startswith("close"):
            await there.receive()
            await closing
        with pytest.raises(kind):
            await here.receive()

    run(scene())


def test_a_second_reader_is_told_and_the_first_one_reads_on() -> None:
    async def scene() -> None:
        pair = Pair()
        pair.join()
        here, there = pair.caller.session, pair.callee.session
        reading = asyncio.create_task(there.receive())
        await turns()
        with pytest.raises(UsageError, match="hand the messages on"):
            await there.receive()
        await here.send(b"1")
        assert await reading == b"1"
        await here.send(b"2")
        assert await there.receive() == b"2"
        here.abort()

    run(scene())


@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))])
def test_a_buffer_is_as_it_was_when_it_was_handed_over(kind: Callable[[bytes], Any]) -> None:
    """Also where `send` has to wait for room."""

    async def scene() -> None:
        pair = Pair(msgspec.structs.replace(PATIENT, window=1024))
        here, there = pair.caller.session, pair.callee.session
        pair.join()
        await here.send(bytes(1100))
        buffer = kind(b"as it was")
        sending = asyncio.create_task(here.send(buffer))
        await turns()
        assert not sending.done()
        buffer[:] = b"different"
        await there.receive()
        await sending
        assert await there.receive() == b"as it was"
        here.abort()

    run(scene())
