"""Who keeps the relay at work: updates full of signatures, pings without end, fresh keys."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from protocol.codec import encode, encode_location
from protocol.endpoint import Entry, SignedEntry, open_entry
from protocol.messages import LocationRecord, Ping, Pong, Registered, ServiceRecord, Update
from relay.config import RelayConfig
from relay.presence import records as module
from relay.server import RelayServer
from tests.attacks.honest import EVIL, GOOD, honest, settled, state_of
from tests.relay.client import Client, client, registered


class Verified:
    """How many signatures of entries the relay has verified."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setattr(module, "open_entry", self._open)

    def _open(self, guid: str, signed: SignedEntry) -> Entry:
        self.count += 1
        return open_entry(guid, signed)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> Verified:
    return Verified(monkeypatch)


def full(
    one: Client, seq: int, entries_of: int | None = None, services: int = 16
) -> LocationRecord:
    """Return a record with 16 entries for each service: new ones, or those of another record."""
    made = seq if entries_of is None else entries_of
    return LocationRecord(
        seq,
        tuple(
            ServiceRecord(
                f"s{number}",
                tuple(one.entry(f"s{number}", made, EVIL, port) for port in range(1, 17)),
            )
            for number in range(services)
        ),
    )


def update(record: LocationRecord) -> bytes:
    return encode(Update(encode_location(record)))


async def put_off(relay: RelayServer) -> None:
    """Somebody has used up what he may have done."""
    async with asyncio.timeout(60):
        while not relay.metrics.limited["work"]:
            await asyncio.sleep(0.01)


async def test_an_entry_is_verified_once(verified: Verified) -> None:
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        registered(relay.url, source=EVIL, seq=1) as evil,
    ):
        for seq in (2, 3, 4):
            evil.send_bytes(update(full(evil, seq, entries_of=2)))
            assert (await evil.expect(Registered)).seq == seq
        assert verified.count == 256
        one = evil.entry("s", 4)
        evil.send(Update(encode_location(LocationRecord(5, (ServiceRecord("s", (one,) * 16),)))))
        await evil.expect(Registered)
        assert verified.count == 257, "however often a record has it"
        evil.send_bytes(update(full(evil, 6, entries_of=2)))
        await evil.expect(Registered)
        assert verified.count == 257, "it is remembered, in force or not"


async def test_updates_full_of_signatures_do_not_keep_others_waiting(verified: Verified) -> None:
    config = RelayConfig(port=0, work_per_peer=0.02)
    async with RelayServer(config) as relay, honest(relay) as peers:
        before = state_of(relay)
        async with registered(relay.url, source=EVIL, seq=1) as evil:
            updates = [update(full(evil, seq, services=8)) for seq in range(2, 18)]
            evil.send_bytes(b"".join(updates))
            while not verified.count:
                await asyncio.sleep(0)
            for _ in range(5):
                begun = verified.count
                await peers.look_up()
                assert verified.count - begun < 128, "not one whole update, meanwhile"
            await peers.newcomer()
            assert verified.count < 16 * 128, "it waits for its time"
            assert (await evil.expect(Registered)).seq == 2, "and is not sent away"
        await settled(relay, before)


async def test_pings_do_not_keep_others_waiting() -> None:
    config = RelayConfig(port=0, work_per_peer=0.01)
    pings = encode(Ping(7)) * 14_000
    async with RelayServer(config) as relay, honest(relay) as peers:
        before = state_of(relay)
        async with AsyncExitStack() as stack:
            evil = [
                await stack.enter_async_context(registered(relay.url, source=EVIL))
                for _ in range(10)
            ]
            for one in evil:
                one.send_bytes(pings)
            began = relay.metrics.messages_in
            while relay.metrics.messages_in < began + 1000:
                await asyncio.sleep(0)
            worst = 0
            for _ in range(5):
                begun = relay.metrics.messages_in
                await peers.look_up()
                worst = max(worst, relay.metrics.messages_in - begun)
            assert worst < 20_000, "messages that were handled before one look-up"
            await peers.newcomer()
            await put_off(relay)
            assert (await evil[0].expect(Pong)).ping == 7
            assert not relay.metrics.closes["limit_exceeded"]
        await settled(relay, before)


async def test_fresh_keys_of_one_network_do_not_keep_a_newcomer_waiting() -> None:
    config = RelayConfig(port=0, work_per_network=0.01)
    async with RelayServer(config) as relay, honest(relay) as peers, AsyncExitStack() as stack:
        evil = [await stack.enter_async_context(client(relay.url, source=EVIL)) for _ in range(12)]
        for one in evil:
            await one.hello()
        for one in evil:
            one.send(one.signed_register(encode_location(full(one, 1, services=8))))
        await peers.look_up()
        async with registered(relay.url, source=GOOD):
            served = relay.metrics.registrations
            assert served < 3 + len(evil), "it did not wait for all of them"
        await put_off(relay)


async def test_a_connection_that_waits_for_its_time_is_not_taken_for_dead() -> None:
    config = RelayConfig(port=0, heartbeat=0.2, work_per_peer=0.001)
    async with RelayServer(config) as relay, registered(relay.url, source=EVIL) as evil:
        evil.send_bytes(encode(Ping(7)) * 250)
        for _ in range(250):
            assert (await evil.expect(Pong)).ping == 7
        assert len(relay.connections) == 1
