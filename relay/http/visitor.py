"""One connection, from when it is accepted until it has proven whose it is, or has gone.

What it has to say has deadlines: its first byte, the header of a proxy, TLS; then its request; then
what it is answered, which it must read. aiohttp has it from its request on, but for those that it
need not read (raw_request.py).
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from aiohttp import web

from relay.http.door import Doorkeeper
from relay.http.forwarded import BadForwarding
from relay.http.metered import Early, Meter
from relay.http.origin import Headers, Origin
from relay.http.proxy_header import (
    MAX_HEADER,
    BadProxyHeader,
    ProxyHeader,
    looks_like_header,
    read_header,
)
from relay.http.raw_request import MAX_HEAD, RawRequest, read_raw_request
from relay.limits import ANSWER, ARRIVAL, BYTE, EVENT, HANDSHAKE, Charge, Toll, cause_of
from relay.log import log
from relay.tasks import Spawn

__all__ = ["Hall", "RawRoute", "RawRoutes", "Visitor"]

RawRoute = Callable[["Visitor", RawRequest, socket.socket], Awaitable[web.Response | None]]
"""Serves a request for the raw carrier on its socket, which it has then, or has closed. What it
returns is a refusal, and then nothing was done to the socket. Where it raises, that is either
untouched or closed."""

_AGAIN = 0.02
"""Seconds until a header of which a part is here is looked at again: nothing of it is taken out of
the socket before all of it is there, so the socket goes on being readable."""


@dataclass(frozen=True, slots=True)
class RawRoutes:
    """Who serves requests for the raw carrier that aiohttp need not read."""

    control: RawRoute
    plane: RawRoute


@dataclass(frozen=True, slots=True)
class Hall:
    """What all visitors of a relay share; times are seconds."""

    doorkeeper: Doorkeeper
    handlers: Callable[["Visitor"], asyncio.Protocol]
    """Makes what aiohttp serves a connection with."""
    raw: RawRoutes | None
    charge: Charge
    spawn: Spawn
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
        "answer",
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
        self.answer: web.Response | None = None
        """What its first request is answered, where that was decided before aiohttp has read it."""

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

    def led(self, host: str) -> float:
        """Another node has led its leg here, and has proven that it has come to it from this
        address (empty: nobody knows), which answers for it, and pays for all of it. Return 0, or
        for how many seconds it has to wait."""
        self.origin = Origin(host, 0, self._connection.host)
        self._hall.doorkeeper.moved(self, self.origin.charged)
        return self.toll.pass_on(cause_of(self.origin.charged), ARRIVAL + EVENT + ANSWER)

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
    def is_whole(self) -> bool:
        """Whether all that it has sent is still in its socket: no header of a proxy was taken
        out."""
        return not self._connection.proxy

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
        self._hall.spawn(self._hand_over(), self._handed_over)

    async def _hand_over(self) -> None:
        """Give the connection to whom it asks for on its first look; or to aiohttp, through TLS
        where the relay speaks it."""
        loop: Any = self._loop
        if self._stage is _Stage.GONE:
            return
        self._stage = _Stage.GREETING
        try:
            if self._tls is None and await self._is_raw():
                return
            try:
                visit = self._hall.handlers(self)
            except ConnectionAbortedError:
                self._end()
                return
            # No timeout of its own: TLS has one, and `_late` ends it.
            if self._tls is None:
                await loop.connect_accepted_socket(lambda: visit, self._socket)
            else:
                await self._shake_hands(visit, self._tls)
        except ssl.SSLError as error:
            self.refused("bad_tls", error.reason or "")
        except OSError:
            pass  # It has gone, or was late, which is counted there.

    def _handed_over(self) -> None:
        """The hand-over is over, or has never begun, as the relay closes."""
        if self._stage is _Stage.SILENT:
            self._end()
        elif self._stage in (_Stage.GREETING, _Stage.GONE):
            self.drop("aborted")
            self.stop_waiting()
            self.left()

    async def _is_raw(self) -> bool:
        """Serve what asks for the raw carrier and is there whole. Whatever must wait, or cannot be
        read here, stays in the socket as it is, and what is refused is answered by aiohttp."""
        routes = self._hall.raw
        if routes is None:
            return False
        try:
            data = self._socket.recv(MAX_HEAD, socket.MSG_PEEK)
        except OSError:
            return False
        paid = EVENT + len(data) * BYTE + ANSWER
        if not data.endswith(b"\r\n\r\n") or self.toll.take(paid):
            return False
        request = read_raw_request(data)
        if request is None or self._hall.doorkeeper.draining:
            self.toll.give_back(paid)
            return False
        try:
            self.asks(request.headers)
        except BadForwarding:
            return False
        route = routes.plane if request.ticket else routes.control
        try:
            self.answer = await route(self, request, self._socket)
        except Exception as error:
            log.error("a request failed", exc_info=error)
            if self._socket.fileno() >= 0:
                self.answer = web.Response(status=500)
        if self.answer is not None:
            return False
        self.stop_waiting()
        return True

    async def _shake_hands(self, visit: asyncio.Protocol, tls: ssl.SSLContext) -> None:
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
