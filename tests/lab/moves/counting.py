"""What became of the messages of one direction, and how long it was silent. No clock, no I/O.

Times are seconds of one clock; the silence of a move is that of the worse direction.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Arrival", "Tally", "Window", "percentile", "silence", "tally", "worse"]

Arrival = tuple[float, int]
"""When a message came, and its number."""


@dataclass(frozen=True)
class Tally:
    """What became of the messages of one direction, or of several together."""

    messages: int
    lost: int
    doubled: int
    reordered: int
    """Messages that came after one with a higher number, those that came twice apart."""

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.messages + other.messages,
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.reordered + other.reordered,
        )

    @property
    def whole(self) -> bool:
        """Whether each message came once, and in order."""
        return not (self.lost or self.doubled or self.reordered)


def tally(sent: int, numbers: Iterable[int]) -> Tally:
    """Count what came of the messages 0 to `sent` - 1, given the numbers as they came."""
    seen: set[int] = set()
    doubled = reordered = 0
    highest = -1
    for number in numbers:
        if number in seen:
            doubled += 1
        elif number < highest:
            reordered += 1
        seen.add(number)
        highest = max(highest, number)
    return Tally(sent, sum(number not in seen for number in range(sent)), doubled, reordered)


@dataclass(frozen=True)
class Window:
    """The time in which a move may be felt: from when it was made (or, after an absence, from when
    the network or the relay was there again) until the next one was."""

    since: float
    until: float


def silence(times: Sequence[float], window: Window, interval: float) -> float:
    """Return the longest time without an arrival in a window.

    Between two arrivals the usual `interval` is taken off; a silence that began before the window
    counts from its beginning, with nothing taken off. It is infinite where nothing came any more.
    """
    longest = 0.0
    before = -math.inf
    came = False
    for when in times:
        if when > window.until:
            break
        if when >= window.since:
            came = True
            begun = before >= window.since
            quiet = when - before - interval if begun else when - window.since
            longest = max(longest, quiet)
        before = when
    return longest if came else math.inf


def worse(directions: Iterable[Sequence[float]], window: Window, interval: float) -> float:
    """Return the silence of the worse direction, given the times of arrival in each."""
    return max(silence(times, window, interval) for times in directions)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that is not exceeded by this share of all (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]
