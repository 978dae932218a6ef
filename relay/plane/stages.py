"""How far one way of a plane is, and what it waits for."""

from enum import Enum

__all__ = ["Stage", "Wait"]


class Stage(Enum):
    """How far one way of a plane is."""

    FLOWING = "flowing"
    ENDING = "ending"
    """The source has ended; what is held still has to leave."""
    DONE = "done"


class Wait(Enum):
    """What one way of a plane waits for."""

    NOTHING = "nothing"
    """There may be more to do at once."""
    SOURCE = "source"
    """Bytes from the source."""
    TARGET = "target"
    """Room at the target."""
    TURN = "turn"
    """Its turn, where bytes a second have a limit."""
