"""The numbers of one session: what it has carried so far."""

from dataclasses import dataclass

__all__ = ["SessionFigures"]


@dataclass(frozen=True, slots=True)
class SessionFigures:
    """What a session has carried, in both directions. Bytes are those of messages, without what
    they travel in."""

    seconds: float
    """Since the session was made here."""
    sent: int
    """Messages that `send` has taken."""
    sent_bytes: int
    """Of those messages."""
    acknowledged: int
    """Of those, messages that have arrived at the other side."""
    received: int
    """Messages that have arrived here."""
    taken: int
    """Of those, messages that `receive` has handed out."""
    taken_bytes: int
    """Of those messages."""
    paths: int
    """Paths that it has had; one more than its moves."""
    round_trip: float | None
    """Seconds, as measured last on the current path; None before that, and without a path."""
