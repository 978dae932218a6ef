"""Meetings: both sides of a session dial one another at once, where neither can be dialed alone.

The offer of a request and that of its answer say where either side could be met; the relay says
beside it where it sees that side. Who has asked is the TLS client and says hello, whichever SYN
has won; who was asked serves what comes. A meeting has one moment, and is over some seconds later.
"""

import asyncio
from dataclasses import dataclass

from peers.choice import Candidate
from peers.config import PathFacts, PathKind
from peers.control import Answered, ControlConnection, Registration
from peers.dialing import Ask, Known, Reason
from peers.roaming.local import Local
from peers.roaming.route import Meeting, Route
from peers.tasks import Attempts
from peers.transport import Stream
from protocol.dialing import network_of, unwrapped
from protocol.endpoint import Endpoint
from protocol.errors import PathFailed, ProtocolViolation, RoamRelayError
from protocol.features import OFFER
from protocol.meeting import Mapping, Reflexive, begins_after, hopeless, meeting_part, read_meeting
from protocol.messages import Mode, ServiceRequestFrom
from protocol.offer import body_of, open_answer

__all__ = ["Meetings", "Midway"]

_DIRECT = Mode.COMBINED, Mode.AUTO
"""The modes in which the other side is asked, and a direct path is wanted."""
_TAKEN_WITHIN = 10.0
"""Seconds for a session to use the connection of a meeting."""
_ARRIVES_WITHIN = 0.5
"""Seconds for a connection that the kernel has to come to this program."""
_MAX_MEETINGS = 64
"""Meetings at once of this side's wish, and as many of others'; another one is not begun."""
_MAX_FROM_ONE_NETWORK = 16
"""The share of one /24 of IPv4, or /48 of IPv6, in those of others."""


@dataclass(frozen=True, slots=True)
class Midway:
    """Where this side dials for a meeting."""

    route: Route
    at: Endpoint
    source: str
    """The local address from which the relay is reached."""
    delay: float
    """Seconds until then."""
    asked: bytes = b""
    """The offer of this side's request; empty where the other side has asked, whose offer is
    proven."""
    answer: bytes = b""
    """The offer of the other side's answer, of which nothing is proven before that moment: most
    sessions have a direct path by then, and are open sooner without."""


