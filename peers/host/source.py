"""This host's own addresses, as they change.

The system is asked and listened to here; what a change means for registrations, flows and sessions
is decided elsewhere. On Linux the kernel tells of changes at once (netlink.py); on other
systems, and where the kernel refuses that, the addresses are compared once a second.
"""

import asyncio
import contextlib
import ipaddress
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias, runtime_checkable

import ifaddr

from peers.config import log
from peers.host.address import Addresses, LocalAddress, snapshot, usable
from peers.host.netlink import netlink_notices, open_notices, read_netlink
from peers.host.routing import with_routes

__all__ = [
    "Addresses",
    "AddressSource",
    "LocalAddress",
    "polled_addresses",
    "system_addresses",
    "usable",
]

POLL_INTERVAL = 1.0
RETRY_INTERVAL = 1.0


@runtime_checkable
class AddressSource(Protocol):
    """Where a peer learns of this host's addresses."""

    async def read(self) -> Addresses:
        """Return what the host has now.

        Raises:
            OSError: the system does not tell.
        """
        ...

    def changes(self) -> AsyncIterator[Addresses]:
        """Yield what the host has now, then a whole snapshot whenever it has become different.

        That the first one comes at once leaves no gap between `read` and `changes`; no direct path
        is looked for before it, for two seconds at most. It does not end by itself, and does not
        raise.
        """
        ...


Changed: TypeAlias = Callable[[], Awaitable[None]]
"""Returns when the addresses may have become different."""


class WatchedAddresses:
    """A source made of a way to read and a way to know when to.

    `reader` may block: it runs in a thread. `watch` opens what tells of changes, before the first
    read, so that no change falls between the two.
    """

    def __init__(
        self,
        reader: Callable[[], Addresses],
        watch: Callable[[], AbstractContextManager[Changed]],
    ) -> None:
        self._reader = reader
        self._watch = watch

    async def read(self) -> Addresses:
        return await asyncio.to_thread(self._reader)

    async def changes(self) -> AsyncGenerator[Addresses, None]:
        known = None
        while True:
            try:
                with self._watch() as changed:
                    while True:
                        now = await self.read()
                        if now != known:
                            known = now
                            yield now
                        await changed()
            except OSError as error:
                log.warning("the system does not tell its addresses", reason=str(error))
                await asyncio.sleep(RETRY_INTERVAL)


def system_addresses() -> AddressSource:
    """Return the best source that this system has."""
    if sys.platform == "linux":
        try:
            open_notices().close()
        except OSError as error:  # Android and some sandboxes.
            log.info("no netlink, polling for addresses", reason=str(error))
        else:
            return WatchedAddresses(lambda: with_routes(read_netlink()), netlink_notices)
    return polled_addresses(lambda: with_routes(read_ifaddr()))


def read_ifaddr() -> Addresses:
    """Read the addresses as every system tells them: without flags, and on Linux those of
    interfaces that are down too."""
    found = []
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            ip = ipaddress.ip_address(entry.ip if isinstance(entry.ip, str) else entry.ip[0])
            # The name that people know: Windows calls adapters by GUIDs, Linux labels addresses.
            name = adapter.nice_name.partition(":")[0]
            found.append(
                LocalAddress(str(ip), name, adapter.index or 0, ip.version, entry.network_prefix)
            )
    return snapshot(found)


async def _next_poll() -> None:
    await asyncio.sleep(POLL_INTERVAL)


def polled_addresses(
    reader: Callable[[], Addresses], wait: Changed = _next_poll
) -> WatchedAddresses:
    """Return a source that reads after every `wait`."""
    return WatchedAddresses(reader, lambda: contextlib.nullcontext(wait))
