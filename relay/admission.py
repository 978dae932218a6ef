"""Rates and counts: who may connect and ask now, and who must wait for how long.

No I/O and no clock: `now` is passed in. What is remembered has a bound.
"""

from collections import OrderedDict

__all__ = ["Counts", "Rates"]


class Rates:
    """Token buckets by key. At most `max_keys` are remembered: the longest unused go first, and
    were full again by then unless more keys than that are active at once."""

    def __init__(self, per_second: float, burst: int, max_keys: int = 65_536) -> None:
        self._rate = per_second
        self._burst = float(burst)
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float) -> float:
        """Take one token; return 0, or the seconds to wait until there is one."""
        tokens, since = self._buckets.get(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        wait = 0.0
        if tokens >= 1.0:
            tokens -= 1.0
        else:
            wait = (1.0 - tokens) / self._rate
        self._buckets[key] = (tokens, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return wait


class Counts:
    """How many of something each key has, with a bound on each and on all."""

    def __init__(self, per_key: int, in_all: int) -> None:
        self._per_key = per_key
        self._in_all = in_all
        self._counts: dict[str, int] = {}
        self.total = 0

    def add(self, key: str) -> bool:
        """Count one more, or return False where a bound is reached."""
        if self.total >= self._in_all or self._counts.get(key, 0) >= self._per_key:
            return False
        self._counts[key] = self._counts.get(key, 0) + 1
        self.total += 1
        return True

    def remove(self, key: str) -> None:
        """Count one less."""
        self.total -= 1
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key]
