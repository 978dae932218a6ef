"""A byte stream under a path or a control connection: what its owner may ask of it, and is told.

Foreign exceptions end in the modules that make streams: above, there is only a reason in words.
"""

from dataclasses import dataclass
from typing import Protocol

__all__ = ["HIGH_WATER", "Opened", "Stream", "StreamOwner"]

HIGH_WATER = 1 << 20
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

    @property
    def paused(self) -> bool:
        """Whether the owner should hold its bytes back."""

    @property
    def round_trip(self) -> float | None:
        """Seconds to the other end of the connection that carries it, as far as it is known."""

    @property
    def silence(self) -> float | None:
        """Seconds since the kernel has heard of the other end of the connection that carries it,
        be it an acknowledgement; None where a system does not tell."""

    def probe_when_idle(self, seconds: float) -> None:
        """Let the kernel ask whether the other end is there, whenever nothing was heard for so
        long; a stream that is dead is lost then. It costs the other program nothing. Where a system
        cannot, nothing happens."""

    def settled(self) -> None:
        """The handshake is over: from now on not all is answered at once, and the kernel sends
        again only when it usually would."""

    def set_owner(self, owner: StreamOwner) -> None:
        """Hand the stream over; what has arrived meanwhile is delivered at once."""

    def write(self, data: bytes) -> None:
        """Send bytes. Never blocks; look at `paused`."""

    def close(self) -> None:
        """End the stream after what was written has left."""

    def abort(self) -> None:
        """End the stream now."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a relay has opened: a stream, and what it has said of it."""

    stream: Stream
    resume_ticket: str
    """Of a plane's leg: the ticket for the session's next plane; empty where there is none."""
