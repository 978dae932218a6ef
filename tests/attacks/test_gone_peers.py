"""Fresh keys that register as much as a record may hold, and go: what of them stays?"""

import asyncio
import gc
import os
import tracemalloc
import weakref

import pytest

from protocol.codec import encode_location
from protocol.identity import Identity, guid_of
from protocol.messages import (
    Disclosure,
    LocationRecord,
    PeerEvent,
    Registered,
    ServiceRecord,
    Watch,
)
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.attacks.honest import EVIL, honest, settled, state_of
from tests.relay.client import client, registered

LISTED = tuple(guid_of(os.urandom(32)) for _ in range(1180))
RECORD = LocationRecord(
    1,
    tuple(
        ServiceRecord(
            f"s{number}", (), Disclosure.LISTED, LISTED[number * 236 : number * 236 + 236]
        )
        for number in range(5)
    ),
)
"""Some 160 KiB in the relay's memory."""


async def come_and_go(relay: RelayServer, record: LocationRecord, source: str) -> str:
    async with client(relay.url, source=source) as one:
        await one.hello()
        one.send(one.signed_register(encode_location(record)))
        await one.expect(Registered)
    return one.identity.guid


@pytest.fixture
def traced() -> object:
    tracemalloc.start()
    yield
    tracemalloc.stop()


async def test_little_is_kept_of_who_has_gone(traced: None) -> None:
    async with RelayServer(RelayConfig(port=0)) as relay, honest(relay) as peers:
        before = state_of(relay)
        await come_and_go(relay, RECORD, EVIL)
        await settled(relay, before)
        gc.collect()
        begin = tracemalloc.get_traced_memory()[0]
        for _ in range(20):
            await come_and_go(relay, RECORD, EVIL)
            await peers.look_up()
        await settled(relay, before)
        gc.collect()
        each = (tracemalloc.get_traced_memory()[0] - begin) / 20
        assert each < 5 * 1024, "bytes for each key that has gone"
        assert len(relay.registry) == 2 + 21, "all are remembered"


async def test_who_has_gone_is_remembered_though_a_network_sends_fresh_keys() -> None:
    config = RelayConfig(port=0, max_offline=10)
    async with RelayServer(config) as relay, honest(relay) as peers:
        quiet = Identity.generate()
        async with registered(relay.url, "chat", identity=quiet, source="127.0.0.8"):
            pass
        for _ in range(20):
            await come_and_go(relay, LocationRecord(1), EVIL)
        peers.caller.send(Watch(quiet.guid))
        event = await peers.caller.expect(PeerEvent)
        assert event.last_seen is not None, "it is known when it was here last"
        await peers.look_up()
        await peers.newcomer()
        assert len(relay.registry) <= 3 + 10


async def test_what_a_connection_held_goes_with_it_and_waits_for_no_collection() -> None:
    async with RelayServer(RelayConfig(port=0)) as relay:
        await come_and_go(relay, RECORD, EVIL)
        gc.collect()
        gc.disable()
        try:
            async with client(relay.url, source=EVIL) as one:
                await one.hello()
                one.send(one.signed_register(encode_location(RECORD)))
                await one.expect(Registered)
                (connection,) = relay.connections
                left = weakref.ref(connection)
                del connection
            async with asyncio.timeout(60):
                while left() is not None:
                    await asyncio.sleep(0.01)
        finally:
            gc.enable()
