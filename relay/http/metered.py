"""What TLS costs beside the bytes that it carries: empty records, keys that change, one byte in
each record. It is charged to who sends it, by the bytes that bring nothing.

What is within TLS is charged where it arrives.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

from relay.limits import EVENT, TLS_BYTE, Toll

__all__ = ["Counted", "Early", "Meter"]

_LEAST, _MOST = 1 << 13, 1 << 18
"""Bytes that are taken from the socket at once: 8 KiB are 350 records of a byte each, 5 ms. More,
where records bring something."""
_UNDER_WAY = 17_000
"""Bytes that may be a part of a record, of which nothing has come out yet."""


class _Buffered(Protocol):
    """What TLS reads its bytes by, in asyncio and in uvloop."""

    def get_buffer(self, sizehint: int) -> Any: ...

    def buffer_updated(self, nbytes: int) -> None: ...

    def eof_received(self) -> Any: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Meter(asyncio.BufferedProtocol):
    """Between a socket's transport and TLS. Who cannot pay is not read for a while."""

    def __init__(self, raw: asyncio.Transport, toll: Toll) -> None:
        """The transport is TLS's already."""
        self._raw = raw
        self._tls: _Buffered = raw.get_protocol()  # type: ignore[assignment]
        self._toll = toll
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._size = _LEAST
        self._brought = 0
        self._overhead = 0
        """Bytes that came and brought nothing, but for those that are paid for."""
        raw.set_protocol(self)

    def begin(self, data: bytes) -> None:
        """Give TLS what has come before it had the transport."""
        while data:
            buffer = memoryview(self._tls.get_buffer(len(data)))
            count = min(len(data), len(buffer))
            buffer[:count], data = data[:count], data[count:]
            self._tls.buffer_updated(count)

    def bring(self, count: int) -> None:
        """So many bytes have come out of TLS."""
        self._brought += count

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._tls.get_buffer(sizehint))[: self._size]

    def buffer_updated(self, nbytes: int) -> None:
        self._brought = 0
        self._tls.buffer_updated(nbytes)
        self._size = min(_MOST, 2 * self._size) if 2 * self._brought >= nbytes else _LEAST
        self._overhead += nbytes - self._brought
        # Where TLS reads no more by itself, what has come waits there for whom it is for.
        if self._overhead > _UNDER_WAY and self._raw.is_reading():
            self._pay()

    def eof_received(self) -> Any:
        return self._tls.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._tls.connection_lost(exc)

    def pause_writing(self) -> None:
        self._tls.pause_writing()

    def resume_writing(self) -> None:
        self._tls.resume_writing()

    def _pay(self) -> None:
        self._pause = None
        if self._raw.is_closing():
            return
        wait = self._toll.take(EVENT + (self._overhead - _UNDER_WAY) * TLS_BYTE)
        if wait:
            self._raw.pause_reading()
            self._pause = self._loop.call_later(wait, self._pay)
            return
        self._overhead = _UNDER_WAY
        # Paused by this alone: TLS does so only as bytes come.
        if not self._raw.is_reading():
            self._raw.resume_reading()


class Early(asyncio.Protocol):
    """Has a transport until TLS has it, and keeps what comes meanwhile: uvloop begins to read
    whatever it is told."""

    def __init__(self) -> None:
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).pause_reading()

    def data_received(self, data: bytes) -> None:
        self.data += data


class Counted(asyncio.Protocol):
    """Whom the bytes out of TLS are for, with their count."""

    def __init__(self, protocol: asyncio.Protocol, bring: Callable[[int], None]) -> None:
        self._protocol = protocol
        self._bring = bring

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._protocol.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._bring(len(data))
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
