"""What others ask of this peer: service requests from the relay, and paths that come in.

A path is only believed after both identities are proven. Then its hello must be for a session that
the same peer has with this one, or begin one with a service that is offered to it; in `combined`,
`central` and `auto` the relay must have announced that.
"""

import asyncio
from dataclasses import dataclass
from functools import partial

from peers.config import PathKind, log, policy_for
from peers.control import ControlConnection
from peers.path import PathEnd
from peers.roaming.candidates import Candidates
from peers.roaming.closed import Closed
from peers.roaming.crowd import Crowd
from peers.roaming.decisions import Decisions
from peers.roaming.local import Local
from peers.roaming.locks import LOCKED_BY_TLS, agreed_by, side_of
from peers.roaming.meetings import Midway
from peers.roaming.route import Route
from peers.roaming.sessions import Sessions
from peers.roaming.ways import Ways
from peers.services import ListenerEnd, Refusal, Services, SessionRequest
from peers.session import Terms
from peers.transport import Stream
from protocol.errors import Code, RoamRelayError
from protocol.features import CONVERSATION
from protocol.first_flight import key_id_in
from protocol.lock import Agreed, LockSide
from protocol.messages import (
    VERSION,
    Mode,
    PathHello,
    PathWelcome,
    ServiceAnswer,
    ServiceRequestFrom,
    Verdict,
)

__all__ = ["Incoming"]

_KINDS = {
    Mode.P2P: (PathKind.DIRECT,),
    Mode.COMBINED: (PathKind.DIRECT,),
    Mode.CENTRAL: (PathKind.RELAYED,),
    Mode.AUTO: (PathKind.DIRECT, PathKind.RELAYED),
}
"""The kinds of path on which a session of each mode may run."""

