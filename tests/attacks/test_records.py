"""Peers with records as large as may be: the relay's memory is shared."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from protocol.codec import encode_location
from protocol.errors import Code
from protocol.messages import Error, Registered
from relay import server
from relay.config import RelayConfig
from relay.limits import Bounds
from relay.server import RelayServer
from tests.attacks.honest import EVIL, GOOD, honest, settled, state_of
from tests.attacks.test_work import full, update
from tests.relay.client import Client, client, registered


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for 10 records of 6 KiB, of which a network has 3, and a wide one 6."""
    monkeypatch.setattr(server, "record_budget", lambda _: Bounds(21, 13, 7, 21))


async def come(one: Client) -> object:
    """Register with a large record; return what is said to that."""
    await one.hello()
    one.send(one.signed_register(encode_location(full(one, 1, services=4))))
    return await one.expect(Registered)


async def test_a_network_has_its_share_of_the_memory() -> None:
    """Of many keys of one network, the oldest of those that have most give way to the newest."""
    config = RelayConfig(port=0, work_per_network=0.8)
    async with RelayServer(config) as relay, honest(relay) as peers:
        before = state_of(relay)
        async with AsyncExitStack() as stack:
            evil = [
                await stack.enter_async_context(client(relay.url, source=EVIL)) for _ in range(5)
            ]
            for one in evil:
                await come(one)
            for one in evil[:2]:
                assert (await one.expect(Error)).code is Code.LIMIT_EXCEEDED
            await peers.look_up()
            await peers.newcomer()
            async with asyncio.timeout(60):
                while len(relay.connections) != 5:
                    await asyncio.sleep(0.01)
        await settled(relay, before)
        async with registered(relay.url, source=EVIL, seq=1) as one:
            one.send_bytes(update(full(one, 2, services=4)))
            assert (await one.expect(Registered)).seq == 2, "all was given back"


async def test_where_all_is_used_who_has_most_loses_first() -> None:
    config = RelayConfig(port=0, work_per_network=0.8)
    async with RelayServer(config) as relay, honest(relay) as peers, AsyncExitStack() as stack:
        for number in range(10):
            source = f"127.0.{number // 3 + 1}.{number % 3 + 1}"
            await come(await stack.enter_async_context(client(relay.url, source=source)))
        async with registered(relay.url, source=GOOD, seq=1) as quiet:
            quiet.send_bytes(update(full(quiet, 2, services=4)))
            assert (await quiet.expect(Registered)).seq == 2
            await peers.look_up()
        assert relay.metrics.closes["limit_exceeded"] >= 1
