"""One stranger uses a bound up, and others go on."""

import asyncio
import contextlib

import pytest

from protocol.errors import Code
from protocol.identity import guid_of
from protocol.messages import (
    Mode,
    PeerEvent,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
    Watch,
)
from relay.config import DnsConfig, RelayConfig
from relay.presence import MAX_WATCHES
from relay.server import RelayServer
from tests.relay.client import Client, registered

SESSION = b"s" * 16
STRANGER = "127.0.0.66"

REQUEST = (
    b"GET /v1/control HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\n"
    b"Upgrade: roam-relay/1\r\n\r\n"
)


async def come(stack: contextlib.AsyncExitStack, relay: RelayServer, source: str) -> int:
    """Ask for a control connection from an address, and hold it; return the status."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(relay.url.rpartition(":")[2]), local_addr=(source, 0)
    )
    stack.callback(writer.close)
    writer.write(REQUEST)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    return int(head.split()[1])


@pytest.mark.parametrize(
    "limits",
    [
        {"max_connections_per_address": 5},
        {"connects_per_second": 0.01, "connects_burst": 5},
    ],
    ids=["connections", "connects"],
)
async def test_connections_of_one_address(limits: dict[str, float]) -> None:
    config = RelayConfig(port=0, **limits)  # type: ignore[arg-type]
    async with RelayServer(config) as relay, contextlib.AsyncExitStack() as stack:
        statuses = [await come(stack, relay, STRANGER) for _ in range(8)]
        assert statuses == [101] * 5 + [429] * 3
        async with registered(relay.url, "chat") as bob, registered(relay.url) as alice:
            await served(alice, bob)


async def test_requests_that_wait_of_one_connection() -> None:
    config = RelayConfig(port=0, pending_requests=3)
    async with (
        RelayServer(config) as relay,
        registered(relay.url) as stranger,
        registered(relay.url) as alice,
        registered(relay.url, "chat") as bob,
    ):
        for number in range(5):
            stranger.send(ServiceRequestTo(number, bob.identity.guid, "chat", Mode.AUTO, SESSION))
        for number in (3, 4):
            answer = await stranger.expect(ServiceResponse)
            assert (answer.request, answer.code) == (number, Code.LIMIT_EXCEEDED)
        for _ in range(3):
            await bob.expect(ServiceRequestFrom)
        await served(alice, bob)


async def test_requests_of_one_peer() -> None:
    config = RelayConfig(port=0, requests_per_second=0.01, requests_burst=3)
    async with (
        RelayServer(config) as relay,
        registered(relay.url) as stranger,
        registered(relay.url) as alice,
        registered(relay.url, "chat") as bob,
    ):
        for number in range(5):
            stranger.send(ServiceRequestTo(number, bob.identity.guid, "chat", Mode.P2P, SESSION))
        codes = [(await stranger.expect(ServiceResponse)).code for _ in range(5)]
        assert codes == [None] * 3 + [Code.LIMIT_EXCEEDED] * 2
        await served(alice, bob)


async def test_watches_of_one_connection(relay: RelayServer) -> None:
    async with (
        registered(relay.url) as stranger,
        registered(relay.url) as alice,
        registered(relay.url, "chat") as bob,
    ):
        for number in range(MAX_WATCHES + 1):
            stranger.send(Watch(guid_of(number.to_bytes(32, "big"))))
        for _ in range(MAX_WATCHES):
            assert (await stranger.expect(PeerEvent)).code is None
        assert (await stranger.expect(PeerEvent)).code is Code.LIMIT_EXCEEDED
        alice.send(Watch(bob.identity.guid))
        assert (await alice.expect(PeerEvent)).code is None


async def test_dns_connections_of_one_address() -> None:
    dns = DnsConfig(zone="example.org", port=0, max_connections_per_address=3)
    async with (
        RelayServer(RelayConfig(port=0, dns=dns)) as relay,
        contextlib.AsyncExitStack() as stack,
    ):
        assert relay.dns is not None

        async def is_served(source: str) -> bool:
            """Whether a connection from there is kept, for a while at least."""
            reader, writer = await asyncio.open_connection(
                "127.0.0.1",
                relay.dns.port,
                local_addr=(source, 0),  # type: ignore[union-attr]
            )
            stack.callback(writer.close)
            with contextlib.suppress(TimeoutError, ConnectionError):
                return bool(await asyncio.wait_for(reader.read(1), 0.3))
            return not reader.at_eof() and reader.exception() is None

        kept = [await is_served(STRANGER) for _ in range(5)]
        assert kept == [True] * 3 + [False] * 2
        assert await is_served("127.0.0.1")


async def served(alice: Client, bob: Client) -> None:
    alice.send(ServiceRequestTo(9, bob.identity.guid, "chat", Mode.CENTRAL, SESSION))
    asked = await bob.expect(ServiceRequestFrom)
    bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED))
    answer = await alice.expect(ServiceResponse)
    assert (answer.request, answer.code) == (9, None)
