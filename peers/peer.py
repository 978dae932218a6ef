"""A peer: one identity, at home with one relay, that listens and connects.

This is the front door of the package: it builds the rooms, starts and closes them in order, and
hands the news of the lower ones to those above. What they do is in them.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self, assert_never

import msgspec

from peers.choice import RoundTrips, Select
from peers.config import DdnsConfig, PeerConfig, Policy, log
from peers.control import (
    Account,
    DdnsKey,
    PeerChanged,
    Presence,
    PrimaryChanged,
    Registration,
    RegistrationEnded,
    RegistrationEvent,
    RelayAddresses,
    RequestArrived,
    StandbyLost,
    Watching,
    fetch_key,
)
from peers.dialing import DialCounts, Door
from peers.dns import Names, read_key
from peers.host import AddressSource, Interfaces, system_addresses
from peers.location import Located, OwnLocation
from peers.path import Paths
from peers.publication import Publication
from peers.roaming import (
    Candidates,
    Incoming,
    Local,
    Lookup,
    Means,
    Outgoing,
    Probes,
    Rounds,
    Sessions,
    Surveyed,
    Ways,
    survey,
)
from peers.services import Listener, Services, ServicesChanged
from peers.session import Session, Terms
from peers.tasks import Tasks, unless
from peers.transport import DirectServer
from peers.whereabouts import Whereabouts
from protocol.endpoint import Phase, Provenance
from protocol.errors import ConnectionClosed, RelayUnavailable, RoamRelayError
from protocol.identity import Identity, public_key_of
from protocol.messages import Mode

__all__ = ["Peer"]

_LAST_WORD = 0.2
"""Seconds for paths to finish after sessions that took all of their time: what was said on them
leaves, and is not waited for."""


class Peer:
    """Use it as a context manager: inside, it is registered; afterwards, nothing of it is left.

    Entering waits for the first registration and raises `RelayUnavailable` (or another
    `RoamRelayError`) when that fails; with `wait_for_relay` in the configuration it waits without
    end, as for a network that comes up later. Later losses of the control connection are mended in
    the background, whatever the reason; calls that need the relay wait for it up to their timeouts.
    The registration ends for good on `Superseded`, and where the relay does not admit this peer.
    Sessions go on over every change of address, path and relay process (docs/sessions.md).

    Leaving closes the sessions cleanly, as far as that is possible within `close_timeout`. Whoever
    cancels it makes it fast, and not half: what is open is dropped, and the cancellation goes on
    when all has ended.
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
            RelayUnavailable: neither is configured, or the relay is no URL of one.
            DdnsConfigError: the key for dynamic DNS cannot be used.
        """
        config = config or PeerConfig()
        config = msgspec.structs.replace(config, relay=relay) if relay else config
        self.config = msgspec.structs.replace(config, ddns=ddns) if ddns else config
        if self.config.relay is None and self.config.ddns is None:
            raise RelayUnavailable(
                "no relay is configured: give relay='http://HOST:PORT', or a zone with ddns="
            )
        if self.config.relay is not None:
            RelayAddresses(self.config.relay)  # Refused here, and not when it is dialed.
        names = self.config.ddns
        self._dns_key = read_key(names, identity.guid) if names is not None else None
        self.identity = identity
        self.guid = identity.guid
        self._addresses = addresses
        self._rooms: Rooms | None = None
        """None before the peer is entered."""

    async def __aenter__(self) -> Self:
        if self._rooms is not None:
            raise ConnectionClosed("a peer is entered once: make another one")
        rooms = self._rooms = self._build()
        try:
            await self._start(rooms)
        except BaseException:
            await self._leave(rooms, at_once=True)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._leave(self._open, at_once=False)

    @property
    def failure(self) -> RoamRelayError | None:
        """Why this peer is not registered with its relay now, as far as that is known; None while
        it is, and before it is entered."""
        return self._rooms.registration.failure if self._rooms is not None else None

    @property
    def relay_guid(self) -> str | None:
        """The GUID of the relay that this peer is registered with."""
        connection = self._open.registration.current
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
            ValueError: not a service name, already offered, or `disclose` is none of these; or it
                is one more than can be registered (16), or the lists of GUIDs are too long.
            ConnectionClosed: the peer is closed.
        """
        return self._open.services.offer(service, allow, disclose, None)

    async def published(self) -> None:
        """Wait until what is offered now can be found: at the relay and in the zone, as far as
        they are configured. With `wait_for_relay` it waits for either without end.

        Raises:
            RoamRelayError: one of them refused it, or cannot be reached in time. What was in force
                before stays so.
        """
        await self._open.publication.published()

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
        terms = Terms(
            guid,
            service,
            chosen,
            is_caller=True,
            discloses=chosen is not Mode.CENTRAL,
            policy=rules,
            select=select or self.config.select_for(guid, service),
            fallback=self.config.fallback,
        )
        if rules.needs_interfaces:
            await self._open.whereabouts.known()
        outgoing = self._open.outgoing
        patience = timeout or self.config.request_timeout
        return await (
            outgoing.wait_and_open(terms, patience) if wait else outgoing.open(terms, patience)
        )

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
        return self._open.services.offer(service, None, disclose, port)

    def leaving(self, address: str, leaving: bool = True) -> None:
        """Say that an address of this host will go away soon: sessions that use it go on, nobody
        begins a new one there (docs/addresses.md).

        Raises:
            ProtocolViolation: not an address.
        """
        self._open.whereabouts.leaving(address, leaving)

    async def ddns_key(self) -> DdnsKey:
        """Get the key of this peer's own name in the relay's DNS zone (docs/ddns.md).

        Raises:
            Refused: the relay serves no zone.
            RoamRelayError: it cannot be reached, or does not answer.
        """
        timeout = self.config.connect_timeout
        connection = await self._open.registration.connection(timeout)
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
        return self._open.presence.watch(guid)

    async def locate(self, guid: str, service: str, *, timeout: float | None = None) -> Located:
        """Ask where a peer's service is: what mode `p2p` would dial.

        Raises:
            as `connect` in mode `p2p`.
        """
        public_key_of(guid)
        patience = timeout or self.config.request_timeout
        return await self._open.lookup.locate(guid, service, patience)

    async def survey(self, located: Located, *, timeout: float = 3.0) -> tuple[Surveyed, ...]:
        """Try every endpoint that `locate` has found, without a word to the application there:
        its round trip, and which one a session would take."""
        return await survey(
            located, lambda candidate: self._open.ways.survey(located, candidate), timeout
        )

    @property
    def places(self) -> dict[str, tuple[Provenance, Phase]]:
        """This peer's own addresses as it tells them, the newest first."""
        return self._open.location.addresses

    @property
    def port(self) -> int:
        """The TCP port at which this peer takes direct paths, on every address."""
        return self._open.direct.port

    @property
    def dialing(self) -> DialCounts:
        """How many connections this peer has opened, and how many it would not."""
        return self._open.local.door.counts

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _open(self) -> "Rooms":
        if self._rooms is None:
            raise ConnectionClosed("the peer is not open: use it inside 'async with Peer(...)'")
        return self._rooms

    def _build(self) -> "Rooms":
        """Build every room in one go, the lowest first. Nothing runs yet, but the port is bound."""
        config, identity = self.config, self.identity
        direct = DirectServer.bind(config.listen_hosts, config.listen_port)
        try:
            location = OwnLocation(
                identity, direct.port, configured=config.advertise, lifetime=config.lifetime
            )
            interfaces = Interfaces(config)
            services = Services(location, self._heard, registers=config.relay is not None)
            names = (
                Names(
                    identity.guid,
                    config.ddns,
                    self._dns_key,
                    location,
                    services.offered,
                )
                if config.ddns is not None
                else None
            )
            account = Account(identity, location.instance)
            door = Door(config, interfaces, direct.port)
            registration = Registration(account, config, services, self._heard, door)
            tasks = Tasks()
            local = Local(identity, config, location, Paths(identity), tasks, door)
            candidates = Candidates(config, interfaces, RoundTrips(time.monotonic))
            ways = Ways(local, candidates, registration)
            lookup = Lookup(config, registration, names.lookup if names is not None else None)
            rounds = Rounds(lookup, ways, config.request_timeout)
            sessions = Sessions(local, Means(ways, rounds, Probes(ways, candidates), registration))
            presence = Watching(registration.watch)
            publication = Publication(config, registration, names, tasks)
            return Rooms(
                direct=direct,
                location=location,
                services=services,
                names=names,
                registration=registration,
                local=local,
                candidates=candidates,
                ways=ways,
                lookup=lookup,
                sessions=sessions,
                outgoing=Outgoing(config, sessions, presence.watch),
                incoming=Incoming(local, services, sessions, ways, candidates),
                presence=presence,
                publication=publication,
                whereabouts=Whereabouts(interfaces, location, registration, sessions, publication),
            )
        except BaseException:
            direct.close()
            raise

    async def _start(self, rooms: "Rooms") -> None:
        """Accept paths, register, and wait for the relay; with a zone, nothing that the relay
        brings is waited for."""
        config, spawn = self.config, rooms.local.tasks.spawn
        await rooms.direct.start(rooms.incoming.serve, spawn)
        source = self._addresses or system_addresses()
        await rooms.whereabouts.begin(source, look=bool(config.sources) or config.relay is None)
        spawn(rooms.whereabouts.follow(source))
        if rooms.names is not None:
            rooms.names.start(spawn)
        if config.relay is None:
            return
        patience: float | None = None if config.wait_for_relay else config.connect_timeout
        try:
            await rooms.registration.connection(2.0 if rooms.names is not None else patience)
        except RelayUnavailable:
            if rooms.names is None or rooms.registration.is_over:
                raise

    async def _leave(self, rooms: "Rooms", *, at_once: bool) -> None:
        """Close every room, the highest first. A cancellation makes it fast, and is raised when
        nothing is left."""
        at_once_now = asyncio.Event()
        if at_once:
            at_once_now.set()
        closing = asyncio.get_running_loop().create_task(_close(rooms, at_once_now))
        cancelled: asyncio.CancelledError | None = None
        while not closing.done():
            try:
                # What is waited for has its own deadlines, and none once it must be fast.
                await asyncio.wait({closing})
            except asyncio.CancelledError as error:
                cancelled = error
                at_once_now.set()
        closing.result()
        if cancelled is not None:
            raise cancelled

    def _heard(self, event: RegistrationEvent | ServicesChanged) -> None:
        """News from the rooms below, for those above."""
        rooms = self._open
        match event:
            case RequestArrived(connection, request):
                rooms.incoming.request(connection, request)
            case PeerChanged(changed):
                rooms.presence.receive(changed)
            case PrimaryChanged():
                rooms.whereabouts.registered()
                rooms.sessions.relay_found()
                rooms.presence.restore()
            case StandbyLost():
                rooms.whereabouts.registered()
            case RegistrationEnded(error):
                rooms.services.end(error)
            case ServicesChanged(ended):
                if ended is not None:
                    rooms.sessions.end_announced(ended)
                rooms.publication.changed()
            case _:
                assert_never(event)


