"""Ways to a path for a session, each tried once: dial, ask the relay, attach to a plane.

What to try when, and again, is decided in peers/roaming.py.
"""

import base64
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from peers.config import PeerConfig
from peers.control import ControlConnection
from peers.direct import dial_direct, race
from peers.location import located
from peers.own_location import OwnLocation
from peers.path import Path, PathKind
from peers.paths import Paths
from peers.registration import Registration
from peers.session import Session
from peers.streams import Stream
from peers.upgrade import Spawn, open_upgraded
from protocol.endpoint import Endpoint, SignedEntry, open_entry, order
from protocol.errors import Code, PathFailed, ProtocolViolation, RoamRelayError, error_for
from protocol.identity import CONTEXT_PLANE, Identity, public_key_of
from protocol.messages import (
    Mode,
    PathHello,
    PathWelcome,
    ServiceRequestTo,
    ServiceResponse,
)

__all__ = ["Attempt", "Dialer", "endpoints_of"]


@dataclass(eq=False, slots=True)
class Attempt:
    """A search for one path: everything that is tried in it has the same number, so that at most
    one of it is taken."""

    session: Session
    number: int
    began_on: Path | None
    """The path that the session had when the search began."""
    said_hello: bool = False
    """Whether the other side may have heard of it, and may have taken its path."""

    def hello(self, entries: tuple[SignedEntry, ...]) -> PathHello:
        """Return the hello of this moment.

        Raises:
            PathFailed: the session needs this path no more.
        """
        session = self.session
        if session.is_over:
            raise PathFailed("the session is over")
        if session.path is not self.began_on and session.path is not None:
            raise PathFailed("the session has taken another path meanwhile")
        self.said_hello = True
        return session.hello(self.number, entries)


Made = tuple[Path, PathWelcome]


def endpoints_of(guid: str, service: str, signed: Iterable[SignedEntry]) -> list[Endpoint]:
    """Return the endpoints that a session may dial, best first; what is not `guid`'s own word
    for this service is left out."""
    entries = []
    for candidate in signed:
        try:
            entry = open_entry(guid, candidate)
        except ProtocolViolation:
            continue
        if entry.service == service:
            entries.append(entry)
    return list(dict.fromkeys(entry.endpoint for entry in order(entries)))


class Dialer:
    """Makes paths for one peer."""

    def __init__(
        self,
        identity: Identity,
        config: PeerConfig,
        paths: Paths,
        own: OwnLocation,
        registration: Registration,
        *,
        sources: Callable[[int], tuple[str | None, ...]],
        spawn: Spawn,
    ) -> None:
        """`sources` gives the local addresses to dial from, by IP version; None is the route's."""
        self._identity = identity
        self._config = config
        self._paths = paths
        self._own = own
        self._registration = registration
        self._sources = sources
        self._spawn = spawn

    async def ask(
        self,
        guid: str,
        service: str,
        mode: Mode,
        session_id: bytes,
        *,
        timeout: float,
        resume: bool = False,
        entries: tuple[SignedEntry, ...] = (),
    ) -> tuple[ControlConnection, ServiceResponse]:
        """Send a service request and return its response, with the connection that it came on.

        `entries` are this side's own, as far as they may be told.

        Raises:
            RoamRelayError: what the relay or the other peer said, or that there is no relay.
        """
        timeout = min(timeout, 60.0)
        connection, response = await self._registration.request(
            lambda number: ServiceRequestTo(
                number, guid, service, mode, session_id, entries, timeout, resume
            ),
            timeout,
        )
        if response.code is not None:
            raise error_for(
                response.code,
                response.reason,
                last_seen=response.last_seen,
                retry_after=response.retry_after,
            )
        return connection, response

    def dialable(self, guid: str, service: str, response: ServiceResponse) -> list[Endpoint]:
        """Return the endpoints of a response, best first.

        Raises:
            PathFailed: it has none whose signature holds.
        """
        endpoints = endpoints_of(guid, service, response.entries)
        if not endpoints:
            what = "; ".join(located(guid, service, response).dropped)
            raise PathFailed(
                f"{guid[:8]} has no endpoint to dial: {what or 'the relay disclosed none'}"
            )
        return endpoints

    async def direct(self, attempt: Attempt, endpoints: Iterable[Endpoint]) -> Made:
        """Race the endpoints, from each of this host's addresses that may be used.

        Raises:
            PathFailed, WrongIdentity: none could be reached.
            RoamRelayError: the other side rejected the path.
        """
        session = attempt.session

        def hello(path: Path) -> PathHello:
            return attempt.hello(self._own.told_to(session, path.local_host))

        def dial(endpoint: Endpoint, source: str | None) -> Callable[[], Coroutine[Any, Any, Made]]:
            return lambda: dial_direct(
                endpoint,
                session.remote,
                hello,
                self._paths,
                self._config.path_timeout,
                source=source,
            )

        attempts = [
            dial(endpoint, source)
            for endpoint in endpoints
            for source in self._sources(6 if ":" in endpoint.host else 4)
        ]
        if not attempts:
            raise PathFailed("no address of this host can be used, or no endpoint is known")
        return await race(attempts, stagger=self._config.stagger, discard=discard)

    async def relayed(
        self, attempt: Attempt, connection: ControlConnection, response: ServiceResponse
    ) -> Made:
        """Attach to the plane that a response gave, as the side that asked for it.

        Raises:
            RelayUnavailable: the relay refused the leg, or cannot be reached.
            RoamRelayError: the other side did not come, or rejected the path.
        """
        if response.ticket is None:
            raise RoamRelayError("the relay gave no ticket", code=Code.INTERNAL)
        session = attempt.session
        stream = await self.open_plane(connection, response.ticket)
        path = self._paths.make(stream, PathKind.RELAYED, server=False)

        def hello(path: Path) -> PathHello:
            return attempt.hello(self._own.told_to(session))

        return path, await path.dial(session.remote, hello, self._config.path_timeout)

    async def open_plane(self, connection: ControlConnection, ticket: str) -> Stream:
        """Open this peer's leg of a plane.

        Raises:
            RelayUnavailable: the relay refused it, or cannot be reached.
        """
        relay_key = public_key_of(connection.relay_guid)
        proof = self._identity.sign(CONTEXT_PLANE, relay_key, ticket.encode())
        signature = base64.urlsafe_b64encode(proof).decode().rstrip("=")
        return await open_upgraded(
            self._registration.address,
            f"/v1/plane/{ticket}?guid={self._identity.guid}&signature={signature}",
            self._config.carrier,
            spawn=self._spawn,
            timeout=self._config.path_timeout,
            local_address=connection.source,
        )


def discard(made: Made) -> None:
    """Drop a path that is not needed."""
    made[0].abort()
