"""Rates and counts: who may connect and ask now, and who must wait for how long.

No I/O and no clock: `now` is passed in. What is remembered has a bound.
"""

from collections import OrderedDict

from relay.limits.causes import Cause

__all__ = ["Counts", "Place", "Rates", "Windows"]


class Rates:
    """Token buckets by key. Those that are full again are forgotten as others come; at most
    `max_keys` are remembered, the longest unused go first."""

    def __init__(self, per_second: float, burst: int, max_keys: int = 65_536) -> None:
        self._rate = per_second
        self._burst = float(burst)
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._buckets)

    @property
    def per_second(self) -> float:
        """The rate, sustained."""
        return self._rate

    def allow(self, per_second: float, burst: int) -> None:
        """Another rate from now on."""
        self._rate = per_second
        self._burst = float(burst)

    def take(self, key: str, now: float, cost: float = 1.0) -> float:
        """Take what something costs, in tokens; return 0, or the seconds to wait.

        Who has one token may begin, whatever it costs, and owes the rest: what costs more than a
        burst is not refused for ever.
        """
        # Asked with every message that is forwarded: no calls of our own.
        buckets = self._buckets
        bucket = buckets.get(key)
        if bucket is None:
            tokens = self._burst
            self._forget(now)
        else:
            tokens = bucket[0] + (now - bucket[1]) * self._rate
            if tokens > self._burst:
                tokens = self._burst
        wait = 0.0
        if tokens >= 1.0:
            tokens -= cost
        else:
            wait = (1.0 - tokens) / self._rate
        buckets[key] = (tokens, now)
        buckets.move_to_end(key)
        if len(buckets) > self._max_keys:
            buckets.popitem(last=False)
        return wait

    def charge(self, key: str, now: float, cost: float) -> None:
        """Charge what has been found to cost more than was taken for it."""
        self._keep(key, self._tokens(key, now) - cost, now)

    def _forget(self, now: float) -> None:
        """Forget two keys, where their buckets are full: as many go as come, and more. Who has not
        been here for long says nothing that a newcomer would not."""
        for _ in range(2):
            key, (tokens, since) = next(iter(self._buckets.items()), ("", (0.0, now)))
            if tokens + (now - since) * self._rate < self._burst:
                return
            del self._buckets[key]

    def _tokens(self, key: str, now: float) -> float:
        tokens, since = self._buckets.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - since) * self._rate)

    def _keep(self, key: str, tokens: float, now: float) -> None:
        if key not in self._buckets:
            self._forget(now)
        self._buckets[key] = (tokens, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)


class Windows:
    """How often one may be asked by whom, in each window of time: by one wide network so often; by
    then each network in it has a few more, up to twice as many of all of them. Less exact than
    `Rates`, at a third of its cost. What is remembered is bounded by what is asked in one window.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._begin = 0.0
        self._wide: dict[tuple[str, str], int] = {}
        self._networks: dict[tuple[str, str], int] = {}

    def take(self, asked: str, cause: Cause, now: float) -> float:
        """Count one more; return 0, or the seconds to wait until the next window."""
        if now - self._begin >= self._seconds:
            self._begin = now
            self._wide.clear()
            self._networks.clear()
        key = asked, cause[0]
        count = self._wide.get(key, 0)
        if count >= self._limit and not self._has_few(asked, cause, count):
            return self._begin + self._seconds - now
        self._wide[key] = count + 1
        return 0.0

    def _has_few(self, asked: str, cause: Cause, count: int) -> bool:
        key = asked, cause.network
        own = self._networks.get(key, 0)
        if count >= 2 * self._limit or own >= max(1, self._limit // 20):
            return False
        self._networks[key] = own + 1
        return True


class Place:
    """One of a bounded number. It is held until it is released, which `with` does on every way out
    unless the place was handed over."""

    __slots__ = ("_counts", "_handed_over", "_keys")

    def __init__(self, counts: "Counts", keys: tuple[str, ...]) -> None:
        self._counts: Counts | None = counts
        self._keys = keys
        self._handed_over = False

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._handed_over:
            self.release()

    def hand_over(self) -> None:
        """Somebody else releases the place from now on."""
        self._handed_over = True

    def release(self) -> None:
        """Give the place back; only the first time counts."""
        counts, self._counts = self._counts, None
        if counts is not None:
            counts._remove(self._keys)


class Counts:
    """How many of something each key has, with a bound on each and on all.

    A key may be part of a wider one, as a network is, which may have `wide_share` times as many.
    """

    def __init__(self, per_key: int, in_all: int, wide_share: int = 4) -> None:
        self._per_key = per_key
        self._per_wider = wide_share * per_key
        self._in_all = in_all
        self._counts: dict[str, int] = {}
        self.total = 0

    @property
    def is_full(self) -> bool:
        """Whether there are as many as may be in all."""
        return self.total >= self._in_all

    def count(self, key: str) -> int:
        """Return how many a key has."""
        return self._counts.get(key, 0)

    def allow(self, per_key: int, in_all: int) -> None:
        """Other bounds from now on; what is counted stays."""
        self._per_wider = self._per_wider // self._per_key * per_key
        self._per_key = per_key
        self._in_all = in_all

    def take(self, key: str, wider: str | None = None) -> Place | None:
        """Count one more until its place is released; None where a bound is reached."""
        if self.total >= self._in_all or self.count(key) >= self._per_key:
            return None
        keys: tuple[str, ...] = (key,)
        if wider is not None and wider != key:
            if self.count(wider) >= self._per_wider:
                return None
            keys = (key, wider)
        for one in keys:
            self._counts[one] = self.count(one) + 1
        self.total += 1
        return Place(self, keys)

    def _remove(self, keys: tuple[str, ...]) -> None:
        self.total -= 1
        for key in keys:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
