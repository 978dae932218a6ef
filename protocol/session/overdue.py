"""When an acknowledgement is overdue: the estimator of RFC 6298, for the bytes of one path.

It says when a path that stands ready should help, not when a path is dead (liveness.py). Samples
are of frames, with all that they waited for on a slow link, so that a path which is only slow is
given the time that it usually takes.
"""

__all__ = ["Overdue"]

_FIRST = 1.0
"""Seconds while nothing was measured (RFC 6298 §2.1)."""
_LEAST = 0.1
"""Seconds; acknowledgements wait up to 5 ms for one another, and a busy host for its turn."""
_LONGEST = 60.0
_GRAIN = 0.05
"""Seconds by which the variation counts at least: what looks as regular as a clock is not."""


class Overdue:
    """What is usual on one path. Times are seconds of any clock that only grows."""

    __slots__ = ("_next", "_smoothed", "_variation")

    def __init__(self) -> None:
        self._smoothed: float | None = None
        self._variation = 0.0
        self._next = 0.0

    def begin(self) -> None:
        """Begin on a new path, of which nothing is known."""
        self._smoothed, self._variation, self._next = None, 0.0, 0.0

    def sample(self, seconds: float, now: float) -> None:
        """An acknowledgement has come so late. Once in a round trip it counts: many of one round
        trip would show how alike they are, and nothing of the path."""
        if now < self._next:
            return
        if self._smoothed is None:
            self._smoothed, self._variation = seconds, seconds / 2
        else:
            self._variation += (abs(self._smoothed - seconds) - self._variation) / 4
            self._smoothed += (seconds - self._smoothed) / 8
        self._next = now + self._smoothed

    @property
    def timeout(self) -> float:
        """Seconds without an acknowledgement, while one is due, after which that is unusual."""
        if self._smoothed is None:
            return _FIRST
        return min(max(self._smoothed + max(4 * self._variation, _GRAIN), _LEAST), _LONGEST)
