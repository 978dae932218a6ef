"""What wakes a thread that waits for a descriptor, from any other thread."""

import os
import threading
from enum import Enum

__all__ = ["Bell"]


class _State(Enum):
    QUIET = "quiet"
    RUNG = "rung"
    """It has been rung, and not heard."""
    CLOSED = "closed"


class Bell:
    """A pipe that holds a byte while it has been rung and not heard. Whoever listens closes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = _State.QUIET
        self.descriptor, self._end = os.pipe()
        """`descriptor` is readable while it rings."""

    def ring(self) -> None:
        """Wake who listens; from any thread, and also where nobody does any more."""
        with self._lock:
            if self._state is _State.QUIET:
                self._state = _State.RUNG
                os.write(self._end, b"x")

    def hear(self) -> None:
        """Wait until it has been rung, and make it quiet again."""
        os.read(self.descriptor, 1)
        with self._lock:
            self._state = _State.QUIET

    def close(self) -> None:
        """It is not listened to any more."""
        with self._lock:
            self._state = _State.CLOSED
            os.close(self.descriptor)
            os.close(self._end)
