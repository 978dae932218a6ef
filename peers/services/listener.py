"""A service that this peer offers: who may ask for it, and the sessions that wait to be taken."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import NoneType, TracebackType
from typing import Self

from peers.config import checked_disclosure, checked_guids, checked_kind
from peers.location import Offered
from peers.session import Session
from peers.tasks import check_loop, running_loop
from protocol.errors import Code, ConnectionClosed, RoamRelayError
from protocol.messages import Disclosure
from protocol.messages import Service as ServiceName

__all__ = ["Listener", "Refusal"]

BACKLOG, BACKLOG_EACH = 256, 128
"""Sessions that may wait to be taken, in all and of one caller; further requests are refused with
`limit_exceeded`."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request or a path is refused."""

    code: Code
    reason: str


class Listener:
    """The sessions that callers open for one service: `async for session in listener`.

    It ends when it is closed, or when its peer is; if the peer lost its registration for good, the
    iteration raises that error.
    """

    def __init__(
        self,
        service: ServiceName,
        *,
        allow: Collection[str] | None,
        disclose: str | Collection[str],
        on_closed: Callable[["Listener"], None],
        port: int | None = None,
    ) -> None:
        self.service = service
        """Its name."""
        disclosure, listed = checked_disclosure(disclose)
        self.offered = Offered(service, port, disclosure, listed)
        """What the record tells of it."""
        self.allow = None if allow is None else frozenset(checked_guids(allow, "allow"))
        """The GUIDs that may ask; None lets anyone."""
        self._on_closed = on_closed
        self._loop = running_loop()
        self._waiting: asyncio.Queue[Session | None] = asyncio.Queue()
        self._waiting_of: Counter[str] = Counter()
        """How many of them each caller has."""
        self._closed = False
        self._error: RoamRelayError | None = None

    @property
    def port(self) -> int | None:
        """Where another program serves this; None where its sessions come here."""
        return self.offered.port

    def refusal(self, guid: str) -> Refusal | None:
        """Return why a request of this peer is refused; None where it is not."""
        if self.port is not None:
            return Refusal(Code.REFUSED, f"{self.service} is another program's: dial its endpoint")
        if self.allow is not None and guid not in self.allow:
            return Refusal(Code.REFUSED, f"{self.service} is not for this peer")
        if self._waiting.qsize() >= BACKLOG:
            return Refusal(
                Code.LIMIT_EXCEEDED, f"{BACKLOG} sessions already wait for {self.service}"
            )
        if self._waiting_of[guid] >= BACKLOG_EACH:
            return Refusal(
                Code.LIMIT_EXCEEDED, f"{BACKLOG_EACH} of your sessions wait for {self.service}"
            )
        return None

    def discloses_to(self, guid: str) -> bool:
        """Whether this peer may learn where the service is."""
        match self.offered.disclosure:
            case Disclosure.ANYONE:
                return True
            case Disclosure.LISTED:
                return guid in self.offered.listed
            case Disclosure.NOBODY:
                return False

    def offer(self, session: Session) -> None:
        """Queue a session for the application. Ask `refusal` first."""
        if self._closed:
            session.abort("the service is closed")
        else:
            self._waiting.put_nowait(session)
            self._waiting_of[session.remote] += 1

    def close(self, error: RoamRelayError | None = None) -> None:
        """Take the service back. Sessions that were not taken are aborted; the others live on."""
        check_loop(self._loop, "the listener")
        checked_kind("error", error, (RoamRelayError, NoneType), "one of our errors")
        if self._closed:
            return
        self._closed = True
        self._error = error
        while not self._waiting.empty():
            session = self._waiting.get_nowait()
            if session is not None:
                self._taken(session)
                session.abort("the service is closed")
        self._waiting.put_nowait(None)
        self._on_closed(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Session:
        check_loop(self._loop, "the listener")
        # No timeout: when a caller comes is not ours to decide.
        session = await self._waiting.get()
        if session is not None:
            self._taken(session)
            return session
        self._waiting.put_nowait(None)
        if self._error is not None and not isinstance(self._error, ConnectionClosed):
            raise self._error
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _taken(self, session: Session) -> None:
        self._waiting_of[session.remote] -= 1
        if not self._waiting_of[session.remote]:
            del self._waiting_of[session.remote]
