"""The relay's time: what may be done now for whom, charged by what it costs and before it is done.

No I/O and no clock. One unit is some 10 µs of one core. Who has used up his own waits. Where a
network, or all, have used theirs up, those go on who have been quiet: who have half of their own
left; for as long as the network owes no more than it may save. What is remembered has a bound.
"""

from collections import OrderedDict
from dataclasses import dataclass

from relay.limits.causes import Cause

__all__ = ["Work", "WorkRates"]

UNITS_PER_SECOND = 100_000.0
"""Of one core."""
_SHORTEST, _LONGEST = 0.02, 1.0
"""Seconds to wait."""
_QUIET = 0.5
"""Of what one may save: who has that much left has been quiet."""


@dataclass(frozen=True, slots=True)
class WorkRates:
    """Parts of one core's time, sustained; and for how many seconds each may save."""

    key: float
    network: float
    wide: float
    in_all: float
    saved: float = 1.0


_Level = tuple[float, float, OrderedDict[str, tuple[float, float]]]
"""Units a second, units that may be saved, and what each name has left, since when."""


class Work:
    """The time of one relay."""

    def __init__(self, rates: WorkRates, max_remembered: int = 65_536) -> None:
        self._max = max_remembered
        self._levels: list[_Level] = [
            (share * UNITS_PER_SECOND, share * UNITS_PER_SECOND * rates.saved, OrderedDict())
            for share in (rates.in_all, rates.wide, rates.network, rates.key)
        ]

    def charge(self, cause: Cause, cost: float, now: float) -> float:
        """Charge what is about to be done; return 0, or for how many seconds it has to wait: then
        nothing is charged. A cost above what can be saved is a debt."""
        names = ("", *cause)
        found = []
        quiet, wait = False, 0.0
        for depth in (3, 2, 1, 0):
            if depth == 3 and not cause.key:
                continue
            rate, burst, buckets = self._levels[depth]
            name = names[depth]
            left, since = buckets.get(name, (burst, now))
            left = min(burst, left + (now - since) * rate)
            found.append((depth, name, left))
            if left <= 0 and not (quiet and left > -burst):
                wait = max(wait, -left / rate, _SHORTEST)
            quiet = left >= burst * _QUIET
        if wait:
            return min(wait, _LONGEST)
        for depth, name, left in found:
            buckets = self._levels[depth][2]
            buckets[name] = left - cost, now
            buckets.move_to_end(name)
            if len(buckets) > self._max:
                buckets.popitem(last=False)
        return 0.0
