"""What others ask of this peer: service requests from the relay, and paths that come in.

A path is only believed after both identities are proven. Then its hello must be for a session that
the same peer has with this one, or begin one with a service that is offered to it; in `combined`,
`central` and `auto` the relay must have announced that.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from peers.config import PathKind, PeerConfig, log
from peers.control import ControlConnection
from peers.location import OwnLocation
from peers.path import Path, Paths
from peers.roaming.candidates import CandidateFinder, entries_for
from peers.roaming.sessions import Roaming
from peers.roaming.ways import Attempt, Dialer
from peers.services import Listener
from peers.session import Session
from peers.transport import Stream
from protocol.errors import Code, ProtocolViolation, RoamRelayError
from protocol.messages import (
    VERSION,
    Mode,
    PathHello,
    PathWelcome,
    ServiceAnswer,
    ServiceRequestFrom,
    Verdict,
)

__all__ = ["Answering"]

_MAX_ANNOUNCED = 1024
"""Announced sessions whose path has not come yet; further requests are refused."""

_KINDS = {
    Mode.P2P: (PathKind.DIRECT,),
    Mode.COMBINED: (PathKind.DIRECT,),
    Mode.CENTRAL: (PathKind.RELAYED,),
    Mode.AUTO: (PathKind.DIRECT, PathKind.RELAYED),
}
"""The kinds of path on which a session of each mode may run."""


class Answering:
    """Answers for one peer."""

    def __init__(
        self,
        config: PeerConfig,
        paths: Paths,
        own: OwnLocation,
        dialer: Dialer,
        finder: CandidateFinder,
        roaming: Roaming,
        *,
        listeners: dict[str, Listener],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._config = config
        self._paths = paths
        self._own = own
        self._dialer = dialer
        self._finder = finder
        self._roaming = roaming
        self._listeners = listeners
        self._spawn = spawn
        self._announced: dict[bytes, Session] = {}
        self._tickets: set[str] = set()

    # -- requests from the relay ----------------------------------------------------------------

    def on_request(self, connection: ControlConnection, request: ServiceRequestFrom) -> None:
        """Answer a service request at once. The same request may come over several flows."""
        refusal = self._known(request) if request.resume else self._announce(request)
        if refusal is not None:
            code, reason = refusal
            answer = ServiceAnswer(request.request, Verdict.REFUSED, reason, code=code)
            connection.answer(answer)
            return
        session = self._announced.get(request.session) or self._roaming.find(request.session)
        entries = entries_for(self._own, session) if session is not None else ()
        connection.answer(ServiceAnswer(request.request, Verdict.ACCEPTED, entries=entries))
        ticket = request.ticket
        if ticket is not None and ticket not in self._tickets:
            self._tickets.add(ticket)
            self._spawn(self._attach(connection, ticket))

    def _known(self, request: ServiceRequestFrom) -> tuple[Code, str] | None:
        """Note that the other side of a session asks for its next path."""
        session = self._roaming.find(request.session)
        if session is None or session.remote != request.guid or session.mode is not request.mode:
            return Code.SESSION_UNKNOWN, "no such session, or it is over"
        if request.entries:
            session.entries_there = request.entries
        self._roaming.resume_asked(session)
        return None

    def _announce(self, request: ServiceRequestFrom) -> tuple[Code, str] | None:
        """Note that somebody wants a session."""
        listener = self._listeners.get(request.service)
        if listener is None:
            return Code.UNKNOWN_SERVICE, f"nobody listens for {request.service}"
        known = self._announced.get(request.session) or self._roaming.find(request.session)
        if known is not None:
            same = (known.remote, known.service, known.mode, known.is_caller) == (
                request.guid,
                request.service,
                request.mode,
                False,
            )
            return None if same else (Code.REFUSED, "this session exists already")
        if len(self._announced) >= _MAX_ANNOUNCED:
            return Code.LIMIT_EXCEEDED, "too many requests at once"
        refusal = listener.refusal(request.guid)
        if refusal is not None or request.mode is Mode.P2P:
            return refusal
        session = self._session(request.session, request.guid, request.service, request.mode)
        session.entries_there = request.entries
        self._announced[session.id] = session
        asyncio.get_running_loop().call_later(
            request.timeout + self._config.path_timeout, self._forget, session
        )
        if request.mode is Mode.COMBINED and request.entries and session.discloses:
            self._spawn(self._meet(session))
        return None

    async def _meet(self, session: Session) -> None:
        """Dial a caller that has not come by itself: it may be unable to reach this peer."""
        await asyncio.sleep(4 * self._config.stagger)
        if session.id not in self._announced:
            return
        session.last_path += 1
        attempt = Attempt(session, session.last_path, None)
        try:
            path, welcome = await self._dialer.direct(attempt)
        except RoamRelayError as error:
            log.debug("cannot reach a caller", peer=session.remote[:8], reason=error.reason)
            return
        if not session.is_over and session.would_take(attempt.number, dialed_here=True):
            self._join(session, path, attempt.number, welcome, dialed_here=True)
        else:
            path.abort()

    async def _attach(self, connection: ControlConnection, ticket: str) -> None:
        try:
            stream = await self._dialer.open_plane(connection, ticket)
        except RoamRelayError as error:
            log.warning("cannot attach to the plane", reason=error.reason)
            return
        finally:
            self._tickets.discard(ticket)
        await self.serve(stream, PathKind.RELAYED)

    # -- paths that come in ---------------------------------------------------------------------

    async def serve(self, stream: Stream, kind: PathKind = PathKind.DIRECT) -> None:
        """Take one incoming stream to its session, or close it with a reason."""
        path = self._paths.make(stream, kind, server=True)
        try:
            hello = await path.accept(self._config.path_timeout)
        except RoamRelayError as error:
            log.debug("path failed", kind=kind.value, remote=path.remote, reason=error.reason)
            return
        session = self._session_of(path, hello)
        if not isinstance(session, Session):
            code, reason = session
            path.reject(code, reason)
            log.info(
                "path refused", peer=path.remote_guid[:8], mode=hello.mode.value, reason=reason
            )
            return
        if rule := self._finder.refusal(session, path):
            path.reject(Code.REFUSED, f"the policy of the other side says '{rule}'")
            session.trace.note("dropped", path.remote, reason=f"policy '{rule}'")
            return
        path.welcome(session.welcome(entries_for(self._own, session)))
        self._join(session, path, hello.path, hello, dialed_here=False)

    def _join(
        self,
        session: Session,
        path: Path,
        number: int,
        there: PathHello | PathWelcome,
        *,
        dialed_here: bool,
    ) -> None:
        """Give a path to its session, and a session that begins with it to its service."""
        try:
            session.take_path(path, number, there, dialed_here=dialed_here)
        except ProtocolViolation as violation:
            path.abort()
            log.warning("path dropped", peer=session.remote[:8], reason=violation.reason)
            return
        if self._roaming.find(session.id) is None:
            self._announced.pop(session.id, None)
            self._roaming.add(session)
            self._listeners[session.service].offer(session)
        self._roaming.path_accepted(session)

    def _session_of(self, path: Path, hello: PathHello) -> Session | tuple[Code, str]:
        """Return the session that a path is for, or why there is none."""
        unknown = Code.SESSION_UNKNOWN, "no such session, or it is over"
        guid = path.remote_guid
        if hello.version != VERSION:
            return Code.VERSION_UNSUPPORTED, f"version {VERSION} is spoken here"
        if path.kind not in _KINDS[hello.mode]:
            return (
                Code.SESSION_UNKNOWN,
                f"a {path.kind.value} path is not for a {hello.mode.value} session",
            )
        session = self._roaming.find(hello.session) or self._announced.get(hello.session)
        if session is not None:
            mine = session.remote, session.service, session.mode
            if mine != (guid, hello.service, hello.mode):
                return unknown
            if not session.would_take(hello.path, dialed_here=False):
                return Code.PATH_SUPERSEDED, "a newer path was taken"
        elif hello.resume:
            return unknown
        elif hello.mode is not Mode.P2P:
            return Code.SESSION_UNKNOWN, "the relay has announced no such session"
        if session is None or not session.has_had_path:
            refusal = self._refusal(hello.service, guid, session)
            if refusal is not None:
                return refusal
        return session or self._session(hello.session, guid, hello.service, hello.mode)

    def _refusal(self, service: str, guid: str, session: Session | None) -> tuple[Code, str] | None:
        if session is not None and session.is_caller:
            return None
        listener = self._listeners.get(service)
        if listener is None:
            return Code.UNKNOWN_SERVICE, f"nobody listens for {service}"
        return listener.refusal(guid)

    # -- inside ---------------------------------------------------------------------------------

    def _session(self, session_id: bytes, guid: str, service: str, mode: Mode) -> Session:
        return Session(
            session_id=session_id,
            remote=guid,
            service=service,
            mode=mode,
            caller=False,
            discloses=mode is not Mode.CENTRAL and self._listeners[service].discloses_to(guid),
            settings=self._config.session,
            owner=self._roaming,
            policy=self._config.policy_for(guid, service),
            select=self._config.select_for(guid, service),
        )

    def _forget(self, session: Session) -> None:
        if self._announced.get(session.id) is session:
            del self._announced[session.id]
            session.abort("its caller did not come")
