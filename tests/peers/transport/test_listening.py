"""Incoming streams are counted while they are not proven, and given back on every way out."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from peers.tasks import Tasks
from peers.transport import listening
from peers.transport.listening import DirectServer
from peers.transport.stream import Stream
from protocol.errors import PathFailed
from tests.support.scale import of


class Serving:
    """What a peer does with a stream: here it waits for its end, or fails, or is held."""

    def __init__(self) -> None:
        self.ended = 0
        self.streams: list[Stream] = []

    async def serve(self, stream: Stream) -> None:
        """Wait for the end of the stream, as one does whose hello never comes."""
        self.streams.append(stream)
        owner = _Owner()
        stream.set_owner(owner)
        try:
            await owner.lost.wait()
        finally:
            stream.abort()
            self.ended += 1


class _Owner:
    def __init__(self) -> None:
        self.received = b""
        self.lost = asyncio.Event()

    def stream_data(self, data: bytes) -> None:
        self.received += data

    def stream_writable(self) -> None:
        return

    def stream_lost(self, reason: str) -> None:
        self.lost.set()


@contextlib.asynccontextmanager
async def serving(
    serve: listening.Serve, spawn: listening.Spawn, host: str = "127.0.0.1"
) -> AsyncIterator[DirectServer]:
    server = DirectServer.bind([host], 0)
    await server.start(serve, spawn)
    try:
        yield server
    finally:
        server.close()


async def all_given_back(server: DirectServer) -> None:
    async with asyncio.timeout(60):
        while server.unproven:
            await asyncio.sleep(0)


def dial(server: DirectServer, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, server.port), timeout=10)


def reset(one: socket.socket) -> None:
    """End a connection by RST, unless it has ended."""
    if one.fileno() < 0:
        return
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


async def until_counted(server: DirectServer, count: int) -> None:
    async with asyncio.timeout(60):
        while server.unproven < count:
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("stage", "resets"),
    [
        ("at once", of(600, 2000)),
        ("after a byte", of(200, 400)),
        ("while it is served", of(200, 400)),
    ],
)
async def test_resets_are_not_counted_for_ever(stage: str, resets: int) -> None:
    tasks, there = Tasks(), Serving()
    async with serving(there.serve, tasks.spawn) as server:
        for batch in range(0, resets, 50):
            callers = [dial(server) for _ in range(50)]
            for caller in callers:
                if stage == "after a byte":
                    caller.send(b"\x16")
                elif stage == "at once":
                    reset(caller)
            async with asyncio.timeout(60):
                while len(there.streams) < batch + 50:
                    await asyncio.sleep(0)
            for caller in callers:
                reset(caller)
            await all_given_back(server)
        # The listener still takes who comes then.
        with dial(server):
            await until_counted(server, 1)
        await all_given_back(server)
    await tasks.close()


async def test_where_no_task_is_made_the_stream_is_dropped_and_not_counted() -> None:
    def closed(work: Coroutine[Any, Any, None]) -> None:
        work.close()

    async with serving(Serving().serve, closed) as server:
        for _ in range(5):
            with dial(server) as caller:
                assert await ended(caller)
        assert server.unproven == 0


async def test_a_spawn_that_raises_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(work: Coroutine[Any, Any, None]) -> None:
        work.close()
        raise RuntimeError("the task group is closing")

    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: errors.append(what))
    async with serving(Serving().serve, broken) as server:
        with dial(server) as caller:
            assert await ended(caller)
        assert server.unproven == 0
    assert [type(error["exception"]) for error in errors] == [RuntimeError]


async def test_a_task_that_is_cancelled_before_it_begins_gives_its_stream_back() -> None:
    tasks, there = Tasks(), Serving()

    def spawn_cancelled(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None] | None":
        task = tasks.spawn(work)
        assert task is not None
        task.cancel()
        return task

    async with serving(there.serve, spawn_cancelled) as server:
        with dial(server) as caller:
            assert await ended(caller)
        assert server.unproven == 0
        assert not there.streams
    await tasks.close()


@pytest.mark.expected_errors("nobody thought of it")
async def test_a_serve_that_raises_drops_its_stream(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(stream: Stream) -> None:
        raise KeyError("nobody thought of it")

    tasks = Tasks()
    async with serving(fails, tasks.spawn) as server:
        with dial(server) as caller:
            assert await ended(caller)
        await all_given_back(server)
    await tasks.close()
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_one_stranger_cannot_use_up_what_is_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_MAX_FROM_ONE_NETWORK", 8)
    tasks, there = Tasks(), Serving()
    async with serving(there.serve, tasks.spawn, "0.0.0.0") as server, _closing() as callers:
        callers += [dial(server) for _ in range(8)]
        await until_counted(server, 8)
        with dial(server) as ninth:
            assert await ended(ninth)
        # Another host: its connections come from its own address of this one.
        other = socket.create_connection(("127.0.0.1", server.port), 10, ("127.0.66.1", 0))
        callers.append(other)
        await until_counted(server, 9)
        for caller in callers:
            caller.close()
        await all_given_back(server)
    await tasks.close()


async def test_there_is_a_bound_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_MAX_UNPROVEN", 4)
    tasks, there = Tasks(), Serving()
    async with serving(there.serve, tasks.spawn) as server, _closing() as callers:
        callers += [dial(server) for _ in range(4)]
        await until_counted(server, 4)
        with dial(server) as fifth:
            assert await ended(fifth)
        assert server.unproven == 4
    await tasks.close()
    await all_given_back(server)


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::2", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("None", "None"),
    ],
)
def test_what_counts_as_one_stranger(host: str, network: str) -> None:
    assert listening._network_of(host) == network


@pytest.mark.parametrize("turns", range(4))
async def test_who_comes_while_it_closes_is_let_go(turns: int) -> None:
    """asyncio accepts in one turn of the loop, and makes the transport in the next."""
    tasks, there = Tasks(), Serving()
    async with serving(there.serve, tasks.spawn) as server:
        with dial(server) as caller:
            for _ in range(turns):
                await asyncio.sleep(0)
            server.close()
            for _ in range(3):
                await asyncio.sleep(0)
            for stream in there.streams:
                stream.abort()
            caller.setblocking(False)
            with contextlib.suppress(ConnectionResetError):
                assert not await asyncio.wait_for(
                    asyncio.get_running_loop().sock_recv(caller, 1), 30
                )
    await tasks.close()


async def test_a_port_that_is_taken_is_said() -> None:
    tasks = Tasks()
    async with serving(Serving().serve, tasks.spawn) as server:
        with pytest.raises(PathFailed, match=f"cannot listen on 127.0.0.1 port {server.port}"):
            DirectServer.bind(["127.0.0.1"], server.port)


async def test_an_address_that_the_host_has_not_is_left_out() -> None:
    server = DirectServer.bind(["192.0.2.1", "127.0.0.1"], 0)
    await server.start(Serving().serve, Tasks().spawn)
    dial(server).close()
    server.close()


async def test_who_comes_before_the_start_waits() -> None:
    server = DirectServer.bind(["127.0.0.1"], 0)
    with dial(server):
        serving, tasks = Serving(), Tasks()
        await server.start(serving.serve, tasks.spawn)
        async with asyncio.timeout(60):
            while not server.unproven:
                await asyncio.sleep(0)
        server.close()
        await tasks.close()


@pytest.mark.parametrize("turns", range(6))
async def test_a_start_that_is_cancelled_leaves_no_socket(turns: int) -> None:
    server = DirectServer.bind(["127.0.0.1", "127.0.0.2"], 0)
    starting = asyncio.create_task(server.start(Serving().serve, Tasks().spawn))
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting
    server.close()
    await asyncio.sleep(0)
    for host in ("127.0.0.1", "127.0.0.2"):
        with pytest.raises(ConnectionRefusedError):
            dial(server, host)


@contextlib.asynccontextmanager
async def _closing() -> AsyncIterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    try:
        yield sockets
    finally:
        for one in sockets:
            one.close()


async def ended(caller: socket.socket) -> bool:
    """Whether the other side hangs up."""
    caller.setblocking(False)
    try:
        async with asyncio.timeout(60):
            return not await asyncio.get_running_loop().sock_recv(caller, 1)
    except ConnectionError:
        return True


def test_nobody_else_listens_at_a_port_that_is_shared() -> None:
    server = DirectServer.bind(["127.0.0.1"], 0)
    try:
        with pytest.raises(PathFailed, match="cannot listen"):
            DirectServer.bind(["127.0.0.1"], server.port)
    finally:
        server.close()
