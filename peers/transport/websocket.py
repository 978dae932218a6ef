"""A byte stream in the binary frames of a WebSocket, for proxies that pass nothing else.

This is the only module that needs aiohttp; it is imported when a WebSocket is opened first.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Sequence

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from peers.tasks import Spawn
from peers.transport.proxies import proxy_for
from peers.transport.relay_url import RelayAddress
from peers.transport.sockets import Dialed, dial_relay
from peers.transport.stream import HIGH_WATER, Opened, StreamOwner
from peers.transport.tcp import (
    expect_answers,
    kernel_round_trip,
    kernel_silence,
    probe_when_idle,
)
from peers.transport.upgrade import UPGRADE_REQUIRED, NotUpgraded, retry_after
from protocol.errors import Code, RelayUnavailable
from protocol.hosts import describe
from protocol.messages import CODE_HEADER, RESUME_HEADER, WEBSOCKET_PROTOCOL

__all__ = ["WebSocketStream", "open_websocket"]

_WRITE_DEADLINE = 10.0
"""Seconds for which a relay may leave a piece of our bytes unread before the stream is given up."""
_PIECE = 65_536
"""Bytes of a frame: a relay that takes them slowly is not one that takes none."""


class _Ended(Exception):
    """Ends the tasks of a WebSocket stream; says why."""


class _Nobody:
    """Owns a stream that was not handed over yet."""

    def stream_data(self, data: bytes) -> None:
        return

    def stream_writable(self) -> None:
        return

    def stream_lost(self, reason: str) -> None:
        return


class WebSocketStream:
    """A stream whose bytes travel in binary WebSocket frames. `run` must be run by a task."""

    def __init__(
        self,
        websocket: aiohttp.ClientWebSocketResponse,
        session: aiohttp.ClientSession,
        write_deadline: float,
    ) -> None:
        self._websocket = websocket
        self._session = session
        self._write_deadline = write_deadline
        self._owner: StreamOwner = _Nobody()
        self._owned = asyncio.Event()
        self._outbox: deque[bytes] = deque()
        self._waiting = 0
        self._wake = asyncio.Event()
        self._aborted = asyncio.Event()
        self._closing = False
        self._paused = False
        self.begun = asyncio.Event()
        """Set when `run` has begun, which frees everything in the end."""
        self.local = describe(websocket.get_extra_info("sockname"))
        self.remote = describe(websocket.get_extra_info("peername"))

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def round_trip(self) -> float | None:
        taken = self._websocket.get_extra_info("socket")
        return None if taken is None else kernel_round_trip(taken)

    @property
    def silence(self) -> float | None:
        taken = self._websocket.get_extra_info("socket")
        return None if taken is None else kernel_silence(taken)

    def probe_when_idle(self, seconds: float) -> None:
        taken = self._websocket.get_extra_info("socket")
        if taken is not None:
            probe_when_idle(taken, seconds)

    def settled(self) -> None:
        taken = self._websocket.get_extra_info("socket")
        if taken is not None:
            expect_answers(taken, False)

    def set_owner(self, owner: StreamOwner) -> None:
        self._owner = owner
        self._owned.set()

    def write(self, data: bytes) -> None:
        if not self._closing:
            self._outbox.append(data)
            self._waiting += len(data)
            self._paused = self._waiting > HIGH_WATER
            self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()

    def abort(self) -> None:
        self._closing = True
        self._aborted.set()

    async def run(self) -> None:
        """Carry bytes both ways until the stream ends. Returns when it is closed and freed."""
        self.begun.set()
        reason = "end of stream"
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read_all())
                tasks.create_task(self._write_all())
                await self._aborted.wait()
                raise _Ended("closed here")
        except* _Ended as ended:
            reason = str(ended.exceptions[0])
        except* (aiohttp.ClientError, OSError, TimeoutError) as failed:
            reason = str(failed.exceptions[0]) or type(failed.exceptions[0]).__name__
        finally:
            self._closing = True
            self._outbox.clear()
            try:
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                    async with asyncio.timeout(self._write_deadline):
                        await self._websocket.close()
            finally:
                try:
                    await self._session.close()
                finally:
                    self._owner.stream_lost(reason)

    async def _read_all(self) -> None:
        await self._owned.wait()
        async for message in self._websocket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                raise _Ended("a WebSocket frame that is not binary")
            self._owner.stream_data(message.data)
        raise _Ended("end of stream")

    async def _write_all(self) -> None:
        while True:
            while self._outbox:
                data = b"".join(self._outbox)
                self._outbox.clear()
                for start in range(0, len(data), _PIECE):
                    async with asyncio.timeout(self._write_deadline):
                        await self._websocket.send_bytes(data[start : start + _PIECE])
                self._waiting -= len(data)
                if self._paused and self._waiting <= HIGH_WATER // 4:
                    self._paused = False
                    self._owner.stream_writable()
            if self._closing:
                async with asyncio.timeout(self._write_deadline):
                    await self._websocket.close()
                raise _Ended("closed here")
            self._wake.clear()
            await self._wake.wait()


class _Connected(socket.socket):
    """A socket that is connected already, for aiohttp, which connects what it gets."""

    def connect(self, address: object) -> None:
        return


class _Dialed(AbstractResolver):
    """Gives aiohttp the connection that was dialed here, once: it cannot wait for fresh sockets
    itself. What it does not take is closed."""

    def __init__(self, dialed: Dialed) -> None:
        self._address = dialed.address
        self._socket: socket.socket | None = _Connected(fileno=dialed.connected.detach())

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        where = self._address
        return [
            ResolveResult(
                hostname=host, host=where.host, port=port, family=where.family, proto=0, flags=0
            )
        ]

    def take(self, address: object) -> socket.socket:
        taken, self._socket = self._socket, None
        if taken is None:
            raise ConnectionAbortedError("the connection was lost before it was used")
        return taken

    async def close(self) -> None:
        self.drop()

    def drop(self) -> None:
        if self._socket is not None:
            self._socket.close()


async def open_websocket(
    relay: RelayAddress,
    path: str,
    local_address: str | None,
    more: Sequence[tuple[str, str]],
    spawn: Spawn,
    reached: Dialed | None,
) -> Opened:
    """Open a WebSocket to `path` at the relay, directly or through the proxy that the environment
    names; `spawn` owns the task that carries its bytes. `reached` is a connection to the relay that
    is there already, maybe through such a proxy, and is used or closed.

    Through a proxy for plain HTTP aiohttp dials by itself, and through any where nobody has.

    Raises:
        NotUpgraded, RelayUnavailable: the relay refused.
        OSError: it cannot be reached.
    """
    dialed = None if reached is None else _Dialed(reached)
    try:
        if proxy_for(relay.url) is not None and (dialed is None or relay.url.scheme == "http"):
            return await _open(relay, path, local_address, more, spawn, None)
        if dialed is None:
            dialed = _Dialed(await dial_relay(relay, local_address))
        return await _open(relay, path, local_address, more, spawn, dialed)
    finally:
        if dialed is not None:
            dialed.drop()


async def _open(
    relay: RelayAddress,
    path: str,
    local_address: str | None,
    more: Sequence[tuple[str, str]],
    spawn: Spawn,
    dialed: _Dialed | None,
) -> Opened:
    connector = aiohttp.TCPConnector(
        local_addr=(local_address, 0) if local_address and dialed is None else None,
        ssl=relay.tls() or False,
        family=socket.AF_UNSPEC,
        force_close=True,
        resolver=dialed,
        socket_factory=dialed.take if dialed is not None else None,
    )
    session = aiohttp.ClientSession(connector=connector, trust_env=dialed is None)
    try:
        websocket = await _upgrade(session, relay, path, more)
    except BaseException:
        await session.close()
        raise
    # aiohttp keeps the answer, with the headers of the 101, there and nowhere public.
    answer = websocket._response
    stream = WebSocketStream(websocket, session, _WRITE_DEADLINE)
    try:
        await _begin(stream, spawn)
    except BaseException:
        answer.close()
        await session.close()
        raise
    return Opened(stream, answer.headers.get(RESUME_HEADER, ""))


async def _upgrade(
    session: aiohttp.ClientSession,
    relay: RelayAddress,
    path: str,
    more: Sequence[tuple[str, str]],
) -> aiohttp.ClientWebSocketResponse:
    url = relay.url.join(URL(path, encoded=True))
    try:
        return await session.ws_connect(
            url,
            headers=more,
            protocols=(WEBSOCKET_PROTOCOL,),
            compress=0,
            max_msg_size=1 << 22,
            server_hostname=relay.certificate_name,
            timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
        )
    except aiohttp.WSServerHandshakeError as error:
        told = error.headers.get(CODE_HEADER) if error.headers else None
        after = error.headers.get("Retry-After", "") if error.headers else ""
        kind = RelayUnavailable if told and error.status != UPGRADE_REQUIRED else NotUpgraded
        said = f": {told[:64]}" if told else ""
        if error.status == UPGRADE_REQUIRED and told == Code.UPGRADE_REQUIRED:
            # It was in the request; the reason that the relay gives is in a body that is not read.
            said = ": a proxy on the way drops the Upgrade header"
        raise kind(
            f"the relay answered with HTTP status {error.status}, not a WebSocket{said}",
            code=Code(told) if told else None,
            retry_after=retry_after(after),
        ) from None
    except aiohttp.ClientConnectorCertificateError as error:
        raise error.certificate_error from None
    except aiohttp.ClientError as error:
        # Whoever hangs up before the answer, or answers what is none, has not switched.
        raise NotUpgraded(f"cannot connect to {relay}: {error}") from None


async def _begin(stream: WebSocketStream, spawn: Spawn) -> None:
    """Give the stream its task, and see that it begins: from then on it frees what it holds."""
    begun = stream.begun
    task = spawn(stream.run())
    if task is not None:
        # A task that is cancelled before it begins ends the wait, too.
        task.add_done_callback(lambda task: begun.set())
        try:
            await begun.wait()
        except BaseException:
            stream.abort()
            raise
    if task is None or task.cancelled():
        raise RelayUnavailable("closed")
