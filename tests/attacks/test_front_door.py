"""Strangers at the relay's front door: what an honest peer sees, and what is left after."""

import asyncio
import contextlib
import json
import os
import resource
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from protocol.endpoint import read_entry
from protocol.identity import Identity
from protocol.messages import (
    WEBSOCKET_PROTOCOL,
    Mode,
    ServiceRequestTo,
    ServiceResponse,
)
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.relay.certificates import certificate
from tests.relay.client import Client, registered, upgrade
from tests.relay.planes import leg, tickets
from tests.support.processes import KEEPS_NOTHING, environment

ATTACKER = "127.0.0.66"
LONG = 60.0
"""Seconds that end a test which hangs; nothing that is green waits for them."""

UPGRADE = (
    b"GET /v1/control HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: roam-relay/1\r\n\r\n"
)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@asynccontextmanager
async def silent(port: int, count: int, source: str = ATTACKER) -> AsyncIterator[list[Any]]:
    """Open so many connections that say nothing."""
    loop = asyncio.get_running_loop()
    held: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = socket.socket()
            held.append(sock)
            sock.setblocking(False)
            sock.bind((source, 0))
            await loop.sock_connect(sock, ("127.0.0.1", port))
        yield held
    finally:
        for sock in held:
            sock.close()


async def look_up(caller: Client, callee: Client, number: int) -> None:
    """One of an honest peer's requests, answered."""
    caller.send(ServiceRequestTo(number, callee.identity.guid, "chat", Mode.P2P, os.urandom(16)))
    async with asyncio.timeout(LONG):
        answer = await caller.expect(ServiceResponse)
    assert [read_entry(entry).host for entry in answer.entries] == ["127.0.0.1"]


@asynccontextmanager
async def few_descriptors(folder: Path, limit: int) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Run `relay serve` with a hard limit; yield its URL and its process."""
    ready = folder / "ready"
    with (folder / "log").open("w") as said:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", "serve", "--port", "0", "--log-format", "json"),
            *("--ready-file", str(ready), *KEEPS_NOTHING),
            env=environment() | {"ROAM_RELAY_MAX_CONNECTIONS": "1000"},
            stderr=said,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit // 2, limit)),
        )
    try:
        async with asyncio.timeout(LONG):
            while not ready.exists():
                assert process.returncode is None, (folder / "log").read_text()
                await asyncio.sleep(0.02)
        yield ready.read_text().strip(), psutil.Process(process.pid)
    finally:
        process.terminate()
        async with asyncio.timeout(LONG):
            await process.wait()


async def test_more_silent_connections_than_descriptors(tmp_path: Path) -> None:
    """1,200 of them from one address kept every newcomer out of a relay with 1,024 descriptors."""
    async with (
        few_descriptors(tmp_path, 256) as (url, process),
        registered(url, "chat") as callee,
        registered(url) as caller,
    ):
        before = process.num_fds()
        async with silent(port_of(url), 400) as held:
            for number in range(5):
                await look_up(caller, callee, number)
                async with registered(url):
                    pass
                async with registered_from("127.0.0.7", url):
                    pass
            assert process.num_fds() < 256
            assert len(held) == 400
        async with asyncio.timeout(LONG):
            while process.num_fds() > before:
                await asyncio.sleep(0.02)
        async with aiohttp.ClientSession(url) as http, http.get("/metrics") as answer:
            text = await answer.text()
    refused = [line for line in text.splitlines() if line.startswith("roam_relay_refusals_total")]
    assert any('reason="descriptors"' in line or 'reason="crowded_out"' in line for line in refused)
    log = (tmp_path / "log").read_text()
    (serving,) = [line for line in map(json.loads, log.splitlines()) if line["event"] == "serving"]
    assert (serving["descriptors_before"], serving["descriptors"]) == (128, 256)
    assert "limits are above what the file descriptors allow" in log
    assert '"max_connections":"1000, allowed ' in log
    assert "Traceback" not in log


@asynccontextmanager
async def registered_from(source: str, url: str) -> AsyncIterator[Client]:
    """Register from an address of which nobody has registered before."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port_of(url), local_addr=(source, 0)
    )
    try:
        writer.write(UPGRADE)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LONG)
        assert b" 101 " in head
        client = Client(Identity.generate(), reader, writer)
        await client.register()
        yield client
    finally:
        writer.transport.abort()


def client_hello() -> bytes:
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(into, out, server_hostname="relay").do_handshake()
    return out.read()


async def after_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: r\r\n\r\n")
    assert await asyncio.wait_for(reader.readuntil(b"ok\n"), LONG)


async def in_half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await after_an_answer(reader, writer)
    writer.write(b"GET / HT")


async def hello_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(UPGRADE)
    assert b" 101 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LONG)


async def body_never_comes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"POST / HTTP/1.1\r\nHost: r\r\nContent-Length: 1000000\r\n\r\nx")


Say = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
SLOW: dict[str, Say] = {
    "nothing": b"",
    "half a request": b"GET /v1/con",
    "half its headers": UPGRADE[:-20],
    "half a header of a proxy": b"PROXY TCP4 192.0.2",
    "a request and then nothing": after_an_answer,
    "a request and then a half": in_half,
    "a body that does not come": body_never_comes,
    "an upgrade and then nothing": hello_only,
}
SLOW_TLS: dict[str, Say] = {
    "nothing": b"",
    "half a hello": client_hello()[:100],
    "a hello": client_hello(),
}


