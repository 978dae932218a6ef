"""A byte stream over TCP, or over TLS to the relay: the transport's own protocol."""

import asyncio
import functools
import socket
import struct
import sys
from typing import cast

from peers.transport.stream import HIGH_WATER, StreamOwner
from protocol.hosts import describe

__all__ = [
    "END_OF_STREAM",
    "FORGOTTEN",
    "PROBES_LAST",
    "SILENT",
    "RawStream",
    "expect_answers",
    "kernel_round_trip",
    "kernel_silence",
    "probe_idle",
    "probe_when_idle",
]

END_OF_STREAM = "end of stream"
"""The reason where the other side has ended the stream by itself."""
SILENT = "the other end does not answer"
"""The reason where the kernel has asked in vain."""
FORGOTTEN = "the other end knows nothing of it any more"
"""The reason where it has answered the kernel's probe, or what was sent after as long a silence,
with a reset: the packets come from elsewhere now, or its host has been restarted."""
PROBES_LAST = 12
"""Seconds for which the kernel asks, once each: a link that is full of other bytes may need many
for a round trip. Whoever does not want to wait for that looks at `kernel_silence`."""
_BETWEEN = 1


_RTO_MIN = 45
"""Linux's TCP_RTO_MIN_US (6.15 and newer), which Python has no name for."""
_ANSWERED_WITHIN = 30_000
"""Microseconds by which what is answered at once may be late, before it is sent again."""

_RECEIVED_OFFSET, _ACKNOWLEDGED_OFFSET, _RTT_OFFSET, _INFO_SIZE = 52, 56, 68, 104
"""Of `tcpi_last_data_recv`, `tcpi_last_ack_recv` and `tcpi_rtt` in Linux's `struct tcp_info`, and
as much of it as every kernel has."""


_GONE = OSError, ValueError
"""Of a socket that has ended meanwhile; the second is uvloop's."""


def _kernel_info(connected: socket.socket) -> bytes | None:
    if sys.platform != "linux":
        return None
    try:
        return connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
    except _GONE:
        return None


def kernel_round_trip(connected: socket.socket) -> float | None:
    """Return the seconds of a connection's round trip as the kernel has measured it, whatever the
    programs at its ends were busy with; None where it does not tell."""
    if (info := _kernel_info(connected)) is None:
        return None
    (microseconds,) = struct.unpack_from("I", info, _RTT_OFFSET)
    return microseconds / 1e6 or None


def kernel_silence(connected: socket.socket) -> float | None:
    """Return the seconds since the kernel has heard of the other end, be it that it is there; None
    where it does not tell."""
    if (info := _kernel_info(connected)) is None:
        return None
    (received,) = struct.unpack_from("I", info, _RECEIVED_OFFSET)
    (acknowledged,) = struct.unpack_from("I", info, _ACKNOWLEDGED_OFFSET)
    return float(min(received, acknowledged)) / 1e3


@functools.cache
def _usual_rto_min() -> int | None:
    """Return the microseconds that the kernel adds to a round trip before it sends again; None
    where it does not let them be chosen."""
    if sys.platform != "linux":
        return None
    try:
        with socket.socket() as any_one:
            return any_one.getsockopt(socket.IPPROTO_TCP, _RTO_MIN)
    except OSError:
        return None


def expect_answers(connected: socket.socket, expected: bool = True) -> None:
    """Let the kernel send again what has no answer after three round trips or so, as for all that
    is said in a handshake; else 200 ms later than that, as the other end may be slow to acknowledge
    what it does not answer. Of a listening socket it holds for those that are accepted. Nothing
    happens where a system cannot."""
    usual = _usual_rto_min()
    if usual is None:
        return
    try:
        wanted = min(_ANSWERED_WITHIN, usual) if expected else usual
        connected.setsockopt(socket.IPPROTO_TCP, _RTO_MIN, wanted)
    except _GONE:
        return


def probe_idle(seconds: float) -> int:
    """Return the seconds without a sign of life after which the kernel asks, of those wished."""
    return max(1, int(seconds))


def probe_when_idle(connected: socket.socket, seconds: float) -> None:
    """Let the kernel ask for a sign of life (RFC 9293 §3.8.4) after so long without one, and give
    the connection up some seconds later; and as soon where it asks for none, because something that
    was sent is not acknowledged (RFC 5482). Nothing happens where a system cannot."""
    if not hasattr(socket, "TCP_KEEPIDLE"):
        return
    idle = probe_idle(seconds)
    try:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _BETWEEN)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES_LAST // _BETWEEN)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            given_up = 1000 * (idle + PROBES_LAST)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, given_up)
    except _GONE:
        return


class RawStream(asyncio.Protocol):
    """A stream over a TCP or TLS transport. It is the transport's protocol from the start."""

    def __init__(self, owner: StreamOwner | None = None) -> None:
        self._owner = owner
        self._early: list[bytes] = []
        self._lost: str | None = None
        self._paused = False
        self._idle: float | None = None
        """Seconds of silence after which the kernel probes; None where it does not."""
        self.transport: asyncio.Transport | None = None
        self.local = self.remote = ""
        self.gave_up = False
        """Whether this host has given it up without a word from the other end, which may not know
        yet that it has ended."""

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def round_trip(self) -> float | None:
        taken = self.transport.get_extra_info("socket") if self.transport is not None else None
        return None if taken is None else kernel_round_trip(taken)

    @property
    def silence(self) -> float | None:
        taken = self.transport.get_extra_info("socket") if self.transport is not None else None
        return None if taken is None else kernel_silence(taken)

    def probe_when_idle(self, seconds: float) -> None:
        taken = self.transport.get_extra_info("socket") if self.transport is not None else None
        if taken is not None:
            self._idle = probe_idle(seconds)
            probe_when_idle(taken, seconds)

    def settled(self) -> None:
        taken = self.transport.get_extra_info("socket") if self.transport is not None else None
        if taken is not None:
            expect_answers(taken, False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self.transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)
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
        while self._early and self._owner is owner:
            owner.stream_data(self._early.pop(0))
        if self._owner is not owner:
            return
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
        self._lost = FORGOTTEN if self._was_forgotten(exc) else _reason(exc)
        self.gave_up = isinstance(exc, OSError) and not isinstance(exc, ConnectionError)
        # Its owner has it too: a cycle, which would keep both, and TLS, until the collector comes.
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.stream_lost(self._lost)

    def _was_forgotten(self, error: Exception | None) -> bool:
        silence = self.silence if isinstance(error, ConnectionResetError) else None
        return silence is not None and self._idle is not None and silence >= self._idle

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


def _reason(error: Exception | None) -> str:
    if error is None:
        return END_OF_STREAM
    if isinstance(error, TimeoutError):
        return SILENT
    return str(error) or type(error).__name__
