"""When what has arrived is acknowledged: at once, or a little later together with what follows."""

__all__ = ["Acknowledgement"]

_SECONDS = 0.005
"""Between two acknowledgements of parts, on a path that has brought so much that one for each part
would only cost."""
_EACH_UP_TO = 1 << 20
"""Bytes; below it the sender still learns how fast the path is."""


class Acknowledgement:
    """`arrived` is what has arrived in all, in bytes."""

    __slots__ = ("_each_until", "_said_at", "due", "waits_until")

    def __init__(self) -> None:
        self.due = False
        """Whether one should leave now."""
        self.waits_until: float | None = None
        """When one that waits for more must leave; None where none waits."""
        self._said_at = 0.0
        self._each_until = 0

    def begin(self, arrived: int) -> None:
        """Begin on a new path, with an acknowledgement."""
        self.due, self.waits_until = True, None
        self._each_until = arrived + _EACH_UP_TO

    def part_arrived(self, arrived: int, now: float) -> None:
        """A part of a message has arrived."""
        at = self._said_at + _SECONDS
        if now >= at or arrived < self._each_until:
            self.due = True
        else:
            self.waits_until = at

    def look(self, now: float) -> None:
        """See whether one has waited long enough."""
        if self.waits_until is not None and now >= self.waits_until:
            self.due, self.waits_until = True, None

    def said(self, now: float) -> None:
        """One has left."""
        self.due, self.waits_until = False, None
        self._said_at = now