class Meetings:
    """Of one peer."""

    def __init__(self, local: Local, registration: Registration) -> None:
        self._local = local
        self._registration = registration
        self._expected: dict[str, tuple[Meeting, Midway]] = {}
        """By the other side's end: meetings that this side has asked for, and are not over."""
        self._answered: dict[bytes, str] = {}
        """Sessions whose meeting this side was asked for, and is not over, with who has asked: its
        network."""

    # -- this side asks ---------------------------------------------------------------------------

    def offer(self, route: Route, connection: ControlConnection) -> dict[str, object]:
        """Return the part of it of the offer that goes with a session's request; empty where there
        is nothing to offer."""
        here = self._reflexive(route, connection)
        if here is None:
            return {}
        if reason := hopeless(here.kind, Mapping.UNKNOWN):
            route.trace.note("dropped", "a meeting", reason=reason)
            return {}
        return meeting_part(here)

    def answered(self, route: Route, asked: bytes, answer: Answered) -> None:
        """The other side has accepted a request whose offer was `asked`: meet it, where it can be
        met."""
        response, session = answer.response, route.session
        route.meeting = None
        if not (asked and response.offer) or len(self._expected) >= _MAX_MEETINGS:
            return
        body = body_of(response.offer)
        there = _agreed(body, response.observed_host, response.observed_port)
        if there is None or (at := there.endpoint) is None or str(at) in self._expected:
            return
        if session.terms.policy.refusal(PathFacts(PathKind.DIRECT, at.host)) is not None:
            return
        if reason := hopeless(self._registration.mappings.of(answer.connection), there.kind):
            route.trace.note("dropped", f"{at} by a meeting", reason=reason)
            return
        delay = begins_after(answer.connection.round_trip, there.round_trip, asked=False)
        meeting = Meeting(Candidate(at, provenance=None, by_meeting=True), delay)
        source = answer.connection.local_host
        midway = Midway(route, at, source, delay, asked, response.offer)
        self._expected[str(at)] = meeting, midway
        if self._local.tasks.spawn(self._meet(midway, meeting)) is None:
            self._over(meeting)
            return
        route.meeting = meeting

    def take(self, stream: Stream) -> bool:
        """Whether an incoming connection is the other half of a meeting that this side has asked
        for: then it belongs there."""
        meeting, midway = self._expected.get(stream.remote, (None, None))
        if meeting is None or midway is None or meeting.arrived.done():
            return False
        try:
            self._prove(midway)
        except PathFailed:
            return False
        meeting.arrived.set_result(stream)
        return True

    # -- this side is asked -----------------------------------------------------------------------

    def answer(
        self,
        connection: ControlConnection,
        route: Route,
        request: ServiceRequestFrom,
        body: bytes,
    ) -> tuple[dict[str, object], Midway | None]:
        """Return the part of it of what answers a request whose offer has this body, and the
        meeting that follows; empty and None where there is nothing to offer."""
        session = route.session
        if request.mode not in _DIRECT or session.id in self._answered:
            return {}, None
        here = self._reflexive(route, connection)
        if here is None:
            return {}, None
        there = _agreed(body, request.observed_host, request.observed_port)
        if there is None or (at := there.endpoint) is None:
            return {}, None
        if session.terms.policy.refusal(PathFacts(PathKind.DIRECT, at.host)) is not None:
            return {}, None
        if reason := hopeless(here.kind, there.kind):
            route.trace.note("dropped", f"{at} by a meeting", reason=reason)
            # Who asks learns why, where it knows the word; else it would wait for a meeting.
            return meeting_part(here) if there.mapping else {}, None
        network = _network(at)
        if not self._has_room(network):
            return {}, None
        self._answered[session.id] = network
        delay = begins_after(here.round_trip, there.round_trip, asked=True)
        return meeting_part(here), Midway(route, at, connection.local_host, delay)

    async def come(self, midway: Midway) -> Stream:
        """Return the connection of a meeting that the other side has asked for.

        Raises:
            RoamRelayError: there is none, or none is needed.
        """
        try:
            return await self._dial(midway)
        finally:
            self._answered.pop(midway.route.session.id, None)

    # -- inside -----------------------------------------------------------------------------------

    def _has_room(self, network: str) -> bool:
        """Whether one more meeting may be asked for from a network."""
        taken = list(self._answered.values())
        return len(taken) < _MAX_MEETINGS and taken.count(network) < _MAX_FROM_ONE_NETWORK

    def _reflexive(self, route: Route, connection: ControlConnection) -> Reflexive | None:
        """Return how the relay sees a connection, where that is for the other side to know and
        leads to where this one dials from."""
        terms, observed = route.session.terms, connection.observed
        if (
            terms.mode not in _DIRECT
            or not terms.discloses
            or OFFER not in connection.relay.features
        ):
            return None
        # The other side is of the same family, and as public.
        if observed is None or terms.policy.refusal(PathFacts(PathKind.DIRECT, observed.host)):
            return None
        if connection.local_port != self._local.door.listening_port:
            return None
        mapping = self._registration.mappings.of(connection)
        return Reflexive(observed.host, observed.port, connection.round_trip, mapping.value)

    async def _meet(self, midway: Midway, meeting: Meeting) -> None:
        """Bring the two together: whichever SYN wins. What has come of it is the session's, if that
        takes it in time."""
        stream: Stream | None = None
        failed: RoamRelayError = PathFailed("nobody came to the meeting")
        try:
            async with Attempts[Stream](_abort) as attempts:
                attempts.start(0, self._dial(midway))
                attempts.start(1, _result_of(meeting.arrived))
                patience: float | None = None
                while stream is None and (ended := await attempts.over(patience)):
                    for _, result in ended:
                        if isinstance(result, RoamRelayError):
                            failed = result
                        elif stream is None:
                            stream = result
                        else:
                            result.abort()
                    # What has kept this side from dialing may be the connection that arrives now.
                    patience = _ARRIVES_WITHIN
            self._forget(meeting)
            if stream is None:
                meeting.fail(failed)
            elif meeting.meet(stream):
                async with asyncio.timeout(_TAKEN_WITHIN):
                    await meeting.taken.wait()
        except TimeoutError:
            pass
        finally:
            self._over(meeting)
            if stream is not None and not meeting.taken.is_set():
                stream.abort()  # One that has not become the meeting's.

    async def _dial(self, midway: Midway) -> Stream:
        await asyncio.sleep(midway.delay)
        route, at = midway.route, midway.at
        session = route.session
        if session.is_over or (session.path is not None and session.path.kind is PathKind.DIRECT):
            raise PathFailed("the session needs no meeting")
        if midway.asked:
            self._prove(midway)
        known = Known(frozenset({at}), may_ask=True)
        ask = Ask(session.remote, at, known, Reason.MEETING, session.terms.policy.dial)
        try:
            stream = await self._local.door.meet(ask, midway.source)
        except RoamRelayError as error:
            route.trace.note("failed", f"{at} by a meeting", reason=error.reason)
            raise
        route.trace.note("met", f"{at} by a meeting", round_trip=stream.round_trip)
        return stream

    def _prove(self, midway: Midway) -> None:
        """Believe what answers this side's offer, as it is dialed by it now.

        Raises:
            PathFailed: it is not the other side's.
        """
        session, here = midway.route.session, self._local.identity.guid
        try:
            open_answer(midway.answer, session.remote, here, session.id, midway.asked)
        except ProtocolViolation as error:
            reason = f"what the other side offers: {error.reason}"
            midway.route.trace.note("dropped", reason=reason)
            raise PathFailed(reason) from None

    def _over(self, meeting: Meeting) -> None:
        self._forget(meeting)
        meeting.close()

    def _forget(self, meeting: Meeting) -> None:
        at = str(meeting.candidate.endpoint)
        expected, _ = self._expected.get(at, (None, None))
        if expected is meeting:
            del self._expected[at]


def _network(at: Endpoint) -> str:
    address = unwrapped(at.host)
    return at.host if address is None else network_of(address)


def _agreed(body: bytes, host: str, port: int) -> Reflexive | None:
    """Return what the other side offers, where the relay says the same by itself: neither of the
    two has this peer dial where only it wants."""
    there = read_meeting(body)
    if there is None or (there.host, there.port) != (host, port):
        return None
    return there


async def _result_of(arrived: "asyncio.Future[Stream]") -> Stream:
    return await arrived  # For as long as the other attempt takes, which is bounded.


def _abort(stream: Stream) -> None:
    stream.abort()
