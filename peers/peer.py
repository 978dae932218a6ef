"""A peer: one identity, at home with one relay, that listens and connects.

This is the front door of the package. What it does is done in the modules that it imports.
"""

import asyncio
import base64
import contextlib
import os
import time
from collections.abc import Collection, Coroutine
from types import TracebackType
from typing import Any, Self

import msgspec

from peers.answering import Answering
from peers.config import PeerConfig
from peers.control import ControlConnection
from peers.direct import DirectServer, dial_direct, race
from peers.listener import Listener
from peers.location import Located, located
from peers.path import Path, PathKind
from peers.registration import Registration
from peers.session import Session
from peers.streams import Stream
from peers.tls import TlsContext
from peers.upgrade import open_upgraded
from protocol.endpoint import Endpoint, Entry, Phase, Provenance, SignedEntry, order, sign_entry
from protocol.errors import (
    Code,
    ConnectionClosed,
    PathFailed,
    RelayUnavailable,
    RoamRelayError,
    error_for,
)
from protocol.identity import CONTEXT_PLANE, Identity, public_key_of
from protocol.messages import (
    MAX_ENTRIES,
    LocationRecord,
    Mode,
    PathWelcome,
    Service,
    ServiceRecord,
    ServiceRequestTo,
    ServiceResponse,
)

__all__ = ["Peer"]

_CLOSE_GRACE = 5.0
"""Seconds that open sessions get to close cleanly when their peer goes away."""
_SERVICE = msgspec.json.Decoder(Service)


