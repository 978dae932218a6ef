"""What the Linux kernel tells of this host's addresses, over rtnetlink.

pyroute2 knows the messages. The socket for notices is our own: pyroute2's asynchronous ones are
datagram endpoints of the event loop, and uvloop opens none for netlink.
"""

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from peers.host.address import Addresses, LocalAddress, snapshot

__all__ = ["netlink_notices", "open_notices", "read_netlink"]

SOON, COALESCE = 0.005, 0.05
"""Seconds between two reads: the second comes soon, each next one after twice as long, up to the
latter. One change of network is many notices: a link, an address, the end of its duplicate
detection. The first is answered at once, and what has gone is often followed by what is new within
milliseconds: a session may wait for either."""


def open_notices() -> socket.socket:
    """Open a socket that hears of every change of a link or an address."""
    notices = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        notices.setblocking(False)
        notices.bind((0, 0x1 | 0x10 | 0x100))  # RTMGRP_LINK, _IPV4_IFADDR, _IPV6_IFADDR
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
    """
    # Importing pyroute2 takes 130 ms and 11 MB: only a peer that runs pays, and in this thread.
    from pyroute2.netlink.rtnl import RTM_GETADDR, RTM_GETLINK, ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import IFF_LOWER_UP, IFF_RUNNING, IFF_UP, ifinfmsg

    up = IFF_UP | IFF_RUNNING | IFF_LOWER_UP
    links = {
        link["index"]: link.get("ifname")
        for link in _dump(ifinfmsg(), RTM_GETLINK)
        if link["flags"] & up == up
    }
    return snapshot(
        _local_address(message, links[message["index"]])
        for message in _dump(ifaddrmsg.ifaddrmsg(), RTM_GETADDR)
        if message["index"] in links
    )


def _dump(request: Any, kind: int) -> list[Any]:
    """Ask the kernel for all of a kind. There is no timeout: it answers in the same system call."""
    from pyroute2 import IPRSocket
    from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE

    answers: list[Any] = []
    with IPRSocket(groups=0) as route:
        route.put(request, msg_type=kind, msg_flags=NLM_F_REQUEST | NLM_F_DUMP)
        while True:
            for message in route.get():
                error = message["header"]["error"]
                if error is not None:
                    raise OSError(*error.args)
                if message["header"]["type"] == NLMSG_DONE:
                    return answers
                answers.append(message)


def _local_address(message: Any, interface: str) -> LocalAddress:
    from pyroute2.netlink.rtnl import ifaddrmsg as ifa

    # On a point-to-point link the address is the other end's, and this host's is the local one.
    ip = ipaddress.ip_address(message.get("IFA_LOCAL") or message.get("IFA_ADDRESS"))
    flags = message.get("IFA_FLAGS") or message["flags"]
    if flags & ifa.IFA_F_OPTIMISTIC:
        flags &= ~ifa.IFA_F_TENTATIVE  # RFC 4429: it may be used meanwhile, as the kernel sees it.
    return LocalAddress(
        str(ip),
        interface,
        message["index"],
        ip.version,
        message["prefixlen"],
        # For IPv4 the same bit means a second address of the same network.
        temporary=ip.version == 6 and bool(flags & ifa.IFA_F_TEMPORARY),
        deprecated=bool(flags & ifa.IFA_F_DEPRECATED),
        tentative=bool(flags & (ifa.IFA_F_TENTATIVE | ifa.IFA_F_DADFAILED)),
    )
