"""Bytes a second: how many may move now for whom, and who is next where there are more.

Each key may send so many, and all together so many; either may be without a limit. Who moves bytes
asks first and is given some to move, or waits for its turn; what it does not move it gives back.
Where all together have used theirs up, turns go round the wide networks, in each round its
networks, in each its keys, and in each of those whatever waits: many keys of one network have no
more than one of another. No I/O and no clock. What is remembered has a bound.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from relay.limits.causes import Cause

__all__ = ["Pace", "PaceRates"]

_T = TypeVar("_T")

_SAVED = 1.0
"""Seconds of bytes that may be saved."""
_TURNS = 20
"""Turns that fill a second: so fine are the steps in which bytes move."""
_SMALLEST, _LARGEST = 1 << 14, 1 << 20
"""Bytes of one turn: less would cost more than it moves, more would let others wait."""
_LONGEST = 1.0
"""Seconds for which messages are not read at once."""
_MAX_KEYS = 65_536


@dataclass(frozen=True, slots=True)
class PaceRates:
    """Bytes a second; None is without a limit."""

    key: float | None = None
    in_all: float | None = None


class _Bucket:
    """Bytes that may be sent."""

    __slots__ = ("_left", "_since", "piece", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.piece = int(min(max(rate / _TURNS, _SMALLEST), _LARGEST))
        self._left = self._most
        self._since = now

    @property
    def _most(self) -> float:
        return max(self.rate * _SAVED, float(self.piece))

    def left(self, now: float) -> float:
        """Return how many there are; below 0 is a debt."""
        self._left = min(self._most, self._left + max(0.0, now - self._since) * self.rate)
        self._since = now
        return self._left

    def take(self, most: int, now: float) -> int:
        """Take one turn's, or less where there is less for it to do; 0 where it has to wait."""
        if self.left(now) < self.piece:
            return 0
        taken = min(most, max(self.piece, min(int(self._left), _LARGEST)))
        self._left -= taken
        return taken

    def add(self, size: float) -> None:
        """Give some back; or take some that have been sent, whatever there was."""
        self._left += size

    def wait(self, now: float) -> float:
        """Return for how many seconds the next turn has to wait."""
        return max(0.0, (self.piece - self.left(now)) / self.rate)


class _Ring(Generic[_T]):
    """What waits, by turns: of each group in it the first is next, and then the others are."""

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        self._groups: OrderedDict[str, _Ring[_T] | OrderedDict[_T, int]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._groups)

    def put(self, path: tuple[str, ...], item: _T, reserved: int) -> None:
        name, *deeper = path
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Ring() if deeper else OrderedDict()
        if isinstance(group, _Ring):
            group.put(tuple(deeper), item, reserved)
        else:
            group[item] = reserved

    def pop(self) -> tuple[_T, int]:
        """Return whose turn it is; something must wait."""
        name, group = next(iter(self._groups.items()))
        found = group.pop() if isinstance(group, _Ring) else group.popitem(last=False)
        if group:
            self._groups.move_to_end(name)
        else:
            del self._groups[name]
        return found

    def remove(self, path: tuple[str, ...], item: _T) -> int:
        """Take something out, which must wait; return what was reserved for it."""
        name, *deeper = path
        group = self._groups[name]
        found = group.remove(tuple(deeper), item) if isinstance(group, _Ring) else group.pop(item)
        if not group:
            del self._groups[name]
        return found


