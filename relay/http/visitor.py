"""One connection, from when it is accepted until it has proven whose it is, or has gone.

What it has to say has deadlines: its first byte, the header of a proxy, TLS; then its request; then
what it is answered, which it must read. aiohttp has it from its request on.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

from aiohttp import web

from relay.http import answers
from relay.http.door import Doorkeeper
from relay.http.origin import Headers, Origin, Proxies, has_passed_a_proxy
from relay.http.proxy_header import (
    MAX_HEADER,
    BadProxyHeader,
    ProxyHeader,
    looks_like_header,
    read_header,
)
from relay.log import NAME

__all__ = ["Hall", "Visit", "Visitor", "not_an_upgrade", "visitor_of"]

_log = logging.getLogger(f"{NAME}.http")

_AGAIN = 0.02
"""Seconds until a header of which a part is here is looked at again: nothing of it is taken out of
the socket before all of it is there, so the socket goes on being readable."""

_UNREADABLE = (ValueError, IndexError)
"""What yarl raises, through aiohttp, at some targets that are no URL (`http://[x]@/`), and at some
hosts of one (`http://xn--a/`)."""


@dataclass(frozen=True, slots=True)
class Hall:
    """What all visitors of a relay share; times are seconds."""

    doorkeeper: Doorkeeper
    proxies: Proxies
    handlers: Callable[["Visitor"], "Visit"]
    """Makes what aiohttp serves a connection with."""
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    timeout: float
    """For the first byte with the header and TLS, and for each request."""
    write_deadline: float
    """For what a visitor is answered."""


class _Stage(Enum):
    SILENT = "silent"
    """Nothing was said, or a part of a proxy's header."""
    GREETING = "greeting"
    """aiohttp is about to have it; under TLS, after the handshake."""
    ASKING = "asking"
    """aiohttp has it."""
    CARRIED = "carried"
    """It has become a control connection, which has deadlines of its own."""
    GONE = "gone"


