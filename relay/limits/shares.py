"""Things of which there are so many in all: each cause has a share, and who uses most loses first.

No I/O and no clock. Adding and removing cost a few dictionary operations; who has to give way is
searched for only where a bound is reached.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from relay.limits.causes import Cause

__all__ = ["Bounds", "Shares"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many there may be: in all, of one wide network, of one network, and of one key."""

    in_all: int
    wide: int
    network: int
    key: int

    @classmethod
    def of(cls, in_all: int, *, key: int | None = None) -> Self:
        """Return the usual shares: three quarters for one wide network, half for one network, and
        a quarter for one key where nothing else is said."""
        return cls(
            in_all,
            max(1, in_all * 3 // 4),
            max(1, in_all // 2),
            max(1, in_all // 4) if key is None else key,
        )


_NOTHING: dict[Any, Any] = {}
"""What a group has none of. Never written to."""


class _Group(Generic[_T]):
    """All that there are, or all of one network or key. It has parts, or things: never both.

    Most have one part or one thing, and most causes are alone in their network: no dictionary is
    made for what one name says. A cause alone costs 0.4 KiB by this, and cost 1.3.
    """

    __slots__ = ("items", "parts", "ranks", "size")

    def __init__(self) -> None:
        self.size = 0
        self.parts: dict[str, _Group[_T]] = _NOTHING
        self.ranks: dict[int, dict[str, None]] = _NOTHING
        """The names of the parts by their size, where there are several."""
        self.items: dict[_T, None] | tuple[_T, ...] = ()
        """Oldest first."""

    def resize(self, name: str, change: int) -> "_Group[_T]":
        """So many more or less in a part; return it."""
        part = self.parts.get(name)
        if part is None:
            part = self._new_part(name)
        elif self.ranks:
            peers = self.ranks[part.size]
            del peers[name]
            if not peers:
                del self.ranks[part.size]
        part.size += change
        if not part.size:
            self._drop_part(name)
        elif self.ranks:
            same = self.ranks.get(part.size)
            if same is None:
                self.ranks[part.size] = {name: None}
            else:
                same[name] = None
        return part

    def _new_part(self, name: str) -> "_Group[_T]":
        part: _Group[_T] = _Group()
        if not self.parts:
            self.parts = {name: part}
            return part
        if not self.ranks:
            self.ranks = {one.size: {other: None} for other, one in self.parts.items()}
        self.parts[name] = part
        return part

    def _drop_part(self, name: str) -> None:
        del self.parts[name]
        if len(self.parts) < 2:
            self.ranks = _NOTHING
        if not self.parts:
            self.parts = _NOTHING

    def heaviest(self) -> "_Group[_T]":
        """Return the part that has most; among equals the one that has had so many longest."""
        name = next(iter(self.ranks[max(self.ranks)] if self.ranks else self.parts))
        return self.parts[name]

    def hold(self, item: _T) -> None:
        """One thing more."""
        items = self.items
        if isinstance(items, dict):
            items[item] = None
        else:
            self.items = {items[0]: None, item: None} if items else (item,)

    def let_go(self, item: _T) -> None:
        """One thing less, which was here."""
        if isinstance(self.items, dict):
            del self.items[item]
        else:
            self.items = ()


def _path(cause: Cause) -> tuple[str, ...]:
    """Return the names of a cause's groups, the widest first."""
    return cause if cause.key else cause[:2]


class Shares(Generic[_T]):
    """What there is, each thing with its cause. Either all causes have keys, or none has: then each
    thing is its network's."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._all: _Group[_T] = _Group()
        self._causes: dict[_T, Cause] = {}
        self._weights: dict[_T, int] = {}
        """Of things that count as more than one."""

    def __len__(self) -> int:
        return len(self._causes)

    def __iter__(self) -> Iterator[_T]:
        return iter(list(self._causes))

    def __contains__(self, item: object) -> bool:
        return item in self._causes

    def of(self, cause: Cause) -> int:
        """Return how many a cause has: a key, or a network without keys."""
        group: _Group[_T] | None = self._all
        for name in _path(cause):
            group = group.parts.get(name) if group is not None else None
        return group.size if group is not None else 0

    def room(
        self, cause: Cause, choose: Callable[[Iterable[_T]], _T] | None = None
    ) -> tuple[_T, ...] | None:
        """Return what `add` would return; nothing has changed by this."""
        full = self._full(cause)
        if full is None:
            return ()
        heaviest = self._heaviest(*full, cause)
        if heaviest is None:
            return None
        # It is in the narrowest group that is full, and so in all of them.
        return (choose(heaviest.items) if choose else next(iter(heaviest.items)),)

    def has_room(self, cause: Cause) -> bool:
        """Whether `add` would take one more: perhaps in place of another one."""
        return self.room(cause) is not None

    def add(
        self, cause: Cause, item: _T, choose: Callable[[Iterable[_T]], _T] | None = None
    ) -> tuple[_T, ...] | None:
        """Count one more; return what has to give way to it, which is not counted any more. None
        where it is not taken: its own key has its share, or nobody has more than its cause.

        `choose` picks from what the one who has most has, oldest first; else the oldest goes.
        """
        gone = self.room(cause, choose)
        if gone is None:
            return None
        for other in gone:
            self.remove(other)
        self.put(cause, item)
        return gone

    def put(self, cause: Cause, item: _T, weight: int = 1) -> None:
        """Count one more, where `room` has said that nothing has to give way to it. It may count as
        several."""
        self._causes[item] = cause
        if weight != 1:
            self._weights[item] = weight
        group = self._all
        group.size += weight
        for name in _path(cause):
            group = group.resize(name, weight)
        group.hold(item)

    @property
    def weight(self) -> int:
        """What all count as."""
        return self._all.size

    def bears(self, cause: Cause, item: _T, weight: int) -> bool:
        """Whether `weigh` would find room for a thing, perhaps in place of others."""
        more = weight - (self._weights.get(item, 1) if item in self._causes else 0)
        full = self._full(cause, more) if more > 0 else None
        return full is None or self._heaviest(*full, cause) is not None

    def weigh(self, cause: Cause, item: _T, weight: int) -> tuple[_T, ...]:
        """Count a thing that has come, or changed, as so many; return what has to give way to it,
        which is not counted any more. Ask `bears` before."""
        self.remove(item)
        gone: list[_T] = []
        while (full := self._full(cause, weight)) is not None:
            heaviest = self._heaviest(*full, cause)
            if heaviest is None:
                break
            gone.append(next(iter(heaviest.items)))
            self.remove(gone[-1])
        self.put(cause, item, weight)
        return tuple(gone)

    def push(self, cause: Cause, item: _T) -> tuple[_T, ...]:
        """Count one more as `add` does; where it would not be taken, its cause's oldest goes."""
        gone = self.add(cause, item)
        if gone is None:
            gone = (self._oldest(cause),)
            self.remove(gone[0])
            self.add(cause, item)
        return gone

    def remove(self, item: _T) -> bool:
        """Count one less; False where it was not counted."""
        cause = self._causes.pop(item, None)
        if cause is None:
            return False
        weight = self._weights.pop(item, 1) if self._weights else 1
        group = self._all
        group.size -= weight
        for name in _path(cause):
            group = group.resize(name, -weight)
        group.let_go(item)
        return True

    def _oldest(self, cause: Cause) -> _T:
        """Return what a cause has had longest, which has something."""
        group = self._all
        for name in _path(cause):
            group = group.parts[name]
        return next(iter(group.items))

    def _full(self, cause: Cause, more: int = 1) -> tuple[_Group[_T], int] | None:
        """Return the narrowest group of a cause that may not have so many more, and its depth."""
        bounds, less = self.bounds, more - 1
        found = (self._all, 0) if self._all.size + less >= bounds.in_all else None
        # Asked up to eight times for a plane: no loop.
        if (group := self._all.parts.get(cause.wide)) is None:
            return found
        if group.size + less >= bounds.wide:
            found = group, 1
        if (group := group.parts.get(cause.network)) is None:
            return found
        if group.size + less >= bounds.network:
            found = group, 2
        if not cause.key or (group := group.parts.get(cause.key)) is None:
            return found
        return (group, 3) if group.size + less >= bounds.key else found

    def _heaviest(self, group: _Group[_T], depth: int, cause: Cause) -> _Group[_T] | None:
        """Return the key's group in a full one that has most; None where that is the cause."""
        own = True
        for name in _path(cause)[depth:]:
            heaviest = group.heaviest()
            mine = group.parts.get(name) if own else None
            if mine is None or mine.size < heaviest.size:
                own = False
                group = heaviest
            else:
                group = mine
        return None if own else group
