"""What a session machine tells its shell."""

from dataclasses import dataclass

from protocol.endpoint import SignedEntry

__all__ = ["Ended", "Event", "HelpWanted", "Moved", "PathDead", "SwitchedToo"]


@dataclass(frozen=True, slots=True)
class PathDead:
    """The current path carries nothing any more; take another one."""

    reason: str


@dataclass(frozen=True, slots=True)
class HelpWanted:
    """The current path acknowledges nothing for unusually long; it may live. Told once of each such
    time, and only while another path stands ready."""

    reason: str


@dataclass(frozen=True, slots=True)
class SwitchedToo:
    """The other side has switched to the path that the session is on: both did at once."""

    number: int


@dataclass(frozen=True, slots=True)
class Moved:
    """The other side says where it can be dialed now. The signatures are not checked yet."""

    entries: tuple[SignedEntry, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over."""

    lost: str | None
    """Why it was lost; None after a clean close."""
    unacknowledged: int
    """Messages sent here that the other side is not known to have."""


Event = PathDead | HelpWanted | SwitchedToo | Moved | Ended