class Visitor:
    """A connection that has come from an address."""

    __slots__ = (
        "_abort",
        "_connection",
        "_deadline",
        "_hall",
        "_let_write",
        "_loop",
        "_socket",
        "_stage",
        "_timer",
        "_tls",
        "origin",
    )

    def __init__(
        self, hall: Hall, sock: socket.socket, address: tuple[str, int], tls: ssl.SSLContext | None
    ) -> None:
        self._hall = hall
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._tls = tls
        self._stage = _Stage.SILENT
        self._connection = Origin(*address)
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._abort: Callable[[str], None] | None = None
        self._let_write: Callable[[], None] | None = None
        self.origin = self._connection
        """Where its last request comes from."""

    def begin(self) -> None:
        """Wait for what it says first. It is counted already."""
        self._deadline = self._loop.call_later(self._hall.timeout, self._late)
        self._look()

    def drop(self, reason: str) -> None:
        """End it now, whoever has it."""
        if self._abort is not None:
            self._abort(reason)
        elif self._stage is _Stage.SILENT:
            self._end()
        else:
            # Whoever has the connection reads its end, and closes it: a socket that the loop has
            # is never closed behind its back.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._stage = _Stage.GONE

    def asks(self, headers: Headers) -> None:
        """It has sent a request, which says where it comes from.

        Raises:
            BadForwarding: a trusted proxy has sent what cannot be read.
        """
        self.origin = self._hall.doorkeeper.origin(self, self._connection, headers)

    def taken(self) -> None:
        """Its socket is being taken from aiohttp: that the one connection ends is not its end."""
        self._upgraded()

    def carried(self, abort: Callable[[str], None]) -> None:
        """It has become a control connection, which is ended by `abort`, and which says when it is
        `proven` or has `left`. Who was dropped meanwhile is ended now."""
        if self._stage is _Stage.GONE:
            abort("crowded_out")
            return
        self._upgraded()
        self._abort = abort

    def proven(self) -> None:
        """A peer has proven that it is its own."""
        self._abort = None
        self._upgraded()
        self._hall.doorkeeper.proven(self, self.origin.charged)

    def _upgraded(self) -> None:
        self._stage = _Stage.CARRIED
        let_write, self._let_write = self._let_write, None
        if let_write is not None:
            let_write()

    def left(self) -> None:
        """It has gone."""
        self._abort = None
        self._stage = _Stage.GONE
        self._hall.doorkeeper.left(self)

    @property
    def is_asking(self) -> bool:
        """Whether aiohttp has it and it is nothing but a client of HTTP."""
        return self._stage is _Stage.ASKING

    def refused(self, reason: str, detail: str = "") -> None:
        """What it has asked for is not given, or it is about to be ended."""
        self._hall.doorkeeper.refused(reason, self.origin.text, detail)

    # -- its first bytes ------------------------------------------------------------------------

    def _look(self) -> None:
        """Look at what is there, and leave it there but for a whole header of a trusted proxy."""
        hall, near = self._hall, self._connection
        trusted = hall.proxies.trusts(near.host)
        try:
            data = self._socket.recv(MAX_HEADER if trusted else 16, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            self._loop.add_reader(self._socket, self._readable)
            return
        except OSError:
            self._end()
            return
        begins = looks_like_header(data)
        if not data:
            self._end()
        elif not trusted:
            if begins:
                self._refuse("untrusted_proxy", "a PROXY header, and no trusted proxy")
            else:
                self._greet(None)
        elif begins is False:
            self._greet(None)
        else:
            try:
                header = read_header(data) if begins else None
                if header is not None:
                    self._socket.recv(header.length)
            except BadProxyHeader as error:
                self._refuse("bad_proxy_header", error.reason)
            except OSError:
                self._end()
            else:
                if header is None:
                    self._timer = self._loop.call_later(_AGAIN, self._look)
                else:
                    self._greet(header)

    def _readable(self) -> None:
        self._loop.remove_reader(self._socket)
        self._look()

    def _greet(self, header: ProxyHeader | None) -> None:
        hall, near = self._hall, self._connection
        self._connection = self.origin = hall.proxies.of_connection(near.host, near.port, header)
        hall.doorkeeper.moved(self, self.origin.charged)
        self._stage = _Stage.GREETING
        hall.spawn(self._hand_over())

    async def _hand_over(self) -> None:
        """Give the connection to aiohttp, through TLS where the relay speaks it."""
        loop: Any = self._loop
        deadline = self._hall.timeout
        limits: dict[str, Any] = {}
        if self._tls is not None:
            limits = {
                "ssl": self._tls,
                "ssl_handshake_timeout": deadline,
                "ssl_shutdown_timeout": min(2.0, self._hall.write_deadline),
            }
        try:
            visit = self._hall.handlers(self)
        except ConnectionAbortedError:
            self._end()
            return
        try:
            # No timeout of its own: TLS has one, and `_late` ends it.
            await loop.connect_accepted_socket(lambda: visit, self._socket, **limits)
        except ssl.SSLError as error:
            self.refused("bad_tls", error.reason or "")
        except OSError:
            pass  # It has gone, or was late, which is counted there.
        finally:
            if self._stage in (_Stage.GREETING, _Stage.GONE):
                self.drop("aborted")
                self.stop_waiting()
                self.left()

    def _late(self) -> None:
        """It has said too little in its time."""
        self._deadline = None
        silent = self._stage is _Stage.SILENT
        self.refused("silent" if silent else "late")
        self.drop("late")

    def _refuse(self, reason: str, detail: str) -> None:
        self.refused(reason, detail)
        self._end()

    def _end(self) -> None:
        """Close a connection that nobody has taken."""
        if self._stage is _Stage.SILENT:
            self._loop.remove_reader(self._socket)
        self.stop_waiting()
        self.left()
        self._socket.close()

    def stop_waiting(self) -> None:
        """The first deadline was met."""
        for timer in (self._timer, self._deadline):
            if timer is not None:
                timer.cancel()
        self._timer = self._deadline = None

    def served(self, let_write: Callable[[], None]) -> None:
        """aiohttp has the connection now; `let_write` takes the deadline off its answers."""
        self.stop_waiting()
        self._let_write = let_write
        self._stage = _Stage.ASKING

    def lost(self) -> None:
        """aiohttp has it no more: it has gone, unless a carrier has taken it."""
        if self._stage in (_Stage.GREETING, _Stage.ASKING):
            self.left()


class Visit(web.RequestHandler):
    """What aiohttp serves a visitor with. A visitor that does not read its answers is ended."""

    __slots__ = ("_hall", "_kept", "_unread", "visitor")

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
        self.visitor = visitor

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._kept = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        # Anything that the kernel does not take at once starts the deadline.
        self._kept.set_write_buffer_limits(high=1)
        self.visitor.served(self._let_write)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except _UNREADABLE:
            self._unreadable()

    async def start(self) -> None:
        """Serve the requests of the connection."""
        try:
            await super().start()
        except _UNREADABLE:
            self._unreadable()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)
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
    tokens = headers.get("Connection", "").lower().replace(" ", "").split(",")
    proxy = visitor.origin.proxy
    if not proxy and has_passed_a_proxy(headers):
        proxy = visitor.origin.host
    if "Upgrade" not in headers:
        dropped = "the Upgrade header"
    elif "upgrade" not in tokens:
        dropped = "'Connection: upgrade'"
    else:
        visitor.refused("upgrade_required")
        return answers.not_an_upgrade("")
    who = f"the proxy at {proxy}" if proxy else "a proxy on the way"
    said = f"{who} drops {dropped}"
    shows = proxy or "Sec-WebSocket-Key" in headers
    visitor.refused("stripped_upgrade" if shows else "upgrade_required", f"it seems that {said}")
    return answers.not_an_upgrade(said)
