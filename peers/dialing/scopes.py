"""What may be dialed by another's word.

PURE: what is known goes in, the rule that forbids a dial comes out. That an entry is signed says
who has named it, not that its peer is there: addresses of others, and of this very host, are signed
as easily. Nothing here counts; that is the work of `protocol.dialing`, which also says where nobody
is, whoever says so.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

from peers.config import Dial
from protocol.dialing import (
    IpAddress,
    IpInterface,
    block_of,
    is_public,
    is_well_known,
    nobody_at,
    unwrapped,
)
from protocol.endpoint import Endpoint

__all__ = [
    "Here",
    "Known",
    "Word",
    "is_provable",
    "node_refusal",
    "refusal",
    "server_refusal",
    "word_of",
]

_HTTP = (80, 443)
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Word(Enum):
    """By whose word an endpoint is dialed."""

    RELAY = "the relay's"
    """It discloses only where it has met the peer's key, or sees the peer's connections come from.
    So does an address that a path of the session comes from. A private address that it passes on
    between two whom it sees at one public address is the other side's word."""
    ZONE = "the zone's"
    """A record of the zone that this peer has asked for. Whoever owns the name has written it."""
    TOLD = "the other side's"
    """Told on a path: in a hello, a welcome, or a session."""
    DELEGATION = "a zone's, of its servers"
    """A name server that a zone names as its own, where the configuration names none."""
    NODE = "the relay's, of its nodes"
    """Another relay of the same key, where the leg of a plane is opened."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of where the other side is, beside its own word."""

    disclosed: frozenset[Endpoint] = frozenset()
    """What the relay has said."""
    met: frozenset[Endpoint] = frozenset()
    """Where the relay, when it was asked, has said that it has met the peer's key."""
    may_ask: bool = False
    """Whether it can be asked that. What it discloses may be a port on the peer's own word."""
    listed: frozenset[Endpoint] = frozenset()
    """What the zone has said."""
    path_host: str | None = None
    """The other end's address of the last direct path that the session was on."""
    observed: frozenset[str] = frozenset()
    """The addresses at which the relay sees this peer."""


@dataclass(frozen=True, slots=True)
class Here:
    """What is known of this host."""

    interfaces: tuple[IpInterface, ...] = ()
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


def word_of(endpoint: Endpoint, known: Known) -> Word:
    """Return by whose word an endpoint would be dialed: the best there is."""
    if endpoint in known.met or endpoint.host == known.path_host:
        return Word.RELAY
    if endpoint in known.disclosed:
        return Word.TOLD if _is_passed_on(endpoint, known) else Word.RELAY
    return Word.ZONE if endpoint in known.listed else Word.TOLD


def _seen_at(known: Known) -> frozenset[IpAddress]:
    """Return where the relay itself has met or seen the other side."""
    return _addresses(one.host for one in known.disclosed if not _is_passed_on(one, known))


def _is_passed_on(endpoint: Endpoint, known: Known) -> bool:
    """Whether a relay that is outside has passed a private address on: from one that it sees at
    the same public address as this peer. It cannot have met anybody there."""
    address = unwrapped(endpoint.host)
    if address is None or block_of(address) is None:
        return False
    observed = _addresses(known.observed)
    return bool(observed) and all(is_public(one) for one in observed)


def refusal(endpoint: Endpoint, known: Known, here: Here, dial: Dial) -> str | None:
    """Return why an endpoint is not dialed where the peer's key was not met yet; None where it may
    be, as far as it is a matter of where it is."""
    address = unwrapped(endpoint.host)
    if address is None:
        return "only this network knows which address that is"
    place = _Place(here)
    reason = nobody_at(address, here.interfaces) or place.own_service(address, endpoint.port)
    if reason is not None or dial is Dial.OPEN:
        return reason
    if dial is Dial.PROVEN and word_of(endpoint, known) is not Word.RELAY:
        return "it is not proven, and dial is 'proven'"
    return place.scope_refusal(address, endpoint, known) or _port_refusal(address, endpoint, known)


def server_refusal(server: Endpoint, met: Iterable[str], here: Here) -> str | None:
    """Return why a name server is not asked that a zone names as its own. `met` are the addresses
    of who has said so: near ones mean the same there only where they are near too."""
    address = unwrapped(server.host)
    if address is None:
        return "only this network knows which address that is"
    place = _Place(replace(here, servers=frozenset()))
    reason = nobody_at(address, here.interfaces) or place.own_service(address, server.port)
    met_at = _addresses((*met, *(one.host for one in here.servers)))
    if reason is not None or address in met_at:
        return reason
    return place.server_refusal(address, met_at)


def node_refusal(node: Endpoint, met: Iterable[str], here: Here) -> str | None:
    """Return why no other node of a relay is dialed at an endpoint that the relay names. `met` are
    the addresses at which the relay was met."""
    if is_well_known(node.port) and node.port not in _HTTP:
        return f"port {node.port} is a well-known service's, and not a relay's"
    return server_refusal(node, met, replace(here, relays=frozenset()))


def is_provable(endpoint: Endpoint, known: Known, here: Here, dial: Dial) -> bool:
    """Whether an endpoint that is not dialed would be, had the relay met the key there."""
    met = replace(known, met=known.met | {endpoint})
    return known.may_ask and refusal(endpoint, met, here, dial) is None


def _port_refusal(address: IpAddress, endpoint: Endpoint, known: Known) -> str | None:
    if not is_well_known(endpoint.port) or endpoint in known.met:
        return None
    # An address of this host or of its networks is where the relay's word is the weakest: it may
    # have seen the peer there, and have its word alone for the port.
    if endpoint in known.disclosed and is_public(address) and not known.may_ask:
        return None
    return f"port {endpoint.port} is a well-known service's, and the peer is not proven there"


class _Place:
    """This host, asked about addresses."""

    def __init__(self, here: Here) -> None:
        self._here = here
        self._own = {interface.ip for interface in here.interfaces}
        self._relays = _addresses(relay.host for relay in here.relays)

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
        if is_public(address):
            return None
        return self._private_refusal(address, endpoint, known)

    def server_refusal(self, address: IpAddress, met: Iterable[IpAddress]) -> str | None:
        """Return why a near address is not taken for a name server's."""
        if address.is_link_local:
            return "a link-local address"
        if self._is_here(address):
            is_met = any(self._is_here(one) for one in met)
            return None if is_met else "this host itself, and who names it is not here"
        if is_public(address) or self._link_of(address) is not None or self._shares(address, met):
            return None
        return "a private address, and who names it is elsewhere"

    def _private_refusal(self, address: IpAddress, endpoint: Endpoint, known: Known) -> str | None:
        link = self._link_of(address)
        disclosed = _seen_at(known)
        word = word_of(endpoint, known)
        if word is Word.RELAY:
            met = link is not None or self._shares(address, self._relays)
        else:
            servers = _addresses(one.host for one in self._here.servers)
            met = word is Word.ZONE and self._shares(address, servers)
            met = met or self._told_here(link, disclosed, known)
            # Of two behind one address: where both have a way into the network.
            met = met or (link is not None and endpoint in known.disclosed)
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
        disclosed = _seen_at(known)
        path = _addresses([known.path_host] if known.path_host else [])
        if any(self._is_here(one) for one in path):
            return True
        relay_is_here = any(self._is_here(one) for one in self._relays)
        if relay_is_here and endpoint in known.met:
            return True
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
        block = block_of(address)
        return any(
            self._is_here(one) or (block is not None and block == block_of(one)) for one in met
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
