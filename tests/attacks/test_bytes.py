"""Bytes that bring nothing: they cost the relay time, and are charged to who sends them."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.messages import WEBSOCKET_PROTOCOL
from relay.config import RelayConfig
from relay.http import visit
from relay.http.visit import Visit
from relay.server import RelayServer
from tests.attacks.honest import EVIL, honest, settled, state_of
from tests.relay.certificates import certificate
from tests.relay.client import registered
from tests.relay.planes import leg, tickets

LONG = 60.0
MOST = 1 << 20
"""Bytes that are sent: the relay reads them on at the share of who has gone."""
MASK = b"\0\0\0\0"
BEGIN = b"\x02\x80" + MASK
UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: " + WEBSOCKET_PROTOCOL.encode() + b"\r\n\r\n"
)
FRAMES = {
    "empty continuations": (BEGIN, (b"\x00\x80" + MASK) * 1000),
    "pings": (b"", (b"\x89\x80" + MASK) * 1000),
    "pings between": (BEGIN, (b"\x89\x80" + MASK + b"\x00\x80" + MASK) * 1000),
}


class Read:
    """How many bytes aiohttp was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        self.most = 0
        read = Visit._read

        def noted(visit: Visit, data: bytes) -> None:
            self.bytes += len(data)
            self.most = max(self.most, len(data))
            read(visit, data)

        monkeypatch.setattr(Visit, "_read", noted)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    return Read(monkeypatch)


async def put_off(relay: RelayServer) -> None:
    """Somebody has used up what he may have done."""
    async with asyncio.timeout(LONG):
        while not relay.metrics.limited["work"]:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def flood(
    relay: RelayServer,
    begin: bytes,
    frames: tuple[bytes, bytes],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[asyncio.StreamWriter]:
    """Send the first frames, and then the others again and again, as fast as they
    are taken."""
    port = int(relay.url.rpartition(":")[2])
    first, more = frames
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, local_addr=(EVIL, 0))

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            for _ in range(0, MOST, len(more)):
                writer.write(more)
                await writer.drain()
            await asyncio.Event().wait()

    # What was not sent by then never will be.
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    try:
        writer.write(begin)
        if b"chunked" not in begin:
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LONG)
        writer.write(first)
        sending = asyncio.create_task(send())
        try:
            yield writer
            assert not sending.done(), "it is not sent away"
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("what", FRAMES)
async def test_frames_without_payload(what: str, read: Read) -> None:
    config = RelayConfig(port=0, work_per_network=0.02)
    async with RelayServer(config) as relay, honest(relay) as two:
        before = state_of(relay)
        async with flood(relay, UPGRADE % b"/v1/control", FRAMES[what]):
            await put_off(relay)
            for _ in range(5):
                begun = read.bytes
                await two.look_up()
                assert read.bytes - begun < 1 << 19
            await two.newcomer()
        assert read.most <= 1 << 16, "others have their turns meanwhile"
        assert not relay.metrics.closes["bad_message"]
        await settled(relay, before)


async def test_frames_without_payload_on_a_leg() -> None:
    config = RelayConfig(port=0, work_per_peer=0.01)
    async with (
        RelayServer(config) as relay,
        honest(relay) as two,
        registered(relay.url, source=EVIL) as alice,
        registered(relay.url, "chat", source=EVIL) as bob,
    ):
        first, second = await tickets(alice, bob)
        target = UPGRADE % alice.plane_target(first, relay.guid).encode()
        (_, other), _ = await leg(relay, bob, second)
        async with flood(relay, target, FRAMES["empty continuations"]):
            await put_off(relay)
            await two.look_up()
        other.close()


async def test_a_leg_whose_bytes_bring_something_pays_for_them_once() -> None:
    """8 MiB would cost thirty times what is there, were they charged as what brings nothing."""
    config = RelayConfig(port=0, work_per_peer=0.01, work_per_network=0.011)
    async with (
        RelayServer(config) as relay,
        registered(relay.url, source=EVIL) as alice,
        registered(relay.url, "chat", source=EVIL) as bob,
    ):
        first, second = await tickets(alice, bob)
        port = int(relay.url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(EVIL, 0))
        writer.write(UPGRADE % alice.plane_target(first, relay.guid).encode())
        (reader, other), _ = await leg(relay, bob, second)
        frame = b"\x82\xff" + (1 << 14).to_bytes(8, "big") + MASK + bytes(1 << 14)
        got = 0
        for _ in range(32):
            writer.write(frame * 16)
            while got < len(frame):
                got += len(await asyncio.wait_for(reader.read(1 << 18), LONG))
            got -= 1 << 14
        assert relay.metrics.limited["work"] < 15
        writer.transport.abort()
        other.close()


async def test_chunks_of_a_byte(read: Read) -> None:
    config = RelayConfig(port=0, work_per_network=0.001)
    begin = b"POST / HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with RelayServer(config) as relay, honest(relay) as two:
        before = state_of(relay)
        with contextlib.suppress(AssertionError):  # Such a body has a second.
            async with flood(relay, begin, (b"", b"1\r\nx\r\n" * 1000)):
                await put_off(relay)
                await two.look_up()
        assert read.bytes < 1 << 20
        await settled(relay, before)


async def test_small_records_of_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame in each: what is within TLS costs nothing here."""
    monkeypatch.setattr(visit, "BYTE", 0.0)
    monkeypatch.setattr(visit, "EVENT", 0.0)
    chain, key = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=chain)
    config = RelayConfig(port=0, tls_certificate=chain, tls_key=key, work_per_network=0.001)
    frames = BEGIN, b"\x00\x80" + MASK
    async with (
        RelayServer(config) as relay,
        flood(relay, UPGRADE % b"/v1/control", frames, trust),
    ):
        await put_off(relay)
