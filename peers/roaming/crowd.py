"""What strangers have this peer hold: a bound on all, and a share for each of them. Pure.

Keys cost nothing, so that a share for each key does not save the bound on all: where that is
reached, who has most loses what he has had longest, and who has little gets in.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Crowd", "window_for"]

_T = TypeVar("_T")

_SMALLEST = 1 << 16
"""Bytes of a session's window, however many its other side has."""


class Crowd(Generic[_T]):
    """Things, each with the GUID of who has caused it."""

    def __init__(self, in_all: int, each: int) -> None:
        self._in_all = in_all
        self._each = each
        self._things: dict[str, dict[_T, None]] = {}
        """Of each, oldest first."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def of(self, guid: str) -> Iterator[_T]:
        """Iterate over what somebody has, oldest first."""
        return iter(self._things.get(guid, {}))

    def has_room(self, guid: str) -> bool:
        """Whether `add` would take one more: perhaps in place of another one."""
        return self._count_of(guid) < self._each and (
            self._count < self._in_all or self._heaviest(guid) is not None
        )

    def add(self, guid: str, thing: _T) -> _T | None:
        """Count one more, for which there is room; return what has to give way to it, and is not
        counted any more."""
        displaced = None
        if self._count >= self._in_all and (most := self._heaviest(guid)) is not None:
            displaced = next(iter(self._things[most]))
            self.remove(most, displaced)
        self._things.setdefault(guid, {})[thing] = None
        self._count += 1
        return displaced

    def remove(self, guid: str, thing: _T) -> bool:
        """Count one less; False where it was not counted."""
        things = self._things.get(guid, {})
        if thing not in things:
            return False
        del things[thing]
        self._count -= 1
        if not things:
            del self._things[guid]
        return True

    def _count_of(self, guid: str) -> int:
        return len(self._things.get(guid, ()))

    def _heaviest(self, guid: str) -> str | None:
        """Return who has most; None where nobody has more than `guid`."""
        most = max(self._things, key=self._count_of, default=guid)
        return most if self._count_of(most) > self._count_of(guid) else None


def window_for(wished: int, held: int, most: int) -> int:
    """Return the window of the next session with somebody whose others may hold `held` bytes, of
    `most`: half of what is left, and never nothing."""
    return min(wished, max((most - held) // 2, _SMALLEST))
