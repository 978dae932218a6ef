"""Ways to a path for a session, each tried once: direct, by the relay's plane, with a plane's
ticket. What is tried when, and again, is decided elsewhere (rounds.py, search.py)."""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass

from peers.choice import Candidate
from peers.config import PathKind
from peers.control import Answered, ControlConnection, KnownRelay, Registration
from peers.dialing import Ask, DialRefused, Known, Leg, Node, Reason
from peers.location import Located
from peers.path import Dialing, Flight, PathEnd, Proven, open_direct
from peers.roaming.candidates import Candidates, NothingToDial
from peers.roaming.local import Local
from peers.roaming.locks import LOCKED_BY_TLS, check_lock, side_of
from peers.roaming.meetings import Meetings
from peers.roaming.offers import Offers
from peers.roaming.race import choose
from peers.roaming.route import Attempt, Route, Welcomed
from peers.transport import Opened
from protocol.endpoint import SignedEntry
from protocol.errors import Code, PathFailed, RelayUnavailable, RoamRelayError
from protocol.identity import CONTEXT_PLANE, public_key_of
from protocol.lock import Agreed
from protocol.messages import MAX_EARLY, PathHello, PathWelcome

__all__ = ["Ways"]

_PATIENCE = 0.2
"""Seconds for which a better candidate may come after the first one (design §6)."""
_SILENT = 2.0
"""Seconds for a proven candidate to answer the hello, where there is another one to ask."""

_MEETS_WITHIN = 0.9
"""Seconds for a meeting from its moment on where a session has no path: nearly all that succeed do
so at the first try, and the relay may be left."""


@dataclass(frozen=True, slots=True)
class _At:
    """Where the leg of a plane is opened."""

    relay: KnownRelay
    source: str | None
    url: str = ""
    """Of the relay's node that has the plane, where that is another one."""


