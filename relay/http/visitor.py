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
from relay.http.metered import Early, Meter
from relay.http.origin import Headers, Origin, has_passed_a_proxy
from relay.http.proxy_header import (
    MAX_HEADER,
    BadProxyHeader,
    ProxyHeader,
    looks_like_header,
    read_header,
)
from relay.limits import ARRIVAL, BYTE, EVENT, HANDSHAKE, Charge, Toll, cause_of
from relay.log import NAME

__all__ = ["Hall", "Visit", "Visitor", "not_an_upgrade", "visitor_of"]

_log = logging.getLogger(f"{NAME}.http")

_AGAIN = 0.02
"""Seconds until a header of which a part is here is looked at again: nothing of it is taken out of
the socket before all of it is there, so the socket goes on being readable."""

_SLICE = 1 << 16
"""Bytes that are read in one turn of the loop: some 2 ms, where they are frames without payload."""

_UNREADABLE = (ValueError, IndexError)
"""What yarl raises, through aiohttp, at some targets that are no URL (`http://[x]@/`), and at some
hosts of one (`http://xn--a/`)."""


@dataclass(frozen=True, slots=True)
class Hall:
    """What all visitors of a relay share; times are seconds."""

    doorkeeper: Doorkeeper
    handlers: Callable[["Visitor"], "Visit"]
    """Makes what aiohttp serves a connection with."""
    charge: Charge
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
        "meter",
        "origin",
        "toll",
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
        self.toll = Toll(hall.charge, cause_of(self.origin.charged))
        """What its bytes cost."""
        self.meter: Meter | None = None
        """Of its TLS."""

    def begin(self, wait: float = 0.0) -> None:
        """Wait for what it says first. It is counted already; for so many seconds it has to wait
        until its arrival can be paid for."""
        self._deadline = self._loop.call_later(self._hall.timeout, self._late)
        if wait:
            self._timer = self._loop.call_later(wait, self._arrive)
        else:
            self._look()

    def _arrive(self) -> None:
        self._timer = None
        if wait := self.toll.take(ARRIVAL):
            self._timer = self._loop.call_later(wait, self._arrive)
        else:
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
        self.toll.cause = cause_of(self.origin.charged)

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

    def proven(self, guid: str) -> None:
        """A peer has proven that it is its own."""
        self.toll.cause = cause_of(self.origin.charged, guid)
        self._abort = None
        self._upgraded()
        self._hall.doorkeeper.proven(self, self.origin.charged)

    def bring(self, count: int) -> None:
        """So many bytes have come out of TLS."""
        if self.meter is not None:
            self.meter.bring(count)

    def delivered(self, count: int) -> None:
        """So many of the bytes that have come are a carrier's, and charged there."""
        self.toll.give_back(count * BYTE)

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

    def stripped_by(self, proxy: str) -> None:
        """A proxy has taken the Upgrade header out of its request."""
        self._hall.doorkeeper.refused(
            "stripped_upgrade", self.origin.text, f"the proxy at {proxy} drops the Upgrade header"
        )

    # -- its first bytes ------------------------------------------------------------------------

    def _look(self) -> None:
        """Look at what is there, and leave it there but for a whole header of a trusted proxy."""
        trusted = self._hall.doorkeeper.proxies.trusts(self._connection.host)
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
        self._connection = self.origin = hall.doorkeeper.proxies.of_connection(
            near.host, near.port, header
        )
        hall.doorkeeper.moved(self, self.origin.charged)
        self.toll.cause = cause_of(self.origin.charged)
        self._pass()

    def _pass(self) -> None:
        """Hand the connection over, when that is paid for: a handshake, and the arrival of who was
        brought by a proxy, which does not answer for it."""
        self._timer = None
        cost = ARRIVAL if self.origin.proxy else 0.0
        if self._tls is not None:
            cost += HANDSHAKE
        if cost and (wait := self.toll.take(cost)):
            self._timer = self._loop.call_later(wait, self._pass)
            return
        self._stage = _Stage.GREETING
        self._hall.spawn(self._hand_over())

    async def _hand_over(self) -> None:
        """Give the connection to aiohttp, through TLS where the relay speaks it."""
        loop: Any = self._loop
        try:
            visit = self._hall.handlers(self)
        except ConnectionAbortedError:
            self._end()
            return
        try:
            # No timeout of its own: TLS has one, and `_late` ends it.
            if self._tls is None:
                await loop.connect_accepted_socket(lambda: visit, self._socket)
            else:
                await self._shake_hands(visit, self._tls)
        except ssl.SSLError as error:
            self._hall.doorkeeper.refused("bad_tls", self.origin.text, error.reason or "")
        except OSError:
            pass  # It has gone, or was late, which is counted there.
        finally:
            if self._stage in (_Stage.GREETING, _Stage.GONE):
                self.drop("aborted")
                self.stop_waiting()
                self.left()

    async def _shake_hands(self, visit: "Visit", tls: ssl.SSLContext) -> None:
        loop: Any = self._loop
        raw, early = await loop.connect_accepted_socket(Early, self._socket)
        raw.pause_reading()
        if raw.is_closing():
            raise ConnectionResetError("it has gone")
        shaking = self._loop.create_task(
            loop.start_tls(
                raw,
                visit,
                tls,
                server_side=True,
                ssl_handshake_timeout=self._hall.timeout,
                ssl_shutdown_timeout=min(2.0, self._hall.write_deadline),
            )
        )
        try:
            # Now TLS has the transport, and has not begun to read.
            await asyncio.sleep(0)
            self.meter = Meter(raw, self.toll)
            self.meter.begin(early.data)
            transport = await shaking
            if self._stage is _Stage.GONE or raw.is_closing():  # In the same turn, or dropped.
                transport.abort()
                raise ConnectionResetError("it has gone")
            visit.connection_made(transport)
        finally:
            shaking.cancel()

    def _late(self) -> None:
        """It has said too little in its time."""
        self._deadline = None
        silent = self._stage is _Stage.SILENT
        self._hall.doorkeeper.refused("silent" if silent else "late", self.origin.text)
        self.drop("late")

    def _refuse(self, reason: str, detail: str) -> None:
        self._hall.doorkeeper.refused(reason, self.origin.text, detail)
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
        self._hall.doorkeeper.refused("bad_http", self.visitor.origin.text)
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
        self._hall.doorkeeper.refused("bad_http", self.visitor.origin.text)
        if self._kept is not None:
            self._kept.abort()

    def _too_late(self) -> None:
        self._hall.doorkeeper.refused("unread", self.visitor.origin.text)
        if self._kept is not None:
            self._kept.abort()


def visitor_of(request: web.Request) -> Visitor:
    """Return whose request it is."""
    return cast(Visit, request.protocol).visitor


def not_an_upgrade(request: web.Request) -> web.Response:
    """Refuse what asks for no upgrade. Where the header itself is missing and a proxy has passed
    the request on, the answer and the log say what the proxy does."""
    visitor = visitor_of(request)
    proxy = visitor.origin.proxy
    if not proxy and has_passed_a_proxy(request.headers):
        proxy = visitor.origin.host
    if not proxy or "Upgrade" in request.headers:
        return answers.not_an_upgrade()
    visitor.stripped_by(proxy)
    return answers.not_an_upgrade(proxy)
