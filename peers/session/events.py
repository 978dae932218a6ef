"""What a program may follow of a session beside its messages: the paths under it."""

from dataclasses import dataclass

from peers.path import Path

__all__ = ["PathChanged"]


@dataclass(frozen=True, slots=True)
class PathChanged:
    """The session has taken another path, or has lost its path and looks for the next."""

    path: Path | None
    """The path from now on; None while there is none."""
    reason: str
    """Why, in words."""
