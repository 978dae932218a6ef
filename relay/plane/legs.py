"""Legs of a plane that cannot be spliced: WebSockets, and connections under the relay's own TLS.

Each offers the same four calls; `copy_between` moves bytes from one to the other with
backpressure, at most one piece held at a time.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Protocol

import aiohttp
from aiohttp import web

from relay.limits import BYTE, EVENT, Toll
from relay.plane.pacing import Paces

__all__ = ["Leg", "SocketLeg", "TlsLeg", "WebSocketLeg", "copy_between", "tuned"]

_PIECE = 1 << 18


async def paid(toll: Toll) -> None:
    """Wait until what has come is paid for: meanwhile nothing more is read, and its sender has to
    wait."""
    while wait := toll.take(EVENT):
        await asyncio.sleep(wait)


class Leg(Protocol):
    """One peer's side of a plane."""

    toll: Toll
    """What each piece that comes from it costs."""

    async def read(self) -> bytes:
        """Return the next bytes; empty at the end. Raises OSError when the leg broke."""

    async def write(self, data: bytes) -> None:
        """Send bytes; wait while the peer does not read."""

    async def write_end(self) -> None:
        """Pass the end of the other leg on."""

    def abort(self) -> None:
        """End the leg now."""


class SocketLeg:
    """A plain TCP connection."""

    def __init__(self, taken: socket.socket, toll: Toll) -> None:
        self.socket = taken
        self.toll = toll

    def send_first(self, data: bytes) -> None:
        """Send a few bytes where nothing was sent before.

        Raises:
            OSError: not all of them left.
        """
        if self.socket.send(data) != len(data):
            raise ConnectionAbortedError("the first bytes did not leave at once")

    async def read(self) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self.socket, _PIECE)
        await paid(self.toll)
        return data

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def write_end(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        self.socket.close()


class TlsLeg:
    """A connection under the relay's own TLS: it has no half-close, so the end is the end."""

    def __init__(self, transport: asyncio.Transport, toll: Toll) -> None:
        self.toll = toll
        self._reader = asyncio.StreamReader(limit=_PIECE)
        self.protocol = asyncio.StreamReaderProtocol(self._reader)
        """What the transport's protocol has to be."""
        self._transport = transport
        self._writer = asyncio.StreamWriter(
            transport, self.protocol, self._reader, asyncio.get_running_loop()
        )

    async def read(self) -> bytes:
        data = await self._reader.read(_PIECE)
        await paid(self.toll)
        return data

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def write_end(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        self._transport.abort()


class WebSocketLeg:
    """A WebSocket: each piece is one binary frame, the end is a close frame."""

    def __init__(self, request: web.Request, websocket: web.WebSocketResponse, toll: Toll) -> None:
        self.toll = toll
        self._request = request
        self._websocket = websocket

    async def read(self) -> bytes:
        while True:
            # Thousands of frames may have arrived in one piece: each has its turn of the loop.
            await asyncio.sleep(0)
            message = await self._websocket.receive()
            await paid(self.toll)
            match message.type:
                case aiohttp.WSMsgType.BINARY:
                    if message.data:
                        self.toll.give_back(len(message.data) * BYTE)
                        return bytes(message.data)
                case aiohttp.WSMsgType.PING:
                    await self._websocket.pong(message.data)
                case aiohttp.WSMsgType.PONG:
                    pass
                case _:
                    return b""

    async def write(self, data: bytes) -> None:
        await self._websocket.send_bytes(data)

    async def write_end(self) -> None:
        await self._websocket.close(drain=False)

    def abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


async def copy_between(
    first: Leg,
    second: Leg,
    count: Callable[[int, int], None],
    idle: float,
    paces: Paces | None = None,
    early: tuple[bytes, bytes] = (b"", b""),
) -> str:
    """Move bytes both ways until both ends are passed on; return the reason of the end. `count` is
    told from which leg, 0 or 1, how many bytes have left. Without `paces` they move as fast as they
    can. `early` is what has come of each leg before there were both."""

    async def copy(number: int, source: Leg, target: Leg) -> None:
        if early[number]:
            async with asyncio.timeout(idle):
                await target.write(early[number])
            count(number, len(early[number]))
        while True:
            async with asyncio.timeout(idle):
                data = await source.read()
            if not data:
                break
            if paces is not None and paces.pacer.is_on:
                await paces.pacer.pass_on(paces.causes[number], len(data))
            async with asyncio.timeout(idle):
                await target.write(data)
            count(number, len(data))
        async with asyncio.timeout(idle):
            await target.write_end()

    reason = "finished"
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(copy(0, first, second))
            tasks.create_task(copy(1, second, first))
    except* TimeoutError:
        reason = "idle"
    except* (OSError, aiohttp.ClientError):
        reason = "reset"
    finally:
        for leg in (first, second):
            with contextlib.suppress(OSError):
                leg.abort()
    return reason


def tuned(leg: SocketLeg) -> SocketLeg:
    """Set what a plane's socket needs: small records leave at once, a dead peer is noticed."""
    one = leg.socket
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
    return leg
