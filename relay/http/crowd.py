"""Who has come and has not proven yet who it is: a bound on all, shared by networks.

When there are too many, the network that has most of them loses its oldest: who has been quiet gets
in, however many others a single network sends. No I/O and no clock.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

from relay.limits import WIDE_SHARE, cause_of

__all__ = ["Crowd"]

_Guest = TypeVar("_Guest")


class _Groups(Generic[_Guest]):
    """Guests by group, and which group is the largest. Every call takes the same short time,
    however many there are."""

    def __init__(self) -> None:
        self._groups: dict[str, OrderedDict[_Guest, None]] = {}
        self._by_size: dict[int, OrderedDict[str, None]] = {}
        self.most = 0
        """Guests of the largest group."""

    def size(self, group: str) -> int:
        return len(self._groups.get(group, ()))

    def add(self, group: str, guest: _Guest) -> None:
        guests = self._groups.get(group)
        if guests is None:
            guests = self._groups[group] = OrderedDict()
        self._resize(group, len(guests), len(guests) + 1)
        guests[guest] = None

    def remove(self, group: str, guest: _Guest) -> None:
        guests = self._groups[group]
        self._resize(group, len(guests), len(guests) - 1)
        del guests[guest]
        if not guests:
            del self._groups[group]

    def oldest_of_largest(self) -> _Guest:
        """Return it; there must be one."""
        group = next(iter(self._by_size[self.most]))
        return next(iter(self._groups[group]))

    def _resize(self, group: str, old: int, new: int) -> None:
        by_size = self._by_size
        if old:
            peers = by_size[old]
            del peers[group]
            if not peers:
                del by_size[old]
        if new:
            if new not in by_size:
                by_size[new] = OrderedDict()
            by_size[new][group] = None
        if new > self.most or self.most not in by_size:
            self.most = new


class Crowd(Generic[_Guest]):
    """The guests of one relay. Each is told apart by identity."""

    def __init__(self, in_all: int) -> None:
        self._in_all = in_all
        self._hosts: dict[_Guest, str] = {}
        self._narrow: _Groups[_Guest] = _Groups()
        self._wide: _Groups[_Guest] = _Groups()

    def __len__(self) -> int:
        return len(self._hosts)

    def __contains__(self, guest: object) -> bool:
        return guest in self._hosts

    @property
    def is_over_full(self) -> bool:
        """Whether somebody has to go."""
        return len(self._hosts) > self._in_all

    def host(self, guest: _Guest) -> str:
        """Return the address that a guest comes from; it must be here."""
        return self._hosts[guest]

    def count(self, host: str) -> int:
        """Return how many come from the network of an address."""
        return self._narrow.size(cause_of(host).network)

    def enter(self, guest: _Guest, host: str) -> None:
        """Count a guest, from an address."""
        self._hosts[guest] = host
        wide, narrow, _ = cause_of(host)
        self._narrow.add(narrow, guest)
        self._wide.add(wide, guest)

    def move(self, guest: _Guest, host: str) -> None:
        """A guest turns out to come from elsewhere; who is not here any more is left alone."""
        if guest in self._hosts and self._hosts[guest] != host:
            self.leave(guest)
            self.enter(guest, host)

    def leave(self, guest: _Guest) -> None:
        """Count a guest no longer; only the first time counts."""
        host = self._hosts.pop(guest, None)
        if host is not None:
            wide, narrow, _ = cause_of(host)
            self._narrow.remove(narrow, guest)
            self._wide.remove(wide, guest)

    def first_to_go(self) -> _Guest | None:
        """Return who goes first where somebody has to: the oldest of the network that has most.
        None where nobody is here."""
        if not self._hosts:
            return None
        if self._wide.most > WIDE_SHARE * self._narrow.most:
            return self._wide.oldest_of_largest()
        return self._narrow.oldest_of_largest()
