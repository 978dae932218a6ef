"""What the Linux kernel tells of this host's addresses, over rtnetlink: the sockets.

What the messages say is read in rtnetlink.py.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator

from peers.config import log
from peers.host.address import Addresses, snapshot
from peers.host.rtnetlink import (
    GET_ADDRESSES,
    GET_LINKS,
    Dump,
    addresses_in,
    links_in,
    request,
)

__all__ = ["netlink_notices", "open_notices", "read_netlink"]

SOON, COALESCE = 0.005, 0.05
"""Seconds between two reads: the second comes soon, each next one after twice as long, up to the
latter. One change of network is many notices: a link, an address, the end of its duplicate
detection. The first is answered at once, and what has gone is often followed by what is new within
milliseconds: a session may wait for either."""
_LARGEST = 1 << 17
"""Bytes that one read takes; the kernel makes pieces of 32 KiB, larger ones where a link needs
them."""


_PATIENCE = 5.0
"""Seconds for the kernel, or for a sandbox that plays it."""


def open_notices() -> socket.socket:
    """Open a socket that hears of every change of a link, an address or a route."""
    notices = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        notices.setblocking(False)
        # RTMGRP_LINK, _IPV4_IFADDR, _IPV6_IFADDR, _IPV4_ROUTE, _IPV6_ROUTE
        notices.bind((0, 0x1 | 0x10 | 0x100 | 0x40 | 0x400))
    except BaseException:
        notices.close()
        raise
    return notices


@contextlib.contextmanager
def netlink_notices() -> Iterator[Callable[[], Awaitable[None]]]:
    """Wait for the kernel's notices. What they say is not looked at: all is read anew, and then
    it does not matter that some were lost because they came too fast (ENOBUFS)."""
    with open_notices() as notices:
        loop = asyncio.get_running_loop()
        told = loop.time() - COALESCE
        pause = 0.0

        async def changed() -> None:
            nonlocal told, pause
            try:
                await loop.sock_recv(notices, 1)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            quiet = loop.time() - told >= COALESCE
            pause = 0.0 if quiet else min(max(2 * pause, SOON), COALESCE)
            await asyncio.sleep(max(0.0, told + pause - loop.time()))
            told = loop.time()
            # The kernel sends nothing to a socket that overflowed until it has been emptied.
            while True:
                try:
                    notices.recv(1)
                except BlockingIOError:
                    return
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise

        yield changed


def read_netlink() -> Addresses:
    """Read the addresses of the interfaces that are up and have a carrier.

    IPv4 addresses stay configured while their interface is down; nothing is sent from them then.
    What changes between the two answers is told by the next notice. A message that cannot be read
    is passed over by itself.

    Raises:
        OSError: the kernel does not tell, or nothing of it can be read.
    """
    addresses, links = _dump(GET_ADDRESSES), _dump(GET_LINKS)
    found = snapshot(addresses_in(addresses, links_in(links)))
    unreadable = addresses.unreadable + links.unreadable
    if unreadable and not found:
        # That a host has no address is told by messages that can be read.
        raise OSError(errno.EPROTO, "the kernel's answer is no netlink")
    if unreadable:
        log.info("some of what the system tells cannot be read", messages=unreadable)
    return found


def _dump(kind: int) -> Dump:
    """Ask the kernel for all of a kind, which it answers in the same system call."""
    dump = Dump()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        route.settimeout(_PATIENCE)
        route.send(request(kind))
        while not dump.done:
            if dump.is_cut:
                # Its end may have been in what was lost: what is here now is read, and no more.
                route.setblocking(False)
            try:
                data, _, flags, (sender, _) = route.recvmsg(_LARGEST)
            except BlockingIOError:
                break
            if sender == 0:  # The kernel's, and nobody else's.
                dump.feed(data)
                dump.is_cut |= bool(flags & socket.MSG_TRUNC)
    return dump
