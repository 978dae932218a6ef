"""The relay's second port: what it answers, to whom, and that nothing is left of who comes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs

from protocol.endpoint import Endpoint
from protocol.observation import SIZE, question, read_answer
from relay.check import look
from relay.config import ConfigError, RelayConfig
from relay.server import RelayServer
from tests.relay.certificates import certificate
from tests.relay.client import client
from tests.support.ports import free_port

ASKED = question(bytes(range(20)))


@contextlib.asynccontextmanager
async def mirror(config: RelayConfig | None = None) -> AsyncIterator[tuple[RelayServer, int]]:
    port = free_port()
    base = config or RelayConfig(port=0)
    async with RelayServer(structs.replace(base, observe_port=port)) as relay:
        yield relay, port


async def asked(port: int, *pieces: bytes, host: str = "127.0.0.1") -> tuple[Endpoint, bytes]:
    """Return where this end is, and all that is answered."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        local = writer.get_extra_info("sockname")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            try:
                answer = await reader.read()
            except ConnectionResetError:
                answer = b""
        return Endpoint(local[0], local[1]), answer
    finally:
        writer.transport.abort()


async def nobody_left(relay: RelayServer) -> None:
    async with asyncio.timeout(60):
        while relay.doorkeeper.newcomers:
            await asyncio.sleep(0.01)


async def test_who_asks_is_told_where_it_is_seen() -> None:
    async with mirror() as (relay, port):
        for pieces in ((ASKED,), (ASKED[:5], ASKED[5:])):
            local, answer = await asked(port, *pieces)
            assert read_answer(ASKED, answer) == local
            assert len(answer) == SIZE
        await nobody_left(relay)


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\nHost: relay.example\r\n\r\n", bytes(SIZE), ASKED + b"more"]
)
async def test_whatever_else_is_said_has_no_answer(said: bytes) -> None:
    async with mirror() as (relay, port):
        assert (await asked(port, said))[1] == b""
        await nobody_left(relay)
        assert relay.metrics.refusals["no_question"] == 1


async def test_who_says_too_little_is_late() -> None:
    async with (
        mirror(RelayConfig(port=0, handshake_timeout=0.2)) as (relay, port),
        asyncio.timeout(60),
    ):
        assert (await asked(port))[1] == b""
        assert (await asked(port, ASKED[:-1]))[1] == b""
        await nobody_left(relay)
        assert relay.metrics.refusals["silent"] == 1
        assert relay.metrics.refusals["late"] == 1


async def test_who_comes_there_is_one_of_the_crowd() -> None:
    """Where there are too many that have proven nothing, the network that has most of them loses
    its oldest: whichever port they have come to."""
    async with mirror(RelayConfig(port=0, max_newcomers=2)) as (relay, port):
        first, writer = await asyncio.open_connection("127.0.0.1", port)
        others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionResetError):
                assert await first.read() == b""
        for _, one in (*others, (first, writer)):
            one.transport.abort()
        await nobody_left(relay)


async def test_who_registers_is_told_of_it_and_not_behind_a_proxy() -> None:
    async def told(relay: RelayServer) -> int:
        async with client(relay.url) as one:
            return (await one.register()).observe_port

    async with mirror() as (relay, port):
        assert await told(relay) == port
    async with mirror(RelayConfig(port=0, trusted_proxies=("127.0.0.1",))) as (relay, _):
        assert await told(relay) == 0
    async with RelayServer(RelayConfig(port=0)) as relay:
        assert await told(relay) == 0


async def test_it_speaks_no_tls_where_the_relay_does(tmp_path: Path) -> None:
    chain, secret = certificate(tmp_path)
    config = RelayConfig(port=0, tls_certificate=chain, tls_key=secret)
    async with mirror(config) as (_, port):
        local, answer = await asked(port, ASKED)
        assert read_answer(ASKED, answer) == local


async def test_a_relay_that_drains_says_nothing_more() -> None:
    async with mirror() as (relay, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ASKED[:-1])
        relay.doorkeeper.draining = True
        writer.write(ASKED[-1:])
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.transport.abort()
        assert relay.metrics.refusals == {"draining": 1}


async def test_the_port_is_the_relay_s_alone() -> None:
    async with mirror() as (_, port):
        with pytest.raises(ConfigError, match="observe_port"):
            async with RelayServer(RelayConfig(port=0, observe_port=port)):
                pass
        levels = {one.about: one.level async for one in look(RelayConfig(observe_port=port))}
        assert levels["observe_port"] == "error"
    for wrong in ({"port": 8440}, {"admin_host": "127.0.0.1", "admin_port": 8440}):
        with pytest.raises(ConfigError, match="observe_port"):
            RelayConfig(**{"port": 0, "observe_port": 8440} | wrong)  # type: ignore[arg-type]
    RelayConfig(port=0, observe_port=8441)


async def test_the_relay_is_not_made_to_dial_it() -> None:
    async with mirror() as (relay, port):
        assert not relay.may_probe(Endpoint("127.0.0.1", port), ["127.0.0.1"])
