"""What strangers do at a relay: they say nothing, or nonsense, or the half of something."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from protocol.codec import encode
from protocol.identity import Identity
from protocol.messages import Hello
from tests.relay.client import upgrade

__all__ = ["stranger"]

_UPGRADE = b"GET /v1/control HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s\r\n"


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as a host does whose power is cut and comes back: with a reset."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _raw(draw: random.Random, url: str) -> None:
    parts = urlsplit(url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(
        draw.choice(
            (
                b"",
                b"GET / HT",
                b"\x16\x03\x01\x02\x00\x01",
                b"GET /metrics HTTP/1.1\r\nHost: r\r\n\r\n" * 3,
                _UPGRADE % (b"websocket", b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n"),
                draw.randbytes(200),
                b"GET /v1/plane/x HTTP/1.1\r\nHost: r\r\nUpgrade: roam-relay/1\r\n"
                b"Connection: Upgrade\r\n\r\n",
            )
        )
    )
    await _leave(draw, writer)


async def _control(draw: random.Random, url: str) -> None:
    _, writer, status, _ = await upgrade(url, "/v1/control")
    if status == 101:
        hello = encode(Hello(Identity.generate().guid, bytes(16), bytes(32)))
        writer.write(draw.choice((b"", hello, hello + draw.randbytes(90), draw.randbytes(90))))
    await _leave(draw, writer)


async def _websocket(draw: random.Random, url: str) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    more = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b"A" * 22 + b"==\r\n"
    writer.write(_UPGRADE % (b"websocket", more))
    with contextlib.suppress(asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
    writer.write(draw.choice((b"", b"\x82\x80", b"\x82\x81\0\0\0\0\xc1", b"\x88\x80\0\0\0\0")))
    await _leave(draw, writer)


async def _leave(draw: random.Random, writer: asyncio.StreamWriter) -> None:
    """Be gone in one of the ways there are, at once or when others have had a turn."""
    with contextlib.suppress(OSError):
        await writer.drain()
    for _ in range(draw.randrange(20)):
        await asyncio.sleep(0)
    if draw.random() < 0.5:
        _reset(writer)
    else:
        writer.close()


_WAYS: tuple[Callable[[random.Random, str], Awaitable[None]], ...] = (_raw, _control, _websocket)


async def stranger(draw: random.Random, url: str) -> None:
    """Come, do one of these, and go."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError, IndexError):
        async with asyncio.timeout(60):
            await draw.choice(_WAYS)(draw, url)
