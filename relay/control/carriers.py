"""What carries a control connection: a raw socket, or a WebSocket.

Either gives the connection its bytes and takes bytes from it without ever waiting. What is written
in one turn of the loop leaves in one write. One bounded outbox and one write deadline: a peer that
does not read is aborted, and nobody else notices.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, cast

import aiohttp
from aiohttp import web

from protocol.errors import Code

__all__ = ["Carrier", "CarrierLimits", "CarrierUser", "RawCarrier", "WebSocketCarrier"]


class CarrierUser(Protocol):
    """The control connection. None of these may raise."""

    def carrier_data(self, data: bytes) -> None:
        """Bytes arrived."""

    def carrier_resumed(self) -> None:
        """A pause is over."""

    def carrier_lost(self, reason: str) -> None:
        """Nothing more will arrive or leave. Called once; `reason` is a metric's label."""


class Carrier(Protocol):
    """What a control connection may do with its carrier."""

    def write(self, data: bytes) -> None:
        """Queue bytes."""

    def pause(self, seconds: float) -> None:
        """Read nothing for so long; 0: until others have had their turn."""

    def close(self, reason: str) -> None:
        """End after what was queued has left, or at the write deadline."""

    def abort(self, reason: str) -> None:
        """End now."""


@dataclass(frozen=True, slots=True)
class CarrierLimits:
    """What one peer may leave unread."""

    write_deadline: float
    """Seconds."""
    outbox_bytes: int


class _State(Enum):
    OPEN = "open"
    CLOSING = "closing"
    """Nothing is queued any more; what was may still leave until the write deadline."""
    LOST = "lost"


# Python 3.11 looks an enum's member up in 0.3 µs: this is asked for with every message.
_OPEN, _CLOSING, _LOST = _State


class RawCarrier(asyncio.Protocol):
    """A control connection straight on its transport."""

    def __init__(
        self,
        make_user: Callable[[Carrier], CarrierUser],
        limits: CarrierLimits,
        on_lost: Callable[[], None],
    ) -> None:
        """`make_user` is called when there is a transport, `on_lost` when it is gone."""
        self._loop = asyncio.get_running_loop()
        self._make_user = make_user
        self._limits = limits
        self._on_lost = on_lost
        self._out: list[bytes] = []
        self._out_size = 0
        self._paused = False
        self._pause: asyncio.TimerHandle | None = None
        self._state = _OPEN
        self._deadline: asyncio.TimerHandle | None = None
        self._reason = "peer_closed"
        self._transport: asyncio.Transport | None = None
        self._user: CarrierUser | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Done when the transport is gone."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a transport, or was one."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._transport = transport
        # Anything that the kernel does not take at once starts the write deadline.
        transport.set_write_buffer_limits(high=1)
        self._user = self._make_user(self)

    def data_received(self, data: bytes) -> None:
        if self._user is not None:
            self._user.carrier_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._state = _LOST
        self._stop_deadline()
        if self._pause is not None:
            self._pause.cancel()
        if exc is not None and self._reason == "peer_closed":
            self._reason = "connection_lost"
        if not self.closed.done():
            self.closed.set_result(None)
        self._on_lost()
        # Neither holds the other any more: their buffers go now, not with the next collection.
        user, self._user = self._user, None
        if user is not None:
            user.carrier_lost(self._reason)

    def pause_writing(self) -> None:
        self._paused = True
        self._start_deadline()

    def resume_writing(self) -> None:
        self._paused = False
        self._stop_deadline()
        self._flush()

    def write(self, data: bytes) -> None:
        if self._state is not _OPEN:
            return
        if not self._out and not self._paused:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size > self._limits.outbox_bytes:
            self.abort(Code.SLOW_CONSUMER.value)

    def pause(self, seconds: float) -> None:
        if self._state is _OPEN and self._pause is None and self._transport is not None:
            if not self._transport.is_closing() and self._transport.is_reading():
                self._transport.pause_reading()
            self._pause = self._loop.call_later(seconds, self._resume)

    def close(self, reason: str) -> None:
        if self._state is not _OPEN or self._transport is None:
            return
        self._reason = reason
        self._state = _CLOSING
        if self._out and not self._paused:
            self._flush()
        if not self._out:
            self._transport.close()
        self._start_deadline()

    def abort(self, reason: str) -> None:
        if self._state is _LOST:
            return
        self._reason = reason
        self._state = _CLOSING
        self._out.clear()
        self._out_size = 0
        if self._transport is not None:
            self._transport.abort()

    def _resume(self) -> None:
        self._pause = None
        if self._user is not None:
            self._user.carrier_resumed()
        # It may have asked for the next pause, or ended the connection.
        transport = self._transport
        if self._pause is None and transport is not None and not transport.is_closing():
            transport.resume_reading()

    def _flush(self) -> None:
        if self._out and not self._paused and self._transport is not None:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._out_size = 0
            # The other end may have closed, and nobody was told yet: uvloop would refuse.
            if not self._transport.is_closing():
                self._transport.write(data)
            if self._state is _CLOSING:
                self._transport.close()

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self._loop.call_later(
                self._limits.write_deadline, self.abort, Code.SLOW_CONSUMER.value
            )

    def _stop_deadline(self) -> None:
        if self._deadline is not None and self._state is not _CLOSING:
            self._deadline.cancel()
            self._deadline = None


