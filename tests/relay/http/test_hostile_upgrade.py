"""Upgrades whose sender goes away: at every byte, and at every stage. Nothing is left of them."""

import asyncio
import gc
import itertools
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvloop

from protocol.identity import Identity
from protocol.messages import ServiceAnswer, ServiceRequestFrom, Verdict
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.relay.certificates import certificate
from tests.relay.client import Client, registered, upgrade
from tests.relay.planes import close, leg, tickets

RAW = "Connection: Upgrade\r\nUpgrade: roam-relay/1\r\n"
WEBSOCKET = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: roam-relay.1\r\n"
)
CARRIERS = pytest.mark.parametrize("headers", [RAW, WEBSOCKET], ids=["raw", "websocket"])
LOOPS = pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
STAGES = range(12)
"""Turns of the loop between the request and the reset: more than an upgrade takes."""


def request(target: str, headers: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: relay\r\n{headers}\r\n".encode()


def run(loop: Callable[[], asyncio.AbstractEventLoop], work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(50):
            await work()

    with asyncio.Runner(debug=True, loop_factory=loop) as runner:
        runner.run(bounded())


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def gone(relay: RelayServer, data: bytes, turns: int, *, read: bool = False) -> None:
    """Say something and reset the connection some turns of the loop later, or when the relay has
    answered."""
    parts = urlsplit(relay.url)
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, (parts.hostname, parts.port))
        await loop.sock_sendall(sock, data)
        if read:
            await loop.sock_recv(sock, 65_536)
        for _ in range(turns):
            await asyncio.sleep(0)
    finally:
        reset(sock)


def standing(relay: RelayServer) -> tuple[int, ...]:
    return (
        relay.doorkeeper.inside,
        relay.doorkeeper.newcomers,
        len(relay.connections),
        relay.planes.pending,
        relay.planes.live,
        len(os.listdir("/proc/self/fd")),
    )


async def standing_warm(relay: RelayServer) -> tuple[int, ...]:
    """Return how it stands after a first connection: what the loop opens for that, it keeps."""
    await gone(relay, b"GET / HTTP/1.0\r\n\r\n", 0, read=True)
    async with asyncio.timeout(60):
        while relay.doorkeeper.newcomers:
            await asyncio.sleep(0.01)
    for _ in range(3):
        await asyncio.sleep(0.01)
    return standing(relay)


async def stands_as(relay: RelayServer, before: tuple[int, ...]) -> None:
    looks = itertools.count(1)
    async with asyncio.timeout(60):
        while standing(relay) != before:
            await asyncio.sleep(0.01)
            if next(looks) % 10 == 0:
                gc.collect()


@LOOPS
@CARRIERS
@pytest.mark.parametrize("target", ["/v1/control", f"/v1/plane/{'0' * 32}?guid=a&signature=b"])
def test_a_reset_at_every_byte_leaves_nothing(
    loop: Callable[[], asyncio.AbstractEventLoop], headers: str, target: str
) -> None:
    async def work() -> None:
        async with RelayServer(RelayConfig(port=0)) as relay:
            before = await standing_warm(relay)
            data = request(target, headers)
            for cut in range(len(data) + 1):
                await gone(relay, data[:cut], cut % 3)
            await stands_as(relay, before)

    run(loop, work)


@LOOPS
@CARRIERS
@pytest.mark.parametrize("more", [b"", b"\x81\xa4type", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_reset_at_every_stage_is_counted_no_longer(
    loop: Callable[[], asyncio.AbstractEventLoop],
    headers: str,
    more: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work() -> None:
        config = RelayConfig(port=0, max_connections=8, max_connections_per_address=8)
        async with RelayServer(config) as relay:
            before = await standing_warm(relay)
            for turns in STAGES:
                await gone(relay, request("/v1/control", headers) + more, turns)
                await gone(relay, request("/v1/control", headers) + more, turns, read=True)
                await stands_as(relay, before)
            async with registered(relay.url) as one:
                assert one.identity.guid, "an address is not locked out"

    run(loop, work)
    # asyncio itself says where a busy machine was slow.
    said = [record for record in caplog.records if record.name != "asyncio" or record.exc_info]
    assert not said, "whoever goes away writes nothing into the log"


@LOOPS
@CARRIERS
@pytest.mark.parametrize("returns", [False, True], ids=["first", "with a ticket for the next"])
def test_a_leg_that_is_reset_does_not_let_the_other_wait(
    loop: Callable[[], asyncio.AbstractEventLoop], headers: str, returns: bool
) -> None:
    async def work() -> None:
        async with (
            RelayServer(RelayConfig(port=0, ticket_lifetime=60.0)) as relay,
            registered(relay.url) as alice,
            registered(relay.url, "chat") as bob,
        ):
            before = await standing_warm(relay)
            for turns in STAGES:
                for read in (False, True):
                    if returns:
                        await returns_and_goes(relay, (alice, bob), headers, turns, read)
                    else:
                        await comes_and_goes(relay, (alice, bob), headers, turns, read)
            await stands_as(relay, before)

    run(loop, work)


async def comes_and_goes(
    relay: RelayServer, pair: tuple[Client, Client], headers: str, turns: int, read: bool
) -> None:
    """Bob's leg waits; alice's is reset."""
    alice, bob = pair
    first, second = await tickets(alice, bob)
    waits, writer, status, _ = await upgrade(relay.url, bob.plane_target(second, relay.guid))
    assert status == 101
    target = alice.plane_target(first, relay.guid)
    await gone(relay, request(target, headers), turns, read=read)
    assert await asyncio.wait_for(waits.read(), 60) == b""
    writer.close()


async def returns_and_goes(
    relay: RelayServer, pair: tuple[Client, Client], headers: str, turns: int, read: bool
) -> None:
    """Alice comes back to a plane that is over, and is reset; bob is asked for his leg, and comes
    in vain."""
    alice, bob = pair
    first, second = await tickets(alice, bob)
    a, ticket = await leg(relay, alice, first)
    b, _ = await leg(relay, bob, second)
    await close(a, b)
    target = alice.plane_target(ticket, relay.guid)
    await gone(relay, request(target, headers), turns, read=read)
    asked = await bob.expect(ServiceRequestFrom)
    bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED))
    assert asked.ticket is not None
    reader, writer, status, _ = await upgrade(relay.url, bob.plane_target(asked.ticket, relay.guid))
    if status == 101:
        assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()


@LOOPS
def test_under_tls(loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=chain)

    async def gone_under_tls(relay: RelayServer, data: bytes, turns: int, read: bool) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(relay.url.rpartition(":")[2]), ssl=trust
        )
        writer.write(data)
        if read:
            await reader.read(65_536)
        for _ in range(turns):
            await asyncio.sleep(0)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def work() -> None:
        config = RelayConfig(port=0, tls_certificate=chain, tls_key=key)
        async with RelayServer(config) as relay:
            before = await standing_warm(relay)
            for headers in (RAW, WEBSOCKET):
                for turns in STAGES:
                    for read in (False, True):
                        await gone_under_tls(relay, request("/v1/control", headers), turns, read)
            await stands_as(relay, before)

    run(loop, work)


async def test_a_central_request_that_is_never_joined_leaves_nothing() -> None:
    """A peer that asks itself has both tickets of the plane."""
    async with RelayServer(RelayConfig(port=0)) as relay:
        identity = Identity.generate()
        async with registered(relay.url, "chat", identity=identity) as one:
            first, second = await tickets(one, one)
            for ticket in (first, second):
                _, writer, status, _ = await upgrade(
                    relay.url, one.plane_target(ticket, relay.guid)
                )
                assert status == 101
                writer.close()
            async with asyncio.timeout(60):
                while relay.planes.pending or relay.planes.live:
                    await asyncio.sleep(0.01)


_WEBSOCKET = {
    "Connection": b"Upgrade",
    "Upgrade": b"websocket",
    "Sec-WebSocket-Version": b"13",
    "Sec-WebSocket-Key": b"A" * 22 + b"==",
    "Sec-WebSocket-Protocol": b"roam-relay.1",
    "Sec-WebSocket-Extensions": b"",
    "Roam-Relay-Early": b"AAAA",
}


@pytest.mark.parametrize("target", ["/v1/control", "/v1/plane/ticket?guid=%ff&signature=%ff"])
@pytest.mark.parametrize("header", _WEBSOCKET)
async def test_a_header_that_is_no_text_is_refused_and_no_fault_of_the_relay(
    relay: RelayServer, target: str, header: str
) -> None:
    """aiohttp failed at some of them, with an error and its traceback in the log for each."""
    headers = _WEBSOCKET | {header: b"a\xffb"}
    lines = b"".join(b"%s: %s\r\n" % (name.encode(), value) for name, value in headers.items())
    parts = urlsplit(relay.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(b"GET %s HTTP/1.1\r\nHost: r\r\n%s\r\n" % (target.encode(), lines))
        async with asyncio.timeout(60):
            status = int((await reader.readuntil(b"\r\n")).split()[1])
    finally:
        writer.transport.abort()
    assert status == 101 or 400 <= status < 500


@pytest.mark.parametrize(
    "target", [b"http://[x]@/", b"http://xn--a/", b"http://xn--a:1/v1/control"]
)
async def test_a_target_that_is_no_url_ends_the_connection_and_is_no_fault_of_the_relay(
    relay: RelayServer, target: bytes
) -> None:
    """yarl fails at them, and aiohttp with it: in the loop, and in a task that nobody asks."""
    parts = urlsplit(relay.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(b"GET %s HTTP/1.1\r\nHost: r\r\n\r\n" % target)
        async with asyncio.timeout(60):
            try:
                said = await reader.read()
            except ConnectionResetError:
                said = b""
    finally:
        writer.transport.abort()
    assert said == b""
    assert relay.metrics.refusals["bad_http"] == 1
