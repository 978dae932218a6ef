"""The relay's listening sockets: what comes is counted, and heard before aiohttp has it."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from protocol.hosts import host_of
from relay.http.door import Doorkeeper
from relay.http.visit import Visit
from relay.http.visitor import Hall, RawRoutes, Visitor
from relay.limits import ARRIVAL, Charge
from relay.tasks import Spawn

__all__ = ["Deadlines", "Entrance", "Served", "Serves"]

_AT_ONCE = 16
"""Connections that are accepted in one turn of the loop: a flood leaves the others theirs."""

_HELD = 256
"""Connections of one network that wait until they can be paid for, among its newcomers. What comes
beyond is reset at once, which costs 15 µs: it could not be answered in time."""

_RESET = struct.pack("ii", 1, 0)

_PAUSE = 0.1
"""Seconds for which nobody is accepted where the system has no descriptor or memory left."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds."""

    request: float
    """For the first byte with the header and TLS, and for each request."""
    answer: float
    """For what is answered to be read."""


class Serves(Protocol):
    """Who serves those who have come in."""

    @property
    def raw(self) -> RawRoutes | None:
        """Who serves what need not be read by `protocol`."""

    def protocol(self, visitor: Visitor, hall: Hall) -> asyncio.Protocol:
        """Return what serves a visitor's connection; it calls `visitor.served` when it has it.

        Raises:
            ConnectionAbortedError: the relay goes down.
        """


@dataclass(frozen=True, slots=True)
class Served:
    """HTTP serves them."""

    runner: web.BaseRunner
    """aiohttp's."""
    raw: RawRoutes | None = None
    """What need not be read by aiohttp."""

    def protocol(self, visitor: Visitor, hall: Hall) -> asyncio.Protocol:
        server = self.runner.server
        if server is None:
            raise ConnectionAbortedError("the relay goes down")
        return Visit(server, visitor, hall)


class Entrance:
    """The entrance of one relay."""

    def __init__(
        self,
        served: Serves,
        doorkeeper: Doorkeeper,
        deadlines: Deadlines,
        charge: Charge,
        spawn: Spawn,
    ) -> None:
        self._served = served
        self._doorkeeper = doorkeeper
        self._hall = Hall(
            doorkeeper,
            self._protocol,
            served.raw,
            charge,
            spawn,
            deadlines.request,
            deadlines.answer,
        )
        self._listening: list[socket.socket] = []
        self._tls: ssl.SSLContext | None = None
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}

    def open(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        """Accept on listening sockets, which are the entrance's from now on."""
        self._tls = tls
        self._listening += sockets
        for listening in sockets:
            self._resume(listening)

    def close(self) -> None:
        """Accept nobody any more. Who is here already stays."""
        loop = asyncio.get_running_loop()
        listening, self._listening = self._listening, []
        for sock in listening:
            if (pause := self._pauses.pop(sock, None)) is not None:
                pause.cancel()
            loop.remove_reader(sock)
            sock.close()

    def _resume(self, listening: socket.socket) -> None:
        self._pauses.pop(listening, None)
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                # No descriptors, or no memory. Who waits in the backlog goes on waiting.
                self._doorkeeper.make_room()
                loop = asyncio.get_running_loop()
                loop.remove_reader(listening)
                self._pauses[listening] = loop.call_later(_PAUSE, self._resume, listening)
                return
            self._arrive(sock, address)

    def take(self, sock: socket.socket) -> None:
        """Serve a connection that another process has accepted, and has read nothing of, as one
        that has just come."""
        try:
            address = sock.getpeername()
        except OSError:  # It has gone meanwhile.
            sock.close()
            return
        self._arrive(sock, address)

    def _arrive(self, sock: socket.socket, address: tuple[str, int]) -> None:
        visitor, stays = None, False
        try:
            sock.setblocking(False)
            host = host_of(address)
            visitor = Visitor(self._hall, sock, (host, address[1]), self._tls)
            # For whom a proxy brings it is charged when the proxy has said who it is.
            trusted = self._doorkeeper.proxies.trusts(host)
            wait = 0.0 if trusted else visitor.toll.take(ARRIVAL)
            if wait and self._doorkeeper.waiting(host) >= _HELD:
                # Little more than two calls of the system: the backlog is everybody's.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self._doorkeeper.refused("too_often", host)
                return
            if self._doorkeeper.arrive(visitor, host, sock.fileno()):
                visitor.begin(wait)
                stays = True
        finally:
            if not stays:
                try:
                    if visitor is not None:
                        visitor.left()
                finally:
                    sock.close()

    def _protocol(self, visitor: Visitor) -> asyncio.Protocol:
        return self._served.protocol(visitor, self._hall)
