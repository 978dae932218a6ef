"""What carries a control connection: a raw socket here, a WebSocket in websocket.py.

Either gives the connection its bytes and takes bytes from it without ever waiting. What is written
in one turn of the loop leaves in one write. One bounded outbox and one write deadline: a peer that
does not read is aborted, and nobody else notices.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, cast

from protocol.errors import Code

__all__ = ["Carrier", "CarrierLimits", "CarrierUser", "RawCarrier", "State"]


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


class State(Enum):
    """Where a carrier is in its life."""

    OPEN = "open"
    CLOSING = "closing"
    """Nothing is queued any more; what was may still leave until the write deadline."""
    LOST = "lost"


# Python 3.11 looks an enum's member up in 0.3 µs: this is asked for with every message.
_OPEN, _CLOSING, _LOST = State


def _made(carrier: Carrier) -> CarrierUser:
    """Stands for what makes a user where there is one."""
    raise RuntimeError("a carrier has one user")


def _nobody_waits() -> None:
    """Stands for who was told already."""


class RawCarrier(asyncio.Protocol):
    """A control connection straight on its transport."""

    __slots__ = (
        "__weakref__",
        "_deadline",
        "_limits",
        "_loop",
        "_make_user",
        "_on_lost",
        "_out",
        "_out_size",
        "_pause",
        "_paused",
        "_reason",
        "_state",
        "_transport",
        "_user",
        "closed",
    )

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
        self._make_user = _made  # What makes it holds the request.

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
        on_lost, self._on_lost = self._on_lost, _nobody_waits
        on_lost()
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
