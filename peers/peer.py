"""A peer: one identity, at home with one relay, that listens and connects.

This is the front door of the package. What it does is done in the modules that it imports.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Collection, Coroutine
from types import TracebackType
from typing import Any, Self, assert_never

import msgspec

from peers.choice import RoundTrips, Select
from peers.config import DdnsConfig, PeerConfig, Policy
from peers.control import (
    Account,
    DdnsKey,
    PeerChanged,
    Presence,
    PrimaryChanged,
    Registration,
    RegistrationEnded,
    RegistrationEvent,
    RequestArrived,
    StandbyLost,
    Watching,
    fetch_key,
)
from peers.dns import Names
from peers.host import AddressSource, system_addresses
from peers.location import Located
from peers.path import Paths
from peers.roaming import (
    Answering,
    Asking,
    CandidateFinder,
    Dialer,
    Opening,
    Roaming,
    Surveyed,
    Wanted,
    survey,
)
from peers.services import Listener, Services
from peers.session import Session
from peers.transport import DirectServer
from peers.whereabouts import Whereabouts
from protocol.endpoint import Phase, Provenance
from protocol.errors import (
    RelayUnavailable,
    RoamRelayError,
)
from protocol.identity import Identity, public_key_of
from protocol.messages import Mode

__all__ = ["Peer"]


class Peer:
    """Use it as a context manager: inside, it is registered; afterwards, nothing of it is left.

    Entering waits for the first registration and raises `RelayUnavailable` (or another
    `RoamRelayError`) when that fails. Later losses of the control connection are mended in the
    background; calls that need the relay wait for it up to their timeouts. Sessions go on over
    every change of address, path and relay process (docs/sessions.md).
    """

    def __init__(
        self,
        identity: Identity,
        relay: str | None = None,
        *,
        ddns: DdnsConfig | None = None,
        config: PeerConfig | None = None,
        addresses: AddressSource | None = None,
    ) -> None:
        """Prepare a peer; `relay` and `ddns` go before those of `config`. One of them is enough.
        `addresses` tells of this host's own addresses; by default the system does.

        Raises:
            RelayUnavailable: neither is configured.
            DdnsConfigError: the key for dynamic DNS cannot be used.
        """
        config = config or PeerConfig()
        config = msgspec.structs.replace(config, relay=relay) if relay else config
        self.config = msgspec.structs.replace(config, ddns=ddns) if ddns else config
        if self.config.relay is None and self.config.ddns is None:
            raise RelayUnavailable(
                "no relay is configured: give relay='http://HOST:PORT', or a zone with ddns="
            )
        self.identity = identity
        self.guid = identity.guid
        self._addresses = addresses
        self._paths = Paths(identity)
        self._tasks = asyncio.TaskGroup()
        self._background: set[asyncio.Task[None]] = set()
        self._services = Services(self._publish)
        self._listeners = self._services.listeners
        self._direct = DirectServer()
        self._whereabouts = Whereabouts(
            identity,
            self.config,
            port=lambda: self._direct.port,
            offered=lambda: [one.offered for one in self._listeners.values()],
        )
        self._own = self._whereabouts.own
        self._names = (
            Names(identity.guid, self.config.ddns, self._own, self._listeners.values)
            if self.config.ddns is not None
            else None
        )
        self._round_trips = RoundTrips(time.monotonic)
        self._watching = Watching(lambda watch: self._registration.watch(watch))
        self._publishing = asyncio.Lock()
        self._gone = False

    async def __aenter__(self) -> Self:
        config = self.config
        self._registration = Registration(
            Account(self.identity, self._own.instance),
            config,
            self._whereabouts,
            self._registration_event,
        )
        finder = CandidateFinder(config, self._whereabouts.network, self._round_trips)
        dialer = Dialer(
            self.identity,
            config,
            self._paths,
            self._own,
            self._registration,
            finder=finder,
            round_trips=self._round_trips,
            spawn=self._spawn,
        )
        self._dialer = dialer
        lookup = self._names.lookup if self._names is not None else None
        asking = self._asking = Asking(config, dialer, self._own, lookup)
        self._roaming = Roaming(config, dialer, asking, finder, self._own, spawn=self._spawn)
        self._opening = Opening(config, self._roaming, self.watch)
        self._answering = Answering(
            config,
            self._paths,
            self._own,
            dialer,
            finder,
            self._roaming,
            listeners=self._listeners,
            spawn=self._spawn,
        )
        self._whereabouts.attach(self._registration, self._roaming, self._publish)
        await self._tasks.__aenter__()
        try:
            source = self._addresses or system_addresses()
            await self._direct.start(
                config.listen_hosts, config.listen_port, self._answering.serve, self._spawn
            )
            await self._whereabouts.begin(source)
            self._spawn(self._whereabouts.follow(source))
            await self._begin()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._direct.close()
        self._services.close()
        self._watching.close()
        # A session that has no path just now may still find one, to be closed cleanly on it.
        await self._roaming.close_sessions()
        self._gone = True
        await self._registration.close()
        if self._names is not None:
            await self._names.withdraw()
        for task in self._background:
            task.cancel()
        await self._paths.close()
        # What failed inside has been told where it failed; the group only waits for its tasks.
        await self._tasks.__aexit__(None, None, None)

    @property
    def relay_guid(self) -> str | None:
        """The GUID of the relay that this peer is registered with."""
        connection = self._registration.current
        return connection.relay_guid if connection else None

    def listen(
        self,
        service: str,
        *,
        allow: Collection[str] | None = None,
        disclose: str | Collection[str] = "anyone",
    ) -> Listener:
        """Offer a service: `async for session in peer.listen("chat")`.

        `allow` are the GUIDs that may ask (None: anyone), `disclose` who may learn the addresses
        from the relay: "anyone", "nobody" (then only mode `central` works), or GUIDs. The service
        is registered in the background; `await peer.published()` waits until it can be found.

        Raises:
            ValueError: not a service name, already offered, or `disclose` is none of these.
            ConnectionClosed: the peer is closed.
        """
        return self._services.offer(service, allow, disclose, None)

    async def published(self) -> None:
        """Wait until what is offered now can be found: at the relay and in the zone, as far as
        they are configured.

        Raises:
            RoamRelayError: one of them refused it, or cannot be reached in time.
        """
        if self._names is not None:
            await self._names.published()
        if self.config.relay is None:
            return
        await self._registration.connection(self.config.connect_timeout)
        try:
            async with self._publishing:
                await self._registration.publish()
        except RelayUnavailable as error:
            if error.code is not None:
                raise
            # The connection ended meanwhile: the next one registers what is offered then.
            await self._registration.connection(self.config.connect_timeout)

    async def connect(
        self,
        guid: str,
        service: str,
        *,
        mode: Mode | str | None = None,
        timeout: float | None = None,
        wait: bool = False,
        policy: str | None = None,
        select: Select | str | None = None,
    ) -> Session:
        """Open a session with a peer's service. `mode`, `policy` (which paths it may take,
        docs/addresses.md) and `select` (`fastest`, `latest`, or a function that puts candidates in
        order) go before the configuration.

        `timeout` (seconds; default from the configuration) is for the relay's and the callee's
        answer; the path has `path_timeout` after it. With `wait`, a peer that is not there, or does
        not offer the service yet, is waited for without end: put `asyncio.timeout` round it.
        Cancelling it leaves nothing behind.

        Raises:
            UnknownPeer, UnknownService, PeerOffline, Refused, LimitExceeded, RequestTimeout:
                what the relay or the callee said. With `wait`, `Refused` also when the peer does
                not let this one watch it.
            WrongIdentity: another peer answers at the address.
            PathFailed: no endpoint could be reached.
            RelayUnavailable, NameServerUnavailable: there is nobody to ask.
            ValueError, IdentityError: not a mode, a policy or a selector, or not a GUID.
        """
        public_key_of(guid)
        if not (select is None or callable(select) or select in ("fastest", "latest")):
            raise ValueError(f"select is 'fastest', 'latest' or a function, not {select!r}")
        rules = (
            Policy.parse(policy) if policy is not None else self.config.policy_for(guid, service)
        )
        chosen = Mode(mode) if mode is not None else self.config.mode_for(guid, service)
        wanted = Wanted(
            guid,
            service,
            chosen,
            timeout or self.config.request_timeout,
            rules,
            select or self.config.select_for(guid, service),
        )
        return await (self._opening.wait_and_open(wanted) if wait else self._opening.open(wanted))

    def expose(
        self, service: str, port: int, *, disclose: str | Collection[str] = "anyone"
    ) -> Listener:
        """Register a service of another program on this host, at its TCP port: others can find it
        (`locate`), and dial it by its own protocol. Close the listener to take it back.

        Raises:
            ValueError, ConnectionClosed: as `listen`, or not a port.
        """
        if not 0 < port < 65536:
            raise ValueError(f"not a TCP port: {port}")
        return self._services.offer(service, None, disclose, port)

    def leaving(self, address: str, leaving: bool = True) -> None:
        """Say that an address of this host will go away soon: sessions that use it go on, nobody
        begins a new one there (docs/addresses.md).

        Raises:
            ProtocolViolation: not an address.
        """
        self._whereabouts.leaving(address, leaving)

    async def ddns_key(self) -> DdnsKey:
        """Get the key of this peer's own name in the relay's DNS zone (docs/ddns.md).

        Raises:
            Refused: the relay serves no zone.
            RoamRelayError: it cannot be reached, or does not answer.
        """
        timeout = self.config.connect_timeout
        connection = await self._registration.connection(timeout)
        return await fetch_key(self.identity, connection, timeout)

    def watch(self, guid: str) -> AsyncGenerator[Presence, None]:
        """Iterate over how another peer stands: first as it is now, then at every change.

        Raises:
            IdentityError: not a GUID.
            RelayUnavailable: no relay is configured.
            Refused: from the iteration: the peer offers no service to this one.
            LimitExceeded: from the iteration: too many watches at the relay.
        """
        public_key_of(guid)
        if self.config.relay is None:
            raise RelayUnavailable("only a relay tells how a peer stands: none is configured")
        return self._watching.watch(guid)

    async def locate(self, guid: str, service: str, *, timeout: float | None = None) -> Located:
        """Ask where a peer's service is: what mode `p2p` would dial.

        Raises:
            as `connect` in mode `p2p`.
        """
        public_key_of(guid)
        return await self._asking.locate(guid, service, timeout or self.config.request_timeout)

    async def survey(self, located: Located, *, timeout: float = 3.0) -> tuple[Surveyed, ...]:
        """Try every endpoint that `locate` has found, without a word to the application there:
        its round trip, and which one a session would take."""
        return await survey(
            located, lambda candidate: self._dialer.prove(located.guid, candidate), timeout
        )

    @property
    def places(self) -> dict[str, tuple[Provenance, Phase]]:
        """This peer's own addresses as it tells them, the newest first."""
        return self._own.places

    # -- inside ---------------------------------------------------------------------------------

    def _registration_event(self, event: RegistrationEvent) -> None:
        match event:
            case PrimaryChanged():
                self._whereabouts.registered()
                self._roaming.relay_found()
                self._watching.restore()
            case StandbyLost():
                self._whereabouts.registered()
            case RegistrationEnded(error):
                self._services.end(error)
            case RequestArrived(connection, request):
                self._answering.on_request(connection, request)
            case PeerChanged(change):
                self._watching.receive(change)
            case _:
                assert_never(event)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        if self._gone:
            work.close()
            return None
        task = self._tasks.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _publish_quietly(self) -> None:
        # A refusal is logged by the registration, and raised from `published`.
        with contextlib.suppress(RoamRelayError):
            async with self._publishing:
                await self._registration.publish()

    def _publish(self) -> None:
        if self._names is not None:
            self._names.changed()
        self._spawn(self._publish_quietly())

    async def _begin(self) -> None:
        """Wait for the relay; with a zone, nothing that it brings is waited for."""
        if self._names is not None:
            self._names.start(self._spawn)
        if self.config.relay is not None:
            try:
                patience = 2.0 if self._names is not None else self.config.connect_timeout
                await self._registration.connection(patience)
            except RelayUnavailable as error:
                if self._names is None or error.code is not None:
                    raise
