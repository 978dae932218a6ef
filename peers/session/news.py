"""What a session tells whoever looks for its paths. What the program follows is in events.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from protocol.endpoint import SignedEntry

if TYPE_CHECKING:
    from peers.session.session import Session

__all__ = [
    "FlightKeysChanged",
    "LocationTold",
    "Over",
    "PathLost",
    "Pinned",
    "SessionNews",
    "StandbyLost",
    "Switched",
    "TellSession",
]


@dataclass(frozen=True, slots=True)
class PathLost:
    """The session has lost its path and goes on without one."""

    session: "Session"
    reason: str


@dataclass(frozen=True, slots=True)
class Switched:
    """The session goes on over the path that stood ready. There is none beside it now."""

    session: "Session"


@dataclass(frozen=True, slots=True)
class StandbyLost:
    """No path stands ready any more."""

    session: "Session"
    reason: str


@dataclass(frozen=True, slots=True)
class LocationTold:
    """The other side has told where it can be dialed now."""

    session: "Session"
    entries: tuple[SignedEntry, ...]


@dataclass(frozen=True, slots=True)
class Pinned:
    """The program wants the session to stay on its path, or not any more: `session.pinned`."""

    session: "Session"


@dataclass(frozen=True, slots=True)
class FlightKeysChanged:
    """The ids of the keys under which the other side may seal a flight: `gone` are no more."""

    session: "Session"
    gone: tuple[bytes, ...]
    come: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Over:
    """The session has ended. Told once, and last."""

    session: "Session"


SessionNews: TypeAlias = (
    PathLost | Switched | StandbyLost | LocationTold | Pinned | FlightKeysChanged | Over
)
TellSession: TypeAlias = Callable[[SessionNews], None]
"""Takes the news at once. It must not raise."""
