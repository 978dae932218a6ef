"""What programs use that have no session above their connections, for comparison: a TCP connection,
and a WebSocket that reconnects. Nothing of ours is in here.

The mobile side is the client, as it is in practice: it knows a fixed server and dials that. Its
lines of standard input are what the server prints.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

__all__ = ["HEARTBEAT", "RECONNECT"]

PORT = 9000
HEARTBEAT = 2.0
"""Seconds between a WebSocket's pings; aiohttp waits half as long for the pong."""
RECONNECT = 1.0
"""Seconds before a WebSocket is dialed anew."""


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _lines() -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        yield line.decode().strip()


async def tcp_server(host: str) -> None:
    """Print what each connection brings."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                _print(line.decode().strip())
        writer.close()

    server = await asyncio.start_server(serve, host, PORT)
    _print("ready")
    await server.serve_forever()


async def tcp_client(host: str) -> None:
    """Send over one connection, for as long as the system believes in it."""
    _, writer = await asyncio.open_connection(host, PORT)
    with contextlib.suppress(OSError):
        async for line in _lines():
            writer.write(line.encode() + b"\n")
            await writer.drain()


async def websocket_server(host: str) -> None:
    """Print what each WebSocket brings."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(heartbeat=HEARTBEAT)
        await websocket.prepare(request)
        async for message in websocket:
            _print(message.data)
        return websocket

    application = web.Application()
    application.router.add_get("/", serve)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, host, PORT).start()
    _print("ready")
    await asyncio.get_running_loop().create_future()


async def websocket_client(host: str) -> None:
    """Send, and dial anew when a heartbeat is not answered. What is to be sent while there is no
    connection waits; what was sent into one that was dead already is not sent again."""
    waiting: asyncio.Queue[str] = asyncio.Queue()

    async def read() -> None:
        async for line in _lines():
            waiting.put_nowait(line)

    async def send(websocket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await websocket.send_str(await waiting.get())

    async def receive(websocket: aiohttp.ClientWebSocketResponse) -> None:
        async for _ in websocket:  # This is what answers pings, and notices the end.
            pass

    async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with client.ws_connect(
                    f"http://{host}:{PORT}/", heartbeat=HEARTBEAT, timeout=_CLOSE_AT_ONCE
                ) as websocket:
                    sending = tasks.create_task(send(websocket))
                    try:
                        await receive(websocket)
                    finally:
                        sending.cancel()
            await asyncio.sleep(RECONNECT)


_CLOSE_AT_ONCE = aiohttp.ClientWSTimeout(ws_close=0.1)

if __name__ == "__main__":
    _ROLES = {
        "tcp-server": tcp_server,
        "tcp-client": tcp_client,
        "websocket-server": websocket_server,
        "websocket-client": websocket_client,
    }
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_ROLES[sys.argv[1]](sys.argv[2]))