class Ways:
    """Makes paths for one peer."""

    def __init__(self, local: Local, candidates: Candidates, registration: Registration) -> None:
        self._local = local
        self._candidates = candidates
        self._registration = registration
        self.meetings = Meetings(local, registration)
        """Of this peer's sessions with others."""
        self.offers = Offers(local, registration, self.meetings)
        """What goes with requests and their answers."""
        self._timeout = local.config.path_timeout

    def network_changed(self, gone: frozenset[str]) -> None:
        """This host's addresses have changed, and these have gone."""
        self._local.door.network_changed()
        if gone:
            self._candidates.forget(gone)

    def entries_for(self, route: Route, first: str | None = None) -> tuple[SignedEntry, ...]:
        """Return this side's entries that the other side of a session may have; the address `first`
        goes before the others."""
        return route.entries_for(self._local.location, first)

    async def survey(self, located: Located, candidate: Candidate) -> Proven:
        """Make a direct path to a candidate that was found, and say nothing on it.

        Raises:
            DialRefused: it is not dialed.
            PathFailed, WrongIdentity: the peer is not there.
        """
        found = frozenset(entry.endpoint for entry in located.entries)
        known = (
            Known(disclosed=found, observed=self._observed)
            if located.source == "relay"
            else Known(listed=found, observed=self._observed)
        )
        ask = Ask(located.guid, candidate.endpoint, known, Reason.SURVEY)
        return await self.prove(ask, candidate)

    async def prove(
        self,
        ask: Ask,
        candidate: Candidate,
        usual: float | None = None,
        make_flight: Callable[[bool], Flight | None] = lambda is_met: None,
    ) -> Proven:
        """Make a direct path to a candidate, say no hello on it, and keep its round trip. `usual`
        is the round trip in seconds to expect where the candidate's own is not known; `make_flight`
        makes what leaves before TLS, told whether the peer's key was met there.

        Raises:
            DialRefused: it is not dialed.
            PathFailed, WrongIdentity: the peer is not there.
        """
        round_trip = candidate.round_trip if candidate.round_trip is not None else usual
        dialing = Dialing(candidate.source, round_trip, make_flight)
        path = await open_direct(self._local.door, ask, self._local.paths, self._timeout, dialing)
        proven = Proven(candidate, path, path.round_trip or 0.0)
        self._candidates.measured(ask.remote, candidate, proven.round_trip)
        return proven

    def ask_for(self, route: Route, candidate: Candidate, reason: Reason) -> Ask:
        """Return what the door is asked for a candidate of a session."""
        session, signed = route.session, route.signed_at(candidate.endpoint)
        witness = (
            _Witness(self._registration, session.remote, signed)
            if signed is not None and self._registration.may_ask_where
            else None
        )
        return Ask(
            session.remote,
            candidate.endpoint,
            route.known(self._observed, may_ask=witness is not None),
            reason,
            session.terms.policy.dial,
            witness,
        )

    async def prove_for(
        self,
        route: Route,
        candidate: Candidate,
        reason: Reason = Reason.PROBE,
        make_flight: Callable[[bool], Flight | None] = lambda is_met: None,
    ) -> Proven:
        """Make a direct path to a candidate of a session, and say no hello on it. The session's
        trace tells what came of it.

        Raises:
            DialRefused: it is not dialed.
            PathFailed, WrongIdentity: the peer is not there.
        """
        if candidate.by_meeting:
            return await self._by_meeting(route, candidate)
        ask = self.ask_for(route, candidate, reason)
        try:
            usual = route.session.usual_round_trip
            proven = await self.prove(ask, candidate, usual, make_flight)
        except DialRefused as error:
            route.trace.note("refused", candidate, reason=error.reason)
            raise
        except RoamRelayError as error:
            route.trace.note("failed", candidate, reason=error.reason)
            raise
        route.trace.note("proven", candidate, round_trip=proven.round_trip)
        return proven

    async def direct(
        self, attempt: Attempt, *, quick: bool = False, only: Candidate | None = None
    ) -> Welcomed:
        """Make a direct path to the best candidate of the session, or to `only` that one.

        `quick` takes the first that is proven: while nothing is delivered, better can wait.

        Raises:
            PathFailed, WrongIdentity: none could be reached.
            CallbackFailed: the program's `select` has failed.
            RoamRelayError: the other side rejected the path.
        """
        route, terms = attempt.route, attempt.session.terms
        reason = _reason(attempt)
        candidates = [only] if only is not None else self._candidates_of(route)
        if len(candidates) > 1:
            # What the relay has to be asked for holds up nothing else.
            doubts = self._local.door.doubts
            candidates.sort(
                key=lambda one: (one.by_meeting, doubts(self.ask_for(route, one, reason)))
            )
        choice = await choose(
            candidates,
            lambda candidate: self.prove_for(route, candidate, reason, attempt.flight),
            stagger=self._local.config.stagger,
            patience=0.0 if quick or terms.select != "fastest" else _PATIENCE,
        )
        # A path that needed no meeting needs none when it is lost, either.
        left = sorted(choice.proven, key=lambda one: one.candidate.by_meeting)
        silent = len(choice.failed)
        try:
            while True:
                proven = left.pop(0)
                welcome = await self._ask(attempt, proven, last=not left)
                if welcome is not None:
                    break
                silent += 1
        finally:
            for unused in left:
                unused.path.abort()
        if only is None:
            is_first = proven is choice.proven[0]
            route.trace.note(
                "chosen",
                proven.candidate,
                round_trip=proven.round_trip,
                reason=choice.rule if is_first else "the best of the others",
            )
        return self._still_there(Welcomed(proven.path, welcome, all_answered=not silent))

    async def beside(self, route: Route, candidates: list[Candidate]) -> Welcomed:
        """Make a second direct path to one of these candidates, the first that is proven. It is
        welcomed and stands ready; the session stays where it is.

        Raises:
            PathFailed, WrongIdentity: none could be reached, or the session needs none any more.
            RoamRelayError: the other side takes none.
        """
        session = route.session
        choice = await choose(
            candidates,
            lambda candidate: self.prove_for(route, candidate, Reason.STANDBY),
            stagger=self._local.config.stagger,
            patience=0.0,
        )
        path = choice.proven[0].path
        for unused in choice.proven[1:]:
            unused.path.abort()

        def hello(path: PathEnd) -> PathHello:
            if not session.may_stand_by:
                raise PathFailed("the session needs no second path any more")
            number = max(session.number, 1)
            return session.hello(number, self.entries_for(route, path.local_host), standby=True)

        welcome = await path.ask(hello, self._timeout)
        return self._still_there(Welcomed(path, welcome))

    async def relayed(self, attempt: Attempt, answer: Answered, agreed: Agreed) -> Welcomed:
        """Attach to the plane that the relay's answer gave, as the side that asked for it; the lock
        is the one that is `agreed`.

        Raises:
            RelayUnavailable: the relay refused the leg, or cannot be reached.
            RoamRelayError: the other side did not come, or rejected the path; or has chosen a lock
                that this one does not take.
        """
        check_lock(attempt.session.terms, agreed)
        ticket = answer.response.ticket
        if ticket is None:
            raise RoamRelayError("the relay gave no ticket", code=Code.INTERNAL)
        at = _At(answer.connection.relay, answer.connection.source, answer.response.url)
        return await self._over_plane(attempt, at, ticket, agreed)

    async def next_plane(self, attempt: Attempt) -> Welcomed:
        """Come back with the ticket of the session's last plane: the relay asks the other side, and
        no control connection is needed.

        Raises:
            RelayUnavailable: the relay does not know the ticket, or cannot be reached.
            RoamRelayError: as `relayed`.
        """
        relay = self._registration.last_relay
        if relay is None:
            raise RelayUnavailable("there was no relay")
        source = self._candidates.source_towards(relay.address.host)
        # At the end of the last plane the other side's key was met; what the relay leads to by
        # another request may be anywhere.
        at, ticket = _At(relay, source), attempt.route.ticket
        before = attempt.route.agreed
        agreed = LOCKED_BY_TLS if before is None else before.by_ticket()
        return await self._over_plane(attempt, at, ticket, agreed, attempt.flight_in)

    async def open_plane(self, connection: ControlConnection, ticket: str, url: str = "") -> Opened:
        """Open this peer's leg of a plane that another peer has asked for; `url` is the relay's
        node where it is, if that is another one.

        Raises:
            RelayUnavailable: the relay refused it, or cannot be reached.
        """
        return await self._open_leg(_At(connection.relay, connection.source, url), ticket)

    # -- inside ---------------------------------------------------------------------------------

    def _candidates_of(self, route: Route) -> list[Candidate]:
        """Return what is dialed, and last the meeting that is arranged."""
        meeting = route.meeting
        if meeting is None or meeting.taken.is_set():
            return self._candidates.of(route)
        try:
            candidates = self._candidates.of(route)
        except NothingToDial:
            candidates = []
        route.trace.note("candidate", meeting.candidate, reason="where the relay sees it")
        return [*candidates, meeting.candidate]

    async def _by_meeting(self, route: Route, candidate: Candidate) -> Proven:
        meeting, remote = route.meeting, route.session.remote
        if meeting is None or meeting.candidate is not candidate:
            raise PathFailed("the meeting is over")
        until = meeting.moment + _MEETS_WITHIN
        try:
            # A session that has a path can wait: a meeting has an end of its own.
            async with asyncio.timeout_at(until if route.session.path is None else None):
                stream = await meeting.take()
        except TimeoutError:
            raise PathFailed(f"{candidate}: nobody within {_MEETS_WITHIN:g} s") from None
        path = self._local.paths.make(stream, PathKind.DIRECT, server=False)
        try:
            await path.prove(remote, self._timeout)
            if rule := self._candidates.refusal(route.session.terms, path):
                raise PathFailed(f"the policy says '{rule}'")
        except BaseException as error:
            path.abort()
            if isinstance(error, RoamRelayError):
                route.trace.note("failed", candidate, reason=error.reason)
            raise
        route.trace.note("proven", candidate, round_trip=path.round_trip)
        return Proven(candidate, path, path.round_trip or 0.0)

    async def _ask(self, attempt: Attempt, proven: Proven, *, last: bool) -> PathWelcome | None:
        """Say hello; return None where another candidate should be asked."""
        timeout = self._timeout if last else min(self._timeout, _SILENT)

        def hello(path: PathEnd) -> PathHello:
            return attempt.hello(self.entries_for(attempt.route, path.local_host))

        try:
            return await proven.path.ask(hello, timeout, attempt.early)
        except PathFailed as error:
            if last:
                raise
            attempt.route.trace.note("failed", proven.candidate, reason=error.reason)
            return None

    async def _over_plane(
        self,
        attempt: Attempt,
        at: _At,
        ticket: str,
        agreed: Agreed,
        make_flight: Callable[[int], Flight | None] = lambda room: None,
    ) -> Welcomed:
        route, identity = attempt.route, self._local.identity
        session = route.session
        side = side_of(identity, session.remote, session.id, agreed, is_caller=True)
        begun = self._local.paths.begin(side)
        # A flight stands before TLS alone.
        flight = make_flight(MAX_EARLY - len(begun.flight)) if side is None else None
        before = flight.data if flight is not None else b""
        leg = await self._open_leg(at, ticket, before + begun.flight)
        path = self._local.paths.make(leg.stream, PathKind.RELAYED, server=False, begun=begun)
        try:
            await path.prove(route.session.remote, self._timeout, flight)
        except RoamRelayError:
            if flight is not None:
                flight.failed()
            raise
        welcome = await path.ask(
            lambda _: attempt.hello(self.entries_for(route)), self._timeout, attempt.early
        )
        route.trace.note(
            "chosen",
            path.remote,
            round_trip=path.round_trip,
            reason=f"through the relay, locked by {path.lock}",
        )
        return self._still_there(Welcomed(path, welcome, resume_ticket=leg.resume_ticket))

    def _still_there(self, welcomed: Welcomed) -> Welcomed:
        path = welcomed.path
        if self._candidates.is_gone(path):
            path.abort()
            raise PathFailed(f"its local address {path.local_host} is gone")
        return welcomed

    async def _open_leg(self, at: _At, ticket: str, early: bytes = b"") -> Opened:
        identity, relay = self._local.identity, at.relay
        proof = identity.sign(CONTEXT_PLANE, public_key_of(relay.guid), ticket.encode())
        signature = base64.urlsafe_b64encode(proof).decode().rstrip("=")
        leg = Leg(
            f"/v1/plane/{ticket}?guid={identity.guid}&signature={signature}",
            Reason.LEG,
            self._local.config.carrier,
            at.source,
            early,
        )
        door, spawn = self._local.door, self._local.tasks.spawn
        if at.url:
            node = Node(relay.address, relay.guid, at.url)
            opened = await door.to_node(node, leg, spawn=spawn, timeout=self._timeout)
            if opened is not None:
                return opened
        return await door.to_relay(relay.address, leg, spawn=spawn, timeout=self._timeout)

    @property
    def _observed(self) -> frozenset[str]:
        return frozenset(self._registration.observed)


@dataclass(frozen=True, slots=True)
class _Witness:
    """The relay, asked for one endpoint of a peer by what the peer has signed."""

    registration: Registration
    guid: str
    entry: SignedEntry

    async def has_met(self) -> bool:
        return await self.registration.has_met(self.guid, self.entry)


def _reason(attempt: Attempt) -> Reason:
    session = attempt.session
    if session.path is not None:
        return Reason.BETTER_PATH
    if session.has_had_path:
        return Reason.NEXT_PATH
    return Reason.FIRST_PATH if session.terms.is_caller else Reason.DIAL_BACK
