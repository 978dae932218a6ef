"""The rival that most teams would write: an aiohttp WebSocket that sends every message back."""

import sys

import aiohttp
import uvloop
from aiohttp import web


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Send every message back."""
    websocket = web.WebSocketResponse(compress=False)
    await websocket.prepare(request)
    async for message in websocket:
        if message.type is aiohttp.WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
    return websocket


if __name__ == "__main__":
    application = web.Application()
    application.router.add_get("/", echo)
    web.run_app(
        application,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        print=None,
        access_log=None,
        loop=uvloop.new_event_loop(),
    )
