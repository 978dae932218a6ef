"""What may be dialed by another's word.

PURE: what is known goes in, the rule that forbids a dial comes out. That an entry is signed says
who has named it, not that its peer is there: addresses of others, and of this very host, are signed
as easily. Nothing here counts; that is the work of budgets.py.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from peers.config import Dial
from protocol.endpoint import Endpoint

__all__ = ["Here", "IpAddress", "Known", "Word", "network_of", "refusal", "unwrapped", "word_of"]

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Interface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Word(Enum):
    """By whose word an endpoint is dialed."""

    RELAY = "the relay's"
    """It discloses only where it has met the peer's key, or sees the peer's connections come from.
    So does an address that a path of the session comes from."""
    ZONE = "the zone's"
    """A record of the zone that this peer has asked for. Whoever owns the name has written it."""
    TOLD = "the other side's"
    """Told on a path: in a hello, a welcome, or a session."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of where the other side is, beside its own word."""

    disclosed: frozenset[Endpoint] = frozenset()
    """What the relay has said."""
    listed: frozenset[Endpoint] = frozenset()
    """What the zone has said."""
    path_host: str | None = None
    """The other end's address of the last direct path that the session was on."""
    observed: frozenset[str] = frozenset()
    """The addresses at which the relay sees this peer."""


@dataclass(frozen=True, slots=True)
class Here:
    """What is known of this host."""

    interfaces: tuple[_Interface, ...] = ()
    """Its addresses, with their prefixes."""
    relays: frozenset[Endpoint] = frozenset()
    """Where this peer has met its relay."""
    proxies: frozenset[Endpoint] = frozenset()
    """By which it has met it. They say nothing of where anybody is."""
    servers: frozenset[Endpoint] = frozenset()
    """The name servers that are configured."""
    listening: tuple[tuple[str, ...], int] = ((), 0)
    """The hosts and the port where this peer itself is dialed."""
    advertised: tuple[str, ...] = ()
    """The addresses that this peer's own configuration tells."""


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


def word_of(endpoint: Endpoint, known: Known) -> Word:
    """Return by whose word an endpoint would be dialed: the best there is."""
    if endpoint in known.disclosed or endpoint.host == known.path_host:
        return Word.RELAY
    return Word.ZONE if endpoint in known.listed else Word.TOLD


def refusal(endpoint: Endpoint, known: Known, here: Here, dial: Dial) -> str | None:
    """Return why an endpoint is not dialed where the peer's key was not met yet; None where it may
    be, as far as it is a matter of where it is."""
    address = unwrapped(endpoint.host)
    if address is None:
        return "only this network knows which address that is"
    place = _Place(here)
    reason = place.never(address) or place.own_service(address, endpoint.port)
    if reason is not None or dial is Dial.OPEN:
        return reason
    if dial is Dial.PROVEN and word_of(endpoint, known) is not Word.RELAY:
        return "it is not proven, and dial is 'proven'"
    return place.scope_refusal(address, endpoint, known) or _port_refusal(address, endpoint, known)


def _port_refusal(address: IpAddress, endpoint: Endpoint, known: Known) -> str | None:
    if endpoint.port >= 1024 and endpoint.port not in _SERVICES:
        return None
    # An address of this host or of its networks is where the relay's word is the weakest: it may
    # have seen the peer there, and have its word alone for the port.
    if endpoint in known.disclosed and _is_public(address):
        return None
    return f"port {endpoint.port} is a well-known service's, and the peer is not proven there"