async def outlasts(relay: RelayServer, say: Say, tls: ssl.SSLContext | None = None) -> None:
    """Open ten connections, say that much on each, and see the relay end them all."""
    pairs = []
    try:
        for _ in range(10):
            pair = await asyncio.open_connection(
                "127.0.0.1", port_of(relay.url), ssl=tls, local_addr=(ATTACKER, 0)
            )
            pairs.append(pair)
            if isinstance(say, bytes):
                pair[1].write(say)
            else:
                await say(*pair)
        async with asyncio.timeout(LONG):
            for reader, _ in pairs:
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    await reader.read()
    finally:
        for _, writer in pairs:
            writer.transport.abort()


def standing(relay: RelayServer) -> tuple[int, ...]:
    return (
        len(relay.connections),
        relay.doorkeeper.inside,
        relay.doorkeeper.newcomers,
        len(os.listdir("/proc/self/fd")),
    )


async def stands_as(relay: RelayServer, before: tuple[int, ...]) -> None:
    async with asyncio.timeout(LONG):
        while standing(relay) != before:
            await asyncio.sleep(0.01)


async def test_who_does_not_go_on_is_ended() -> None:
    config = RelayConfig(port=0, handshake_timeout=3.0, trusted_proxies=(ATTACKER,))
    async with (
        RelayServer(config) as relay,
        registered(relay.url, "chat") as callee,
        registered(relay.url) as caller,
    ):
        before = standing(relay)
        async with asyncio.TaskGroup() as attacks:
            running = [attacks.create_task(outlasts(relay, say)) for say in SLOW.values()]
            number = 0
            while not all(attack.done() for attack in running):
                number += 1
                await look_up(caller, callee, number)
                await asyncio.sleep(0.01)
        await stands_as(relay, before)
        assert relay.metrics.refusals == {"silent": 20, "handshake_timeout": 10}


async def test_who_does_not_go_on_with_tls_is_ended(tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=chain)
    config = RelayConfig(port=0, handshake_timeout=3.0, tls_certificate=chain, tls_key=key)
    async with RelayServer(config) as relay:
        before = standing(relay)
        async with asyncio.TaskGroup() as attacks:
            for say in SLOW_TLS.values():
                attacks.create_task(outlasts(relay, say))
            attacks.create_task(outlasts(relay, b"GET / HTTP", trust))
        await stands_as(relay, before)
        assert relay.metrics.refusals["silent"] == 10


async def test_who_does_not_read_its_answers_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not by its share of work, which would end it sooner.
    monkeypatch.setattr("relay.http.routes.EXPOSITION", 0.0)
    async with RelayServer(RelayConfig(port=0, write_deadline=0.1)) as relay:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            sock.bind((ATTACKER, 0))
            await loop.sock_connect(sock, ("127.0.0.1", port_of(relay.url)))
            request = b"GET /metrics HTTP/1.1\r\nHost: r\r\n\r\n"
            async with asyncio.timeout(LONG):
                with contextlib.suppress(ConnectionError):
                    while not relay.metrics.refusals["unread"]:
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(0.05):
                                await loop.sock_sendall(sock, request * 50)
                while relay.doorkeeper.newcomers:
                    await asyncio.sleep(0.01)
        assert relay.metrics.refusals == {"unread": 1}


async def test_a_leg_that_is_not_read_for_a_while_is_no_answer() -> None:
    """The deadline for answers ends no plane."""
    config = RelayConfig(port=0, write_deadline=0.1)
    async with (
        RelayServer(config) as relay,
        registered(relay.url) as alice,
        registered(relay.url, "chat") as bob,
        aiohttp.ClientSession(relay.url) as http,
    ):
        first, second = await tickets(alice, bob)
        target = alice.plane_target(first, relay.guid)
        async with http.ws_connect(target, protocols=(WEBSOCKET_PROTOCOL,), max_msg_size=0) as slow:
            (_, writer), _ = await leg(relay, bob, second)
            data = bytes(12 << 20)
            writer.write(data)
            # Time passes in which nobody reads: four deadlines.
            await asyncio.sleep(0.4)
            got = 0
            async with asyncio.timeout(LONG):
                while got < len(data):
                    got += len(await slow.receive_bytes())
            writer.close()
        assert relay.metrics.refusals == {}


async def test_one_network_does_not_crowd_the_others_out() -> None:
    """Upgrades that never register, from one address: others register meanwhile."""
    config = RelayConfig(port=0, max_newcomers=8, handshake_timeout=LONG)
    async with RelayServer(config) as relay, registered(relay.url, "chat") as callee:
        flood = []
        try:
            for _ in range(20):
                reader, writer, status, _ = await upgrade(relay.url, "/v1/control")
                flood.append((reader, writer))
                assert status == 101
            assert relay.doorkeeper.newcomers == 8
            for number in range(10):
                async with registered_from(f"127.0.0.{10 + number}", relay.url) as newcomer:
                    await look_up(newcomer, callee, number)
            assert relay.metrics.refusals["crowded_out"] >= 12
            for reader, _ in flood[:12]:
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), LONG) == b""
        finally:
            for _, writer in flood:
                writer.close()
        async with asyncio.timeout(LONG):
            while relay.doorkeeper.newcomers or len(relay.connections) > 1:
                await asyncio.sleep(0.01)
        assert relay.doorkeeper.inside == 1
