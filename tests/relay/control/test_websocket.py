"""The WebSocket carrier, spoken to frame by frame: what comes together, in pieces, or cannot be."""

import asyncio
import base64
import contextlib
import gc
import itertools
import os
import struct
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from protocol.codec import MessageDecoder, encode
from protocol.errors import Code
from protocol.identity import Identity
from protocol.messages import WEBSOCKET_PROTOCOL, Challenge, Error, Hello, Ping, Pong
from protocol.tables import FROM_RELAY
from relay.config import RelayConfig
from relay.server import RelayServer

LONG = 60.0
BINARY, TEXT, CLOSE, PING, PONG = 2, 1, 8, 9, 10


def frame(opcode: int, payload: bytes, *, last: bool = True) -> bytes:
    size = len(payload)
    head = bytes([(0x80 if last else 0) | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65_536:
        head += b"\xfe" + struct.pack("!H", size)
    else:
        head += b"\xff" + struct.pack("!Q", size)
    mask = os.urandom(4)
    return head + mask + bytes(a ^ b for a, b in zip(payload, itertools.cycle(mask), strict=False))


class WebSocket:
    """One that is ours to the last bit."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def frame(self) -> tuple[int, bytes]:
        """Return the next frame's opcode and payload."""
        async with asyncio.timeout(LONG):
            first, size = await self.reader.readexactly(2)
            assert first & 0x80, "the relay sends whole frames"
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return first & 0xF, await self.reader.readexactly(size)

    async def ends(self) -> bool:
        async with asyncio.timeout(LONG):
            return not await self.reader.read()


@asynccontextmanager
async def websocket(relay: RelayServer) -> AsyncIterator[WebSocket]:
    port = int(relay.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /v1/control HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Sec-WebSocket-Protocol: {WEBSOCKET_PROTOCOL}\r\n\r\n".encode()
    )
    async with asyncio.timeout(LONG):
        head = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in head
    assert WEBSOCKET_PROTOCOL.encode() in head
    try:
        yield WebSocket(reader, writer)
    finally:
        writer.transport.abort()


def hello() -> bytes:
    return encode(Hello(Identity.generate().guid, os.urandom(16), os.urandom(32)))


async def challenged(one: WebSocket) -> None:
    one.writer.write(frame(BINARY, hello()))
    kind, payload = await one.frame()
    assert kind == BINARY
    [message] = MessageDecoder(FROM_RELAY).receive(payload)
    assert isinstance(message, Challenge)


async def closed(relay: RelayServer, reason: str) -> None:
    async with asyncio.timeout(LONG):
        while not relay.metrics.closes[reason]:
            await asyncio.sleep(0)


async def test_what_one_read_brings_is_answered_in_one_frame(relay: RelayServer) -> None:
    async with websocket(relay) as one:
        await challenged(one)
        pings = [Ping(number) for number in range(40)]
        one.writer.write(b"".join(frame(BINARY, encode(ping)) for ping in pings))
        got: list[object] = []
        frames = 0
        decoder = MessageDecoder(FROM_RELAY)
        while len(got) < len(pings):
            _, payload = await one.frame()
            got += decoder.receive(payload)
            frames += 1
        assert got == [Pong(ping.ping) for ping in pings]
        assert frames < len(pings)


async def test_frames_come_byte_by_byte_and_messages_in_fragments(relay: RelayServer) -> None:
    async with websocket(relay) as one:
        data = hello()
        pieces = (
            frame(BINARY, data[:7], last=False)
            + frame(PING, b"between")
            + frame(0, data[7:30], last=False)
            + frame(0, data[30:])
        )
        for byte in pieces:
            one.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await one.frame() == (PONG, b"between")
        kind, payload = await one.frame()
        assert kind == BINARY
        [message] = MessageDecoder(FROM_RELAY).receive(payload)
        assert isinstance(message, Challenge)


async def test_much_that_is_written_at_once_is_one_large_frame() -> None:
    async with RelayServer(RelayConfig(port=0)) as relay, websocket(relay) as one:
        await challenged(one)
        (connection,) = relay.connections
        for _ in range(200):
            connection.send(Error(Code.REFUSED, "r" * 500))
        kind, payload = await one.frame()
        assert kind == BINARY
        assert len(list(MessageDecoder(FROM_RELAY, 1 << 20).receive(payload))) == 200


async def test_the_peer_closes_in_order(relay: RelayServer) -> None:
    async with websocket(relay) as one:
        await challenged(one)
        one.writer.write(frame(BINARY, encode(Ping(7))) + frame(CLOSE, b"\x03\xe8bye"))
        kind, payload = await one.frame()
        assert list(MessageDecoder(FROM_RELAY).receive(payload)) == [Pong(7)]
        assert (kind, await one.frame()) == (BINARY, (CLOSE, b"\x03\xe8"))
        assert await one.ends()
    await closed(relay, "peer_closed")


async def test_the_relay_closes_and_waits_for_the_answer(relay: RelayServer) -> None:
    async with websocket(relay) as one:
        await challenged(one)
        one.writer.write(frame(BINARY, b"\xc1"))
        _, payload = await one.frame()
        [message] = MessageDecoder(FROM_RELAY).receive(payload)
        assert isinstance(message, Error)
        assert message.code is Code.BAD_MESSAGE
        assert await one.frame() == (CLOSE, b"\x03\xe8")
        one.writer.write(frame(BINARY, encode(Ping(1))))
        one.writer.write(frame(CLOSE, b"\x03\xe8"))
        assert await one.ends()
    assert relay.metrics.closes[Code.BAD_MESSAGE.value] == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"text"), 1003),
        (b"\xf2\x80\0\0\0\0", 1002),  # reserved bits
        (b"\x83\x80\0\0\0\0", 1002),  # an opcode that is none
        (frame(PING, bytes(126)), 1002),  # a control frame may have 125 bytes
        (frame(0, b"x"), 1002),  # goes on where nothing began
        (frame(BINARY, b"", last=False) + frame(CLOSE, b"\0\1"), 1002),  # a code that is none
        (b"\x82\xff" + struct.pack("!Q", 1 << 40) + bytes(4), 1009),
    ],
    ids=["text", "reserved", "opcode", "long ping", "continuation", "close code", "huge"],
)
async def test_what_is_no_frame_of_ours_ends_the_connection(
    relay: RelayServer, data: bytes, code: int
) -> None:
    async with websocket(relay) as one:
        await challenged(one)
        one.writer.write(data)
        assert await one.frame() == (CLOSE, struct.pack("!H", code))
        assert await one.ends()
    await closed(relay, Code.BAD_MESSAGE.value)