_MAX_LEGS, _MAX_LEGS_EACH = 512, 64
"""Legs of planes that are opened here, and whose path no session has yet: in all, and for one
caller. Where all are used, who has most loses the oldest."""
_LONGEST_REQUEST = 60.0
"""Seconds for which any caller may wait (docs/protocol.md §7): the relay's word is not taken for
more, nor for what is no number of them."""
_SUPERSEDED = Refusal(Code.PATH_SUPERSEDED, "a newer path was taken")
_UNKNOWN = Refusal(Code.SESSION_UNKNOWN, "no such session, or it is over")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known here of the session that a request or a hello names."""

    terms: Terms
    has_had_path: bool
    falls_back: bool = False
    """Whether both sides have named that it may go on over the relay."""

    def is_with(self, guid: str, mode: Mode) -> bool:
        """Whether it is with this peer, and this mode is one that its next path is asked for in."""
        modes = (self.terms.mode, Mode.AUTO) if self.falls_back else (self.terms.mode,)
        return self.terms.remote == guid and mode in modes


def judge_request(
    request: ServiceRequestFrom, known: Known | None, listener: ListenerEnd | None, *, room: bool
) -> Refusal | None:
    """Return why a service request is refused; None where it is accepted. PURE.

    `room` says whether one more session of this caller may be announced.
    """
    if request.resume:
        same = known is not None and known.is_with(request.guid, request.mode)
        return None if same else _UNKNOWN
    if listener is None:
        return Refusal(Code.UNKNOWN_SERVICE, f"nobody listens for {request.service}")
    if known is not None:
        terms = known.terms
        mine = terms.remote, terms.service, terms.mode, terms.is_caller
        same = mine == (request.guid, request.service, request.mode, False)
        return None if same else Refusal(Code.REFUSED, "this session exists already")
    if not room:
        return Refusal(Code.LIMIT_EXCEEDED, "too many requests at once")
    return listener.refusal(request.guid)


def judge_path(
    hello: PathHello, kind: PathKind, guid: str, known: Known | None, listener: ListenerEnd | None
) -> Refusal | None:
    """Return why a path from the proven peer `guid` is refused; None where it may be taken, as far
    as that does not depend on its number. PURE."""
    if hello.version != VERSION:
        return Refusal(Code.VERSION_UNSUPPORTED, f"version {VERSION} is spoken here")
    fallen_back = known is not None and known.falls_back and hello.mode is Mode.COMBINED
    if kind not in _KINDS[hello.mode] and not fallen_back:
        return Refusal(
            Code.SESSION_UNKNOWN, f"a {kind.value} path is not for a {hello.mode.value} session"
        )
    if known is not None:
        terms = known.terms
        if (terms.remote, terms.service, terms.mode) != (guid, hello.service, hello.mode):
            return _UNKNOWN
        if known.has_had_path or terms.is_caller:
            return None
    elif hello.resume:
        return _UNKNOWN
    elif hello.mode is not Mode.P2P:
        return Refusal(Code.SESSION_UNKNOWN, "the relay has announced no such session")
    if listener is None:
        return Refusal(Code.UNKNOWN_SERVICE, f"nobody listens for {hello.service}")
    if listener.takes_conversations is not (CONVERSATION in hello.features):
        what = "is for conversations" if listener.takes_conversations else "takes none"
        return Refusal(Code.REFUSED, f"{hello.service} {what}: another kind of session was asked")
    return listener.refusal(guid)


class Incoming:
    """Answers for one peer."""

    def __init__(
        self,
        local: Local,
        services: Services,
        sessions: Sessions,
        ways: Ways,
        candidates: Candidates,
    ) -> None:
        self._local = local
        self._services = services
        self._sessions = sessions
        self._ways = ways
        self._candidates = candidates
        self._decisions = Decisions(local.tasks)
        self._legs: Crowd[str] = Crowd(_MAX_LEGS, _MAX_LEGS_EACH)
        """The tickets of planes whose leg is opened here, until a session has it."""
        self._leg_tasks: dict[str, asyncio.Task[None]] = {}

    # -- requests from the relay ----------------------------------------------------------------

    def request(self, connection: ControlConnection, request: ServiceRequestFrom) -> None:
        """Answer a service request at once. The same request may come over several flows."""
        sessions, number = self._sessions, request.request
        route = sessions.find_announced(request.session) or sessions.find(request.session)
        closed = sessions.find_closed(request.session) if route is None else None
        listener = self._services.find(request.service, request.guid)
        room = sessions.may_announce(request.guid)
        refusal = judge_request(request, _known(route or closed), listener, room=room)
        if refusal is None and not self._has_leg(request):
            refusal = Refusal(Code.LIMIT_EXCEEDED, "too many planes at once")
        if refusal is not None:
            code, reason = refusal.code, refusal.reason
            connection.answer(ServiceAnswer(number, Verdict.REFUSED, reason, code=code))
            return
        body = self._ways.offers.heard(request)
        agreed = self._agreed(request, route or closed, body)
        if agreed is None:
            code, reason = Code.LOCK_UNSUPPORTED, "no lock for a path by the relay in common"
            connection.answer(ServiceAnswer(number, Verdict.REFUSED, reason, code=code))
            return
        if route is not None and request.resume:
            route.learn_disclosed(request.entries)
            sessions.resume_asked(route)
        elif route is None and closed is None and listener and request.mode is not Mode.P2P:
            route = self._announce(request, listener)
        entries = self._ways.entries_for(route) if route is not None else ()
        if closed is not None:
            entries = closed.entries(self._local.location)
        offer, midway = b"", None
        if request.offer and (known := route or closed) is not None:
            offer, midway = self._ways.offers.answer(connection, known, request, body, agreed)
        connection.answer(ServiceAnswer(number, Verdict.ACCEPTED, entries=entries, offer=offer))
        if midway is not None:
            self._local.tasks.spawn(self._come(midway))
        ticket = request.ticket
        if ticket is not None and ticket not in self._legs.of(request.guid):
            self._open_leg(connection, request, ticket, agreed)

    def _agreed(
        self, request: ServiceRequestFrom, known: Route | Closed | None, body: bytes
    ) -> Agreed | None:
        """Return what the plane of a request is locked by; None where the two sides have no lock in
        common."""
        if request.ticket is None:
            return LOCKED_BY_TLS
        if known is None:
            config = self._local.config
            policy = policy_for(config, request.guid, request.service)
            return agreed_by(request, body, policy.locks or config.locks, None)
        terms = known.terms if isinstance(known, Closed) else known.session.terms
        return agreed_by(request, body, terms.locks_taken, known.agreed)

    def _has_leg(self, request: ServiceRequestFrom) -> bool:
        """Whether a leg may be opened for a request, where it asks for one: the relay is dialed for
        whoever asks."""
        ticket, guid = request.ticket, request.guid
        return ticket is None or ticket in self._legs.of(guid) or self._legs.has_room(guid)

    def _open_leg(
        self,
        connection: ControlConnection,
        request: ServiceRequestFrom,
        ticket: str,
        agreed: Agreed,
    ) -> None:
        guid = request.guid
        side = side_of(self._local.identity, guid, request.session, agreed, is_caller=False)
        task = self._local.tasks.spawn(self._attach(connection, ticket, request.url, side))
        if task is None:
            return
        displaced = self._legs.add(guid, ticket)
        self._leg_tasks[ticket] = task
        task.add_done_callback(lambda _: self._leg_over(guid, ticket))
        if displaced is not None:
            self._leg_tasks[displaced].cancel()

    def _leg_over(self, guid: str, ticket: str) -> None:
        """A session has its path, or nothing came of it."""
        self._legs.remove(guid, ticket)
        self._leg_tasks.pop(ticket, None)

    def _announce(self, request: ServiceRequestFrom, listener: ListenerEnd) -> Route:
        """Note that somebody wants a session."""
        terms = self._terms(request.guid, request.service, request.mode, listener)
        route = self._sessions.make(request.session, terms)
        route.learn_disclosed(request.entries)
        # In this order, what is no number (NaN) becomes 0.
        waits = max(0.0, min(request.timeout, _LONGEST_REQUEST))
        self._sessions.announce(route, waits + self._local.config.path_timeout)
        # Who is asked first whether he takes the session must not have welcomed it by then.
        asks = listener.admission.accept is not None
        if request.mode is Mode.COMBINED and request.entries and terms.discloses and not asks:
            self._local.tasks.spawn(
                self._meet(route), lambda error: route.session.abort(f"unexpected: {error!r}")
            )
        return route

    async def _meet(self, route: Route) -> None:
        """Dial a caller that has not come by itself: it may be unable to reach this peer."""
        await asyncio.sleep(4 * self._local.config.stagger)
        if self._sessions.find_announced(route.session.id) is not route:
            return
        attempt = route.attempt()
        try:
            welcomed = await self._ways.direct(attempt)
        except RoamRelayError as error:
            log.debug("cannot reach a caller", peer=route.session.remote[:8], reason=error.reason)
            return
        self._join(route, welcomed.path, attempt.number, welcomed.welcome, dialed_here=True)

    async def _come(self, midway: Midway) -> None:
        """Come to a meeting, and take what comes of it as any path that comes in."""
        try:
            stream = await self._ways.meetings.come(midway)
        except RoamRelayError as error:
            remote = midway.route.session.remote
            log.debug("no meeting", peer=remote[:8], reason=error.reason)
            return
        await self.serve(stream)

    async def _attach(
        self, connection: ControlConnection, ticket: str, url: str, side: LockSide | None
    ) -> None:
        try:
            leg = await self._ways.open_plane(connection, ticket, url)
        except RoamRelayError as error:
            log.warning("cannot attach to the plane", reason=error.reason)
            return
        await self.serve(leg.stream, PathKind.RELAYED, leg.resume_ticket, side)

    # -- paths that come in ---------------------------------------------------------------------

    async def serve(
        self,
        stream: Stream,
        kind: PathKind = PathKind.DIRECT,
        ticket: str = "",
        side: LockSide | None = None,
    ) -> None:
        """Take one incoming stream to its session, or close it with a reason. `ticket` is for the
        next plane, where the stream is a leg of one, and `side` this side of its lock, where that
        is not TLS."""
        if kind is PathKind.DIRECT and self._ways.meetings.take(stream):
            return
        path = self._local.paths.make(stream, kind, server=True, side=side)
        try:
            take = partial(self._take_flight, path)
            hello = await path.accept(self._local.config.path_timeout, take)
            refusal = await self._asked(path, hello)
            if path.is_gone:
                log.debug("gone before it was welcomed", kind=kind.value, remote=path.remote)
            elif refusal is not None:
                self._reject(path, hello, refusal)
            else:
                self._welcome(path, hello, ticket)
        except RoamRelayError as error:
            path.abort()
            log.debug("path failed", kind=kind.value, remote=path.remote, reason=error.reason)
        except BaseException:
            path.abort()
            raise

    def _take_flight(self, path: PathEnd, data: bytes) -> bytes:
        """Give what stands before a path's TLS to the session for which it is sealed, and return
        what answers it. What follows decides where the session goes on."""
        route = self._sessions.find_by_flight(key_id_in(data))
        if route is None:
            return b""
        terms = route.session.terms
        if not route.falls_back and path.kind not in _KINDS[terms.mode]:
            return b""
        if self._candidates.refusal(terms, path) is not None:
            return b""
        return route.session.take_flight(data)

    async def _asked(self, path: PathEnd, hello: PathHello) -> Refusal | None:
        """Ask the program whether it takes a session that this path would begin, where it wants to
        be asked and nothing else speaks against it; return why it does not."""
        listener = self._services.find(hello.service, path.remote_guid)
        if listener is None or listener.admission.accept is None or hello.standby:
            return None
        route = self._route_for(path, hello)
        if not isinstance(route, Route) or route.session.has_had_path:
            return None
        if self._candidates.refusal(route.session.terms, path):
            return None
        request = SessionRequest(path.remote_guid, hello.service, hello.mode, hello.metadata, path)
        accept = listener.admission.accept
        refusal = await self._decisions.ask(hello.session, request, accept)
        if refusal is None and self._services.find(hello.service, path.remote_guid) is not listener:
            # Whoever offers it now was not asked.
            return Refusal(Code.UNKNOWN_SERVICE, f"nobody listens for {hello.service}")
        return refusal

    def _reject(self, path: PathEnd, hello: PathHello, refusal: Refusal) -> None:
        path.reject(refusal.code, refusal.reason)
        guid = path.remote_guid[:8]
        log.info("path refused", peer=guid, mode=hello.mode.value, reason=refusal.reason)

    def _welcome(self, path: PathEnd, hello: PathHello, ticket: str) -> None:
        if hello.standby:
            self._stand_by(path, hello)
            return
        route = self._route_for(path, hello)
        if isinstance(route, Closed):
            path.welcome(route.welcome(hello, self._local.location))
            path.send(route.numbers.answer())
            path.finish()
            return
        if isinstance(route, Refusal):
            self._reject(path, hello, route)
            return
        if rule := self._candidates.refusal(route.session.terms, path):
            path.reject(Code.REFUSED, f"the policy of the other side says '{rule}'")
            route.trace.note("dropped", path.remote, reason=f"policy '{rule}'")
            return
        path.welcome(route.session.welcome(self._ways.entries_for(route)))
        self._join(route, path, hello.path, hello, dialed_here=False, ticket=ticket)

    def _stand_by(self, path: PathEnd, hello: PathHello) -> None:
        """Take a path that is to stand ready beside a session's own."""
        route = self._sessions.find(hello.session)
        refusal = judge_path(hello, path.kind, path.remote_guid, _known(route), None)
        if refusal is not None or route is None:
            refusal = refusal or _UNKNOWN
            path.reject(refusal.code, refusal.reason)
            return
        if path.kind is not PathKind.DIRECT or not route.session.may_stand_by:
            refusal = Refusal(Code.REFUSED, "no second path is wanted here")
        elif self._candidates.refuses_standby(route.session.terms, path):
            refusal = Refusal(Code.REFUSED, "the policy of the other side wants no such path")
        elif not route.session.would_stand_by(dialed_here=False):
            refusal = _SUPERSEDED
        if refusal is not None:
            path.reject(refusal.code, refusal.reason)
            return
        path.welcome(route.session.welcome(self._ways.entries_for(route)))
        route.learn(hello.entries)
        route.session.stand_by(path, "the other side has dialed it", dialed_here=False)

    def _route_for(self, path: PathEnd, hello: PathHello) -> Route | Closed | Refusal:
        """Return the session that a path is for, or why there is none."""
        guid = path.remote_guid
        route = self._sessions.find(hello.session) or self._sessions.find_announced(hello.session)
        closed = self._sessions.find_closed(hello.session) if route is None else None
        listener = self._services.find(hello.service, guid)
        refusal = judge_path(hello, path.kind, guid, _known(route or closed), listener)
        if refusal is not None:
            return refusal
        if closed is not None:
            return closed if closed.would_take(hello.path) else _SUPERSEDED
        if route is None:
            if listener is None:
                return _UNKNOWN
            if not self._sessions.may_begin(guid):
                return Refusal(Code.LIMIT_EXCEEDED, "too many sessions of yours")
            terms = self._terms(guid, hello.service, hello.mode, listener)
            return self._sessions.make(hello.session, terms)
        if not route.session.would_take(hello.path, dialed_here=False):
            return _SUPERSEDED
        return route

    # -- inside ---------------------------------------------------------------------------------

    def _join(
        self,
        route: Route,
        path: PathEnd,
        number: int,
        there: PathHello | PathWelcome,
        *,
        dialed_here: bool,
        ticket: str = "",
    ) -> None:
        """Give a path to its session, and a session that begins with it to its service."""
        session = route.session
        begins = self._sessions.find(session.id) is None
        listener = self._services.find(session.service, session.remote)
        if begins and listener is None:
            # Closed while the path was made: the caller hears it as it hears an abort.
            path.abort()
            session.abort("the service is closed")
            return
        taken = self._sessions.accept(
            route, path, number, there, dialed_here=dialed_here, ticket=ticket
        )
        if begins and taken and listener is not None:
            listener.offer(session)

    def _terms(self, guid: str, service: str, mode: Mode, listener: ListenerEnd) -> Terms:
        config = self._local.config
        return Terms(
            guid,
            service,
            mode,
            is_caller=False,
            discloses=mode is not Mode.CENTRAL and listener.discloses_to(guid),
            policy=policy_for(config, guid, service),
            select=config.select_for(guid, service),
            fallback=config.fallback,
            standby=config.standby,
            locks=config.locks,
            conversation=listener.takes_conversations,
        )


def _known(route: Route | Closed | None) -> Known | None:
    if route is None:
        return None
    if isinstance(route, Closed):
        return Known(route.terms, has_had_path=True, falls_back=route.falls_back)
    return Known(route.session.terms, route.session.has_had_path, route.falls_back)
