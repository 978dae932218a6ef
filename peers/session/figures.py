"""The numbers of one session: what it has carried so far."""

from dataclasses import dataclass

from protocol.session import SessionMachine

__all__ = ["Counters", "SessionFigures"]


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


class Counters:
    """What a session counts by itself, beside its machine."""

    __slots__ = ("_began", "_machine", "paths", "sent_bytes", "taken", "taken_bytes")

    def __init__(self, machine: SessionMachine, now: float) -> None:
        self._machine = machine
        self._began = now
        self.sent_bytes = self.taken = self.taken_bytes = self.paths = 0

    def figures(self, now: float, round_trip: float | None) -> SessionFigures:
        """Return them, with the machine's own."""
        machine = self._machine
        return SessionFigures(
            now - self._began,
            machine.sent,
            self.sent_bytes,
            machine.acknowledged,
            machine.received,
            self.taken,
            self.taken_bytes,
            self.paths,
            round_trip,
        )