async def test_a_connection_that_is_cut_leaves_nothing(relay: RelayServer) -> None:
    async with websocket(relay) as one:
        await challenged(one)
        one.writer.write(frame(BINARY, bytes(100))[:50])
    async with asyncio.timeout(LONG):
        while relay.connections:
            await asyncio.sleep(0)


async def test_who_goes_on_for_long_after_the_close_is_not_heard_to_the_end() -> None:
    config = RelayConfig(port=0, write_deadline=10 * LONG)
    async with RelayServer(config) as relay, websocket(relay) as one:
        await challenged(one)
        one.writer.write(frame(BINARY, b"\xc1"))
        await one.frame()
        assert (await one.frame())[0] == CLOSE
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(LONG):
                while not one.reader.at_eof():
                    one.writer.write(frame(BINARY, bytes(1000)))
                    await one.writer.drain()
                    await asyncio.sleep(0)


async def test_a_connection_that_has_ended_needs_no_collector(relay: RelayServer) -> None:
    """The relay's own is kept off what is old: what ends must go by itself."""
    gc.disable()
    try:
        async with websocket(relay) as one:
            await challenged(one)
            gone = weakref.ref(next(iter(relay.connections)))
            one.writer.write(frame(CLOSE, b"\x03\xe8"))
            assert (await one.frame())[0] == CLOSE
        async with asyncio.timeout(LONG):
            while gone() is not None:
                await asyncio.sleep(0)
    finally:
        gc.enable()
