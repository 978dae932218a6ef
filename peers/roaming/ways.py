"""Ways to a path for a session, each tried once: dial, ask the relay, attach to a plane.

What to try when, and again, is decided in peers/roaming.py.
"""

import base64
from dataclasses import dataclass

from peers.choice import Candidate, RoundTrips
from peers.config import PathKind, PeerConfig
from peers.control import ControlConnection, Registration
from peers.location import OwnLocation
from peers.path import Path, Paths, Proven, open_direct
from peers.roaming.candidates import CandidateFinder, entries_for
from peers.roaming.race import choose
from peers.session import Session
from peers.tasks import Spawn
from peers.transport import RelayAddress, Stream, open_upgraded
from protocol.endpoint import SignedEntry
from protocol.errors import Code, PathFailed, RelayUnavailable, RoamRelayError, error_for
from protocol.identity import CONTEXT_PLANE, Identity, public_key_of
from protocol.messages import (
    Mode,
    PathHello,
    PathWelcome,
    ServiceRequestTo,
    ServiceResponse,
)

__all__ = ["Attempt", "Dialer", "Made", "discard"]

_PATIENCE = 0.2
"""Seconds for which a better candidate may come after the first one (design §6)."""
_OTHER_WAY = 2.0
"""Seconds to wait for a relay that is not there, where the DNS can be asked too."""
_SILENT = 2.0
"""Seconds for a proven candidate to answer the hello, where there is another one to ask."""


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
        finder: CandidateFinder,
        round_trips: RoundTrips,
        spawn: Spawn,
    ) -> None:
        self._identity = identity
        self._config = config
        self._paths = paths
        self._own = own
        self._registration = registration
        self._finder = finder
        self._round_trips = round_trips
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
            min(timeout, _OTHER_WAY) if self._config.ddns is not None else timeout,
        )
        if response.code is not None:
            raise error_for(
                response.code,
                response.reason,
                last_seen=response.last_seen,
                retry_after=response.retry_after,
            )
        return connection, response

    async def prove(self, guid: str, candidate: Candidate, usual: float | None = None) -> Proven:
        """Make a direct path to a candidate, say nothing on it, and keep its round trip. `usual` is
        the round trip in seconds to expect where the candidate's own is not known.

        Raises:
            PathFailed, WrongIdentity: the peer `guid` is not there.
        """
        path = await open_direct(
            candidate.endpoint,
            guid,
            self._paths,
            self._config.path_timeout,
            source=candidate.source,
            round_trip=candidate.round_trip if candidate.round_trip is not None else usual,
        )
        assert path.round_trip is not None
        self._round_trips.put(guid, candidate, path.round_trip)
        return Proven(candidate, path, path.round_trip)

    async def prove_for(self, session: Session, candidate: Candidate) -> Proven:
        """Do so for a session, whose trace tells what came of it."""
        try:
            proven = await self.prove(session.remote, candidate, session.usual_round_trip)
        except RoamRelayError as error:
            session.trace.note("failed", candidate, reason=error.reason)
            raise
        session.trace.note("proven", candidate, round_trip=proven.round_trip)
        return proven

    async def direct(
        self, attempt: Attempt, *, quick: bool = False, only: Candidate | None = None
    ) -> Made:
        """Make a direct path to the best candidate of the session, or to `only` that one.

        `quick` takes the first that is proven: while nothing is delivered, better can wait.

        Raises:
            PathFailed, WrongIdentity: none could be reached.
            RoamRelayError: the other side rejected the path.
        """
        session = attempt.session
        candidates = [only] if only is not None else self._finder.candidates(session)
        choice = await choose(
            candidates,
            lambda candidate: self.prove_for(session, candidate),
            stagger=self._config.stagger,
            patience=0.0 if quick or session.select != "fastest" else _PATIENCE,
        )
        left = list(choice.proven)
        try:
            while True:
                proven = left.pop(0)
                made = await self._ask(attempt, proven, last=not left)
                if made is not None:
                    break
        finally:
            for unused in left:
                unused.path.abort()
        if only is None:
            session.trace.note(
                "chosen", proven.candidate, round_trip=proven.round_trip, reason=choice.rule
            )
        return made

    async def _ask(self, attempt: Attempt, proven: Proven, *, last: bool) -> Made | None:
        """Say hello; return None where another candidate should be asked."""
        session = attempt.session
        timeout = self._config.path_timeout if last else min(self._config.path_timeout, _SILENT)

        def hello(path: Path) -> PathHello:
            return attempt.hello(entries_for(self._own, session, path.local_host))

        try:
            return proven.path, await proven.path.ask(hello, timeout)
        except PathFailed as error:
            if last:
                raise
            session.trace.note("failed", proven.candidate, reason=error.reason)
            return None

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
        relay = connection.address, connection.relay_guid
        return await self._over_plane(attempt, relay, response.ticket, connection.source)

    async def next_plane(self, attempt: Attempt, ticket: str) -> Made:
        """Come back with the ticket of the session's last plane: the relay asks the other side, and
        no control connection is needed.

        Raises:
            RelayUnavailable: the relay does not know the ticket, or cannot be reached.
            RoamRelayError: as `relayed`.
        """
        relay = self._registration.last_relay
        if relay is None:
            raise RelayUnavailable("there was no relay")
        source = self._finder.source_towards(relay[0].host)
        return await self._over_plane(attempt, relay, ticket, source)

    async def _over_plane(
        self,
        attempt: Attempt,
        relay: tuple[RelayAddress, str],
        ticket: str,
        source: str | None,
    ) -> Made:
        session = attempt.session
        begun = self._paths.begin()
        stream = await self._open_leg(relay, ticket, source, begun.flight)
        path = self._paths.make(stream, PathKind.RELAYED, server=False, begun=begun)

        def hello(path: Path) -> PathHello:
            return attempt.hello(entries_for(self._own, session))

        await path.prove(session.remote, self._config.path_timeout)
        welcome = await path.ask(hello, self._config.path_timeout)
        session.trace.note(
            "chosen", path.remote, round_trip=path.round_trip, reason="through the relay"
        )
        return path, welcome

    async def open_plane(self, connection: ControlConnection, ticket: str) -> Stream:
        """Open this peer's leg of a plane.

        Raises:
            RelayUnavailable: the relay refused it, or cannot be reached.
        """
        relay = connection.address, connection.relay_guid
        return await self._open_leg(relay, ticket, connection.source)

    async def _open_leg(
        self,
        relay: tuple[RelayAddress, str],
        ticket: str,
        source: str | None,
        early: bytes = b"",
    ) -> Stream:
        address, relay_guid = relay
        relay_key = public_key_of(relay_guid)
        proof = self._identity.sign(CONTEXT_PLANE, relay_key, ticket.encode())
        signature = base64.urlsafe_b64encode(proof).decode().rstrip("=")
        return await open_upgraded(
            address,
            f"/v1/plane/{ticket}?guid={self._identity.guid}&signature={signature}",
            self._config.carrier,
            spawn=self._spawn,
            timeout=self._config.path_timeout,
            local_address=source,
            early=early,
        )


def discard(made: Made) -> None:
    """Drop a path that is not needed."""
    made[0].abort()
