"""Which addresses and ports may be dialed by another's word at all, and what an address is.

PURE, and one statement for peers and relays. What else has to be known before somebody is dialed,
and by whose word that is, each of them says for itself.
"""

import ipaddress
from collections.abc import Iterable
from typing import TypeAlias

__all__ = [
    "IpAddress",
    "IpInterface",
    "block_of",
    "is_public",
    "is_well_known",
    "network_of",
    "nobody_at",
    "unwrapped",
]

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IpInterface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_TRANSLATED = ipaddress.ip_network("64:ff9b:1::/48")
"""IPv4 inside, at a place that only the network knows (RFC 8215)."""
_LAST_32 = tuple(
    ipaddress.ip_network(text)
    for text in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")
)
"""IPv6 ranges whose last 32 bits are an IPv4 address (RFC 4291, 2765, 6052)."""
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})
_DOCUMENTATION = tuple(
    ipaddress.ip_network(text)
    for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")
)
"""They belong to nobody: as harmless as a public address, and what laboratories use."""
_BLOCKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
        *("fc00::/7", "fec0::/10"),
    )
)
"""Private ranges (RFC 1918, 6598, 4193, 3879). Who is met in one sees the whole of it as we do."""

_SERVICES = frozenset(
    {
        # What browsers refuse above 1023 (the Fetch standard's bad ports).
        *(1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566),
        *(6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080),
        # Databases, queues, remote desktops, and what runs programs for whoever asks.
        *(1433, 1521, 1883, 2375, 2376, 2379, 2380, 3306, 3389, 4369, 5432, 5672, 5900, 5985, 5986),
        *(6379, 6443, 8500, 8883, 9042, 9092, 9200, 9300, 10250, 11211, 15672, 27017),
    }
)
"""Ports above 1023 that are some well-known service's."""


def unwrapped(host: str) -> IpAddress | None:
    """Return the address that a packet to `host` ends at, as far as its form tells: IPv6 that
    holds an IPv4 address counts as that. None where only the network knows."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return address
    number = int(address)
    if address in _TRANSLATED:
        return None
    if number > 1 and any(address in network for network in _LAST_32):
        return ipaddress.IPv4Address(number & 0xFFFF_FFFF)
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if (number >> 32) & 0xFFFF_FFFF in _ISATAP:
        return ipaddress.IPv4Address(number & 0xFFFF_FFFF)
    return address


def network_of(address: IpAddress) -> str:
    """Return the network whose share an address has: /24 of IPv4, /48 of IPv6."""
    length = 24 if address.version == 4 else 48
    return str(ipaddress.ip_network((address, length), strict=False))


def nobody_at(address: IpAddress, interfaces: Iterable[IpInterface] = ()) -> str | None:
    """Return why nobody is ever dialed at an address, whoever says so; None where somebody may be.
    `interfaces` are this host's addresses, with their prefixes, as far as they are known."""
    if address.is_multicast:
        return "a multicast address"
    if address.is_unspecified or (address.version == 4 and int(address) >> 24 == 0):
        return "an unspecified address"
    if address.version == 4 and int(address) >> 28 == 0xF:
        return "a broadcast or reserved address"
    for interface in interfaces:
        network = interface.network
        if address.version != 4 or network.version != 4 or network.prefixlen >= 31:
            continue
        if address in (network.broadcast_address, network.network_address):
            return "a broadcast address"
    return None


def is_well_known(port: int) -> bool:
    """Whether a port is some well-known service's: below 1024, or one of those above."""
    return port < 1024 or port in _SERVICES


def block_of(address: IpAddress) -> _Network | None:
    """Return the private range that an address is of; None where it is of none."""
    return next((block for block in _BLOCKS if address in block), None)


def is_public(address: IpAddress) -> bool:
    """Whether an address means the same wherever it is dialed from."""
    return address.is_global or any(address in network for network in _DOCUMENTATION)
