"""A conversation over WebSockets (aiohttp), one after the other: what an application writes itself.

Each side keeps what the other one has not acknowledged, says on a new connection which message it
waits for, and drops what came before.

    python -m tests.lab.moves.rivals.websocket_party listen|connect ADDRESS
"""

import asyncio
import contextlib
import sys
from collections import deque

import aiohttp
from aiohttp import web

from tests.lab.moves.conversation import Conversation, say

_PORT = 9300
_HEARTBEAT = 0.5
_CONNECT = 1.0
"""Seconds that a connection may take to come."""
_REDIAL = 0.1
_ACKNOWLEDGED_EVERY = 16
_NUMBER_BYTES = 8

_WebSocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


class _Side:
    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._kept: deque[bytes] = deque()
        self._first = 0
        """The number of the first message that is kept."""
        self._more = asyncio.Event()
        self._expected = 0
        self._said_up = False

    async def keep(self, message: bytes) -> None:
        self._kept.append(message)
        self._more.set()

    async def use(self, websocket: _WebSocket) -> None:
        """Go on over a new connection, until it ends."""
        await websocket.send_str(str(self._expected))
        self._acknowledged(int(await websocket.receive_str()))
        if not self._said_up:
            self._said_up = True
            say("up")
        sending = asyncio.create_task(self._send(websocket))
        try:
            async for message in websocket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._acknowledged(int(message.data))
                elif message.type is aiohttp.WSMsgType.BINARY:
                    await self._received(websocket, message.data)
        finally:
            sending.cancel()

    async def _send(self, websocket: _WebSocket) -> None:
        number = self._first
        with contextlib.suppress(OSError, aiohttp.ClientError):
            while True:
                while number < self._first + len(self._kept):
                    await websocket.send_bytes(self._kept[number - self._first])
                    number += 1
                self._more.clear()
                await self._more.wait()

    async def _received(self, websocket: _WebSocket, message: bytes) -> None:
        if int.from_bytes(message[:_NUMBER_BYTES], "big") != self._expected:
            return
        self._expected = self._conversation.received(message) + 1
        if self._expected % _ACKNOWLEDGED_EVERY == 0:
            await websocket.send_str(str(self._expected))

    def _acknowledged(self, expected: int) -> None:
        while self._first < expected:
            self._kept.popleft()
            self._first += 1


async def _listen() -> None:
    conversation = Conversation()
    side = _Side(conversation)
    using: list[asyncio.Task[None]] = []

    async def serve(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(heartbeat=_HEARTBEAT)
        await websocket.prepare(request)
        while using:
            using.pop().cancel()
        using.append(asyncio.create_task(side.use(websocket)))
        await asyncio.wait(using)
        return websocket

    application = web.Application()
    application.router.add_get("/", serve)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", _PORT).start()
    say("ready")
    await conversation.run(lambda: conversation.send_by(side.keep))


async def _dial(side: _Side, client: aiohttp.ClientSession, url: str) -> None:
    timeout = aiohttp.ClientWSTimeout(ws_close=0.01)
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, TypeError):
        async with asyncio.timeout(_CONNECT):
            websocket = await client.ws_connect(url, heartbeat=_HEARTBEAT, timeout=timeout)
        await side.use(websocket)


async def _connect(address: str) -> None:
    conversation = Conversation()
    side = _Side(conversation)

    async def stay_connected() -> None:
        async with aiohttp.ClientSession() as client:
            while True:
                conversation.changed.clear()
                using = asyncio.create_task(_dial(side, client, f"http://{address}:{_PORT}/"))
                changed = asyncio.create_task(conversation.changed.wait())
                await asyncio.wait((using, changed), return_when=asyncio.FIRST_COMPLETED)
                using.cancel()
                if not changed.done():
                    await asyncio.wait((changed,), timeout=_REDIAL)
                changed.cancel()

    async def work() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stay_connected())
            tasks.create_task(conversation.send_by(side.keep))

    await conversation.run(work)


if __name__ == "__main__":
    asyncio.run(_listen() if sys.argv[1] == "listen" else _connect(sys.argv[2]))
