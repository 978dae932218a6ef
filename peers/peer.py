"""A peer: one identity, at home with one relay, that listens and connects.

This is the front door of the package: it checks what the program hands over, starts the rooms, and
hands the news of the lower ones to those above. How they are built and closed is in rooms.py, what
they do in them.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Collection
from types import NoneType, TracebackType
from typing import Self, Unpack

from peers.choice import Select
from peers.config import (
    ModeWord,
    PeerConfig,
    SelectWord,
    Settings,
    checked_address,
    checked_count,
    checked_disclosure,
    checked_flag,
    checked_function,
    checked_guid,
    checked_guids,
    checked_kind,
    checked_port,
    checked_seconds,
    checked_service,
    settled,
)
from peers.control import (
    DdnsKey,
    Link,
    Presence,
    RegistrationEvent,
    RelayAddresses,
    Status,
    fetch_key,
)
from peers.conversations import Conversation, Preference, Store, checked_store
from peers.dialing import DialCounts
from peers.host import AddressSource
from peers.location import Located
from peers.opening import Wish
from peers.roaming import Surveyed, survey
from peers.rooms import Leaving, PeerFigures, Rooms, build, pass_on, read_dns_key, start
from peers.services import Accept, Handler, Listener, ServicesChanged, serve_sessions
from peers.session import Session
from peers.tasks import EventQueue, check_loop
from protocol.endpoint import Phase, Provenance
from protocol.errors import ConnectionClosed, RelayUnavailable, RoamRelayError
from protocol.identity import Identity

__all__ = ["Peer"]


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
        config: PeerConfig | None = None,
        addresses: AddressSource | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        """Prepare a peer; `relay`, and `ddns` and `dial` as settings, go before those of `config`.
        `addresses` tells of this host's own addresses; by default the system does.

        Raises:
            RelayUnavailable: neither relay nor zone is configured, or that is no URL of one.
            DdnsConfigError: the key for dynamic DNS cannot be used.
            MissingExtra: there is no dynamic DNS in this installation.
            TypeError: one of them is of another kind.
            ValueError: `dial` is no such word.
        """
        checked_kind("identity", identity, Identity, "an Identity")
        checked_kind("addresses", addresses, (AddressSource, NoneType), "a source of addresses")
        self.config = settled(config, relay, settings)
        """What it was configured with."""
        if self.config.relay is None and self.config.ddns is None:
            raise RelayUnavailable(
                "no relay is configured: give relay='http://HOST:PORT', or a zone with ddns="
            )
        if self.config.relay is not None:
            RelayAddresses(self.config.relay)  # Refused here, and not when it is dialed.
        names = self.config.ddns
        self._dns_key = read_dns_key(names, identity.guid) if names is not None else None
        self.identity = identity
        """Its key pair."""
        self.guid = identity.guid
        """Its GUID: what others know it by."""
        self._addresses = addresses
        self._rooms: Rooms | None = None
        """None before the peer is entered."""
        self._leaving: Leaving | None = None
        """None before it is closed."""
        self._link = Link(has_relay=self.config.relay is not None)
        self._events = EventQueue[Status]()

    async def start(self) -> Self:
        """Open the peer, as `async with` does; whoever calls this calls `close` in the end.

        Raises:
            ConnectionClosed: it was opened before: make another one.
            RoamRelayError: it cannot be registered; nothing of it is left.
        """
        if self._rooms is not None:
            raise ConnectionClosed("a peer is entered once: make another one")
        rooms = self._rooms = build(self.identity, self.config, self._dns_key, self._heard)
        try:
            await start(rooms, self.config, self._addresses)
        except BaseException:
            await self._leave(rooms, at_once=True)
            raise
        return self

    async def close(self, timeout: float | None = None) -> None:
        """Close the peer, as leaving `async with` does; again, or before it was opened, this does
        nothing. `timeout` (seconds; default from the configuration, `close_timeout`) is for its
        sessions to be closed cleanly. How many messages of which session were not acknowledged is
        logged, and raised as `SessionLost` in whoever uses it.

        Raises:
            UsageError: it is another loop's.
        """
        if timeout is not None:
            checked_seconds(timeout)
        if self._rooms is not None:
            check_loop(self._rooms.loop, "the peer")
            await self._leave(self._rooms, at_once=False, grace=timeout)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def status(self) -> Status:
        """How this peer stands with its relay, and why."""
        return self._link.status

    def events(self) -> AsyncIterator[Status]:
        """Iterate over how this peer stands with its relay until it is closed; the first one says
        how it is now. It may be asked before the peer is opened.

        A reader that is slow loses the oldest events beyond 64, never the newest.
        """
        if self._rooms is not None:
            check_loop(self._rooms.loop, "the peer")
        return self._events.subscribe(self.status)

    @property
    def failure(self) -> RoamRelayError | None:
        """Why this peer is not registered with its relay now, as far as that is known; None while
        it is, and before it is entered."""
        return self._rooms.registration.failure if self._rooms is not None else None

    @property
    def relay_guid(self) -> str | None:
        """The GUID of the relay that this peer is registered with."""
        connection = self._ever_open.registration.current
        return connection.relay_guid if connection else None

    def listen(
        self,
        service: str,
        *,
        allow: Collection[str] | None = None,
        disclose: str | Collection[str] = "anyone",
        accept: Accept | None = None,
    ) -> Listener:
        """Offer a service: `async for session in peer.listen("chat")`.

        `allow` are the GUIDs that may ask (None: anyone), `disclose` who may learn the addresses
        from the relay: "anyone", GUIDs, or "nobody": sessions in `central` and `auto` then stay on
        the relay, `combined` becomes `auto`, and `p2p` finds no address. The service is registered
        in the background; `await peer.published()` waits until it can be found.

        `accept` is a function, async or not, of one `SessionRequest`: who asks, and the metadata.
        It returns True, or False or a reason in words, with which the caller gets `Refused`. It is
        asked before a session begins, and has 3 s; one that raises or takes longer refuses. At
        most 128 requests wait for it, 16 of one caller.

        Raises:
            ValueError: not a service name, already offered, or `disclose` is none of these; or it
                is one more than can be registered (16), or the lists of GUIDs are too long.
            IdentityError: what is listed is no GUID.
            TypeError: `accept` cannot be called.
            ConnectionClosed: the peer is closed.
        """
        return self._open.services.offer(service, allow, disclose, None, accept)

    async def serve(
        self,
        service: str,
        handler: Handler,
        *,
        allow: Collection[str] | None = None,
        disclose: str | Collection[str] = "anyone",
        accept: Accept | None = None,
        max_sessions: int = 256,
    ) -> None:
        """Serve all sessions of a service, until this is cancelled or the peer is closed:
        `await peer.serve("chat", handler)`.

        `handler` is an async function of one session, and runs in a task for each. When it returns,
        the session is closed; what it raises aborts that session alone, and is told once, by the
        loop's exception handler (which logs it). At most `max_sessions` run at once: further ones
        wait, 128 of one caller and 256 in all, and beyond that callers get `LimitExceeded`.

        Cancelling this cancels the handlers and aborts their sessions; a peer that is closed
        cancels them, and closes their sessions cleanly. No task is left when it returns.

        Raises:
            TypeError: `handler`, or `accept`, cannot be called.
            ValueError, IdentityError, ConnectionClosed: as `listen`.
            RoamRelayError: the registration was lost for good.
        """
        checked_function(handler, "handler")
        checked_count(max_sessions, "max_sessions")
        listener = self.listen(service, allow=allow, disclose=disclose, accept=accept)
        await serve_sessions(listener, handler, max_sessions)

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
        mode: ModeWord | None = None,
        timeout: float | None = None,
        wait: bool = False,
        policy: str | None = None,
        select: Select | SelectWord | None = None,
        metadata: bytes = b"",
    ) -> Session:
        """Open a session with a peer's service. `mode`, `policy` (which paths it may take,
        docs/addresses.md) and `select` (`fastest`, `latest`, or a function that puts candidates in
        order) go before the configuration. `metadata`, 1,024 bytes at most, is what the other
        application gets to see before it takes the session; the relay does not see it.

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
            ValueError, IdentityError: not a mode, a time, a policy, a selector or the name of a
                service (this one is an `UnknownService` too), not a GUID, or a blocked one; or
                too much metadata.
        """
        wish = Wish(guid, service, mode, policy, select, metadata=metadata)
        checked_flag(wait, "wait")
        patience = self._patience(timeout)
        return await self._open.opening.open(wish, patience, wait=wait)

    def conversation(
        self,
        guid: str,
        service: str,
        *,
        store: Store,
        disclose: str | Collection[str] = "anyone",
        mode: ModeWord | None = None,
        policy: str | None = None,
    ) -> Conversation:
        """Return the conversation with a peer's service, kept in `store`, to be opened by `async
        with`: messages that outlive both programs (docs/conversations.md). The service is offered
        to that peer meanwhile, so that either side can begin; `disclose` is as in `listen`, and
        `mode` and `policy` as in `connect`, for the sessions that this side opens.

        `store` is a file, or an `sqlite3.Connection` of the program's own database; the same one
        for all conversations of this peer. What is wrong with it is said when it is opened.

        Raises:
            ValueError, IdentityError: not a service name, a mode, a policy; not a GUID.
            TypeError: `store` is neither.
            UsageError, ConnectionClosed: another store is in use; the peer is closed.
        """
        checked_guid(guid)
        checked_service(service)
        checked_disclosure(disclose)
        rooms, place, wanted = self._open, checked_store(store), Preference(mode, policy)
        return rooms.conversations.conversation(guid, service, place, disclose, wanted)

    def conversations(
        self,
        service: str,
        *,
        store: Store,
        allow: Collection[str] | None = None,
        disclose: str | Collection[str] = "anyone",
    ) -> AsyncIterator[Conversation]:
        """Iterate over the conversations that others begin with a service, and those of before in
        which something is left. Each is open, until it or the peer is closed; what comes after
        that begins it anew. `allow` and `disclose` are as in `listen`, the rest as in
        `conversation`.

        Raises:
            ValueError, IdentityError, TypeError, UsageError, ConnectionClosed: as `conversation`.
            StoreFailed: from the iteration: the store cannot be used.
        """
        checked_service(service)
        checked_disclosure(disclose)
        allowed = None if allow is None else checked_guids(allow, "allow")
        rooms, place = self._open, checked_store(store)
        return rooms.conversations.begun(service, place, allowed, disclose)

    def expose(
        self, service: str, port: int, *, disclose: str | Collection[str] = "anyone"
    ) -> Listener:
        """Register a service of another program on this host, at its TCP port: others can find it
        (`locate`), and dial it by its own protocol. Close the listener to take it back.

        Raises:
            ValueError, ConnectionClosed: as `listen`, or not a port.
        """
        return self._open.services.offer(service, None, disclose, checked_port(port))

    def leaving(self, address: str, leaving: bool = True) -> None:
        """Say that an address of this host will go away soon: sessions that use it go on, nobody
        begins a new one there (docs/addresses.md).

        Raises:
            ProtocolViolation: not an address.
        """
        host = checked_address(address)
        self._open.whereabouts.leaving(host, checked_flag(leaving, "leaving"))

    def block(self, guid: str, blocked: bool = True) -> None:
        """Have nothing to do with a peer any more, or again: its sessions with this one are lost
        at once, and to its requests and paths no service is offered. What the relay discloses to
        anyone it discloses to that peer too; `listen(disclose=…)` says to whom.

        Raises:
            IdentityError: not a GUID.
        """
        rooms = self._open
        rooms.services.block(checked_guid(guid), checked_flag(blocked, "blocked"))
        if blocked:
            rooms.sessions.end_with(guid)

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
        """Iterate over how another peer stands: first as it is now, then at every change. While
        this peer has no relay it is "unknown".

        Raises:
            IdentityError: not a GUID.
            RelayUnavailable: no relay is configured.
            Refused: from the iteration: the peer offers no service to this one.
            LimitExceeded: from the iteration: too many watches at the relay.
        """
        checked_guid(guid)
        rooms = self._open
        if self.config.relay is None:
            raise RelayUnavailable("only a relay tells how a peer stands: none is configured")
        return rooms.presence.watch(guid)

    async def locate(self, guid: str, service: str, *, timeout: float | None = None) -> Located:
        """Ask where a peer's service is: what mode `p2p` would dial.

        Raises:
            as `connect` in mode `p2p`.
        """
        checked_guid(guid)
        checked_service(service)
        patience = self._patience(timeout)
        return await self._using(service).lookup.locate(guid, service, patience)

    async def survey(self, located: Located, *, timeout: float = 3.0) -> tuple[Surveyed, ...]:
        """Try every endpoint that `locate` has found, without a word to the application there:
        its round trip, and which one a session would take."""
        checked_seconds(timeout)
        checked_kind("located", located, Located, "what `locate` returns")
        rooms = self._open
        await rooms.whereabouts.known()
        ways = rooms.ways
        return await survey(located, lambda candidate: ways.survey(located, candidate), timeout)

    @property
    def places(self) -> dict[str, tuple[Provenance, Phase]]:
        """This peer's own addresses as it tells them, the newest first."""
        return self._ever_open.location.addresses

    def figures(self) -> PeerFigures:
        """Return what this peer has now: its services, watches and conversations."""
        return self._ever_open.figures()

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The sessions that are not over, whoever has opened them."""
        return tuple(self._ever_open.sessions.live)

    @property
    def port(self) -> int:
        """The TCP port at which this peer takes direct paths, on every address."""
        return self._ever_open.direct.port

    @property
    def dialing(self) -> DialCounts:
        """How many connections this peer has opened, and how many it would not."""
        return self._ever_open.local.door.counts

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _ever_open(self) -> Rooms:
        """For who only looks."""
        if self._rooms is None:
            raise ConnectionClosed(
                "the peer is not open: use it inside 'async with Peer(...)', or behind its start()"
            )
        return self._rooms

    @property
    def _open(self) -> Rooms:
        """For who does something: in the peer's own loop, while it is open."""
        rooms = self._ever_open
        check_loop(rooms.loop, "the peer")
        if self._leaving is not None:
            raise ConnectionClosed("the peer is closed: make another one")
        return rooms

    def _using(self, service: str) -> Rooms:
        (rooms := self._open).services.use(service)
        return rooms

    def _patience(self, timeout: float | None) -> float:
        return self.config.request_timeout if timeout is None else checked_seconds(timeout)

    async def _leave(self, rooms: Rooms, *, at_once: bool, grace: float | None = None) -> None:
        """Close every room, the highest first. A cancellation makes it fast, and is raised when
        nothing is left."""
        if self._leaving is None:
            grace = self.config.close_timeout if grace is None else grace
            self._leaving = Leaving(rooms, grace)
        leaving = self._leaving
        if at_once:
            leaving.at_once.set()
        cancelled = await leaving.wait()
        self._tell(self._link.closed())
        self._events.close()
        leaving.result()
        if cancelled is not None:
            raise cancelled

    def _tell(self, different: bool) -> None:
        if different:
            self._events.put(self._link.status)

    def _heard(self, event: RegistrationEvent | ServicesChanged) -> None:
        """News from the rooms below, for those above."""
        self._tell(pass_on(event, self._ever_open, self._link))
