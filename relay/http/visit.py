"""What aiohttp serves a visitor with: what arrives is paid for before it is read, and what is
answered has to be read.
"""

import asyncio
import logging
from typing import Any, cast

from aiohttp import web

from relay.http import answers
from relay.http.origin import has_passed_a_proxy
from relay.http.raw_request import asks_to_upgrade
from relay.http.visitor import Hall, Visitor
from relay.limits import BYTE, EVENT
from relay.log import NAME

__all__ = ["Visit", "not_an_upgrade", "visitor_of"]

_log = logging.getLogger(f"{NAME}.http")

_SLICE = 1 << 16
"""Bytes that are read in one turn of the loop: some 2 ms, where they are frames without payload."""

_UNREADABLE = (ValueError, IndexError)
"""What yarl raises, through aiohttp, at some targets that are no URL (`http://[x]@/`), and at some
hosts of one (`http://xn--a/`)."""


_CLOSED = "the handler is closed"
"""What uvloop says where something is written to a connection that has just gone, before the
transport says that it is closing."""


class Visit(web.RequestHandler):
    """What aiohttp serves a visitor with. A visitor that does not read its answers is ended; one
    that sends more than it may is not read for a while.
    """

    __slots__ = ("_hall", "_kept", "_rest", "_turn", "_unread", "visitor")

    def __init__(self, server: web.Server, visitor: Visitor, hall: Hall) -> None:
        settings: dict[str, Any] = {
            "access_log": None,  # aiohttp takes it so, and its types do not
            "logger": _log,
            "keepalive_timeout": hall.timeout,
            "lingering_time": min(1.0, hall.timeout),
        }
        super().__init__(server, loop=asyncio.get_running_loop(), **settings)
        self._hall = hall
        self._kept: asyncio.Transport | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._rest = b""
        """What has arrived and is not read yet; nothing more arrives meanwhile."""
        self._turn: asyncio.TimerHandle | None = None
        """When it goes on."""
        self.visitor = visitor

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._kept = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        # Anything that the kernel does not take at once starts the deadline.
        self._kept.set_write_buffer_limits(high=1)
        self.visitor.served(self._let_write)
        super().connection_made(transport)
        if self._rest:
            self._wait(0.0)

    def data_received(self, data: bytes) -> None:
        if not data:
            self._read(data)  # It is aiohttp that goes on with what it has.
            return
        self.visitor.bring(len(data))
        if self._kept is None or self._rest or len(data) > _SLICE:
            self._rest += data
            if self._kept is not None and self._turn is None:
                self._go_on()
        elif wait := self.visitor.toll.take(EVENT + len(data) * BYTE):
            self._rest = data
            self._wait(wait)
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except _UNREADABLE:
            self._unreadable()

    def _wait(self, seconds: float) -> None:
        """Read nothing for so long; 0: until others have had their turn."""
        self._pause_transport_reading()
        self._turn = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        """Read the next slice of what has arrived, where it is paid for."""
        self._turn = None
        # Another protocol may have the connection now; or aiohttp says itself when it goes on.
        if self._kept is None or self._kept.get_protocol() is not self or self._is_full:
            return
        data = self._rest[:_SLICE]
        if wait := self.visitor.toll.take(EVENT + len(data) * BYTE):
            self._wait(wait)
            return
        self._rest = self._rest[_SLICE:]
        self._read(data)
        if self._rest:
            self._wait(0.0)
        elif not self._is_full:
            super()._resume_transport_reading()

    @property
    def _is_full(self) -> bool:
        """Whether aiohttp takes nothing more now."""
        return self._reading_paused or self._buffer_paused

    def _resume_transport_reading(self) -> None:
        if self._turn is not None:
            return
        if self._rest:
            self._wait(0.0)
        else:
            super()._resume_transport_reading()

    async def start(self) -> None:
        """Serve the requests of the connection."""
        try:
            await super().start()
        except _UNREADABLE:
            self._unreadable()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_waiting()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._rest = b""
        if self._kept is not None:
            super().connection_lost(exc)
        self._kept = None
        self.visitor.lost()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.visitor.is_asking:
            self._unread = self._loop.call_later(self._hall.write_deadline, self._too_late)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP; aiohttp logs a traceback for each, and strangers cause them."""
        if status == 500 or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        self.visitor.refused("bad_http")
        response = web.Response(status=status, text="this is no HTTP that can be read\n")
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; whoever has gone in this very moment is no fault of ours. uvloop raises
        RuntimeError then, and aiohttp logs a traceback for it."""
        try:
            return await super().finish_response(request, resp, start_time)
        except RuntimeError as error:
            if _CLOSED not in str(error):
                raise
            return resp, True

    def resume_writing(self) -> None:
        self._stop_waiting()
        super().resume_writing()

    def _let_write(self) -> None:
        """It has become a connection that has limits of its own."""
        self._stop_waiting()
        if self._kept is not None:
            self._kept.set_write_buffer_limits()

    def _stop_waiting(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _unreadable(self) -> None:
        self.visitor.refused("bad_http")
        if self._kept is not None:
            self._kept.abort()

    def _too_late(self) -> None:
        self.visitor.refused("unread")
        if self._kept is not None:
            self._kept.abort()


def visitor_of(request: web.Request) -> Visitor:
    """Return whose request it is."""
    return cast(Visit, request.protocol).visitor


def not_an_upgrade(request: web.Request) -> web.Response:
    """Refuse what asks for no upgrade. Where a proxy has dropped what does, the answer and the log
    say so. It shows by its own headers, or by those of a WebSocket, which it passes on; where
    nothing shows, it may have been somebody's browser."""
    visitor, headers = visitor_of(request), request.headers
    proxy = visitor.origin.proxy
    if not proxy and has_passed_a_proxy(headers):
        proxy = visitor.origin.host
    if "Upgrade" not in headers:
        dropped = "the Upgrade header"
    elif not asks_to_upgrade(headers):
        dropped = "'Connection: upgrade'"
    else:
        visitor.refused("upgrade_required")
        return answers.not_an_upgrade("")
    who = f"the proxy at {proxy}" if proxy else "a proxy on the way"
    said = f"{who} drops {dropped}"
    shows = proxy or "Sec-WebSocket-Key" in headers
    visitor.refused("stripped_upgrade" if shows else "upgrade_required", f"it seems that {said}")
    return answers.not_an_upgrade(said)