class Peer:
    """Use it as a context manager: inside, it is registered; afterwards, nothing of it is left.

    Entering waits for the first registration and raises `RelayUnavailable` (or another
    `RoamRelayError`) when that fails. Later losses of the control connection are mended in the
    background; calls that need the relay wait for it up to their timeouts.
    """

    def __init__(
        self,
        identity: Identity,
        relay: str | None = None,
        *,
        config: PeerConfig | None = None,
    ) -> None:
        """Prepare a peer; `relay` goes before `config.relay`."""
        config = config or PeerConfig()
        self.config = msgspec.structs.replace(config, relay=relay) if relay else config
        if self.config.relay is None:
            raise RelayUnavailable("no relay is configured: give relay='http://HOST:PORT'")
        self.identity = identity
        self.guid = identity.guid
        self._tls = TlsContext(identity)
        self._tasks = asyncio.TaskGroup()
        self._background: set[asyncio.Task[None]] = set()
        self._listeners: dict[str, Listener] = {}
        self._sessions: dict[bytes, Session] = {}
        self._direct = DirectServer()
        self._seq = 0
        self._publishing = asyncio.Lock()
        self._closed = False

    async def __aenter__(self) -> Self:
        config = self.config
        self._answering = Answering(
            config,
            self._tls,
            listeners=self._listeners,
            sessions=self._sessions,
            entries=self._own_entries,
            relayed=self._open_plane,
            spawn=self._spawn,
            end_session=self._session_ended,
        )
        self._registration = Registration(
            self.identity,
            config,
            make_record=self._record,
            on_request=self._answering.on_request,
            spawn=self._spawn,
        )
        await self._tasks.__aenter__()
        try:
            await self._direct.start(
                config.listen_hosts, config.listen_port, self._answering.serve, self._spawn
            )
            self._spawn(self._keep_registered())
            await self._registration.connection(config.connect_timeout)
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
        self._closed = True
        self._direct.close()
        for listener in list(self._listeners.values()):
            listener.close(ConnectionClosed("the peer is closed"))
        await self._close_sessions()
        await self._registration.close()
        for task in self._background:
            task.cancel()
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
        if self._closed:
            raise ConnectionClosed("the peer is closed")
        try:
            _SERVICE.decode(msgspec.json.encode(service))
        except msgspec.ValidationError:
            raise ValueError(
                f"not a service name: {service!r} (1 to 63 of a-z, 0-9 and inner hyphens)"
            ) from None
        if service in self._listeners:
            raise ValueError(f"{service} is offered already")
        listener = Listener(service, allow=allow, disclose=disclose, on_close=self._listener_closed)
        self._listeners[service] = listener
        self._spawn(self._publish_quietly())
        return listener

    async def published(self) -> None:
        """Wait until the relay has confirmed what is offered now.

        Raises:
            RoamRelayError: the relay refused it, or cannot be reached in time.
        """
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
    ) -> Session:
        """Open a session with a peer's service. `mode` goes before the configuration.

        `timeout` (seconds; default from the configuration) is for the relay's and the callee's
        answer; the path has `path_timeout` after it. Cancelling it leaves nothing behind.

        Raises:
            UnknownPeer, UnknownService, PeerOffline, Refused, LimitExceeded, RequestTimeout:
                what the relay or the callee said.
            WrongIdentity: another peer answers at the address.
            PathFailed: no endpoint could be reached.
            RelayUnavailable: there is no relay to ask.
            ValueError, IdentityError: not a mode, or not a GUID.
        """
        public_key_of(guid)
        chosen = Mode(mode) if mode is not None else self.config.mode_for(guid, service)
        session = Session(
            session_id=os.urandom(16),
            remote=guid,
            service=service,
            mode=chosen,
            settings=self.config.session,
            on_end=self._session_ended,
        )
        connection, response = await self._request(guid, service, chosen, session.id, timeout)
        hello = session.hello()
        path: Path
        if chosen is Mode.CENTRAL:
            if response.ticket is None:
                raise RoamRelayError("the relay gave no ticket", code=Code.INTERNAL)
            stream = await self._open_plane(connection, response.ticket)
            path = Path(stream, self._tls, PathKind.RELAYED, server=False)
            answer = await path.dial(guid, hello, self.config.path_timeout)
        else:
            endpoints = self._dialable(guid, service, response)

            def to(endpoint: Endpoint) -> Coroutine[Any, Any, tuple[Path, PathWelcome]]:
                return dial_direct(endpoint, guid, hello, self._tls, self.config.path_timeout)

            path, answer = await race(
                [lambda endpoint=endpoint: to(endpoint) for endpoint in endpoints],  # type: ignore[misc]
                stagger=self.config.stagger,
                discard=lambda result: result[0].abort(),
            )
        session.take_path(path, answer)
        self._sessions[session.id] = session
        return session

    async def locate(self, guid: str, service: str, *, timeout: float | None = None) -> Located:
        """Ask the relay where a peer's service is: what mode `p2p` would dial.

        Raises:
            as `connect` in mode `p2p`.
        """
        public_key_of(guid)
        _, response = await self._request(guid, service, Mode.P2P, os.urandom(16), timeout)
        return located(guid, service, response)

    # -- the pieces -----------------------------------------------------------------------------

    async def _request(
        self, guid: str, service: str, mode: Mode, session_id: bytes, timeout: float | None
    ) -> tuple[ControlConnection, ServiceResponse]:
        timeout = min(timeout or self.config.request_timeout, 60.0)
        connection = await self._registration.connection(timeout)
        entries = self._own_entries(connection, service) if mode is not Mode.CENTRAL else ()
        response = await connection.request(
            lambda number: ServiceRequestTo(
                number, guid, service, mode, session_id, entries, timeout
            )
        )
        if response.code is not None:
            raise error_for(
                response.code,
                response.reason,
                last_seen=response.last_seen,
                retry_after=response.retry_after,
            )
        return connection, response

    def _dialable(self, guid: str, service: str, response: ServiceResponse) -> list[Endpoint]:
        """Return the endpoints of a response whose signatures hold, best first."""
        known = located(guid, service, response)
        if not known.entries:
            what = "; ".join(known.dropped) or "the relay disclosed none"
            raise PathFailed(f"{guid[:8]} has no endpoint to dial: {what}")
        return [entry.endpoint for entry in order(known.entries)]

    async def _open_plane(self, connection: ControlConnection, ticket: str) -> Stream:
        relay_key = public_key_of(connection.relay_guid)
        proof = self.identity.sign(CONTEXT_PLANE, relay_key, ticket.encode())
        signature = base64.urlsafe_b64encode(proof).decode().rstrip("=")
        return await open_upgraded(
            self._registration.address,
            f"/v1/plane/{ticket}?guid={self.guid}&signature={signature}",
            self.config.carrier,
            spawn=self._spawn,
            timeout=self.config.path_timeout,
        )

    def _record(self, local_host: str) -> LocationRecord:
        self._seq = max(self._seq + 1, time.time_ns() // 1_000_000)
        return LocationRecord(
            self._seq,
            tuple(
                ServiceRecord(
                    listener.service,
                    self._sign(listener.service, local_host),
                    listener.disclosure,
                    listener.listed,
                )
                for listener in self._listeners.values()
            ),
        )

    def _sign(self, service: str, local_host: str) -> tuple[SignedEntry, ...]:
        hosts = [(local_host, Provenance.INTERFACE)]
        hosts += [(host, Provenance.CONFIGURED) for host in self.config.advertise]
        endpoints = {Endpoint.parse(host, self._direct.port): how for host, how in hosts}
        return tuple(
            sign_entry(
                self.identity,
                Entry(
                    self._seq,
                    service,
                    endpoint.host,
                    endpoint.port,
                    Phase.PREFERRED,
                    self.config.lifetime,
                    how,
                ),
            )
            for endpoint, how in list(endpoints.items())[:MAX_ENTRIES]
        )

    def _own_entries(self, connection: ControlConnection, service: str) -> tuple[SignedEntry, ...]:
        return self._sign(service, connection.local_host)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._closed:
            work.close()
            return
        task = self._tasks.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _keep_registered(self) -> None:
        await self._registration.run()
        if not self._closed:
            for listener in list(self._listeners.values()):
                listener.close(self._registration.failure)

    async def _publish_quietly(self) -> None:
        # A refusal is logged by the registration, and raised from `published`.
        with contextlib.suppress(RoamRelayError):
            async with self._publishing:
                await self._registration.publish()

    def _listener_closed(self, listener: Listener) -> None:
        if self._listeners.get(listener.service) is listener:
            del self._listeners[listener.service]
            self._spawn(self._publish_quietly())

    def _session_ended(self, session: Session) -> None:
        if self._sessions.get(session.id) is session:
            del self._sessions[session.id]

    async def _close_sessions(self) -> None:
        async def close(session: Session) -> None:
            with contextlib.suppress(RoamRelayError, TimeoutError):
                async with asyncio.timeout(_CLOSE_GRACE):
                    await session.close()

        async with asyncio.TaskGroup() as closing:
            for session in list(self._sessions.values()):
                closing.create_task(close(session))
        for session in list(self._sessions.values()):
            session.abort("the peer is closed")
