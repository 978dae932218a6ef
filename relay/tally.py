"""What each peer has had the relay do: of the few hundred who have most, however many there are.

No I/O and no clock. A peer is kept while it is among those who have most of anything that is
counted. Who is not kept and comes again may have had as much as the largest one that was dropped:
its place goes by that (the space-saving algorithm of Metwally, Agrawal and El Abbadi), so that
nobody who has much is pushed out by many who have little; what is shown was counted for certain.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from heapq import nlargest
from typing import Literal

__all__ = ["KEPT", "Account", "Column", "Figures", "Tally"]

Column = Literal["bytes", "planes", "requests", "refusals"]
"""By what peers are put in order."""

_COLUMNS: tuple[Column, ...] = ("bytes", "planes", "requests", "refusals")
KEPT = 128
"""Peers that are kept for each of the four; at most four times as many in all."""


@dataclass(slots=True)
class Figures:
    """What one peer has had."""

    sent: int = 0
    """Bytes that have come from it: messages, and through planes."""
    received: int = 0
    """Bytes that went to it."""
    planes: int = 0
    """That were joined, for it or with it."""
    requests: int = 0
    """Service requests that it has made."""
    refusals: int = 0
    """What the relay has refused it because a limit was reached, or as it is not admitted."""

    @property
    def bytes(self) -> int:
        """Bytes both ways."""
        return self.sent + self.received

    def __iadd__(self, other: "Figures") -> "Figures":
        for name in _FIELDS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in _FIELDS)


_FIELDS = tuple(field.name for field in fields(Figures))


@dataclass(slots=True)
class Account(Figures):
    """What one peer has had by one connection, since it was taken last."""

    paced: int = 0
    """Bytes of what was sent that the limits on bytes a second have heard of."""

    def take(self) -> Figures:
        """Return it; from now on it is nothing."""
        taken = Figures(self.sent, self.received, self.planes, self.requests, self.refusals)
        self.paced -= self.sent
        self.sent = self.received = self.planes = self.requests = self.refusals = 0
        return taken

    def unpaced(self) -> int:
        """Return how many bytes were sent since this was asked last."""
        size = self.sent - self.paced
        self.paced = self.sent
        return size


class Tally:
    """The tally of one relay. Adding takes the same short time, but for once in some hundreds."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._figures: dict[str, Figures] = {}
        self._missed: dict[str, tuple[int, ...]] = {}
        """What each who came when others had been dropped may have had besides, by column."""
        self._dropped = (0,) * len(_COLUMNS)
        """The most that one who was dropped may have had, by column."""

    def __len__(self) -> int:
        return len(self._figures)

    def add(self, guid: str, more: Figures) -> None:
        """Count more for a peer."""
        known = self._figures.get(guid)
        if known is None:
            known = self._figures[guid] = Figures()
            if any(self._dropped):
                self._missed[guid] = self._dropped
        known += more
        if len(self._figures) > 2 * len(_COLUMNS) * self._kept:
            self._prune()

    def of(self, guid: str) -> Figures:
        """Return what a peer has had for certain."""
        return self._figures.get(guid) or Figures()

    def most(self, column: Column, limit: int) -> Iterable[tuple[str, Figures]]:
        """Return those who have most, the first one first."""
        index = _COLUMNS.index(column)
        found = nlargest(limit, self._figures, key=lambda guid: self._weight(guid, index))
        return [(guid, self._figures[guid]) for guid in found]

    def _weight(self, guid: str, index: int) -> int:
        missed = self._missed.get(guid)
        weight: int = getattr(self._figures[guid], _COLUMNS[index])
        return weight + missed[index] if missed is not None else weight

    def _prune(self) -> None:
        kept = set(self._largest())
        for guid in self._figures.keys() - kept:
            had = (self._weight(guid, index) for index in range(len(_COLUMNS)))
            self._dropped = tuple(map(max, self._dropped, had))
            del self._figures[guid]
            self._missed.pop(guid, None)

    def _largest(self) -> Iterator[str]:
        for index in range(len(_COLUMNS)):
            weights = {guid: self._weight(guid, index) for guid in self._figures}
            yield from nlargest(self._kept, weights, key=weights.__getitem__)
