"""What the relay discloses: only where it has seen the peer, or met its key; and whom it dials."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection

import pytest

from peers import Identity, Peer, PeerConfig
from protocol.codec import encode_location
from protocol.endpoint import Endpoint
from protocol.errors import Code
from protocol.messages import (
    Error,
    LocationRecord,
    Mode,
    Ping,
    Pong,
    Registered,
    ServiceRecord,
    ServiceRequestTo,
    ServiceResponse,
    Update,
)
from relay.config import ConfigError, RelayConfig, load
from relay.presence import may_probe, may_probe_port, turns
from relay.server import RelayServer
from tests.relay.client import Client, client, registered
from tests.support import scale
from tests.support.rooms import rooms
from tests.support.servers import close_server

SESSION = b"s" * 16


async def endpoints(relay: RelayServer, asker: Client, guid: str, service: str) -> int:
    """Return how many endpoints the relay discloses."""
    asker.send(ServiceRequestTo(1, guid, service, Mode.P2P, SESSION))
    return len((await asker.expect(ServiceResponse)).entries)


async def proven(relay: RelayServer, guid: str, count: int) -> None:
    async with asyncio.timeout(60):
        while (known := relay.registry.get(guid)) is not None and len(known.proofs) != count:
            await asyncio.sleep(0.01)


class Victim(asyncio.Protocol):
    """Somebody who has nothing to do with it: counts who comes, and what they say."""

    def __init__(self, counts: list[int]) -> None:
        self.counts = counts

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.counts.append(0)

    def data_received(self, data: bytes) -> None:
        self.counts[-1] += len(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport.close()


@contextlib.asynccontextmanager
async def victim(host: str) -> AsyncIterator[tuple[int, list[int]]]:
    counts: list[int] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Victim(counts), host, 0)
    try:
        yield server.sockets[0].getsockname()[1], counts
    finally:
        await close_server(server)


@contextlib.asynccontextmanager
async def fast_relay(**changes: object) -> AsyncIterator[RelayServer]:
    config = RelayConfig(**{"port": 0, "proof_timeout": 0.3, **changes})  # type: ignore[arg-type]
    async with RelayServer(config) as server:
        yield server


async def test_an_address_of_the_peer_is_proven_and_disclosed() -> None:
    async with RelayServer(RelayConfig(port=0, proof_timeout=30.0)) as relay:
        config = PeerConfig(relay=relay.url, advertise=("127.0.51.1", "127.0.51.2"))
        async with Peer(Identity.generate(), config=config) as alice:
            alice.listen("chat")
            await alice.published()
            await proven(relay, alice.guid, 2)
            found = await alice.locate(alice.guid, "chat")
            assert {entry.host for entry in found.entries} >= {"127.0.51.1", "127.0.51.2"}
            assert relay.metrics.proofs["proven"] == 2
        await proven(relay, alice.guid, 0)


async def test_what_may_be_dialed_is_asked_once_a_record() -> None:
    """It was asked of all endpoints before and after the probe of each: 105 times."""

    class Asked(RelayServer):
        times = 0

        def may_probe(self, endpoint: Endpoint, observed: Collection[str]) -> bool:
            self.times += 1
            return super().may_probe(endpoint, observed)

    config = RelayConfig(port=0, proof_timeout=30.0)
    async with (
        victim("127.0.50.1") as (port, _),
        Asked(config) as relay,
        client(relay.url) as one,
    ):
        await one.hello()
        # Nobody listens at the seven others.
        hosts = [f"127.0.50.{last}" for last in range(1, 9)]
        entries = tuple(one.entry("chat", 1, host, port) for host in hosts[1:])
        record = LocationRecord(1, (ServiceRecord("chat", entries),))
        one.send(one.signed_register(encode_location(record)))
        await one.expect(Registered)
        async with asyncio.timeout(60):
            while relay.metrics.proofs["failed"] < len(entries):
                await asyncio.sleep(0.01)
        assert relay.times == len(entries)


async def test_a_victim_is_never_disclosed_and_hardly_notices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "FIRST_PAUSE", 0.2)
    loop = asyncio.get_running_loop()
    async with (
        victim("127.0.52.1") as (port, counts),
        fast_relay() as relay,
        registered(relay.url) as asker,
        client(relay.url) as attacker,
    ):
        await attacker.hello()
        entry = attacker.entry("chat", 1, "127.0.52.1", port)
        record = LocationRecord(1, (ServiceRecord("chat", (entry,)),))
        began = loop.time()
        attacker.send(attacker.signed_register(encode_location(record)))
        await attacker.expect(Registered)
        async with asyncio.timeout(60):
            while relay.metrics.proofs["failed"] < 2:
                await asyncio.sleep(0.01)
        # Updates do not make it hurry: the pauses are for the endpoint.
        for seq in range(2, 20):
            entry = attacker.entry("chat", seq, "127.0.52.1", port)
            record = LocationRecord(seq, (ServiceRecord("chat", (entry,)),))
            attacker.send(Update(encode_location(record)))
            await attacker.expect(Registered)
        assert await endpoints(relay, asker, attacker.identity.guid, "chat") == 0
        pauses = sum(0.2 * 2**turn for turn in range(len(counts) - 1))
        assert pauses <= loop.time() - began, f"{len(counts)} probes"
        assert all(size <= 600 for size in counts), counts


@pytest.mark.parametrize(
    ("hosts", "port"),
    [
        (("224.0.0.1",), 9),
        (("ff02::1",), 9),
        (("0.0.0.0",), 9),
        (("::",), 9),
        (("255.255.255.255",), 9),
        (("localhost",), 9),
        (("example.org",), 9),
        (("::ffff:192.0.2.1",), 9),
        (("2001:DB8::1",), 9),
        (("fe80::1%eth0",), 9),
        (("127.0.0.1",), 0),
        (("127.0.0.1",), 65536),
        (tuple(f"192.0.2.{last}" for last in range(17)), 9),
        (tuple(f"10.0.{n // 250}.{n % 250 + 1}" for n in range(1000)), 9),
    ],
)
async def test_endpoints_that_are_none_end_the_registration(
    hosts: tuple[str, ...], port: int
) -> None:
    async with fast_relay() as relay, client(relay.url) as one, registered(relay.url) as other:
        await one.hello()
        entries = tuple(one.entry("chat", 1, host, port) for host in hosts)
        location = encode_location(LocationRecord(1, (ServiceRecord("chat", entries),)))
        one.send(one.signed_register(location))
        error = await one.expect(Error)
        assert error.code in (Code.BAD_MESSAGE, Code.MESSAGE_TOO_LARGE)
        assert await one.closed()
        other.send(Ping(7))
        assert (await other.expect(Pong)).ping == 7, "nobody else notices"
        assert relay.proofs.working == 0


async def test_duplicates_are_proven_once() -> None:
    async with (
        victim("127.0.57.1") as (port, counts),
        fast_relay() as relay,
        client(relay.url) as one,
    ):
        await one.hello()
        entries = (one.entry("chat", 1, "127.0.57.1", port),) * 16
        record = LocationRecord(1, (ServiceRecord("chat", entries),))
        one.send(one.signed_register(encode_location(record)))
        await one.expect(Registered)
        async with asyncio.timeout(60):
            while not relay.metrics.proofs["failed"]:
                await asyncio.sleep(0.01)
        assert len(counts) == 1


async def test_another_peer_s_endpoint_is_no_proof() -> None:
    async with (
        fast_relay() as relay,
        registered(relay.url) as asker,
        client(relay.url) as attacker,
        Peer(
            Identity.generate(),
            config=PeerConfig(relay=relay.url, listen_hosts=("127.0.53.1",)),
        ) as bystander,
    ):
        await attacker.hello()
        entry = attacker.entry("chat", 1, "127.0.53.1", bystander.port)
        record = LocationRecord(1, (ServiceRecord("chat", (entry,)),))
        attacker.send(attacker.signed_register(encode_location(record)))
        await attacker.expect(Registered)
        async with asyncio.timeout(60):
            while not relay.metrics.proofs["failed"]:
                await asyncio.sleep(0.01)
        assert await endpoints(relay, asker, attacker.identity.guid, "chat") == 0


async def test_an_endpoint_that_is_gone_loses_its_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fast_relay(proof_lifetime=0.2, proof_timeout=30.0) as relay:
        config = PeerConfig(relay=relay.url, advertise=("127.0.54.1",))
        async with Peer(Identity.generate(), config=config) as alice:
            alice.listen("chat")
            await alice.published()
            await proven(relay, alice.guid, 1)
            rooms(alice).direct.close()
            await proven(relay, alice.guid, 0)


async def test_one_probe_at_a_time_for_each_peer() -> None:
    async with (
        fast_relay() as relay,
        client(relay.url) as attacker,
        contextlib.AsyncExitStack() as stack,
    ):
        seen: list[list[int]] = []
        entries = []
        await attacker.hello()
        for last in range(1, 9):
            port, counts = await stack.enter_async_context(victim(f"127.0.55.{last}"))
            seen.append(counts)
            entries.append(attacker.entry("chat", 1, f"127.0.55.{last}", port))
        record = LocationRecord(1, (ServiceRecord("chat", tuple(entries)),))
        attacker.send(attacker.signed_register(encode_location(record)))
        await attacker.expect(Registered)
        async with asyncio.timeout(60):
            while relay.metrics.proofs["failed"] < 3:
                assert sum(map(len, seen)) <= relay.metrics.proofs["failed"] + 1
                await asyncio.sleep(0.01)


async def test_keys_with_tar_pits_do_not_keep_an_honest_endpoint_from_being_proven() -> None:
    """All from one address. Once, theirs were a queue, and each of them had the whole timeout."""
    async with (
        RelayServer(RelayConfig(port=0, proof_timeout=300.0)) as relay,
        contextlib.AsyncExitStack() as stack,
    ):
        pits = [await stack.enter_async_context(victim("127.0.58.1")) for _ in range(16)]
        for _ in range(20):
            attacker = await stack.enter_async_context(client(relay.url))
            await attacker.hello()
            entries = tuple(attacker.entry("chat", 1, "127.0.58.1", port) for port, _ in pits)
            record = LocationRecord(1, (ServiceRecord("chat", entries),))
            attacker.send(attacker.signed_register(encode_location(record)))
            await attacker.expect(Registered)
        async with asyncio.timeout(60):
            while sum(len(counts) for _, counts in pits) < turns.NETWORK_AT_ONCE:
                await asyncio.sleep(0.01)
        config = PeerConfig(relay=relay.url, advertise=("127.0.51.1",))
        alice = await stack.enter_async_context(Peer(Identity.generate(), config=config))
        alice.listen("chat")
        await alice.published()
        async with asyncio.timeout(60):
            while not relay.metrics.proofs["proven"]:
                await asyncio.sleep(0.01)


async def test_a_peer_that_tells_ever_new_endpoints_scans_no_ports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "PEER_BURST", 4)
    monkeypatch.setattr(turns, "PEER_RATE", 0.001)
    async with (
        victim("127.0.56.1") as (port, counts),
        fast_relay() as relay,
        client(relay.url) as attacker,
    ):
        await attacker.hello()
        for seq in range(1, 40):
            entry = attacker.entry("chat", seq, "127.0.56.1", port if seq % 2 else port + seq)
            record = LocationRecord(seq, (ServiceRecord("chat", (entry,)),))
            if seq == 1:
                attacker.send(attacker.signed_register(encode_location(record)))
            else:
                attacker.send(Update(encode_location(record)))
            await attacker.expect(Registered)
            async with asyncio.timeout(60):
                while relay.metrics.proofs["failed"] < min(seq, 4):
                    await asyncio.sleep(0.01)
        assert relay.metrics.proofs["failed"] == 4
        assert len(counts) == 2, "every second one was the victim's"


async def test_a_relay_on_loopback_does_not_dial_private_networks() -> None:
    async with fast_relay() as relay, client(relay.url) as attacker:
        await attacker.hello()
        hosts = ("10.1.2.3", "169.254.169.254", "100.64.0.1", "fd00::1", "fe80::1")
        record = LocationRecord(
            1, (ServiceRecord("chat", tuple(attacker.entry("chat", 1, host) for host in hosts)),)
        )
        attacker.send(attacker.signed_register(encode_location(record)))
        await attacker.expect(Registered)
        assert relay.proofs.working == 0


@pytest.mark.parametrize(
    ("host", "serves", "networks", "allowed"),
    [
        ("8.8.8.8", "127.0.0.1", (), True),
        ("2600::1", "0.0.0.0", (), True),
        ("127.0.0.1", "127.0.0.1", (), True),
        ("::1", "127.0.0.1", (), True),
        ("127.0.0.1", "0.0.0.0", (), False),
        ("127.0.0.1", "10.0.0.1", (), False),
        ("10.0.0.9", "127.0.0.1", (), False),
        ("10.0.0.9", "10.0.0.1", (), True),
        ("10.0.0.9", "::", (), False),
        ("10.0.0.9", "::", ("10.0.0.0/24", "fd00::/8"), True),
        ("fd00::9", "::", ("10.0.0.0/24", "fd00::/8"), True),
        ("fd00::9", "10.0.0.1", (), False),
        ("169.254.169.254", "10.0.0.1", (), False),
        ("fe80::1", "fe80::2", (), False),
        ("100.64.1.1", "0.0.0.0", (), False),
        ("0.1.2.3", "0.0.0.0", (), False),
        ("224.0.0.1", "0.0.0.0", (), False),
        ("64:ff9b::a00:1", "::", (), False),
        ("64:ff9b::a00:1", "::", ("10.0.0.0/24",), True),
        ("::ffff:10.0.0.1", "::", (), False),
        ("::ffff:127.0.0.1", "::", ("::/0",), False),
        ("64:ff9b:1::808:808", "::", ("::/0",), False),
        *[
            (host, "::", ("0.0.0.0/0", "::/0"), False)
            for host in ("224.0.0.1", "ff02::1", "0.1.2.3", "::", "169.254.169.254", "fe80::1")
        ],
        ("2002:a00:1::1", "::", (), False),
        ("192.0.2.1", "localhost", (), False),
    ],
)
def test_where_the_relay_may_dial(
    host: str, serves: str, networks: tuple[str, ...], allowed: bool
) -> None:
    assert may_probe(host, serves, networks) is allowed


@pytest.mark.parametrize(
    ("port", "is_observed", "allowed"),
    [
        (9000, False, True),
        (443, False, True),
        (443, True, True),
        (25, True, True),
        *[(port, False, False) for port in (22, 25, 53, 80, 3306, 6379, 27017)],
    ],
)
def test_at_which_ports_the_relay_may_dial(port: int, is_observed: bool, allowed: bool) -> None:
    assert may_probe_port(port, is_observed) is allowed


async def test_a_hundred_keys_have_no_more_probes_at_one_victim_than_its_share() -> None:
    """Each names another port of one address; once, each of them had a rate of its own."""
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(fast_relay())
        port, counts = await stack.enter_async_context(victim("127.0.59.1"))
        keys = scale.of(40, 100)
        for number in range(keys):
            attacker = await stack.enter_async_context(client(relay.url))
            await attacker.hello()
            ports = [port, *(20_000 + 16 * number + other for other in range(15))]
            entries = tuple(attacker.entry("chat", 1, "127.0.59.1", one) for one in ports)
            record = LocationRecord(1, (ServiceRecord("chat", entries),))
            attacker.send(attacker.signed_register(encode_location(record)))
            await attacker.expect(Registered)
        async with asyncio.timeout(60):
            while relay.metrics.proofs["left alone"] < keys:
                await asyncio.sleep(0.01)
        spent = relay.metrics.proofs["failed"]
        assert spent <= 16 + 6, "its share, and what has come back meanwhile"
        # It has spoken no TLS twice: all leave it alone, but for those under way by then.
        assert len(counts) <= 1 + turns.NETWORK_AT_ONCE


def test_networks_that_are_none_are_named() -> None:
    with pytest.raises(ConfigError, match=r"proof_networks: .*10\.0\.0\.1/8"):
        load(None, {"ROAM_RELAY_PROOF_NETWORKS": "10.0.0.1/8"}, {})
    assert load(None, {}, {"proof_networks": "10.0.0.0/8, fd00::/8"}).networks == (
        "10.0.0.0/8",
        "fd00::/8",
    )
