"""This host's ways into the network, as they change: which addresses a peer tells, and which it
binds to. Reading them from the system is the work of source.py.
"""

import ipaddress
from collections.abc import Iterable, Sequence

from peers.config import PeerConfig
from peers.host.address import LocalAddress, usable

__all__ = ["Interfaces"]


class Interfaces:
    """What is known of this host's addresses. Feed it snapshots with `update`."""

    def __init__(self, config: PeerConfig) -> None:
        self._config = config
        self._addresses: tuple[LocalAddress, ...] = ()
        self._all: frozenset[str] = frozenset()
        self.networks: tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, ...] = ()
        """All addresses of this host, with their prefixes."""
        self._order: list[str] = []
        self._interfaces: dict[str, str] = {}
        self.routed: frozenset[str] = frozenset()
        """The addresses that the routes let connections leave from, where the source tells."""
        self._marked: set[str] = set()
        self._lost: set[str] = set()

    def update(self, snapshot: Iterable[LocalAddress]) -> tuple[frozenset[str], frozenset[str]]:
        """Take a new snapshot; return the addresses that are gone and those that are new."""
        snapshot = tuple(snapshot)
        present = frozenset(address.host for address in snapshot)
        gone, new = self._all - present, present - self._all
        self._marked -= gone
        self._lost = (self._lost | gone) - present
        self._all = present
        # A program's own source may have a class of addresses that is older than this field.
        self.routed = frozenset(one.host for one in snapshot if getattr(one, "routed", False))
        self._interfaces = {address.host: address.interface for address in snapshot}
        self.networks = tuple(
            ipaddress.ip_interface(f"{address.host}/{address.prefix_length}")
            for address in snapshot
        )
        chosen = self._config.sources
        self._addresses = usable(
            [address for address in snapshot if not chosen or address.host in chosen],
            loopback=bool(chosen),
        )
        hosts = [address.host for address in self._addresses]
        kept = [host for host in self._order if host in hosts]
        # The newest first; what appeared together, as `usable` has put it.
        self._order = [host for host in hosts if host not in kept] + kept
        return gone, new

    def mark_leaving(self, host: str, leaving: bool) -> None:
        """Note what a program says of an address: it will go away, or it will not after all."""
        if leaving:
            self._marked.add(host)
        else:
            self._marked.discard(host)

    def is_gone(self, host: str) -> bool:
        """Whether this host had an address and has it no more."""
        return host in self._lost

    @property
    def leaving(self) -> frozenset[str]:
        """Addresses for old sessions only: marked so, or deprecated by the system (RFC 4862)."""
        deprecated = {address.host for address in self._addresses if address.deprecated}
        return frozenset(self._marked | deprecated)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The addresses at which this peer can be reached, the newest first."""
        return tuple(self._order)

    def interface_of(self, host: str) -> str | None:
        """Return the name of the interface that has an address; None where none has."""
        return self._interfaces.get(host)

    def is_other_network(self, one: str, another: str) -> bool:
        """Whether two addresses of this host are in different networks: one may go and the other
        stay. Those that the configuration names are, each by itself."""
        if one == another:
            return False
        if self._config.sources:
            return True
        interface = self._interfaces.get(one)
        if interface is None or interface != self._interfaces.get(another):
            return True
        networks = {str(network.ip): network.network for network in self.networks}
        same_version = (":" in one) == (":" in another)
        return same_version and networks[one] != networks[another]

    def standby_sources(self, version: int) -> tuple[str, ...]:
        """Return the addresses that a path which is to stand ready may be dialed from."""
        leaving = self.leaving
        return tuple(
            host for host in self._order if (":" in host) == (version == 6) and host not in leaving
        )

    def dial_sources(self, version: int, *, named: bool = False) -> tuple[str | None, ...]:
        """Return the addresses to dial an endpoint of this IP version from: None is the routes'
        choice, and all there is unless the configuration names addresses, or they must be `named`
        for a policy to judge."""
        if not self._config.sources and not named:
            return (None,)
        hosts = [host for host in self._order if (":" in host) == (version == 6)]
        leaving = self.leaving
        return tuple(sorted(hosts, key=lambda host: host in leaving))

    @property
    def was_seen(self) -> bool:
        """Whether any address that the configuration names has been there since the beginning."""
        return any(host in self._all or host in self._lost for host in self._config.sources)

    def flow_sources(
        self, version: int, *, default: str | None, spread: bool
    ) -> Sequence[str | None]:
        """Return the addresses to register from, each by a flow of its own.

        By default that is the route's own choice (`default` is the address it has led to, where it
        is known), and one address of every other interface; the configuration may name them. With
        `spread` the others are there even where the routes lead nowhere just now.
        """
        if self._config.sources:
            return self.dial_sources(version)
        interfaces = {
            address.interface: address.host
            for address in reversed(self._addresses)
            if address.version == version
        }
        by_default = {a.interface for a in self._addresses if a.host == default}
        others = [host for name, host in interfaces.items() if name not in by_default]
        return [None, *(others if by_default or (spread and default is None) else ())]
