"""Requests that nobody follows up: for one callee, of one key, of many fresh keys, all at once."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from protocol.errors import Code
from protocol.messages import Mode, ServiceRequestFrom, ServiceResponse
from relay.broker import pending as module
from relay.config import RelayConfig
from relay.limits import Bounds
from relay.server import RelayServer
from tests.attacks.honest import EVIL, ask, honest, settled, state_of
from tests.relay.client import registered


@pytest.fixture
def few_at_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve requests may wait for one callee."""
    monkeypatch.setattr(module, "AT_ONE", Bounds(in_all=12, wide=10, network=8, key=4))
    monkeypatch.setattr(module, "_FEW", 2)


@pytest.mark.parametrize("keys", [1, 30])
async def test_requests_of_one_network_do_not_fill_a_callee(few_at_one: None, keys: int) -> None:
    async with RelayServer(RelayConfig(port=0)) as relay, honest(relay) as peers:
        before = state_of(relay)
        victim = peers.callee.identity.guid
        async with AsyncExitStack() as stack:
            for _ in range(keys):
                evil = await stack.enter_async_context(registered(relay.url, source=EVIL))
                for _ in range(30 // keys):
                    evil.send(ask(victim, Mode.COMBINED))
            left = 4 if keys == 1 else 8
            async with asyncio.timeout(60):
                while relay.metrics.requests["combined", "limit_exceeded"] < 30 - left:
                    await asyncio.sleep(0)
            assert relay.broker.pending == left
            await peers.tickets(Mode.CENTRAL)
            await peers.look_up()
            await peers.newcomer()
        relay.planes.close("the attack is over")
        await settled(relay, before)


async def test_where_a_callee_is_asked_by_all_the_heaviest_network_gives_way(
    few_at_one: None,
) -> None:
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        honest(relay) as peers,
        AsyncExitStack() as stack,
    ):
        evil = [
            await stack.enter_async_context(registered(relay.url, source=f"127.0.{number}.66"))
            for number in range(3)
        ]
        for one in evil:
            for _ in range(4):
                one.send(ask(peers.callee.identity.guid, Mode.COMBINED))
                await peers.callee.expect(ServiceRequestFrom)
        assert relay.broker.pending == 12
        await peers.tickets(Mode.AUTO)
        answer = await evil[0].expect(ServiceResponse)
        assert answer.code is Code.LIMIT_EXCEEDED
        assert answer.retry_after
        assert relay.broker.pending == 11


async def test_fresh_keys_of_one_network_ask_one_callee_no_more_than_one_key_may() -> None:
    config = RelayConfig(port=0, requests_per_second=0.01, requests_burst=8)
    async with RelayServer(config) as relay, honest(relay) as peers:
        victim = peers.callee.identity.guid
        codes = []
        for _ in range(12):
            async with registered(relay.url, source=EVIL) as evil:
                evil.send(ask(victim, Mode.COMBINED, "chat", 0.1))
                codes.append((await evil.expect(ServiceResponse)).code)
        assert codes == [Code.REQUEST_TIMEOUT] * 9 + [Code.LIMIT_EXCEEDED] * 3
        await peers.tickets()


async def test_connections_with_many_requests_end_together() -> None:
    async with RelayServer(RelayConfig(port=0)) as relay, honest(relay) as peers:
        before = state_of(relay)
        async with AsyncExitStack() as stack:
            deaf = [
                await stack.enter_async_context(registered(relay.url, "x", source=EVIL))
                for _ in range(10)
            ]
            for number in range(10):
                evil = await stack.enter_async_context(registered(relay.url, source=EVIL))
                for _ in range(60):
                    evil.send(ask(deaf[number].identity.guid, Mode.CENTRAL, "x"))
            async with asyncio.timeout(60):
                while relay.broker.pending < 600:
                    await asyncio.sleep(0)
        await peers.look_up()
        await peers.newcomer()
        await settled(relay, before)
