"""Byte streams under paths and control connections: a socket, or a WebSocket.

A stream tells its owner what arrives, when it may write again, and when it is gone. Foreign
exceptions end here: above, there is only a reason in words.
"""

import asyncio
import contextlib
import socket
from collections import deque
from typing import Protocol, cast

import aiohttp

__all__ = ["RawStream", "Stream", "StreamOwner", "WebSocketStream", "describe", "host_of"]

_HIGH_WATER = 1 << 20
"""Bytes that may wait in a stream before its owner is told to stop."""


class StreamOwner(Protocol):
    """Who uses a stream. None of these may raise."""

    def stream_data(self, data: bytes) -> None:
        """Bytes arrived."""

    def stream_writable(self) -> None:
        """The stream takes bytes again after it was `paused`."""

    def stream_lost(self, reason: str) -> None:
        """Nothing more will arrive or leave. Called once."""


class Stream(Protocol):
    """A bidirectional byte stream."""

    local: str
    remote: str
    resume_ticket: str
    """Of a plane's leg: the ticket for the session's next plane; empty where there is none."""

    @property
    def paused(self) -> bool:
        """Whether the owner should hold its bytes back."""

    def set_owner(self, owner: StreamOwner) -> None:
        """Hand the stream over; what has arrived meanwhile is delivered at once."""

    def write(self, data: bytes) -> None:
        """Send bytes. Never blocks; look at `paused`."""

    def close(self) -> None:
        """End the stream after what was written has left."""

    def abort(self) -> None:
        """End the stream now."""


def describe(address: object) -> str:
    """Return a socket address in words, as `host:port`."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = str(address[0]).removeprefix("::ffff:"), address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(address)


def host_of(address: str) -> str:
    """Return the host of what `describe` has written."""
    return address.rpartition(":")[0].strip("[]")


class RawStream(asyncio.Protocol):
    """A stream over a TCP or TLS transport. It is the transport's protocol from the start."""

    def __init__(self, owner: StreamOwner | None = None) -> None:
        self._owner = owner
        self._early: list[bytes] = []
        self._lost: str | None = None
        self._paused = False
        self.transport: asyncio.Transport | None = None
        self.local = self.remote = self.resume_ticket = ""

    @property
    def paused(self) -> bool:
        return self._paused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self.transport = transport
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        taken = transport.get_extra_info("socket")
        if taken is not None:
            # asyncio leaves Nagle's delay on where it does not know a socket's protocol.
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local = describe(transport.get_extra_info("sockname"))
        self.remote = describe(transport.get_extra_info("peername"))
        if self._owner is None:
            transport.pause_reading()

    def set_owner(self, owner: StreamOwner) -> None:
        first = self._owner is None
        self._owner = owner
        early, self._early = self._early, []
        for data in early:
            owner.stream_data(data)
        if self._lost is not None:
            owner.stream_lost(self._lost)
        elif first and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def release(self, early: bytes) -> None:
        """Take the stream from its owner; `early` bytes are for the next one."""
        self._owner = None
        if early:
            self._early.append(early)
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if self._owner is None:
            self._early.append(data)
        else:
            self._owner.stream_data(data)

    def eof_received(self) -> None:
        # The transport closes itself; `connection_lost` follows.
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = "end of stream" if exc is None else (str(exc) or type(exc).__name__)
        if self._owner is not None:
            self._owner.stream_lost(self._lost)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._owner is not None:
            self._owner.stream_writable()

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class _Ended(Exception):
    """Ends the tasks of a WebSocket stream; says why."""


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
        self._owner: StreamOwner | None = None
        self._owned = asyncio.Event()
        self._outbox: deque[bytes] = deque()
        self._waiting = 0
        self._wake = asyncio.Event()
        self._aborted = asyncio.Event()
        self._closing = False
        self._paused = False
        self.resume_ticket = ""
        self.local = describe(websocket.get_extra_info("sockname"))
        self.remote = describe(websocket.get_extra_info("peername"))

    @property
    def paused(self) -> bool:
        return self._paused

    def set_owner(self, owner: StreamOwner) -> None:
        self._owner = owner
        self._owned.set()

    def write(self, data: bytes) -> None:
        if not self._closing:
            self._outbox.append(data)
            self._waiting += len(data)
            self._paused = self._waiting > _HIGH_WATER
            self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()

    def abort(self) -> None:
        self._closing = True
        self._aborted.set()

    async def run(self) -> None:
        """Carry bytes both ways until the stream ends. Returns when it is closed and freed."""
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
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with asyncio.timeout(self._write_deadline):
                    await self._websocket.close()
            await self._session.close()
            if self._owner is not None:
                self._owner.stream_lost(reason)

    async def _read_all(self) -> None:
        await self._owned.wait()
        assert self._owner is not None
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
                async with asyncio.timeout(self._write_deadline):
                    await self._websocket.send_bytes(data)
                self._waiting -= len(data)
                if self._paused and self._waiting <= _HIGH_WATER // 4 and self._owner is not None:
                    self._paused = False
                    self._owner.stream_writable()
            if self._closing:
                async with asyncio.timeout(self._write_deadline):
                    await self._websocket.close()
                raise _Ended("closed here")
            self._wake.clear()
            await self._wake.wait()
