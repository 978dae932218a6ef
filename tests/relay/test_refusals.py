"""Who was refused: each counted by its reason, and said with its source, once a second at most."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from protocol.codec import encode
from protocol.identity import Identity
from protocol.messages import Hello, Ping
from relay.config import DnsConfig, RelayConfig
from relay.operator import Ban
from relay.refusals import REASONS, Refusals
from relay.server import RelayServer
from tests.relay.client import client, registered, upgrade

ALICE = Identity.from_seed(bytes([1]) * 32)
STRANGER = "127.0.0.66"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_reason_is_logged_once_a_second_with_its_source(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    refusals = Refusals(clock)
    for clock.now in (0.0, 0.4, 0.9, 1.0, 1.5):
        refusals.add("too_many", "192.0.2.66")
    refusals.add("descriptors", "192.0.2.7", detail="because")
    refusals.add("silent", "")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3, "what any relay meets all day is no warning"
    assert "reason='too_many' source='192.0.2.66' unlogged=0" in said[0]
    assert "unlogged=2" in said[1]
    assert "reason='descriptors' source='192.0.2.7' unlogged=0 detail='because'" in said[2]
    assert refusals == {"too_many": 5, "descriptors": 1, "silent": 1}


def test_the_page_for_operators_has_them_all() -> None:
    page = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
    rows = "".join(f"| `{reason}` | {what} |\n" for reason, what in REASONS.items())
    assert f"| reason | what |\n| --- | --- |\n{rows}" in page


def test_a_reason_that_is_in_no_table_is_counted_with_the_others_like_it() -> None:
    refusals = Refusals(Clock())
    for number in range(1000):
        refusals.add(f"made up {number}", "192.0.2.1")
    assert refusals == {"other": 1000}


async def says(refused: Callable[[RelayServer], Awaitable[None]], **settings: Any) -> RelayServer:
    async with RelayServer(RelayConfig(**{"port": 0} | settings)) as relay:
        await refused(relay)
        return relay


async def status(relay: RelayServer, target: str = "/v1/control") -> int:
    _, writer, code, _ = await upgrade(relay.url, target, STRANGER)
    writer.close()
    await writer.wait_closed()
    return code


async def too_many_of_one(relay: RelayServer) -> None:
    async with client(relay.url, source=STRANGER):
        assert await status(relay) == 429


async def too_many(relay: RelayServer) -> None:
    async with client(relay.url):
        assert await status(relay) == 429


async def mute(relay: RelayServer) -> None:
    async with client(relay.url, source=STRANGER) as one:
        assert await one.reader.read()


async def no_message(relay: RelayServer) -> None:
    async with client(relay.url, source=STRANGER) as one:
        one.send_bytes(b"\xff" * 40)
        assert await one.reader.read()


async def too_early(relay: RelayServer) -> None:
    async with client(relay.url, source=STRANGER) as one:
        one.send(Ping(1))
        assert await one.reader.read()


async def no_guid(relay: RelayServer) -> None:
    async with client(relay.url, source=STRANGER) as one:
        one.send_bytes(encode(Hello("!" * len(ALICE.guid), b"i" * 16, b"n" * 32)))
        assert await one.reader.read()


async def banned(relay: RelayServer) -> None:
    await relay.operator.do(Ban(ALICE.guid))
    await unwanted(relay)


async def unwanted(relay: RelayServer) -> None:
    async with client(relay.url, ALICE, STRANGER) as one:
        await one.ask_to_register()
        assert await one.reader.read()


async def a_ticket_of_nobody(relay: RelayServer) -> None:
    assert await status(relay, f"/v1/plane/{'0' * 32}") == 404


async def no_time(relay: RelayServer) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(relay.url.rpartition(":")[2]), local_addr=(STRANGER, 0)
    )
    writer.write(b"GET / HTTP/1.1\r\nHost: r\r\n\r\n" * 400)
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), 60)
    writer.close()


@pytest.mark.parametrize(
    ("reason", "refused", "settings"),
    [
        ("too_many_per_address", too_many_of_one, {"max_connections_per_address": 1}),
        ("too_many", too_many, {"max_connections": 1}),
        ("too_often", too_many_of_one, {"connects_per_second": 0.001, "connects_burst": 1}),
        ("handshake_timeout", mute, {"handshake_timeout": 0.1}),
        ("bad_message", no_message, {}),
        ("unexpected_message", too_early, {}),
        ("bad_guid", no_guid, {}),
        ("banned", banned, {}),
        ("not_listed", unwanted, {"admission": "listed"}),
        ("ticket_unknown", a_ticket_of_nobody, {}),
        ("work", no_time, {"work_per_network": 0.0005}),  # Eight answers; one more in 0.12 s.
    ],
)
async def test_each_refusal_is_counted_by_its_reason_and_told_with_its_source(
    reason: str,
    refused: Callable[[RelayServer], Awaitable[None]],
    settings: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "relay")
    relay = await says(refused, **settings)
    assert relay.metrics.refusals[reason] >= 1
    lines = [record.getMessage() for record in caplog.records]
    (said,) = [line for line in lines if f"reason='{reason}'" in line]
    assert f"source='{STRANGER}'" in said
    assert set(relay.metrics.refusals) <= set(REASONS)


async def test_who_is_banned_and_comes_again_and_again_fills_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "relay")
    async with RelayServer(RelayConfig(port=0)) as relay:
        await relay.operator.do(Ban(ALICE.guid))
        for _ in range(20):
            async with client(relay.url, ALICE) as one:
                await one.ask_to_register()
                assert await one.reader.read()
        assert relay.metrics.refusals["banned"] == 20
    lines = [line for line in caplog.text.splitlines() if "banned" in line]
    assert len(lines) < 20
    assert ALICE.guid[:8] in lines[0]


@contextlib.asynccontextmanager
async def zone(**limits: int) -> AsyncIterator[RelayServer]:
    dns = DnsConfig(zone="example.org", port=0, **limits)
    async with RelayServer(RelayConfig(port=0, dns=dns)) as relay:
        yield relay


@pytest.mark.parametrize(
    ("reason", "limits"),
    [
        ("dns_per_address", {"max_connections_per_address": 1}),
        ("dns_too_many", {"max_connections": 1, "max_connections_per_address": 1}),
    ],
)
async def test_connections_of_the_name_server(
    reason: str, limits: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    async with zone(**limits) as relay, contextlib.AsyncExitStack() as stack:
        assert relay.dns is not None
        for source in (STRANGER, STRANGER if reason == "dns_per_address" else "127.0.0.77"):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", relay.dns.port, local_addr=(source, 0)
            )
            stack.callback(writer.close)
            writer.write(struct.pack("!H", 20))
            await writer.drain()
        async with asyncio.timeout(60):
            while not relay.metrics.refusals[reason]:
                await asyncio.sleep(0.01)
        del reader
    assert f"reason='{reason}'" in caplog.text
    assert "source='127.0.0." in caplog.text


async def test_who_is_known_and_ends_is_no_refusal() -> None:
    async with RelayServer(RelayConfig(port=0)) as relay:
        async with registered(relay.url, "chat"):
            pass
        async with client(relay.url):
            pass
        assert relay.metrics.refusals == {}
