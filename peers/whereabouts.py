"""Where this peer is: this host's addresses as they change, and everybody who must know of it.

A change of addresses goes to the registration (which flows there are), to what is signed and told,
and to the sessions. What an address may be used for is decided in the rooms `host` and `location`.
"""

import asyncio
import contextlib

from peers.config import log
from peers.control import Registration
from peers.host import Addresses, AddressSource, Interfaces
from peers.location import Hosts, OwnLocation
from peers.publication import Publication
from peers.roaming import Sessions
from peers.tasks import backoff, calling
from protocol.endpoint import Endpoint
from protocol.errors import RelayMisconfigured, RelayUnavailable, RoamRelayError

__all__ = ["Whereabouts"]

_FIRST_LOOK = 2.0
"""Seconds for the first look at this host's addresses."""
_AGAIN = 1.0
"""Seconds until a source of addresses that has failed is asked again, doubled up to 30."""


class Whereabouts:
    """Follows the addresses of one peer's host."""

    def __init__(
        self,
        interfaces: Interfaces,
        location: OwnLocation,
        registration: Registration,
        sessions: Sessions,
        publication: Publication,
    ) -> None:
        self._interfaces = interfaces
        self._location = location
        self._registration = registration
        self._sessions = sessions
        self._publication = publication
        self._known = asyncio.Event()
        """Set when a snapshot was seen: what is new in the first one has not just come."""
        self._mapped: Endpoint | None = None
        """Where the router says that it passes others on to this peer."""
        self._is_silent = False
        """Whether a first snapshot was waited for in vain."""

    async def begin(self, source: AddressSource, *, look: bool) -> None:
        """Begin to register. `look` first where the configuration names addresses, or no relay's
        route shows one; else the routes choose, and reading what else there is can be waited for.
        """
        if look:
            try:
                with contextlib.suppress(OSError), calling("addresses.read"):
                    self._interfaces.update(await source.read())
            except RoamRelayError as error:
                log.error(
                    "this host's addresses are not known",
                    reason=error.reason,
                    exc_info=error.__cause__ or error,
                )
            self._known.set()
            self._tell()
        self._set_sources()

    async def known(self) -> None:
        """Wait until this host's addresses are known, for a moment at most, and once: a rule about
        interfaces means nothing before that, and no private address is dialed. A source that tells
        nothing keeps nobody from the rest."""
        if self._is_silent:
            return
        try:
            async with asyncio.timeout(_FIRST_LOOK):
                await self._known.wait()
        except TimeoutError:
            self._is_silent = True

    async def follow(self, source: AddressSource) -> None:
        """Act on every change, until cancelled; a source that fails is asked again."""
        pauses = backoff(lambda: 1.0, first=_AGAIN)
        while True:
            try:
                with calling("addresses.changes"):
                    async for snapshot in source.changes():
                        self._take(snapshot)
                        pauses = backoff(lambda: 1.0, first=_AGAIN)
            except RoamRelayError as error:
                log.error(
                    "this host's addresses are not followed",
                    reason=error.reason,
                    exc_info=error.__cause__ or error,
                )
            else:
                log.error("this host's addresses are not followed", reason="they have ended")
            await asyncio.sleep(next(pauses))

    def registered(self) -> None:
        """A flow has come or gone."""
        self._set_sources()
        if self._tell():
            self._publication.changed()

    def leaving(self, address: str, leaving: bool) -> None:
        """Note that an address will go away.

        Raises:
            ProtocolViolation: not an address.
        """
        self._interfaces.mark_leaving(Endpoint.parse(address, 1).host, leaving)
        if self._tell():
            self._sessions.tell_locations()
            self._publication.changed()

    def port_mapped(self, at: Endpoint | None) -> None:
        """The router passes others on from there, or from nowhere."""
        self._mapped = at
        if self._tell():
            self._sessions.tell_locations()
            self._publication.changed()

    # -- inside ---------------------------------------------------------------------------------

    def _take(self, snapshot: Addresses) -> None:
        routed = self._interfaces.routed
        gone, new = self._interfaces.update(snapshot)
        if not gone and not new and self._interfaces.routed == routed:
            if self._tell():  # A flag has changed: an address is deprecated now.
                self._sessions.tell_locations()
                self._publication.changed()
            return
        if self._known.is_set():
            self._registration.network_changed(gone)
        told = self._tell()
        self._set_sources()
        if self._known.is_set():
            self._sessions.network_changed(gone)
        self._known.set()
        if told:
            self._publication.changed()

    def _tell(self) -> bool:
        """Say anew where this peer is; return whether anything is different.

        Addresses that flows come from are sure to work, and go first.
        """
        # The router's word counts where the relay sees this host: behind another translation its
        # address leads nowhere, and one that lies names nobody else.
        observed, at = self._registration.observed, self._mapped
        live = [connection.local_host for connection in self._registration.connections]
        return self._location.update(
            Hosts(
                own=(*live, *self._interfaces.hosts),
                live=frozenset(live),
                leaving=self._interfaces.leaving,
                observed=observed,
                mapped=at if at is not None and at.host in observed else None,
            )
        )

    def _set_sources(self) -> None:
        # Only the flow that the routes have chosen says where they lead: a standby that has just
        # come must not count, or the two would take turns.
        default = self._registration.routed_host
        version = 6 if ":" in (default or self._registration.relay_host) else 4
        sources = self._interfaces.flow_sources(
            version, default=default, spread=bool(self._registration.connections)
        )
        self._registration.set_sources(sources)
        if not sources:
            kind = RelayUnavailable if self._interfaces.was_seen else RelayMisconfigured
            self._registration.blocked(
                kind(f"sources: no interface of this host has an IPv{version} address of these")
            )
