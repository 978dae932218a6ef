"""The relay's time: what may be done now for whom, charged by what it costs and before it is done.

No I/O and no clock. One unit is some 10 µs of one core. Who has used up his own waits. Where a
network, or all, have used theirs up, those go on who have been quiet: who have half of their own
left; for as long as the network owes no more than it may save. What is remembered has a bound.
"""

from dataclasses import dataclass

from relay.limits.causes import Cause

__all__ = ["Work", "WorkRates"]

UNITS_PER_SECOND = 100_000.0
"""Of one core."""
_SHORTEST, _LONGEST = 0.02, 1.0
"""Seconds to wait."""
_GENERATION = 30.0
"""Seconds: far longer than a bucket takes to fill, whatever one thing may have cost."""
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


class _Level:
    """What each name has left, at one level. In two generations: a name that is not asked for while
    half of those that may be remembered come, or for a minute at most, is forgotten with its whole
    generation, and was full again by then unless more are active at once."""

    __slots__ = ("_most", "_old", "_since", "burst", "quiet", "rate", "young")

    def __init__(self, rate: float, saved: float, max_remembered: int) -> None:
        self.rate = rate
        """Units a second."""
        self.burst = rate * saved
        """Units that may be saved."""
        self.quiet = self.burst * _QUIET
        self._most = max(1, max_remembered // 2)
        self.young: dict[str, list[float]] = {}
        """Units that are left, and since when."""
        self._old: dict[str, list[float]] = {}
        self._since = 0.0
        """When the young generation began."""

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

    def find(self, name: str, now: float) -> list[float]:
        """Return the bucket of a name that is not among the young ones, and is from now on."""
        if len(self.young) >= self._most or now - self._since > _GENERATION:
            self._old, self.young = self.young, {}
            self._since = now
        found = self._old.pop(name, None)
        if found is None:
            found = [self.burst, now]
        self.young[name] = found
        return found


class Work:
    """The time of one relay."""

    def __init__(self, rates: WorkRates, max_remembered: int = 65_536) -> None:
        self._levels = tuple(
            _Level(share * UNITS_PER_SECOND, rates.saved, max_remembered)
            for share in (rates.key, rates.network, rates.wide, rates.in_all)
        )

    def __len__(self) -> int:
        """How many names are remembered, of keys and of networks."""
        return sum(len(level) for level in self._levels)

    def charge(self, cause: Cause, cost: float, now: float) -> float:
        """Charge what is about to be done; return 0, or for how many seconds it has to wait: then
        nothing is charged. A cost above what can be saved is a debt; one below 0 gives back what
        was charged, at once."""
        # Asked for several times for each connection: no calls, and nothing is built but a list.
        wide, network, key = cause
        quiet, wait = False, 0.0
        found = []
        for level, name in zip(self._levels, (key, network, wide, ""), strict=True):
            if not name and level is self._levels[0]:
                continue
            bucket = level.young.get(name)
            if bucket is None:
                bucket = level.find(name, now)
            left = bucket[0] + (now - bucket[1]) * level.rate
            if left > level.burst:
                left = level.burst
            bucket[0], bucket[1] = left, now
            if left <= 0 and not (quiet and left > -level.burst):
                wait = max(wait, -left / level.rate, _SHORTEST)
            quiet = left >= level.quiet
            found.append(bucket)
        if wait and cost >= 0:
            return wait if wait < _LONGEST else _LONGEST
        for bucket in found:
            bucket[0] -= cost
        return 0.0