class _Stop(Exception):
    """Ends the two halves of a WebSocket carrier; its text is the reason."""


class WebSocketCarrier:
    """A control connection whose bytes travel in binary frames. `run` carries them."""

    def __init__(
        self,
        request: web.Request,
        websocket: web.WebSocketResponse,
        limits: CarrierLimits,
        delivered: Callable[[int], None],
    ) -> None:
        """`delivered` is told of each message's bytes: they are charged by its user."""
        self._delivered = delivered
        self._request = request
        self._websocket = websocket
        self._limits = limits
        self._out: list[bytes] = []
        self._out_size = 0
        self._wake = asyncio.Event()
        self._closing: str | None = None
        self._pause: float | None = None
        self._pinged: bytes | None = None
        """What the last ping said that was not answered: of several, the last one is
        (RFC 6455 §5.5.3)."""

    def write(self, data: bytes) -> None:
        if self._closing is not None:
            return
        self._out.append(data)
        self._out_size += len(data)
        self._wake.set()
        if self._out_size > self._limits.outbox_bytes:
            self.abort(Code.SLOW_CONSUMER.value)

    def pause(self, seconds: float) -> None:
        self._pause = seconds

    def close(self, reason: str) -> None:
        if self._closing is None:
            self._closing = reason
            self._wake.set()

    def abort(self, reason: str) -> None:
        self._closing = reason
        self._out.clear()
        self._wake.set()
        if self._request.transport is not None:
            self._request.transport.abort()

    async def run(self, user: CarrierUser) -> None:
        """Carry bytes both ways until either side ends; then tell the user why."""
        reason = "connection_lost"
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(user))
                tasks.create_task(self._write())
        except* _Stop as stop:
            reason = str(stop.exceptions[0])
        except* (aiohttp.ClientError, OSError, TimeoutError):
            pass
        finally:
            if self._request.transport is not None and not self._websocket.closed:
                self._request.transport.abort()
            user.carrier_lost(self._closing or reason)

    async def _read(self, user: CarrierUser) -> None:
        async for message in self._websocket:
            match message.type:
                case aiohttp.WSMsgType.BINARY:
                    self._delivered(len(message.data))
                    user.carrier_data(message.data)
                case aiohttp.WSMsgType.PING:
                    self._pinged = message.data
                    self._wake.set()
                    user.carrier_data(b"")
                case aiohttp.WSMsgType.PONG:
                    user.carrier_data(b"")
                case _:
                    raise _Stop(Code.BAD_MESSAGE.value)
            # Thousands of messages may have arrived in one piece: each has its turn of the loop.
            await asyncio.sleep(0)
            while (pause := self._pause) is not None:
                self._pause = None
                await asyncio.sleep(pause)
                user.carrier_resumed()
        raise _Stop("peer_closed")

    async def _write(self) -> None:
        while True:
            while self._out:
                data = b"".join(self._out)
                self._out.clear()
                self._out_size = 0
                await self._in_time(self._websocket.send_bytes(data))
            if self._closing is not None:
                async with asyncio.timeout(self._limits.write_deadline):
                    await self._websocket.close(drain=False)
                raise _Stop(self._closing)
            if (pinged := self._pinged) is not None:
                self._pinged = None
                await self._in_time(self._websocket.pong(pinged))
                continue
            self._wake.clear()
            await self._wake.wait()

    async def _in_time(self, writing: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(self._limits.write_deadline):
                await writing
        except TimeoutError:
            self.abort(Code.SLOW_CONSUMER.value)
            raise _Stop(Code.SLOW_CONSUMER.value) from None
