"""Planes that nobody joins, and planes that are joined and idle: of one key, of many fresh keys."""

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from protocol.errors import Code
from protocol.messages import (
    Mode,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceResponse,
    Verdict,
)
from relay.config import RelayConfig
from relay.limits import budgets
from relay.plane import splice
from relay.server import RelayServer
from tests.attacks.honest import EVIL, ask, honest, settled, state_of
from tests.relay.client import Client, registered
from tests.relay.planes import Streams, close, leg

Tickets = tuple[str, str]


@asynccontextmanager
async def accomplices(
    relay: RelayServer, source: str = EVIL
) -> AsyncIterator[tuple[Client, Client]]:
    """One that asks, and one that accepts."""
    async with (
        registered(relay.url, source=source) as one,
        registered(relay.url, "x", source=source) as other,
    ):
        yield one, other


async def planes_of(one: Client, other: Client, count: int) -> list[Tickets]:
    """Ask for so many planes; return the tickets of those that one gets."""
    tickets = []
    for _ in range(count):
        one.send(ask(other.identity.guid, Mode.CENTRAL, "x"))
        answering = asyncio.create_task(one.expect(ServiceResponse))
        asked = asyncio.create_task(other.expect(ServiceRequestFrom))
        await asyncio.wait((answering, asked), return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            asked.cancel()
            assert answering.result().code is Code.LIMIT_EXCEEDED
            break
        other.send(ServiceAnswer((await asked).request, Verdict.ACCEPTED))
        own, theirs = (await answering).ticket, asked.result().ticket
        assert own is not None
        assert theirs is not None
        tickets.append((own, theirs))
    return tickets


async def join(
    relay: RelayServer, one: Client, other: Client, tickets: Tickets
) -> tuple[Streams, Streams]:
    return (await leg(relay, one, tickets[0]))[0], (await leg(relay, other, tickets[1]))[0]


async def test_one_key_does_not_take_all_planes() -> None:
    config = RelayConfig(port=0, max_pending_planes=48)
    async with RelayServer(config) as relay, honest(relay) as peers:
        before = state_of(relay)
        async with accomplices(relay) as (one, other):
            assert len(await planes_of(one, other, 60)) <= 24
            for mode in (Mode.CENTRAL, Mode.AUTO):
                await peers.tickets(mode)
            await peers.newcomer()
        relay.planes.close("the attack is over")
        await settled(relay, before)


async def test_fresh_keys_of_one_network_do_not_take_all_planes() -> None:
    config = RelayConfig(port=0, max_pending_planes=24)
    async with RelayServer(config) as relay, honest(relay) as peers:
        before = state_of(relay)
        quiet = await peers.tickets()
        async with registered(relay.url, "x", source=EVIL) as other:
            for _ in range(20):
                async with registered(relay.url, source=EVIL) as one:
                    await planes_of(one, other, 2)
            assert relay.planes.pending <= 12 + 1
            caller, _ = await leg(relay, peers.caller, quiet[0])
            callee, _ = await leg(relay, peers.callee, quiet[1])
            await peers.talk(caller, callee)
            await peers.tickets()
            await peers.newcomer()
        await close(caller, callee)
        relay.planes.close("the attack is over")
        await settled(relay, before)


async def test_where_all_are_taken_the_heaviest_network_loses_first() -> None:
    config = RelayConfig(port=0, max_pending_planes=24)
    async with RelayServer(config) as relay, honest(relay) as peers, AsyncExitStack() as stack:
        for network in range(3):
            pair = await stack.enter_async_context(accomplices(relay, f"127.0.{network}.66"))
            await planes_of(*pair, 20)
        assert relay.planes.pending == 24
        tickets = await peers.tickets()
        caller, _ = await leg(relay, peers.caller, tickets[0])
        callee, _ = await leg(relay, peers.callee, tickets[1])
        await peers.talk(caller, callee)
        assert relay.metrics.limited["plane_displaced"] >= 1
        await close(caller, callee)


@pytest.fixture
def few_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay believes that it may open 256 files."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))


async def test_idle_planes_do_not_take_all_descriptors(few_descriptors: None) -> None:
    async with RelayServer(RelayConfig(port=0)) as relay, honest(relay) as peers:
        caller, callee = await peers.plane()
        before = state_of(relay)
        async with AsyncExitStack() as stack:
            held: list[Streams] = []
            for network in range(4):
                one, other = await stack.enter_async_context(
                    accomplices(relay, f"127.0.{network}.66")
                )
                for _ in range(15):
                    for tickets in await planes_of(one, other, 1):
                        held += await join(relay, one, other, tickets)
            ours = len(held)
            used = state_of(relay)["descriptors"] - before["descriptors"] - ours - 8 - 8
            assert used <= 128, "half of them, for both sides of every plane"
            await peers.talk(caller, callee)
            await close(*await peers.plane())
            await peers.look_up()
            await peers.newcomer()
            assert relay.metrics.planes_closed["displaced"] >= 1
            await close(*held)
        await settled(relay, before)
        await close(caller, callee)


async def test_an_idle_plane_has_two_descriptors(few_descriptors: None) -> None:
    async with RelayServer(RelayConfig(port=0)) as relay, honest(relay) as peers:
        legs: list[Streams] = []
        legs += await peers.plane()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(4):
            legs += await peers.plane()
        assert len(os.listdir("/proc/self/fd")) - before == 4 * (2 + 2), "ours, and the relay's"
        await close(*legs)


async def test_who_does_not_read_keeps_no_pipe_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "_MOST_PIPES", 4)
    monkeypatch.setattr(splice, "_PATIENT", 0.1)
    async with RelayServer(RelayConfig(port=0)) as relay, honest(relay) as peers:
        before = state_of(relay)
        async with accomplices(relay) as (one, other):
            planes = [
                await join(relay, one, other, tickets) for tickets in await planes_of(one, other, 6)
            ]
            for (_, writer), (reader, _) in planes:
                reader._transport.pause_reading()  # type: ignore[attr-defined]
                writer.write(bytes(24 << 20))
            async with asyncio.timeout(60):
                while relay.planes.pipes["open"] < 4:
                    await asyncio.sleep(0.01)
            caller, callee = await peers.plane()
            async with asyncio.timeout(60):
                while relay.planes.pipes["spilled"] < 1:
                    await peers.talk(caller, callee)
                    await asyncio.sleep(0.01)
            copied = relay.metrics.plane_bytes_by_way["copy"]
            for _ in range(10):
                await peers.talk(caller, callee)
            assert relay.metrics.plane_bytes_by_way["copy"] - copied < 10, "nearly all was spliced"
            assert relay.planes.live == 7, "nobody is sent away"
            for legs in planes:
                for _, writer in legs:
                    writer.transport.abort()
        await close(caller, callee)
        await settled(relay, before)
        assert relay.planes.pipes == {"open": 0, "spilled": 0}
