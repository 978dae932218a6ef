"""Connections and handshakes without end, of one network: others are accepted and served."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.config import RelayConfig
from relay.http.visitor import Visitor
from relay.server import RelayServer
from tests.attacks.honest import EVIL, GOOD
from tests.relay.certificates import certificate
from tests.relay.client import registered

LONG = 60.0


class Greeted:
    """How many connections of the attacker were heard, and how many shook hands."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.heard = 0
        self.shaken = 0
        look, hand_over = Visitor._look, Visitor._hand_over

        def looked(visitor: Visitor) -> None:
            self.heard += visitor.origin.host == EVIL
            look(visitor)

        async def handed_over(visitor: Visitor) -> None:
            self.shaken += visitor.origin.host == EVIL
            await hand_over(visitor)

        monkeypatch.setattr(Visitor, "_look", looked)
        monkeypatch.setattr(Visitor, "_hand_over", handed_over)


@pytest.fixture
def greeted(monkeypatch: pytest.MonkeyPatch) -> Greeted:
    return Greeted(monkeypatch)


@asynccontextmanager
async def coming(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[list[int]]:
    """Connect, shake hands, and go, again and again in eight tasks; yield how often so far."""
    came = [0]
    stopped = asyncio.Event()

    async def come() -> None:
        while not stopped.is_set():
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(0.1):
                    _, writer = await asyncio.open_connection(
                        "127.0.0.1", port, ssl=tls, local_addr=(EVIL, 0)
                    )
                writer.transport.abort()
            came[0] += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(come())
        try:
            yield came
        finally:
            stopped.set()


async def until(came: list[int], count: int) -> None:
    async with asyncio.timeout(LONG):
        while came[0] < count:
            await asyncio.sleep(0.01)


async def test_connections_that_come_and_go(greeted: Greeted) -> None:
    config = RelayConfig(port=0, work_per_network=0.001, handshake_timeout=2.0)
    async with RelayServer(config) as relay:
        port = int(relay.url.rpartition(":")[2])
        async with coming(port) as came:
            await until(came, 500)
            async with registered(relay.url, source=GOOD):
                pass
            assert greeted.heard < 300, "the rest is not even heard"
            assert relay.metrics.limited["work"]
        async with asyncio.timeout(LONG):
            while relay.doorkeeper.newcomers:
                await asyncio.sleep(0.01)


async def test_handshakes_without_end(tmp_path: Path, greeted: Greeted) -> None:
    chain, key = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=chain)
    config = RelayConfig(
        port=0, tls_certificate=chain, tls_key=key, work_per_network=0.01, handshake_timeout=3.0
    )
    async with RelayServer(config) as relay:
        port = int(relay.url.rpartition(":")[2])
        async with coming(port, trust) as came:
            await until(came, 100)
            _, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=trust, local_addr=(GOOD, 0)
            )
            writer.transport.abort()
            assert greeted.shaken < 80, "handshakes wait until they are paid for"
        async with asyncio.timeout(LONG):
            while relay.doorkeeper.newcomers:
                await asyncio.sleep(0.01)


async def test_more_than_can_be_paid_for_are_reset_at_once() -> None:
    config = RelayConfig(port=0, work_per_network=0.001)
    async with RelayServer(config) as relay:
        port = int(relay.url.rpartition(":")[2])
        held = []
        try:
            async with asyncio.timeout(LONG):
                while not relay.metrics.refusals["too_often"]:
                    with contextlib.suppress(ConnectionError):
                        held.append(
                            await asyncio.open_connection("127.0.0.1", port, local_addr=(EVIL, 0))
                        )
            assert 256 <= relay.doorkeeper.newcomers < 300, "those before wait"
            async with registered(relay.url, source=GOOD):
                pass
        finally:
            for _, writer in held:
                writer.transport.abort()
