"""Whether a deadline may be judged that was met late: the loop itself may have been.

A process that was stopped, or starved, finds its deadlines passed while what would have moved them
waits in its sockets; and libuv's loops run timers before they read. So what is found late is looked
at again one turn later, when the sockets have been read. Times are seconds of the caller's clock.
"""

__all__ = ["LATE", "MOST_TURNS", "TURN", "Lateness"]

LATE = 0.1
"""Seconds behind its time from which a timer says that the loop was held up."""
TURN = 0.05
"""Seconds in which sockets are read, and what was read is taken, after such a moment."""
MOST_TURNS = 3


class Lateness:
    """The timers of one owner: ask `turn` whenever one has come."""

    __slots__ = ("_turns",)

    def __init__(self) -> None:
        self._turns = 0
        """Given in a row: it may be held up again before it has read all."""

    def turn(self, due: float, now: float) -> float | None:
        """Return the seconds to wait before anything is judged by a timer that was `due`; None
        where it may be judged now. At most `MOST_TURNS` are given in a row, so that a loop that is
        always late judges too."""
        if now - due < LATE or self._turns == MOST_TURNS:
            self._turns = 0
            return None
        self._turns += 1
        return TURN
