"""Taking a connection over from aiohttp once the upgrade is agreed.

On plain TCP the socket is duplicated and aiohttp's own transport aborted, so that none of its
memory stays behind for the life of the connection. Under TLS the transport cannot be left: its
protocol is replaced, and the request's handler waits until the connection ends.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from typing import cast

from aiohttp import web

from protocol.messages import UPGRADE_TOKEN
from relay.http.metered import Counted
from relay.http.raw_request import WEBSOCKET, protocol_named, websocket_answer
from relay.log import log

__all__ = [
    "accept_upgrade",
    "accept_websocket",
    "can_become",
    "chosen_protocol",
    "is_foreign_websocket",
    "is_tls",
    "let_go",
    "take_socket",
    "take_transport",
]


def is_foreign_websocket(request: web.Request) -> bool:
    """Whether a WebSocket's client names protocols, and none of them is ours."""
    return chosen_protocol(request) is None


def chosen_protocol(request: web.Request) -> str | None:
    """Return which protocol a WebSocket speaks (`protocol_named`)."""
    return protocol_named(request.headers)


def can_become(websocket: web.WebSocketResponse, request: web.Request) -> bool:
    """Whether a request asks for a WebSocket that can be."""
    try:
        return websocket.can_prepare(request).ok
    except ValueError:
        # aiohttp refuses a header that is no text in a sentence that shows it, and cannot.
        return False


async def accept_websocket(request: web.Request) -> web.StreamResponse:
    """Send the 101 for a WebSocket whose request was found to be one; its frames are not aiohttp's
    to read."""
    return await accept_upgrade(request, websocket_answer(request.headers), WEBSOCKET)


def is_tls(request: web.Request) -> bool:
    """Whether the relay itself speaks TLS on this connection."""
    transport = request.transport
    return transport is not None and transport.get_extra_info("ssl_object") is not None


async def accept_upgrade(
    request: web.Request, headers: Mapping[str, str] | None = None, token: str = UPGRADE_TOKEN
) -> web.StreamResponse:
    """Send the 101 for the raw carrier, or what `token` names. Nothing is read from the connection
    from here on.

    A client waits for the 101 before it says more (docs/protocol.md): aiohttp reads what comes
    earlier as the next HTTP request.
    """
    if request.transport is not None:
        cast(asyncio.ReadTransport, request.transport).pause_reading()
    response = web.StreamResponse(
        status=101,
        headers={"Upgrade": token, "Connection": "Upgrade", **(headers or {})},
    )
    await response.prepare(request)
    await response.write_eof()
    return response


def take_socket(request: web.Request) -> socket.socket | None:
    """Return a plain connection's own socket; aiohttp has let it go then. None where it is gone."""
    transport = request.transport
    if transport is None or transport.is_closing():
        return None
    try:
        taken = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    except OSError as error:
        log.warning("a connection cannot be taken over", reason=error.strerror)
        return None
    finally:
        transport.abort()
    taken.setblocking(False)
    return taken


def take_transport(
    request: web.Request,
    make: Callable[[asyncio.Transport], asyncio.Protocol],
    bring: Callable[[int], None],
) -> bool:
    """Give a TLS connection's transport another protocol; False where it is gone. `bring` counts
    the bytes that come out of TLS.

    The caller keeps the request's handler waiting until the connection is closed.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        return False
    try:
        protocol = Counted(make(transport), bring)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.resume_reading()
    except BaseException:
        transport.abort()
        raise
    return True


def let_go(request: web.Request) -> None:
    """Tell aiohttp that a transport which another protocol has taken is gone; it would count the
    connection among its own for ever."""
    request.protocol.connection_lost(None)
