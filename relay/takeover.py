"""Taking a connection over from aiohttp once the upgrade is agreed.

On plain TCP the socket is duplicated and aiohttp's own transport aborted, so that none of its
memory stays behind for the life of the connection. Under TLS the transport cannot be left: its
protocol is replaced, and the request's handler waits until the connection ends.
"""

import asyncio
import os
import socket

from aiohttp import web

from protocol.messages import UPGRADE_TOKEN

__all__ = ["accept_upgrade", "is_raw_upgrade", "is_tls", "take_socket", "take_transport"]


class _Tail:
    """Collects what arrived behind the request, through the interface that WebSockets use."""

    def __init__(self) -> None:
        self.data = bytearray()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        return


def is_raw_upgrade(request: web.Request) -> bool:
    """Whether a request asks for the raw carrier."""
    tokens = request.headers.get("Connection", "").lower().replace(" ", "").split(",")
    return (
        "upgrade" in tokens and request.headers.get("Upgrade", "").strip().lower() == UPGRADE_TOKEN
    )


def is_tls(request: web.Request) -> bool:
    """Whether the relay itself speaks TLS on this connection."""
    transport = request.transport
    return transport is not None and transport.get_extra_info("ssl_object") is not None


async def accept_upgrade(request: web.Request) -> web.StreamResponse:
    """Send the 101 for the raw carrier."""
    response = web.StreamResponse(
        status=101, headers={"Upgrade": UPGRADE_TOKEN, "Connection": "Upgrade"}
    )
    await response.prepare(request)
    await response.write_eof()
    return response


def take_socket(request: web.Request) -> tuple[socket.socket, bytes] | None:
    """Return a plain connection's own socket and the bytes that arrived behind the request.

    aiohttp has let the connection go then. None where it is already gone.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        return None
    transport.pause_reading()
    tail = _Tail()
    request.protocol.set_parser(tail)  # type: ignore[arg-type]
    taken = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    taken.setblocking(False)
    transport.abort()
    return taken, bytes(tail.data)


def take_transport(request: web.Request) -> tuple[asyncio.Transport, bytes] | None:
    """Return a TLS connection's transport and the bytes that arrived behind the request.

    The caller sets its own protocol on it and keeps the handler waiting until it is closed.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        return None
    tail = _Tail()
    request.protocol.set_parser(tail)  # type: ignore[arg-type]
    return transport, bytes(tail.data)
