"""A stream in WebSocket frames: real connections to a server of aiohttp's, cut at every await."""

import asyncio
import contextlib
import gc
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, cast

import pytest
import uvloop
from aiohttp import web

from peers.config import CarrierKind
from peers.tasks import Tasks
from peers.transport import sockets as tcp_sockets
from peers.transport.relay_url import RelayAddress
from peers.transport.stream import Stream
from peers.transport.upgrade import open_upgraded
from peers.transport.websocket import WebSocketStream
from protocol.errors import Code, RelayUnavailable
from protocol.messages import CODE_HEADER, RESUME_HEADER, WEBSOCKET_PROTOCOL
from tests.support import virtual_time


class Owner:
    def __init__(self) -> None:
        self.received = b""
        self.changed = asyncio.Event()
        self.lost: list[str] = []

    def stream_data(self, data: bytes) -> None:
        self.received += data
        self.changed.set()

    def stream_writable(self) -> None:
        return

    def stream_lost(self, reason: str) -> None:
        self.lost.append(reason)
        self.changed.set()

    async def until(self, question: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not question():
                self.changed.clear()
                await self.changed.wait()


async def echo(request: web.Request) -> web.StreamResponse:
    """Echo frames; `/refused` refuses as a relay does."""
    if request.path == "/refused":
        return web.Response(status=429, headers={CODE_HEADER: "limit_exceeded"})
    answer = web.WebSocketResponse(protocols=(WEBSOCKET_PROTOCOL,))
    answer.headers[RESUME_HEADER] = "0123"
    await answer.prepare(request)
    async for message in answer:
        await answer.send_bytes(message.data)
    return answer


@contextlib.asynccontextmanager
async def server(listening: socket.socket | None = None) -> AsyncIterator[RelayAddress]:
    runner = web.ServerRunner(web.Server(echo), shutdown_timeout=1)
    await runner.setup()
    site = web.SockSite(runner, listening or socket.create_server(("127.0.0.1", 0)))
    await site.start()
    try:
        yield RelayAddress("http://{}:{}".format(*runner.addresses[0][:2]))
    finally:
        await runner.cleanup()


async def opened(relay: RelayAddress, tasks: Tasks, path: str = "/v1/control") -> Stream:
    carrier = CarrierKind.WEBSOCKET
    leg = await open_upgraded(relay, path, carrier, spawn=tasks.spawn, timeout=10)
    assert leg.resume_ticket == "0123"
    return leg.stream


def sockets() -> set[str]:
    """Return the sockets that this process has."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            link = os.readlink(f"/proc/self/fd/{fd}")
            found |= {link} if link.startswith("socket:") else set()
    return found


async def only(before: set[str]) -> None:
    """Wait until no socket is left but those; what is not closed properly is an error."""
    async with asyncio.timeout(60):
        while sockets() - before:
            await asyncio.sleep(0)
    gc.collect()


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
def test_bytes_go_both_ways_and_nothing_is_logged(
    loop: Callable[[], asyncio.AbstractEventLoop], caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with server() as relay:
            before = sockets()
            tasks = Tasks()
            stream = await opened(relay, tasks)
            assert stream.remote == f"{relay.host}:{relay.port}"
            owner = Owner()
            stream.set_owner(owner)
            stream.write(b"one")
            stream.write(b"two")
            await owner.until(lambda: owner.received == b"onetwo")
            assert list(relay.trips._known) == [("127.0.0.1", None)]
            stream.close()
            await owner.until(lambda: bool(owner.lost))
            assert len(owner.lost) == 1
            await tasks.close()
            await only(before)

    with (
        caplog.at_level(logging.INFO),
        asyncio.Runner(loop_factory=loop, debug=False) as runner,
    ):
        runner.run(asyncio.wait_for(scene(), 60))
    assert [record.message for record in caplog.records if "access" not in record.name] == []


class SlowWebSocket:
    """A WebSocket whose other end takes so many bytes a second."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.taken = 0

    def get_extra_info(self, name: str) -> None:
        return None

    async def send_bytes(self, data: bytes) -> None:
        await asyncio.sleep(len(data) / self.rate if self.rate else 1e6)
        self.taken += len(data)

    async def close(self) -> None:
        return

    def __aiter__(self) -> "SlowWebSocket":
        return self

    async def __anext__(self) -> None:
        await asyncio.sleep(1e6)


@pytest.mark.parametrize(("rate", "arrives"), [(8192, True), (0, False)])
def test_a_slow_relay_is_not_one_that_takes_nothing(rate: float, arrives: bool) -> None:
    async def scene() -> None:
        websocket = SlowWebSocket(rate)
        stream = WebSocketStream(cast(Any, websocket), cast(Any, SlowWebSocket(1)), 10.0)
        owner = Owner()
        stream.set_owner(owner)
        running = asyncio.create_task(stream.run())
        stream.write(bytes(1 << 20))
        await asyncio.sleep(140)
        assert (websocket.taken == 1 << 20, owner.lost == []) == (arrives, arrives)
        stream.abort()
        await running

    virtual_time.run(scene())


async def test_a_refusal_has_the_relays_code() -> None:
    async with server() as relay:
        before = sockets()
        with pytest.raises(RelayUnavailable, match=r"429.*limit_exceeded") as refused:
            await opened(relay, Tasks(), "/refused")
        assert refused.value.code is Code.LIMIT_EXCEEDED
        await only(before)


async def test_opening_that_is_cancelled_at_any_turn_leaves_nothing() -> None:
    async with server() as relay:
        tasks = Tasks()
        before = sockets()
        turns = 0
        won = False
        while not won:
            opening = asyncio.create_task(opened(relay, tasks))
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            try:
                (await opening).abort()
                won = True
            except asyncio.CancelledError:
                pass
            turns += 1
            assert turns < 400
            async with asyncio.timeout(60):
                while len(tasks):
                    await asyncio.sleep(0)
            await only(before)
        assert turns > 5


async def test_a_stream_that_is_cancelled_at_any_turn_of_its_end_leaves_nothing() -> None:
    async with server() as relay:
        before = sockets()
        for turns in range(25):
            tasks = Tasks()
            stream = await opened(relay, tasks)
            owner = Owner()
            stream.set_owner(owner)
            stream.close()
            for _ in range(turns):
                await asyncio.sleep(0)
            await tasks.close()
            assert len(owner.lost) == 1
            await only(before)


async def test_where_no_task_is_made_nothing_is_left() -> None:
    def closed(work: Coroutine[Any, Any, None]) -> None:
        work.close()

    async with server() as relay:
        before = sockets()
        with pytest.raises(RelayUnavailable, match="closed"):
            await open_upgraded(relay, "/", CarrierKind.WEBSOCKET, spawn=closed, timeout=10)
        await only(before)


@pytest.mark.parametrize("both", [False, True])
async def test_a_task_that_is_cancelled_before_it_begins_leaves_nothing(both: bool) -> None:
    """And so does one whose opener is cancelled in the same moment."""
    tasks = Tasks()

    def spawn_cancelled(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None] | None":
        task = tasks.spawn(work)
        assert task is not None
        task.cancel()
        if both:
            opening.cancel()
        return task

    async with server() as relay:
        before = sockets()
        opening = asyncio.create_task(
            open_upgraded(relay, "/", CarrierKind.WEBSOCKET, spawn=spawn_cancelled, timeout=10)
        )
        with pytest.raises(asyncio.CancelledError if both else RelayUnavailable):
            await opening
        await only(before)
        assert len(tasks) == 0


async def test_a_lost_syn_does_not_cost_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=0)
    connecting = tcp_sockets.connecting
    dialed: list[asyncio.Future[None]] = []

    def noted(one: socket.socket, where: tuple[str, int]) -> "asyncio.Future[None]":
        if len(dialed) == 1:
            listening.listen(16)  # Now there is room.
        dialed.append(connecting(one, where))
        return dialed[-1]

    with socket.create_connection(listening.getsockname(), timeout=5):
        relay = RelayAddress("http://{}:{}".format(*listening.getsockname()))
        relay.trips.put("127.0.0.1", None, 0.001)
        monkeypatch.setattr(tcp_sockets, "connecting", noted)
        opening = asyncio.create_task(opened(relay, tasks := Tasks()))
        async with asyncio.timeout(60):
            while len(dialed) < 2:
                await asyncio.sleep(0)
        async with server(listening):
            stream = await opening
            # The first, whose SYN the kernel would have repeated after a second, was given up.
            assert [one.cancelled() for one in dialed[:2]] == [True, False]
            stream.abort()
            await tasks.close()


