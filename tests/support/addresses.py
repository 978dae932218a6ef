"""A host's list of addresses, as a test wants it.

All of 127.0.0.0/8 is on the loopback interface and cannot be taken away: what is dialed at an
address that a host does not have just now is cut at once.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import cast

from peers.host.address import LocalAddress
from peers.transport.listening import _Incoming

__all__ = ["Addresses", "absent_addresses", "address"]

_absent: set[str] = set()
"""Addresses that no host has now: what is dialed there is cut at once."""


def address(host: str) -> LocalAddress:
    """Return a loopback address as the system would tell it."""
    return LocalAddress(host, "lo", 1, 4, 8)


class Addresses:
    """A host's addresses, as the test wants them: of all that it may have, the first at first."""

    def __init__(self, every: Sequence[str]) -> None:
        self.all = tuple(every)
        self._changed = asyncio.Event()
        self.set(every[0])

    async def read(self) -> tuple[LocalAddress, ...]:
        return tuple(address(host) for host in self.hosts)

    async def changes(self) -> AsyncIterator[tuple[LocalAddress, ...]]:
        told = await self.read()
        yield told
        while True:
            await self._changed.wait()
            self._changed.clear()
            now = await self.read()
            if now != told:
                told = now
                yield now

    def set(self, *hosts: str) -> None:
        """Have these addresses from now on and no others."""
        _absent.update(set(self.all) - set(hosts))
        _absent.difference_update(hosts)
        self.hosts = list(hosts)
        self._changed.set()


@contextlib.contextmanager
def absent_addresses() -> Iterator[None]:
    """Make every direct server deaf at the addresses that its host has not."""
    made = _Incoming.connection_made

    def connection_made(self: _Incoming, transport: asyncio.BaseTransport) -> None:
        if transport.get_extra_info("sockname")[0] in _absent:
            cast(asyncio.Transport, transport).abort()
        else:
            made(self, transport)

    def connection_lost(self: _Incoming, error: Exception | None) -> None:
        if self.transport is not None:
            lost(self, error)

    lost = _Incoming.connection_lost
    _Incoming.connection_made = connection_made  # type: ignore[method-assign]
    _Incoming.connection_lost = connection_lost  # type: ignore[method-assign]
    try:
        yield
    finally:
        _Incoming.connection_made = made  # type: ignore[method-assign]
        _Incoming.connection_lost = lost  # type: ignore[method-assign]
        _absent.clear()
