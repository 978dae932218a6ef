"""How long the sessions of one peer that have no path pause between two rounds.

PURE: the chance is handed in.

Rule 1: a second at most, whatever has failed before, so that what has become possible is noticed.
Rule 2: longer where many search, and where many of one other side do, each share for itself: who
has others lose their paths makes them ask no more than this. Rule 3: who will be told when the
other side is there again need not ask.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

from peers.tasks import LONGEST_WITHOUT_PATH, backoff

__all__ = ["Pauses"]

_LONGEST = 30.0
"""Seconds that no pause exceeds, however many search."""
_ALL, _EACH = 100, 16
"""Sessions whose rounds come as often as those of a single one: of this peer, and with one other
side. The pauses of more grow with their number, so that no more begin in a second: half of what a
relay takes of one peer."""


class Pauses:
    """Counts the sessions that search, and says how long they pause. `random` gives numbers from 0
    to 1."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._searching: Counter[str] = Counter()
        self._count = 0

    @contextlib.contextmanager
    def searching(self, guid: str) -> Iterator[None]:
        """Search inside for a path to a peer."""
        self._searching[guid] += 1
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self._searching[guid] -= 1
            if not self._searching[guid]:
                del self._searching[guid]

    def series(self, guid: str, will_be_told: Callable[[], bool]) -> Iterator[float]:
        """Yield the pauses between a session's rounds, in seconds. `will_be_told` says whether
        there will be a sign of the other side's return."""
        for wait in backoff(self._random):
            longest = _LONGEST if will_be_told() else self._longest(guid)
            yield min(wait, longest * (0.5 + 0.5 * self._random()))

    def _longest(self, guid: str) -> float:
        crowd = max(1.0, self._searching[guid] / _EACH, self._count / _ALL)
        return min(LONGEST_WITHOUT_PATH * crowd, _LONGEST)