async def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if not asked.done():  # The client may ask twice.
            asked.set_result(line)
        writer.transport.abort()

    served = await asyncio.start_server(proxy, "127.0.0.1", 0)
    host, port = served.sockets[0].getsockname()
    monkeypatch.setenv("http_proxy", f"http://{host}:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(RelayUnavailable):
        await opened(RelayAddress("http://192.0.2.1:8440"), Tasks())
    assert (await asked).startswith(b"GET http://192.0.2.1:8440/v1/control ")
    served.close()


@pytest.mark.parametrize("carrier", list(CarrierKind))
@pytest.mark.parametrize("host", ["relay..example", "x" * 70 + ".example", "relay.invalid"])
async def test_what_is_no_host_name_is_said(carrier: CarrierKind, host: str) -> None:
    try:
        relay = RelayAddress(f"http://{host}:8440")
    except RelayUnavailable:
        return
    with pytest.raises(RelayUnavailable):
        await open_upgraded(relay, "/", carrier, spawn=Tasks().spawn, timeout=10)


@pytest.mark.parametrize("carrier", list(CarrierKind))
async def test_nobody_listens(carrier: CarrierKind) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    before = sockets()
    with pytest.raises(RelayUnavailable, match="cannot connect"):
        await open_upgraded(
            RelayAddress(f"http://127.0.0.1:{port}"), "/", carrier, spawn=Tasks().spawn, timeout=10
        )
    await only(before)
