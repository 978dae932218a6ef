"""The relay's second port: it tells who connects there where it is seen, and nothing else.

A question has 32 bytes, its answer as many, and the connection ends. Who comes is one of the crowd,
pays for its arrival as anybody does, and has the time of a request.
"""

import asyncio
from collections.abc import Sequence
from typing import cast

from protocol.endpoint import Endpoint
from protocol.observation import SIZE, answer_to
from relay.http.front import Arrivals
from relay.http.visitor import Hall, Visitor
from relay.limits import BYTE, EVENT, MESSAGE
from relay.listening import bind
from relay.log import guarded

__all__ = ["Mirror"]


class Mirror:
    """The second port of one relay. Call `open` first, and `close`."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._entrance = arrivals.entrance(_Reflections())
        self.port = 0
        """0 where it is not open."""
        self.endpoints: tuple[Endpoint, ...] = ()

    async def open(self, hosts: Sequence[str], port: int, *, is_shared: bool = False) -> None:
        """Listen at each host. A port that is shared is that of other processes too.

        Raises:
            ConfigError: it cannot listen there.
        """
        bound = await bind(hosts, port, is_shared=is_shared)
        self._entrance.open(bound.tcp, None)
        self.port, self.endpoints = bound.port, bound.endpoints

    def close(self) -> None:
        """Accept nobody any more."""
        with guarded("closing a listener"):
            self._entrance.close()


class _Reflections:
    """Serves everybody by a reflection."""

    raw = None

    def protocol(self, visitor: Visitor, hall: Hall) -> asyncio.Protocol:
        return _Reflection(visitor, hall)


class _Reflection(asyncio.Protocol):
    """One connection: a question, its answer, the end."""

    def __init__(self, visitor: Visitor, hall: Hall) -> None:
        self._visitor = visitor
        self._hall = hall
        self._asked = b""
        self._late: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._visitor.served(self._let_write)
        loop = asyncio.get_running_loop()
        self._late = loop.call_later(self._hall.timeout, self._abort, "late")

    def data_received(self, data: bytes) -> None:
        transport, visitor = self._transport, self._visitor
        if transport is None or transport.is_closing():
            return
        self._asked += data
        # Who cannot pay now is not served later: there is nothing to keep it for.
        if visitor.toll.take(EVENT + len(data) * BYTE + MESSAGE):
            self._abort("too_often")
        elif self._hall.doorkeeper.draining:
            self._abort("draining")
        elif len(self._asked) >= SIZE:
            answer = self._answer()
            if answer is None:
                self._abort("no_question")
            else:
                transport.write(answer)
                transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()
        self._visitor.lost()

    def _answer(self) -> bytes | None:
        origin = self._visitor.origin
        if not origin.host or not origin.port:
            return None
        return answer_to(self._asked, origin.host, origin.port)

    def _abort(self, reason: str) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._visitor.refused(reason)
            self._transport.abort()
        elif self._transport is not None:
            self._transport.abort()  # It has not taken its answer.

    def _let_write(self) -> None:
        """Nothing takes the connection over."""