class _Place:
    """This host, asked about addresses."""

    def __init__(self, here: Here) -> None:
        self._here = here
        self._own = {interface.ip for interface in here.interfaces}
        self._relays = _addresses(relay.host for relay in here.relays)

    def never(self, address: IpAddress) -> str | None:
        """Return why nobody is ever dialed at an address."""
        if address.is_multicast:
            return "a multicast address"
        if address.is_unspecified or (address.version == 4 and int(address) >> 24 == 0):
            return "an unspecified address"
        if address.version == 4 and int(address) >> 28 == 0xF:
            return "a broadcast or reserved address"
        for interface in self._here.interfaces:
            network = interface.network
            if address.version != 4 or network.version != 4 or network.prefixlen >= 31:
                continue
            if address in (network.broadcast_address, network.network_address):
                return "a broadcast address"
        return None

    def own_service(self, address: IpAddress, port: int) -> str | None:
        """Return which of this peer's own services is at an address and a port."""
        here = self._here
        if self._is_one_of(address, port, here.relays):
            return "this peer's own relay"
        if self._is_one_of(address, port, here.proxies):
            return "this peer's own proxy"
        if self._is_one_of(address, port, here.servers):
            return "this peer's own name server"
        hosts, listening = here.listening
        if port == listening and self._is_here(address):
            bound = _addresses(hosts)
            if address in bound or any(one.is_unspecified for one in bound):
                return "this peer itself"
        return None

    def scope_refusal(self, address: IpAddress, endpoint: Endpoint, known: Known) -> str | None:
        """Return why an address may not be dialed by this word."""
        if known.path_host is not None and endpoint.host == known.path_host:
            return None
        if address.is_link_local:
            return "a link-local address"
        if self._is_here(address):
            met = self._is_met_here(address, endpoint, known)
            return None if met else "this host itself, and the other side was not met here"
        if _is_public(address):
            return None
        return self._private_refusal(address, endpoint, known)

    def _private_refusal(self, address: IpAddress, endpoint: Endpoint, known: Known) -> str | None:
        link = self._link_of(address)
        disclosed = _addresses(one.host for one in known.disclosed)
        word = word_of(endpoint, known)
        if word is Word.RELAY:
            met = link is not None or self._shares(address, self._relays)
        else:
            servers = _addresses(one.host for one in self._here.servers)
            met = word is Word.ZONE and self._shares(address, servers)
            met = met or self._told_here(link, disclosed, known)
        return None if met else "a private address, and nothing else says that the peer is there"

    def _told_here(
        self, link: _Network | None, disclosed: Iterable[IpAddress], known: Known
    ) -> bool:
        """Whether this host has a way into a network, and somebody else sees the other side there:
        in it, or at the address at which this host is seen."""
        if link is None:
            return False
        path = _addresses([known.path_host] if known.path_host else [])
        observed = _addresses(known.observed)
        return any(one in link for one in (*path, *disclosed)) or bool(set(disclosed) & observed)

    def _is_met_here(self, address: IpAddress, endpoint: Endpoint, known: Known) -> bool:
        """Whether something beside its own word says that the other side is on this host."""
        disclosed = _addresses(one.host for one in known.disclosed)
        path = _addresses([known.path_host] if known.path_host else [])
        if any(self._is_here(one) for one in path):
            return True
        relay_is_here = any(self._is_here(one) for one in self._relays)
        seen = any(not one.is_loopback and one in self._own for one in disclosed)
        if seen or (relay_is_here and any(self._is_here(one) for one in disclosed)):
            return True
        servers = _addresses(one.host for one in self._here.servers)
        told = _addresses(self._here.advertised)
        is_zone = word_of(endpoint, known) is Word.ZONE
        return is_zone and any(self._is_here(one) for one in (*servers, *told))

    def _shares(self, address: IpAddress, met: Iterable[IpAddress]) -> bool:
        """Whether who has told of an address is met where that address means what it means here:
        on this host, or in the same private range."""
        block = _block_of(address)
        return any(
            self._is_here(one) or (block is not None and block == _block_of(one)) for one in met
        )

    def _link_of(self, address: IpAddress) -> _Network | None:
        for interface in self._here.interfaces:
            if address.version == interface.version and address in interface.network:
                return interface.network
        return None

    def _is_here(self, address: IpAddress) -> bool:
        return address.is_loopback or address in self._own

    def _is_one_of(self, address: IpAddress, port: int, services: Iterable[Endpoint]) -> bool:
        for service in services:
            if service.port != port:
                continue
            at = unwrapped(service.host)
            if at == address:
                return True
            if at is not None and self._is_here(at) and self._is_here(address):
                return True
        return False


def _addresses(hosts: Iterable[str]) -> frozenset[IpAddress]:
    found = set()
    for host in hosts:
        try:
            address = unwrapped(host)
        except ValueError:
            continue  # A name: where it leads is not known here.
        if address is not None:
            found.add(address)
    return frozenset(found)


def _block_of(address: IpAddress) -> _Network | None:
    return next((block for block in _BLOCKS if address in block), None)


def _is_public(address: IpAddress) -> bool:
    return address.is_global or any(address in network for network in _DOCUMENTATION)
