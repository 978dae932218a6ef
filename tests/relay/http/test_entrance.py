"""What is heard of a connection before aiohttp has it, on real sockets."""

import asyncio
import errno
import gc
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from protocol.codec import encode_location
from protocol.identity import Identity
from protocol.messages import (
    LocationRecord,
    Mode,
    Registered,
    ServiceAnswer,
    ServiceRecord,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Update,
    Verdict,
)
from relay.config import RelayConfig
from relay.http import Deadlines
from relay.http.entrance import Entrance, Served
from relay.http.visit import Visit
from relay.server import RelayServer
from relay.tasks import Tasks
from tests.relay.certificates import certificate
from tests.relay.client import Client, registered
from tests.relay.http.test_proxy_header import ipv4, v2

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n"
UPGRADE = b"GET /v1/control HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: roam-relay/1\r\n"


def port_of(relay: RelayServer) -> int:
    return int(relay.url.rpartition(":")[2])


@asynccontextmanager
async def opened(
    relay: RelayServer, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port_of(relay), ssl=tls, local_addr=(source, 0)
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def observed(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, start: bytes, headers: bytes = b""
) -> tuple[str, int]:
    writer.write(start + UPGRADE + headers + b"\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    assert b" 101 " in head.split(b"\r\n")[0], head
    told = await Client(Identity.generate(), reader, writer).register()
    return told.observed_host, told.observed_port


async def ended(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), 60)
    except ConnectionResetError:
        return b""


@asynccontextmanager
async def trusting() -> AsyncIterator[RelayServer]:
    config = RelayConfig(port=0, trusted_proxies=("127.0.0.1",), handshake_timeout=30.0)
    async with RelayServer(config) as relay:
        yield relay


@pytest.mark.parametrize("start", [V1, v2(ipv4())], ids=["v1", "v2"])
async def test_a_header_in_pieces(start: bytes) -> None:
    """No byte of it is taken before all of it is there, and none behind it."""
    async with trusting() as relay, opened(relay) as (reader, writer):
        for at in range(len(start)):
            writer.write(start[at : at + 1])
            await asyncio.sleep(0)
        assert await observed(reader, writer, b"") == ("192.0.2.7", 51000)


@pytest.mark.parametrize(
    ("start", "headers", "told"),
    [
        (V1, b"X-Forwarded-For: 192.0.2.66\r\n", ("192.0.2.7", 51000)),
        (b"PROXY UNKNOWN\r\n", b"X-Forwarded-For: 192.0.2.66\r\n", ("", 0)),
        (v2(b"", command=0x20, kind=0), b"", ("", 0)),
        (b"", b"X-Forwarded-For: 192.0.2.8\r\n", ("192.0.2.8", 0)),
        (b"", b"", ("", 0)),
    ],
    ids=["v1", "unknown", "local", "x-forwarded-for", "nothing"],
)
async def test_by_a_trusted_proxy(start: bytes, headers: bytes, told: tuple[str, int]) -> None:
    async with trusting() as relay, opened(relay) as (reader, writer):
        assert await observed(reader, writer, start, headers) == told


async def test_a_proxys_own_address_is_never_disclosed() -> None:
    """Not where it says nothing of its client, and not by the relay's own probes."""
    async with trusting() as relay, registered(relay.url, "chat") as bob:
        known = relay.registry.get(bob.identity.guid)
        assert known is not None
        assert known.observed_hosts == frozenset()
        assert known.disclosable("chat") == ()
        assert not relay.proofs.working


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"PROXY TCP4 nobody\r\n", "bad_proxy_header"),
        (v2(ipv4(), command=0x2F), "bad_proxy_header"),
    ],
)
async def test_a_malformed_header_ends_the_connection(
    start: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with trusting() as relay:
        async with opened(relay) as (reader, writer):
            writer.write(start + UPGRADE + b"\r\n")
            assert await ended(reader) == b""
        assert relay.metrics.refusals == {reason: 1}
        assert relay.doorkeeper.newcomers == 0
    assert f"reason='{reason}' source='127.0.0.1'" in caplog.text


@pytest.mark.parametrize("headers", [b"X-Forwarded-For: x", b'Forwarded: for="x', b"Forwarded: ,"])
async def test_malformed_headers_of_a_request_are_refused(
    headers: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with trusting() as relay:
        for path in (b"/v1/control", b"/healthz"):
            async with opened(relay) as (reader, writer):
                writer.write(b"GET %b HTTP/1.0\r\n%b\r\n\r\n" % (path, headers))
                answer = await ended(reader)
                assert b" 400 " in answer.split(b"\r\n")[0]
                assert b"bad_message" in answer
        assert relay.metrics.refusals == {"bad_forwarding": 2}
    assert "reason='bad_forwarding' source='127.0.0.1'" in caplog.text


@pytest.mark.parametrize("start", [V1, v2(ipv4())], ids=["v1", "v2"])
async def test_a_header_of_whom_nobody_trusts_is_refused(
    start: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with trusting() as relay:
        async with opened(relay, "127.0.0.5") as (reader, writer):
            writer.write(start + UPGRADE + b"\r\n")
            assert await ended(reader) == b""
        async with opened(relay, "127.0.0.5") as (reader, writer):
            forged = b"X-Forwarded-For: 192.0.2.66\r\nForwarded: for=192.0.2.66\r\n"
            host, _ = await observed(reader, writer, b"", forged)
            assert host == "", "it came by some proxy, as it says itself; nobody knows from where"
        assert relay.metrics.refusals == {"untrusted_proxy": 1}
    assert "reason='untrusted_proxy' source='127.0.0.5'" in caplog.text


async def test_before_tls(tmp_path: Path) -> None:
    """The header and the ClientHello in one segment."""
    chain, key = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=chain)
    config = RelayConfig(port=0, tls_certificate=chain, tls_key=key, trusted_proxies=("127.0.0.1",))
    async with RelayServer(config) as relay, opened(relay) as (reader, writer):
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trust.wrap_bio(into, out, server_hostname="127.0.0.1")
        start = V1
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(start + out.read())
                start = b""
                into.write(await asyncio.wait_for(reader.read(65_536), 60))
        tls.write(UPGRADE + b"\r\n")
        writer.write(out.read())
        while True:
            into.write(await asyncio.wait_for(reader.read(65_536), 60))
            try:
                assert b" 101 " in tls.read()
                break
            except ssl.SSLWantReadError:
                pass
        (connection,) = relay.connections
        assert connection.observed_host == "192.0.2.7"


async def test_under_tls_nothing_is_left_of_a_connection(tmp_path: Path) -> None:
    """aiohttp counted every connection that had been taken from it among its own, for ever."""
    chain, key = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=chain)
    async with RelayServer(RelayConfig(port=0, tls_certificate=chain, tls_key=key)) as relay:
        for _ in range(3):
            async with opened(relay, tls=trust) as (reader, writer):
                assert (await observed(reader, writer, b""))[0] == "127.0.0.1"
                assert relay.doorkeeper.newcomers == 0
        async with asyncio.timeout(60):
            while any(isinstance(one, Visit) for one in gc.get_objects()):
                await asyncio.sleep(0.01)
                gc.collect()


async def test_what_is_no_http_is_answered_and_written_into_no_log(
    relay: RelayServer, caplog: pytest.LogCaptureFixture
) -> None:
    """aiohttp wrote a traceback for each."""
    for _ in range(3):
        async with opened(relay) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nno header\r\n\r\n")
            assert b" 400 " in (await ended(reader)).split(b"\r\n")[0]
    assert relay.metrics.refusals == {"bad_http": 3}
    assert "Traceback" not in caplog.text


class Gone(web.Response):
    """An answer whose reader goes in the moment in which it is written, as a transport says it."""

    said = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"

    async def write_eof(self, data: bytes = b"") -> None:
        raise RuntimeError(self.said)


async def test_who_goes_while_the_answer_is_written_is_no_fault_of_the_relay(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp logged a traceback for each, on uvloop."""
    monkeypatch.setattr("relay.http.answers.web.Response", Gone)
    async with opened(relay) as (reader, writer):
        writer.write(b"GET /v1/control HTTP/1.1\r\nHost: r\r\n\r\n")
        assert await ended(reader) == b""
    monkeypatch.undo()
    async with opened(relay) as (reader, writer):
        assert (await observed(reader, writer, b""))[0] == "127.0.0.1"


@pytest.mark.expected_errors("nobody thought of it")
async def test_any_other_failure_to_answer_is_told(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Gone, "said", "nobody thought of it")
    monkeypatch.setattr("relay.http.answers.web.Response", Gone)
    async with opened(relay) as (reader, writer):
        writer.write(b"GET /v1/control HTTP/1.1\r\nHost: r\r\n\r\n")
        await ended(reader)
    assert "nobody thought of it" in caplog.text


class Short(socket.socket):
    """A listening socket of a process that has no descriptors left for a while."""

    failures = 2

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


async def test_without_descriptors_the_first_to_go_makes_room() -> None:
    """And who waits in the backlog is accepted as soon as there are some again."""
    async with RelayServer(RelayConfig(port=0)) as relay:
        runner = web.AppRunner(web.Application())
        await runner.setup()
        tasks = Tasks()
        entrance = Entrance(
            Served(runner), relay.doorkeeper, Deadlines(30.0, 30.0), lambda *_: 0.0, tasks.spawn
        )
        async with opened(relay, "127.0.0.66") as (silent, _):
            while not relay.doorkeeper.newcomers:
                await asyncio.sleep(0.01)
            listening = Short()
            listening.bind(("127.0.0.1", 0))
            listening.setblocking(False)
            listening.listen()
            entrance.open([listening], None)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            assert b" 404 " in (await ended(reader)).split(b"\r\n")[0]
            writer.close()
            assert await ended(silent) == b""
            assert relay.metrics.refusals == {"descriptors": 2}, "at the second time nobody is left"
        entrance.close()
        await tasks.close()
        await runner.cleanup()


@pytest.mark.parametrize("said", [b"", b"GET /v1", UPGRADE + b"\r\n"], ids=["", "half", "upgrade"])
async def test_a_relay_that_closes_leaves_nobody_waiting(said: bytes) -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with RelayServer(RelayConfig(port=0)) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(relay))
        writer.write(said)
        async with asyncio.timeout(60):
            while not relay.doorkeeper.newcomers:
                await asyncio.sleep(0.01)
            if said.endswith(b"\r\n\r\n"):
                await reader.readuntil(b"\r\n\r\n")
    await ended(reader)
    writer.close()
    assert relay.doorkeeper.newcomers == 0
    async with asyncio.timeout(60):
        while len(os.listdir("/proc/self/fd")) > before:
            await asyncio.sleep(0.01)
            gc.collect()


async def test_who_comes_while_the_relay_closes_is_let_go() -> None:
    """Whose hand-over is not begun any more, or is cancelled before its first step."""
    async with RelayServer(RelayConfig(port=0)) as relay:
        runner = web.AppRunner(web.Application())
        await runner.setup()
        closed, closing = Tasks(), Tasks()
        await closed.close()

        def begun_and_closed(work: Coroutine[Any, Any, None], ended: Callable[[], None]) -> None:
            closing.spawn(work, ended)
            ends.append(asyncio.create_task(closing.close()))

        ends: list[asyncio.Task[None]] = []
        for spawn in (closed.spawn, begun_and_closed):
            entrance = Entrance(
                Served(runner), relay.doorkeeper, Deadlines(30.0, 30.0), lambda *_: 0.0, spawn
            )
            listening = socket.create_server(("127.0.0.1", 0))
            listening.setblocking(False)
            entrance.open([listening], None)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await ended(reader) == b""
            writer.close()
            assert relay.doorkeeper.newcomers == 0
            entrance.close()
        await asyncio.gather(*ends)
        await runner.cleanup()


@asynccontextmanager
async def behind(relay: RelayServer, host: str, *services: str) -> AsyncIterator[Client]:
    """Register from behind an address, as a trusted proxy tells it."""
    async with opened(relay) as (reader, writer):
        writer.write(UPGRADE + b"X-Forwarded-For: " + host.encode() + b"\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        one = Client(Identity.generate(), reader, writer)
        await one.register(*services)
        yield one


@pytest.mark.parametrize("mode", [Mode.P2P, Mode.COMBINED, Mode.AUTO])
async def test_two_behind_one_address_learn_each_others_private_ones(mode: Mode) -> None:
    async with (
        trusting() as relay,
        behind(relay, "192.0.2.7", "chat") as bob,
        behind(relay, "192.0.2.7") as near,
        behind(relay, "192.0.2.8") as far,
    ):
        seq = bob.record().seq
        private = bob.entry("chat", seq, "192.168.1.7")
        seen = bob.entry("chat", seq, "192.0.2.7")
        record = LocationRecord(seq, (ServiceRecord("chat", (private, seen)),))
        bob.send(Update(encode_location(record)))
        await bob.expect(Registered)
        for asker, told in ((near, {private, seen}), (far, {seen}), (near, {private, seen})):
            own = asker.entry("chat", 1, "10.0.0.9")
            asker.send(ServiceRequestTo(1, bob.identity.guid, "chat", mode, b"s" * 16, (own,)))
            if mode is not Mode.P2P:
                asked = await bob.expect(ServiceRequestFrom)
                assert asked.entries == ((own,) if asker is near else ())
                there = (private, seen)
                bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED, entries=there))
            assert set((await asker.expect(ServiceResponse)).entries) == told
