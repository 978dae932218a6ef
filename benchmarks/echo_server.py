"""The rival that most teams would write: an aiohttp WebSocket server.

On `/` it sends every message back; what comes on `/send` goes to whoever is on `/receive`.
"""

import sys

import aiohttp
import uvloop
from aiohttp import web

_receivers = web.AppKey("receivers", list[web.WebSocketResponse])


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Send every message back."""
    websocket = web.WebSocketResponse(compress=False)
    await websocket.prepare(request)
    async for message in websocket:
        if message.type is aiohttp.WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
    return websocket


async def send(request: web.Request) -> web.WebSocketResponse:
    """Pass every message on to the receiver."""
    websocket = web.WebSocketResponse(compress=False)
    await websocket.prepare(request)
    receiver = request.app[_receivers][-1]
    async for message in websocket:
        if message.type is aiohttp.WSMsgType.BINARY:
            await receiver.send_bytes(message.data)
    return websocket


async def receive(request: web.Request) -> web.WebSocketResponse:
    """Be the receiver until the connection ends."""
    websocket = web.WebSocketResponse(compress=False)
    await websocket.prepare(request)
    request.app[_receivers].append(websocket)
    async for _ in websocket:
        pass
    return websocket


if __name__ == "__main__":
    application = web.Application()
    application[_receivers] = []
    application.router.add_get("/", echo)
    application.router.add_get("/send", send)
    application.router.add_get("/receive", receive)
    web.run_app(
        application,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        print=None,
        access_log=None,
        loop=uvloop.new_event_loop(),
    )