@dataclass(frozen=True, slots=True)
class Rooms:
    """What an open peer consists of."""

    direct: DirectServer
    location: OwnLocation
    services: Services
    names: Names | None
    registration: Registration
    local: Local
    candidates: Candidates
    ways: Ways
    lookup: Lookup
    sessions: Sessions
    outgoing: Outgoing
    incoming: Incoming
    presence: Watching
    publication: Publication
    whereabouts: Whereabouts


async def _close(rooms: Rooms, at_once: asyncio.Event) -> None:
    """End everything, each step on its own: what one of them raises is logged, and stops none.

    Sessions and their paths have `close_timeout` together, and the paths a last word after it. When
    `at_once` is set, nothing waits for anybody else any more.
    """

    async def closed(step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await unless(at_once, step)
        except Exception:
            log.exception("closing a peer")

    loop = asyncio.get_running_loop()
    patience = rooms.local.config.close_timeout
    end = loop.time() + patience
    for step in (rooms.direct.close, rooms.services.close, rooms.presence.close):
        try:
            step()
        except Exception:
            log.exception("closing a peer")
    # A session that has no path just now may still find one, to be closed cleanly on it.
    await closed(partial(rooms.sessions.close, patience))
    rooms.sessions.abort()
    await closed(rooms.registration.close)
    if rooms.names is not None:
        await closed(rooms.names.withdraw)
    for last in (rooms.registration.close, rooms.local.tasks.close):
        await last()
    await closed(partial(rooms.local.paths.close, max(_LAST_WORD, end - loop.time())))
    await rooms.local.paths.abort()