class Pace(Generic[_T]):
    """The pace of one relay. What moves bytes is told apart by identity, and each has a cause: who
    sends."""

    def __init__(self, rates: PaceRates) -> None:
        self._rates = rates
        self._keys: OrderedDict[str, _Bucket] = OrderedDict()
        self._all: _Bucket | None = None
        self._causes: dict[_T, Cause] = {}
        """Of all that wait."""
        self._at_key: dict[str, OrderedDict[_T, None]] = {}
        """What waits for bytes of its key, the first one next."""
        self._due: list[tuple[float, str]] = []
        """When the next of a key may have its turn: a heap, with each key once at most."""
        self._scheduled: set[str] = set()
        """The keys in it."""
        self._ring: _Ring[_T] = _Ring()
        """What waits for bytes of all."""

    def __len__(self) -> int:
        return len(self._causes)

    @property
    def is_on(self) -> bool:
        """Whether there is a limit, or something that still waits for one."""
        return self._rates != _UNLIMITED or bool(self._causes)

    def allow(self, rates: PaceRates, now: float) -> None:
        """Other limits from now on. What waits is looked at anew."""
        self._rates = rates
        self._keys.clear()
        self._all = None
        self._due = [(now, key) for key in self._at_key]
        self._scheduled = set(self._at_key)

    def ask(self, item: _T, cause: Cause, now: float) -> int:
        """Return how many bytes may move now; 0 where it waits, until `next` says that it is its
        turn. It must not wait already."""
        granted = _LARGEST
        if self._rates.key is not None:
            waiting = self._at_key.get(cause.key)
            granted = 0 if waiting else self._key(cause.key, now).take(_LARGEST, now)
            if not granted:
                self._causes[item] = cause
                if waiting is None:
                    waiting = self._at_key[cause.key] = OrderedDict()
                    self._schedule(cause.key, now + self._key(cause.key, now).wait(now))
                waiting[item] = None
                return 0
        return self._ask_all(item, cause, granted, now)

    def give_back(self, cause: Cause, size: int) -> None:
        """Some of what was given was not moved."""
        if self._rates.key is not None and (bucket := self._keys.get(cause.key)) is not None:
            bucket.add(size)
        if self._all is not None:
            self._all.add(size)

    def charge(self, cause: Cause, size: int, now: float) -> float:
        """Charge bytes that have come already; return for how many seconds no more of that key are
        to be read. Messages do not wait for all others: they are few."""
        if (bucket := self._all_bucket(now)) is not None:
            bucket.add(-size)
        if self._rates.key is None:
            return 0.0
        bucket = self._key(cause.key, now)
        bucket.add(-size)
        return min(max(0.0, -bucket.left(now) / bucket.rate), _LONGEST)

    def leave(self, item: _T) -> None:
        """It does not wait any more; nothing happens where it does not."""
        cause = self._causes.pop(item, None)
        if cause is None:
            return
        waiting = self._at_key.get(cause.key)
        if waiting is None or item not in waiting:
            reserved = self._ring.remove(cause, item)
            if self._rates.key is not None and (bucket := self._keys.get(cause.key)) is not None:
                bucket.add(reserved)
            return
        del waiting[item]
        if not waiting:
            del self._at_key[cause.key]

    def next(self, now: float) -> tuple[_T, int] | None:
        """Return whose turn it is now, and how many bytes it may move; None where nobody's is."""
        while self._due and self._due[0][0] <= now:
            _, key = heapq.heappop(self._due)
            self._scheduled.discard(key)
            waiting = self._at_key.get(key)
            if waiting is None:
                continue  # All of it has left.
            granted = _LARGEST
            if self._rates.key is not None:
                bucket = self._key(key, now)
                granted = bucket.take(_LARGEST, now)
                if not granted or len(waiting) > 1:
                    # A little later than now in any case, as time goes by in steps.
                    self._schedule(key, now + max(bucket.wait(now), 1e-6))
                if not granted:
                    continue
            elif len(waiting) > 1:
                self._schedule(key, now)
            item, _ = waiting.popitem(last=False)
            if not waiting:
                del self._at_key[key]
            cause = self._causes.pop(item)
            granted = self._ask_all(item, cause, granted, now)
            if granted:
                return item, granted
        if not self._ring:
            return None
        bucket_of_all = self._all_bucket(now)
        given = _LARGEST if bucket_of_all is None else bucket_of_all.take(_LARGEST, now)
        if not given:
            return None
        item, reserved = self._ring.pop()
        return item, self._fitted(self._causes.pop(item), reserved, given)

    def next_timeout(self, now: float) -> float | None:
        """Return when to ask `next` again; None where nothing waits."""
        due = self._due[0][0] if self._due else None
        if not self._ring:
            return due
        bucket = self._all_bucket(now)
        turn = now if bucket is None else now + bucket.wait(now)
        return turn if due is None else min(due, turn)

    def _schedule(self, key: str, due: float) -> None:
        if key not in self._scheduled:
            self._scheduled.add(key)
            heapq.heappush(self._due, (due, key))

    def _ask_all(self, item: _T, cause: Cause, granted: int, now: float) -> int:
        bucket = self._all_bucket(now)
        if bucket is None:
            return granted
        given = 0 if self._ring else bucket.take(granted, now)
        if not given:
            self._causes[item] = cause
            self._ring.put(cause, item, granted)
            return 0
        return self._fitted(cause, granted, given)

    def _fitted(self, cause: Cause, reserved: int, given: int) -> int:
        """Return what both the key and all give; the rest goes back."""
        moves = min(reserved, given)
        if self._rates.key is not None and (bucket := self._keys.get(cause.key)) is not None:
            bucket.add(reserved - moves)
        if self._all is not None:
            self._all.add(given - moves)
        return moves

    def _key(self, key: str, now: float) -> _Bucket:
        bucket = self._keys.get(key)
        if bucket is None:
            bucket = self._keys[key] = _Bucket(self._rates.key or 0.0, now)
            if len(self._keys) > _MAX_KEYS:
                # The longest unused: it was full again unless more keys than that send at once.
                self._keys.popitem(last=False)
        else:
            self._keys.move_to_end(key)
        return bucket

    def _all_bucket(self, now: float) -> _Bucket | None:
        if self._all is None and self._rates.in_all is not None:
            self._all = _Bucket(self._rates.in_all, now)
        return self._all


_UNLIMITED = PaceRates()
