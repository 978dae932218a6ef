"""Where a connection or a request really comes from, and whose word is taken for it.

Only proxies that the operator names are believed, or those on the own host of a relay that listens
there alone; and each only for the one before it: the first address that is no such proxy's is the
client's. No I/O.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from relay.http.forwarded import (
    BadForwarding,
    Client,
    clients_in_forwarded,
    clients_in_x_forwarded_for,
)
from relay.http.proxy_header import ProxyHeader

__all__ = ["Headers", "Origin", "Proxies", "has_passed_a_proxy", "is_near"]

_NEAR = tuple(
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)


class Headers(Protocol):
    """The headers of a request: each may be there more than once."""

    def getall(self, key: str, default: Sequence[str], /) -> Sequence[str]:
        """Return all lines of a header."""

    def get(self, key: str, default: str, /) -> str:
        """Return the first line of a header."""

    def __contains__(self, key: object, /) -> bool:
        """Whether there is one."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where somebody comes from."""

    host: str
    """Its address; empty where nobody knows: it came by a proxy that does not tell."""
    port: int
    """0 where it is not known."""
    proxy: str = ""
    """The proxy that it came by last; empty where it came by itself."""

    @property
    def charged(self) -> str:
        """The address that answers for it where limits go by address."""
        return self.host or self.proxy

    @property
    def text(self) -> str:
        """It in a line of the log."""
        if not self.proxy:
            return self.host
        return f"{self.host or 'unknown'} by {self.proxy}"


class Proxies:
    """The networks whose proxies are believed."""

    def __init__(self, networks: Iterable[str], *, own_host: bool = False) -> None:
        self._networks = tuple(ipaddress.ip_network(network) for network in networks)
        self._own_host = own_host
        """Whether a proxy on this host is believed about a request, though nobody has named it:
        what reaches a relay that listens on loopback alone comes by something on its own host."""

    def trusts(self, host: str) -> bool:
        """Whether an address is a trusted proxy's."""
        if not self._networks or not host:
            return False
        address = ipaddress.ip_address(host.partition("%")[0])
        return any(address in network for network in self._networks)

    def of_connection(self, host: str, port: int, header: ProxyHeader | None) -> Origin:
        """Return where a connection comes from; a header is given only where it is trusted."""
        if header is None:
            return Origin(host, port)
        if header.client is None:
            return Origin("", 0, host)
        return Origin(*header.client, host)

    def of_request(self, origin: Origin, headers: Headers) -> Origin:
        """Return where a request on such a connection comes from. The result is never a trusted
        proxy.

        Raises:
            BadForwarding: a trusted proxy has sent what cannot be read, or two different answers.
        """
        if not self.trusts(origin.host):
            if origin.proxy or not has_passed_a_proxy(headers) or not is_near(origin.host):
                return origin
            if not (self._own_host and _is_loopback(origin.host)):
                # A proxy that nobody has named: it is believed in nothing, but it is not the peer.
                return Origin("", 0, origin.host)
        found: set[Client] = set()
        if forwarded := headers.getall("Forwarded", ()):
            found.add(self._first_stranger(clients_in_forwarded(forwarded)))
        if x_forwarded_for := headers.getall("X-Forwarded-For", ()):
            found.add(self._first_stranger(clients_in_x_forwarded_for(x_forwarded_for)))
        hosts = {client and client[0] for client in found}
        if len(hosts) > 1:
            raise BadForwarding(
                "Forwarded and X-Forwarded-For name different clients: let the proxy take out the "
                "one that it does not write itself"
            )
        client = max(found, key=lambda one: one[1] if one else 0, default=None)
        return Origin("", 0, origin.host) if client is None else Origin(*client, origin.host)

    def _first_stranger(self, clients: Iterator[Client]) -> Client:
        """Return the nearest client that is no trusted proxy; None where the proxies tell none."""
        for client in clients:
            if client is None or not self._passes_on(client[0]):
                return client
        return None

    def _passes_on(self, host: str) -> bool:
        return self.trusts(host) or (self._own_host and _is_loopback(host))


def has_passed_a_proxy(headers: Headers) -> bool:
    """Whether a request bears what only proxies write."""
    # Asked with every request: a loop would cost as much as the look-ups.
    return (
        "X-Forwarded-For" in headers
        or "Forwarded" in headers
        or "X-Real-IP" in headers
        or "Via" in headers
    )


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def is_near(host: str) -> bool:
    """Whether an address is a loopback or a private one: of this host, or of its own network."""
    if not host:
        return False
    address = ipaddress.ip_address(host.partition("%")[0])
    return any(address in network for network in _NEAR)
