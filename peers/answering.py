"""The callee's side: service requests from the relay, and paths that come in.

A path is only believed after both identities are proven; then its hello must name a service that
is offered to that caller, and in `combined` and `central` a session that the relay has announced.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, assert_never

from peers.config import PeerConfig
from peers.control import ControlConnection
from peers.listener import Listener
from peers.log import log
from peers.path import Path, PathKind
from peers.session import Session
from peers.streams import Stream
from peers.tls import TlsContext
from protocol.endpoint import SignedEntry
from protocol.errors import Code, ProtocolViolation, RoamRelayError
from protocol.messages import (
    VERSION,
    Mode,
    PathHello,
    ServiceAnswer,
    ServiceRequestFrom,
    Verdict,
)

__all__ = ["Answering"]

_MAX_ANNOUNCED = 1024
"""Announced sessions whose path has not come yet; further requests are refused."""


@dataclass(frozen=True, slots=True)
class _Announced:
    """A session that the relay has told of."""

    guid: str
    service: str
    mode: Mode


class Answering:
    """Answers for one peer. `relayed` opens this peer's leg of a plane."""

    def __init__(
        self,
        config: PeerConfig,
        tls: TlsContext,
        *,
        listeners: dict[str, Listener],
        sessions: dict[bytes, Session],
        entries: Callable[[ControlConnection, str], tuple[SignedEntry, ...]],
        relayed: Callable[[ControlConnection, str], Coroutine[Any, Any, Stream]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        end_session: Callable[[Session], None],
    ) -> None:
        self._config = config
        self._tls = tls
        self._listeners = listeners
        self._sessions = sessions
        self._entries = entries
        self._relayed = relayed
        self._spawn = spawn
        self._end_session = end_session
        self._announced: dict[bytes, _Announced] = {}

    def on_request(self, connection: ControlConnection, request: ServiceRequestFrom) -> None:
        """Answer a service request at once."""
        refusal = self._refusal(request)
        if refusal is not None:
            code, reason = refusal
            answer = ServiceAnswer(request.request, Verdict.REFUSED, reason, code=code)
            connection.answer(answer)
            return
        announced = _Announced(request.guid, request.service, request.mode)
        self._announced[request.session] = announced
        asyncio.get_running_loop().call_later(
            request.timeout + self._config.path_timeout, self._forget, request.session, announced
        )
        match request.mode:
            case Mode.COMBINED:
                entries = self._entries(connection, request.service)
                answer = ServiceAnswer(request.request, Verdict.ACCEPTED, entries=entries)
            case Mode.CENTRAL | Mode.AUTO:
                answer = ServiceAnswer(request.request, Verdict.ACCEPTED)
                if request.ticket is not None:
                    self._spawn(self._attach(connection, request.ticket))
            case Mode.P2P:
                answer = ServiceAnswer(request.request, Verdict.ACCEPTED)
            case _:
                assert_never(request.mode)
        connection.answer(answer)

    async def serve(self, stream: Stream, kind: PathKind = PathKind.DIRECT) -> None:
        """Take one incoming stream to its session, or close it with a reason."""
        path = Path(stream, self._tls, kind, server=True)
        try:
            hello = await path.accept(self._config.path_timeout)
        except RoamRelayError as error:
            log.debug("path failed", kind=kind.value, remote=path.remote, reason=error.reason)
            return
        refusal = self._path_refusal(path, hello)
        if refusal is not None:
            code, reason = refusal
            path.reject(code, reason)
            log.info(
                "path refused", caller=path.remote_guid[:8], mode=hello.mode.value, reason=reason
            )
            return
        self._announced.pop(hello.session, None)
        session = Session(
            session_id=hello.session,
            remote=path.remote_guid,
            service=hello.service,
            mode=hello.mode,
            settings=self._config.session,
            on_end=self._end_session,
        )
        path.welcome(session.welcome())
        try:
            session.take_path(path, hello)
        except ProtocolViolation as error:
            path.abort()
            session.abort(error.reason)
            return
        self._sessions[session.id] = session
        self._listeners[hello.service].offer(session)

    async def _attach(self, connection: ControlConnection, ticket: str) -> None:
        try:
            stream = await self._relayed(connection, ticket)
        except RoamRelayError as error:
            log.warning("cannot attach to the plane", reason=error.reason)
            return
        await self.serve(stream, PathKind.RELAYED)

    def _refusal(self, request: ServiceRequestFrom) -> tuple[Code, str] | None:
        listener = self._listeners.get(request.service)
        if listener is None:
            return Code.UNKNOWN_SERVICE, f"nobody listens for {request.service}"
        if request.session in self._sessions or request.session in self._announced:
            return Code.REFUSED, "this session exists already"
        if len(self._announced) >= _MAX_ANNOUNCED:
            return Code.LIMIT_EXCEEDED, "too many requests at once"
        return listener.refusal(request.guid)

    def _path_refusal(self, path: Path, hello: PathHello) -> tuple[Code, str] | None:
        if hello.version != VERSION:
            return Code.VERSION_UNSUPPORTED, f"version {VERSION} is spoken here"
        if hello.resume or hello.session in self._sessions:
            return Code.SESSION_UNKNOWN, "no session can be resumed here"
        announced = self._announced.get(hello.session)
        expected = _Announced(path.remote_guid, hello.service, hello.mode)
        if hello.mode is Mode.P2P and path.kind is PathKind.DIRECT:
            if announced is not None:
                return Code.SESSION_UNKNOWN, "this session was announced otherwise"
        elif announced != expected or (hello.mode is Mode.CENTRAL) != (
            path.kind is PathKind.RELAYED
        ):
            return Code.SESSION_UNKNOWN, "the relay has announced no such session"
        listener = self._listeners.get(hello.service)
        if listener is None:
            return Code.UNKNOWN_SERVICE, f"nobody listens for {hello.service}"
        return listener.refusal(path.remote_guid)

    def _forget(self, session: bytes, announced: _Announced) -> None:
        if self._announced.get(session) is announced:
            del self._announced[session]
