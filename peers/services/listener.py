"""A service that this peer offers, as a program sees it: the sessions that wait to be taken.

Who may ask, and how a session gets there, is in end.py, for the rooms that bring it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from types import NoneType, TracebackType
from typing import Self

from peers.config import checked_disclosure, checked_kind
from peers.location import Offered
from peers.services.admission import Admission
from peers.session import Session
from peers.tasks import check_loop, running_loop
from protocol.errors import ConnectionClosed, RoamRelayError
from protocol.messages import Service as ServiceName

__all__ = ["Listener"]


class Listener:
    """The sessions that callers open for one service: `async for session in listener`.

    It ends when it is closed, or when its peer is; if the peer lost its registration for good, the
    iteration raises that error.
    """

    def __init__(
        self,
        service: ServiceName,
        admission: Admission,
        *,
        disclose: str | Collection[str],
        on_closed: Callable[["Listener"], None],
        port: int | None = None,
    ) -> None:
        disclosure, listed = checked_disclosure(disclose)
        self._offered = Offered(service, port, disclosure, listed)
        self._admission = admission
        self._on_closed = on_closed
        self._loop = running_loop()
        self._waiting: asyncio.Queue[Session | None] = asyncio.Queue()
        self._waiting_of: Counter[str] = Counter()
        """How many of them each caller has."""
        self._closed = False
        self._error: RoamRelayError | None = None

    @property
    def service(self) -> str:
        """The name of the service."""
        return self._offered.service

    @property
    def allow(self) -> frozenset[str] | None:
        """The GUIDs that may ask; None lets anyone."""
        return self._admission.allow

    @property
    def port(self) -> int | None:
        """Where another program serves this; None where its sessions come here."""
        return self._offered.port

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
