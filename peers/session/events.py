"""What a program may follow of a session beside its messages: the paths under it."""

from dataclasses import dataclass

from peers.path import Path

__all__ = ["PathChanged"]


@dataclass(frozen=True, slots=True)
class PathChanged:
    """The session has taken another path, or has lost its path and looks for the next; or it is
    where it was, and another path stands ready beside that one, or does not any more."""

    path: Path | None
    """The path from now on; None while there is none."""
    reason: str
    """Why, in words."""
    standby: Path | None = None
    """The path that stands ready from now on; None while none does."""
