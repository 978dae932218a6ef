"""An address of this host, and which of them a peer may use.

There is no I/O here: the addresses are read in source.py.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias

__all__ = ["Addresses", "LocalAddress", "snapshot", "usable"]

MAX_USABLE = 16
"""As many as one registration may tell of a service."""

DEAD_ENDS = (
    *("docker*", "br-" + "[0-9a-f]" * 12, "podman*", "nerdctl*", "lxcbr*", "lxdbr*", "incusbr*"),
    *("veth*", "cni*", "flannel*", "cali*", "cilium*", "weave*", "kube-*"),
    *("virbr*", "vboxnet*", "vmnet*"),
)
"""Names of interfaces that lead only to the containers and virtual machines of this very host.

A caller elsewhere that dials such an address waits for nothing, or reaches a bridge of its own that
has the same address: they come from the same few default networks on every host. Docker names its
bridges by twelve hexadecimal digits; `br-lan` and `br-ex` lead to real networks and are no match.
"""


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """An address of an interface that is up."""

    host: str
    """As `ipaddress` writes it, without a zone."""
    interface: str
    """The interface's name."""
    index: int
    """The interface's number."""
    version: int
    """4 or 6."""
    prefix_length: int
    """Bits of the address that name its network."""
    temporary: bool = False
    """Made for privacy (RFC 8981) and replaced within a day or so."""
    deprecated: bool = False
    """Still good for what uses it, not for anything new."""
    tentative: bool = False
    """Not known to be unique on its link, or known not to be: nothing can be bound to it."""
    routed: bool = False
    """Whether this host's routes let leave from it what goes anywhere (`routing.py`). A source that
    does not know it leaves it out, and then nobody hears of routes that change."""

    @property
    def link_local(self) -> bool:
        """Whether it is good on its link alone."""
        return ipaddress.ip_address(self.host).is_link_local

    @property
    def loopback(self) -> bool:
        """Whether nobody but this host is there."""
        return ipaddress.ip_address(self.host).is_loopback


Addresses: TypeAlias = tuple[LocalAddress, ...]
"""A snapshot: all that a host has, each once, as `snapshot` orders them."""


def snapshot(found: Iterable[LocalAddress]) -> Addresses:
    """Put addresses into the one order in which equal sets are equal tuples."""
    return tuple(
        sorted(
            set(found),
            key=lambda a: (a.index, a.version, int(ipaddress.ip_address(a.host)), a.prefix_length),
        )
    )


def usable(addresses: Iterable[LocalAddress], *, loopback: bool = False) -> Addresses:
    """Return the addresses that a peer may register or bind to, the best first.

    Link-local addresses mean nothing without a zone of the reader's own host. An address that two
    interfaces have is told once, because binding to it cannot tell them apart.
    """
    best: dict[str, LocalAddress] = {}
    for address in sorted(addresses, key=_rank):
        ip = ipaddress.ip_address(address.host)
        if (
            (loopback or not ip.is_loopback)
            and not (address.tentative or ip.is_link_local or ip.is_multicast or ip.is_unspecified)
            and not any(fnmatchcase(address.interface, pattern) for pattern in DEAD_ENDS)
        ):
            best.setdefault(address.host, address)
    return tuple(best.values())[:MAX_USABLE]


def _rank(address: LocalAddress) -> tuple[int | bool, ...]:
    """Return the sort key: a lower one is the better address to be reached at.

    Deprecated ones come last, because their end is known; loopback before them, because it leads
    nowhere. Then families as in RFC 6724 (global IPv6, IPv4, tunnels, unique local), which is the
    order that callers dial in, and public before private, as more callers reach those. Against
    RFC 6724, stable addresses come before temporary ones: an address that is registered is there to
    be found, so that a temporary one hides nothing, and its end costs everybody a move.
    """
    ip = ipaddress.ip_address(address.host)
    return (
        address.deprecated,
        ip.is_loopback,
        -_precedence(ip),
        not ip.is_global,
        address.temporary,
        address.index,
        int(ip),
    )


_PRECEDENCES = (
    (ipaddress.IPv6Network("2002::/16"), 30),
    (ipaddress.IPv6Network("2001::/32"), 5),
    (ipaddress.IPv6Network("fc00::/7"), 3),
    (ipaddress.IPv6Network("fec0::/10"), 1),
)


def _precedence(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    """Return the precedence of RFC 6724, section 2.1."""
    if ip.version == 4:
        return 35
    return next((value for network, value in _PRECEDENCES if ip in network), 40)
