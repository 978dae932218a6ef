"""A raw stream: what arrives is for its owner, whoever that is and whenever it comes."""

import asyncio
import contextlib
import gc
import socket
import struct
import sys
import weakref
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import cast

import pytest
import uvloop

from peers.tasks import Tasks
from peers.transport import Address, DirectServer, dial, open_tcp, tcp
from peers.transport.stream import HIGH_WATER
from peers.transport.tcp import END_OF_STREAM, FORGOTTEN, SILENT, RawStream
from tests.support.servers import close_server


class Owner:
    def __init__(self) -> None:
        self.received = b""
        self.writable = asyncio.Event()
        self.lost: list[str] = []
        self.is_lost = asyncio.Event()
        self.changed = asyncio.Event()

    def stream_data(self, data: bytes) -> None:
        self.received += data
        self.changed.set()

    def stream_writable(self) -> None:
        self.writable.set()

    def stream_lost(self, reason: str) -> None:
        self.lost.append(reason)
        self.is_lost.set()

    async def has(self, data: bytes) -> None:
        async with asyncio.timeout(60):
            while self.received != data:
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[RawStream, socket.socket]]:
    """A stream and the socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        _, stream = await asyncio.get_running_loop().create_connection(
            RawStream, *server.getsockname()
        )
        other, _ = server.accept()
    other.setblocking(False)
    with other:
        yield stream, other
    stream.abort()
    await asyncio.sleep(0)


async def test_what_comes_before_an_owner_waits_for_it() -> None:
    async with pair() as (stream, other):
        other.send(b"early")
        owner = Owner()
        stream.set_owner(owner)
        await owner.has(b"early")
        assert stream.local.startswith("127.0.0.1:")
        assert stream.remote == "{}:{}".format(*other.getsockname())


async def test_a_stream_goes_from_owner_to_owner_and_loses_nothing() -> None:
    async with pair() as (stream, other):
        first, second = Owner(), Owner()
        stream.set_owner(first)
        other.send(b"one")
        await first.has(b"one")
        stream.release(b"rest")
        other.send(b"two")
        stream.set_owner(second)
        await second.has(b"resttwo")
        assert first.received == b"one"


async def test_an_owner_that_gives_the_stream_away_while_it_is_handed_over_gets_no_more() -> None:
    async with pair() as (stream, _):
        second = Owner()

        class Passes(Owner):
            def stream_data(self, data: bytes) -> None:
                super().stream_data(data)
                stream.release(b"rest")

        stream.data_received(b"one")
        stream.data_received(b"two")
        first = Passes()
        stream.set_owner(first)
        assert first.received == b"one"
        stream.set_owner(second)
        assert second.received == b"tworest"


async def test_the_end_is_told_once_to_whoever_owns_it_then() -> None:
    async with pair() as (stream, other):
        owner = Owner()
        stream.set_owner(owner)
        other.close()
        await asyncio.wait_for(owner.is_lost.wait(), 60)
        late = Owner()
        stream.release(b"")
        stream.set_owner(late)
        assert owner.lost == late.lost == ["end of stream"]


async def test_a_reset_is_told_in_words() -> None:
    async with pair() as (stream, other):
        owner = Owner()
        stream.set_owner(owner)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()
        await asyncio.wait_for(owner.is_lost.wait(), 60)
        assert "reset" in owner.lost[0]
        stream.write(b"nobody")
        stream.close()


async def test_who_does_not_read_pauses_the_stream_and_reading_ends_that() -> None:
    async with pair() as (stream, other):
        owner = Owner()
        stream.set_owner(owner)
        sent = 0
        while not stream.paused:
            stream.write(bytes(HIGH_WATER))
            sent += HIGH_WATER
            assert sent <= 64 * HIGH_WATER
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60):
            while not owner.writable.is_set():
                await loop.sock_recv(other, 1 << 20)
        assert not stream.paused
        stream.abort()
        await asyncio.wait_for(owner.is_lost.wait(), 60)


async def test_close_lets_what_was_written_leave() -> None:
    async with pair() as (stream, other):
        stream.set_owner(Owner())
        stream.write(bytes(1 << 20))
        stream.close()
        loop = asyncio.get_running_loop()
        received = 0
        async with asyncio.timeout(60):
            while data := await loop.sock_recv(other, 1 << 20):
                received += len(data)
        assert received == 1 << 20


def test_without_a_transport_everything_is_harmless() -> None:
    stream = RawStream()
    stream.write(b"x")
    stream.close()
    stream.abort()
    assert not stream.paused


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not tell")
@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
def test_the_kernel_tells_the_round_trip(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def scene() -> None:
        async with pair() as (stream, _):
            assert stream.round_trip is not None
            assert 0 < stream.round_trip < 0.5
            assert stream.silence is not None
            assert stream.silence < 60.0
            stream.abort()
            stream.probe_when_idle(5.0)  # Of a socket that is about to go.
            await asyncio.sleep(0.01)
            assert (stream.round_trip, stream.silence) == (None, None)
            stream.probe_when_idle(5.0)
        assert RawStream().round_trip is None

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scene())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other options")
async def test_the_kernel_asks_for_signs_of_life_and_its_verdict_is_one_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(RawStream, *server.getsockname())
        taken = stream.transport.get_extra_info("socket")
        stream.probe_when_idle(5.0)
        options = socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT
        assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        told = [taken.getsockopt(socket.IPPROTO_TCP, option) for option in options]
        assert told == [5, 1, 12]
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 17_000
        stream.probe_when_idle(0.01)
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 1
        owner = Owner()
        stream.set_owner(owner)
        stream.abort()
        await owner.is_lost.wait()
        stream.probe_when_idle(5.0)  # Of a socket that is gone: nothing happens.
        assert stream.silence is None
        stream.set_owner(owner)  # It is let go at the end.
        stream.connection_lost(TimeoutError(110, "Connection timed out"))
        assert owner.lost[-1] == SILENT


def sends_again_after(connected: socket.socket) -> int | None:
    """Return the microseconds that the kernel adds to a round trip; None where it does not tell."""
    try:
        return connected.getsockopt(socket.IPPROTO_TCP, 45)
    except OSError:
        return None


async def test_in_a_handshake_what_is_lost_is_sent_again_sooner_where_the_kernel_can() -> None:
    with socket.socket() as any_one:
        usual = sends_again_after(any_one)
    served: list[RawStream] = []

    async def serve(stream: object) -> None:
        assert isinstance(stream, RawStream)
        served.append(stream)

    tasks = Tasks()
    server = DirectServer.bind(["127.0.0.1"], 0)
    await server.start(serve, tasks.spawn)
    dialed = await dial(Address("127.0.0.1", server.port))
    stream = await open_tcp(dialed.connected)
    async with asyncio.timeout(60):
        while not served:
            await asyncio.sleep(0)
    for one in (stream, served[0]):
        assert one.transport is not None
        taken = one.transport.get_extra_info("socket")
        soon = sends_again_after(taken)
        assert (soon is None) is (usual is None)
        if soon is not None and usual is not None:
            assert soon <= min(usual, 40_000)
        one.settled()
        assert sends_again_after(taken) == usual
        one.abort()
        one.settled()  # Of a socket that is about to go: nothing happens.
    server.close()
    await tasks.close()
    RawStream().settled()


@pytest.mark.parametrize("answer", [OSError(92, "no such option"), ValueError("closed")])
def test_where_the_kernel_cannot_all_is_as_usual(
    answer: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*args: object) -> int:
        raise answer

    with socket.socket() as one:
        before = sends_again_after(one)
        monkeypatch.setattr(tcp, "_usual_rto_min", lambda: None)
        tcp.expect_answers(one)
        assert sends_again_after(one) == before
    monkeypatch.setattr(tcp, "_usual_rto_min", lambda: 200_000)
    gone = cast(socket.socket, SimpleNamespace(setsockopt=refuses))
    tcp.expect_answers(gone)


@pytest.mark.parametrize(
    ("silence", "error", "reason"),
    [
        (1.5, ConnectionResetError(104, "reset"), FORGOTTEN),
        (0.5, ConnectionResetError(104, "reset"), "[Errno 104] reset"),
        (None, ConnectionResetError(104, "reset"), "[Errno 104] reset"),
        (1.5, TimeoutError(110, "timed out"), SILENT),
        (1.5, None, END_OF_STREAM),
    ],
)
async def test_a_reset_after_as_long_a_silence_as_the_kernel_bears_is_an_answer_to_its_probe(
    silence: float | None, error: Exception | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair() as (stream, _):
        owner = Owner()
        stream.set_owner(owner)
        monkeypatch.setattr(tcp, "kernel_silence", lambda taken: silence)
        stream.connection_lost(error)
        assert owner.lost[-1] != FORGOTTEN, "it does not probe"
        stream.set_owner(owner)  # It is let go at the end.
        stream.probe_when_idle(1.0)
        stream.connection_lost(error)
        assert owner.lost[-1] == reason


class Holder:
    """As a path's end: it has its stream, as the stream has it."""

    def __init__(self, lost: asyncio.Event) -> None:
        self.lost = lost
        self.stream = RawStream(self)

    def stream_data(self, data: bytes) -> None:
        pass

    def stream_writable(self) -> None:
        pass

    def stream_lost(self, reason: str) -> None:
        self.lost.set()


async def test_a_stream_that_has_ended_lets_its_owner_go() -> None:
    """A cycle: a path's end and its TLS, of 23 KiB, were kept until the collector came."""
    loop, lost = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    gc.disable()
    try:
        owner = Holder(lost)
        known = weakref.ref(owner)
        port = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_connection([owner.stream].pop, "127.0.0.1", port)
        del owner
        transport.abort()
        async with asyncio.timeout(60):
            await lost.wait()
        del transport
        async with asyncio.timeout(60):
            while known() is not None:
                await asyncio.sleep(0)
    finally:
        gc.enable()
        await close_server(server)
