"""Thousands of small things in one piece: each has its turn of the relay's loop, and others theirs.

They have arrived together, so that nothing waits for the network between two of them: whoever
handled them one after the other answered nobody else for a second.
"""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from protocol.messages import WEBSOCKET_PROTOCOL
from relay.config import RelayConfig
from relay.control import ControlConnection
from relay.server import RelayServer
from tests.attacks.honest import EVIL, honest
from tests.relay.client import registered
from tests.relay.planes import leg, tickets

LONG = 60.0
MANY = 2_000
REQUEST = b"GET %s HTTP/1.1\r\nHost: r\r\n\r\n"
WEBSOCKET = (
    b"GET /v1/control HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: " + WEBSOCKET_PROTOCOL.encode() + b"\r\n\r\n"
)


class Turns:
    """How often something was done in each turn of the loop."""

    def __init__(self) -> None:
        self._now = 0
        self.done: Counter[int] = Counter()

    def note(self) -> None:
        self.done[self._now] += 1

    async def count(self) -> None:
        for self._now in itertools.count():
            await asyncio.sleep(0)

    async def noted(self, number: int) -> None:
        async with asyncio.timeout(LONG):
            while self.done.total() < number:
                await asyncio.sleep(0.01)
        assert max(self.done.values()) <= 2


@asynccontextmanager
async def counted() -> AsyncIterator[Turns]:
    turns = Turns()
    counting = asyncio.create_task(turns.count())
    try:
        yield turns
    finally:
        counting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await counting


@asynccontextmanager
async def stranger(
    relay: RelayServer,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    port = int(relay.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(EVIL, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("path", [b"/", b"/v1/control", b"/nothing"])
async def test_requests_that_come_together(monkeypatch: pytest.MonkeyPatch, path: bytes) -> None:
    """What is no upgrade, and what is not there, are requests too."""
    async with counted() as turns:
        prepare = web.Response.prepare

        async def noted(response: web.Response, request: web.BaseRequest) -> Any:
            turns.note()
            return await prepare(response, request)

        monkeypatch.setattr(web.Response, "prepare", noted)
        async with RelayServer(RelayConfig(port=0)) as relay, honest(relay) as two:
            async with stranger(relay) as (_, writer):
                writer.write(REQUEST % path * MANY)
                await turns.noted(MANY)
            await two.look_up()


async def test_who_asks_over_http_has_a_share_and_the_health_check_is_answered() -> None:
    config = RelayConfig(port=0, work_per_network=0.002)
    async with RelayServer(config) as relay, honest(relay) as two:
        async with stranger(relay) as (reader, writer):
            writer.write(REQUEST % b"/metrics" * 100)
            said = await asyncio.wait_for(reader.read(), LONG)
            assert b"HTTP/1.1 429 " in said
            assert said.count(b"HTTP/1.1 200 ") < 50
        async with stranger(relay) as (reader, writer):
            writer.write(REQUEST % b"/healthz" * 2)
            said = await asyncio.wait_for(reader.read(), LONG)
            assert said.count(b"HTTP/1.1 200 ") >= 1, "it is told that the relay lives"
        assert relay.metrics.limited["work"] >= 2
        await two.look_up()


@pytest.mark.parametrize("opcode", [0x82, 0x89, 0x8A])
async def test_frames_that_come_together(monkeypatch: pytest.MonkeyPatch, opcode: int) -> None:
    """Empty messages, pings and pongs on a control connection of nobody yet."""
    async with counted() as turns:
        take = ControlConnection.carrier_data

        def noted(connection: ControlConnection, data: bytes) -> None:
            if not data:
                turns.note()
            take(connection, data)

        monkeypatch.setattr(ControlConnection, "carrier_data", noted)
        async with RelayServer(RelayConfig(port=0)) as relay, honest(relay) as two:
            async with stranger(relay) as (reader, writer):
                writer.write(WEBSOCKET)
                assert b" 101 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LONG)
                writer.write(bytes((opcode, 0x80, 0, 0, 0, 0)) * MANY)
                await turns.noted(MANY)
                if opcode == 0x89:
                    writer.write(bytes((opcode, 0x81, 0, 0, 0, 0)) + b"x")
                    async with asyncio.timeout(LONG):
                        await reader.readuntil(b"\x8a\x01x")
            await two.look_up()


async def ping(websocket: aiohttp.ClientWebSocketResponse) -> None:
    await websocket.ping(b"")


async def one_byte(websocket: aiohttp.ClientWebSocketResponse) -> None:
    await websocket.send_bytes(b"x")


@pytest.mark.parametrize("say", [ping, one_byte])
async def test_frames_of_a_leg_that_come_together(
    monkeypatch: pytest.MonkeyPatch,
    say: Callable[[aiohttp.ClientWebSocketResponse], Coroutine[Any, Any, None]],
) -> None:
    async with counted() as turns:
        receive = web.WebSocketResponse.receive

        async def noted(websocket: web.WebSocketResponse, *arguments: Any) -> Any:
            turns.note()
            return await receive(websocket, *arguments)

        monkeypatch.setattr(web.WebSocketResponse, "receive", noted)
        async with (
            RelayServer(RelayConfig(port=0)) as relay,
            honest(relay) as two,
            registered(relay.url) as alice,
            registered(relay.url, "chat") as bob,
            aiohttp.ClientSession(relay.url) as http,
        ):
            first, second = await tickets(alice, bob)
            target = alice.plane_target(first, relay.guid)
            async with http.ws_connect(target, protocols=(WEBSOCKET_PROTOCOL,)) as websocket:
                (reader, writer), _ = await leg(relay, bob, second)
                await websocket.send_bytes(b"begin")
                assert await asyncio.wait_for(reader.readexactly(5), LONG) == b"begin"
                for _ in range(MANY):
                    await say(websocket)
                await turns.noted(MANY)
                await websocket.send_bytes(b"end")
                async with asyncio.timeout(LONG):
                    assert await reader.readuntil(b"end")
                writer.close()
            await two.look_up()
