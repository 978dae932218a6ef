"""Where this peer is: this host's addresses as they change, and everybody who must know of it.

A change of addresses goes to the registration (which flows there are), to what is signed and told,
and to the sessions. What an address may be used for is decided in peers/network.py and
peers/own_location.py.
"""

import contextlib
from collections.abc import Callable, Iterable

from peers.config import PeerConfig
from peers.control import Registration
from peers.host import AddressSource, Network
from peers.location import Offered, OwnLocation
from peers.roaming import Roaming
from protocol.endpoint import Endpoint
from protocol.identity import Identity
from protocol.messages import LocationRecord

__all__ = ["Whereabouts"]


class Whereabouts:
    """Follows the addresses of one peer's host. Call `attach` before anything else."""

    def __init__(
        self,
        identity: Identity,
        config: PeerConfig,
        *,
        port: Callable[[], int],
        offered: Callable[[], Iterable[Offered]],
    ) -> None:
        self._config = config
        self.network = Network(config)
        self.own = OwnLocation(
            identity, port=port, configured=config.advertise, lifetime=config.lifetime
        )
        self._offered = offered
        self._registration: Registration
        self._roaming: Roaming
        self._publish: Callable[[], object]

    def attach(
        self, registration: Registration, roaming: Roaming, publish: Callable[[], object]
    ) -> None:
        """Name those who must know; `publish` registers the record anew, some time soon."""
        self._registration = registration
        self._roaming = roaming
        self._publish = publish

    async def begin(self, source: AddressSource) -> None:
        """Look once where the configuration names addresses, or no relay's route shows one; else
        the routes choose, and reading what else there is can be waited for."""
        if self._looks_first:
            with contextlib.suppress(OSError):
                self.network.update(await source.read())
            self._tell()
        self._set_sources()

    async def follow(self, source: AddressSource) -> None:
        """Act on every change, until cancelled."""
        first = not self._looks_first
        async for snapshot in source.changes():
            gone, new = self.network.update(snapshot)
            if not gone and not new:
                if self._tell():  # A flag has changed: an address is deprecated now.
                    self._roaming.tell_locations()
                    self._publish()
                continue
            if not first:
                self._registration.network_changed(gone)
            told = self._tell()
            self._set_sources()
            if not first:
                self._roaming.network_changed(gone, new)
            first = False
            if told:
                self._publish()

    def registered(self) -> None:
        """A flow has come or gone."""
        self._set_sources()
        if self._tell():
            self._publish()

    def record(self, local_host: str) -> LocationRecord:
        """Return the location record of now, for a connection from `local_host`."""
        self._tell(local_host)
        return self.own.record(self._offered())

    def leaving(self, address: str, leaving: bool) -> None:
        """Note that an address will go away.

        Raises:
            ProtocolViolation: not an address.
        """
        self.network.mark_leaving(Endpoint.parse(address, 1).host, leaving)
        if self._tell():
            self._roaming.tell_locations()
            self._publish()

    @property
    def _looks_first(self) -> bool:
        return bool(self._config.sources) or self._config.relay is None

    def _tell(self, *first: str) -> bool:
        """Say anew where this peer is; return whether anything is different.

        Addresses that flows come from are sure to work, and go first.
        """
        live = [connection.local_host for connection in self._registration.connections]
        return self.own.set_hosts(
            (*first, *live, *self.network.hosts),
            live={*live, *first},
            leaving=self.network.leaving,
            observed=self._registration.observed,
        )

    def _set_sources(self) -> None:
        relay = self._registration.relay_host
        # Only the flow that the routes have chosen says where they lead: a standby that has just
        # come must not count, or the two would take turns.
        default = self._registration.routed_host
        version = 6 if ":" in (default or relay) else 4
        sources = self.network.flow_sources(
            version, default=default, spread=bool(self._registration.connections)
        )
        self._registration.set_sources(sources)
