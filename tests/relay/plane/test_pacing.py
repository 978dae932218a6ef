"""Limits on bytes a second, with real sockets: planes are slowed, and never cut."""

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from msgspec import structs

from protocol.identity import Identity
from protocol.messages import WEBSOCKET_PROTOCOL, Mode, Ping, Pong
from relay.config import ConfigError, RelayConfig
from relay.limits import PaceRates, Toll, cause_of
from relay.metrics import Metrics
from relay.plane import Purpose, SocketLeg, splice
from relay.plane.pacing import Pacer, Paces
from relay.server import RelayServer
from tests.relay.certificates import certificate
from tests.relay.client import Client, registered
from tests.relay.planes import Streams, close, leg, tickets

LONG = 60.0
RATE = 1 << 20
SIZE = RATE + RATE // 2
"""A second's bytes are let through at once; the rest takes half a second."""


def at(**settings: Any) -> RelayConfig:
    return RelayConfig(**{"port": 0} | settings)


@contextlib.asynccontextmanager
async def joined(relay: RelayServer) -> AsyncIterator[tuple[Client, Streams, Streams]]:
    """A caller, and the two ends of its plane."""
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, second = await tickets(alice, bob)
        one, _ = await leg(relay, alice, first)
        other, _ = await leg(relay, bob, second)
        try:
            yield alice, one, other
        finally:
            await close(one, other)


async def passes(one: Streams, other: Streams, data: bytes) -> float:
    """Send bytes through a plane; return how long it took until all were there."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    one[1].write(data)
    got = await asyncio.wait_for(other[0].readexactly(len(data)), LONG)
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
    return loop.time() - began


@pytest.fixture(params=["splice", "copy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "copy":
        monkeypatch.delattr(splice.os, "splice")
    return str(request.param)


@pytest.mark.parametrize("key", ["bytes_per_second_per_peer", "bytes_per_second_in_all"])
async def test_a_plane_is_slowed_and_not_cut(way: str, key: str) -> None:
    async with RelayServer(at(**{key: RATE})) as relay, joined(relay) as (_, one, other):
        took = await passes(one, other, os.urandom(SIZE))
        # What is too early is a fact.
        assert took >= (SIZE - RATE) / RATE * 0.95
        assert relay.metrics.limited["bytes"] > 0
        assert relay.metrics.plane_bytes_by_way[way] == SIZE
        one[1].write_eof()
        assert await asyncio.wait_for(other[0].read(), LONG) == b"", "and its end passes too"
        assert await passes(other, one, b"back") < LONG


async def test_without_a_limit_nobody_asks() -> None:
    async with RelayServer(at()) as relay, joined(relay) as (_, one, other):
        await passes(one, other, os.urandom(SIZE))
        assert relay.metrics.limited["bytes"] == 0
        assert not relay.planes.pacer.is_on


async def test_all_planes_of_one_peer_share_its_limit_and_others_have_theirs() -> None:
    config = at(bytes_per_second_per_peer=RATE)
    async with (
        RelayServer(config) as relay,
        registered(relay.url) as alice,
        registered(relay.url, "chat") as bob,
        registered(relay.url) as carol,
    ):
        planes: list[tuple[Streams, Streams]] = []
        for caller in (alice, alice, carol):
            first, second = await tickets(caller, bob)
            one, _ = await leg(relay, caller, first)
            other, _ = await leg(relay, bob, second)
            planes.append((one, other))
        loop = asyncio.get_running_loop()
        began = loop.time()
        data = os.urandom(SIZE // 2)
        both = [asyncio.create_task(passes(*plane, data)) for plane in planes[:2]]
        # The third is another peer's, and has not waited: this is what it may have at once.
        await passes(*planes[2], os.urandom(RATE // 2))
        await asyncio.gather(*both)
        assert loop.time() - began >= (SIZE - RATE) / RATE * 0.95
        for one, other in planes:
            await close(one, other)


@pytest.mark.parametrize("carrier", ["websocket", "tls"])
async def test_legs_that_are_copied_are_slowed_too(carrier: str, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    tls = {"tls_certificate": chain, "tls_key": key} if carrier == "tls" else {}
    rate, size = RATE // 4, RATE // 4 + RATE // 8
    plenty = {"work_per_peer": 1.0, "work_per_network": 1.0, "work_in_all": 1.0}
    config = at(bytes_per_second_per_peer=rate, **plenty, **tls)
    trust = aiohttp.TCPConnector(ssl=False)
    async with (
        RelayServer(config) as relay,
        aiohttp.ClientSession(connector=trust) as http,
        contextlib.AsyncExitStack() as stack,
    ):
        ends = await two_ends(relay, http, stack)
        loop = asyncio.get_running_loop()
        began = loop.time()
        data = os.urandom(size)
        sending = asyncio.create_task(send_all(ends[0], data))
        got = b""
        while len(got) < size:
            got += await asyncio.wait_for(ends[1].receive_bytes(), LONG)
        await sending
        assert got == data
        assert loop.time() - began >= (size - rate) / rate * 0.95
        assert relay.metrics.limited["bytes"] > 0


async def send_all(end: aiohttp.ClientWebSocketResponse, data: bytes) -> None:
    for start in range(0, len(data), 1 << 16):
        await end.send_bytes(data[start : start + (1 << 16)])


async def two_ends(
    relay: RelayServer, http: aiohttp.ClientSession, stack: contextlib.AsyncExitStack
) -> list[aiohttp.ClientWebSocketResponse]:
    """Return the two ends of a plane, both WebSockets; its tickets are the relay's own making."""
    peers = [Client(Identity.generate(), None, None) for _ in range(2)]  # type: ignore[arg-type]
    guids = [peer.identity.guid for peer in peers]
    purpose = Purpose(b"s" * 16, guids[0], guids[1], "chat", Mode.CENTRAL)
    made = relay.planes.create(purpose, cause_of("127.0.0.1", guids[0]))
    assert made is not None
    ends = []
    for peer, ticket in zip(peers, made, strict=True):
        url = relay.url + peer.plane_target(ticket, relay.guid)
        ends.append(
            await stack.enter_async_context(
                http.ws_connect(url, protocols=(WEBSOCKET_PROTOCOL,), max_msg_size=0)
            )
        )
    return ends


async def test_a_plane_that_waits_for_its_turn_is_not_idle() -> None:
    config = at(bytes_per_second_in_all=1 << 14, plane_idle=0.2)
    async with RelayServer(config) as relay, joined(relay) as (_, one, other):
        # Far more than the limit lets through while it is swept: each sweep must find it alive.
        one[1].write(bytes(1 << 16))
        swept = asyncio.Event()
        sweeping, sweeps = relay.planes.sweeping, 0

        def counted(now: float) -> Iterator[None]:
            nonlocal sweeps
            yield from sweeping(now)
            sweeps += 1
            if sweeps == 3:
                swept.set()

        relay.planes.sweeping = counted  # type: ignore[method-assign]
        await asyncio.wait_for(other[0].readexactly(1 << 14), LONG)
        await asyncio.wait_for(swept.wait(), LONG)
        assert relay.planes.live == 1


async def test_a_plane_that_ends_while_it_waits_leaves_nothing() -> None:
    async with RelayServer(at(bytes_per_second_in_all=1 << 14)) as relay:
        async with joined(relay) as (_, one, other):
            one[1].write(bytes(1 << 20))
            await asyncio.wait_for(other[0].readexactly(1 << 14), LONG)
            async with asyncio.timeout(LONG):
                while not relay.metrics.limited["bytes"]:
                    await asyncio.sleep(0.01)
            relay.planes.close("shutdown")
        async with asyncio.timeout(LONG):
            while relay.planes.live:
                await asyncio.sleep(0.01)
        assert len(relay.planes.pacer._pace) == 0


async def test_limits_are_reloaded_for_who_waits_too() -> None:
    config = at(bytes_per_second_per_peer=1 << 14)
    async with RelayServer(config) as relay, joined(relay) as (_, one, other):
        passing = asyncio.create_task(passes(one, other, os.urandom(4 << 20)))
        async with asyncio.timeout(LONG):
            while not relay.metrics.limited["bytes"]:
                await asyncio.sleep(0.01)
        assert relay.reload(at()) == ()
        await passing  # It would have taken four minutes.
        assert not relay.planes.pacer.is_on
        assert relay.reload(structs.replace(at(), bytes_per_second_in_all=RATE)) == ()
        assert await passes(one, other, os.urandom(SIZE)) >= (SIZE - RATE) / RATE * 0.95


async def test_messages_of_a_peer_count_and_its_connection_is_not_read_for_a_while() -> None:
    config = at(
        bytes_per_second_per_peer=1 << 14, work_per_peer=1.0, work_per_network=1.0, work_in_all=1.0
    )
    async with RelayServer(config) as relay, registered(relay.url, "chat") as alice:
        loop = asyncio.get_running_loop()
        began = loop.time()
        size = len(alice.sent[-1])
        alice.sent.clear()
        for number in range(3_000):
            alice.send(Ping(number))
        for _ in range(3_000):
            await alice.expect(Pong)
        sent = sum(map(len, alice.sent))
        assert sent > 2 * (1 << 14), sent
        assert relay.metrics.limited["bytes"] > 0
        # What was read in one go is through: some 25 KiB, beside what may be sent at once.
        assert loop.time() - began >= (sent - size - (1 << 14) - 25_600) / (1 << 14) * 0.9
        assert len(relay.connections) == 1, "nothing is cut"


@pytest.mark.parametrize("value", [0, -1, 1000])
@pytest.mark.parametrize("key", ["bytes_per_second_per_peer", "bytes_per_second_in_all"])
def test_a_limit_that_none_could_live_with_is_refused(key: str, value: int) -> None:
    with pytest.raises(ConfigError, match=key):
        at(**{key: value})


@pytest.mark.parametrize("in_all", [None, 1 << 18])
@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_many_planes_wait_for_their_turns_on_either_loop(
    runner: Callable[[Any], Any], in_all: int | None
) -> None:
    """On the loop that `relay serve` runs on, too. Without a limit on all, every peer's turn comes
    at the same moment."""
    key, count, each = 1 << 14, 40, 3 << 14

    async def share() -> None:
        loop = asyncio.get_running_loop()
        metrics = Metrics()
        pacer = Pacer(PaceRates(key, in_all), metrics, loop.time)
        pipes, ends = splice.Pipes(4, loop.time), []
        moved, over = [0] * count, asyncio.Event()
        planes = []
        for number in range(count):
            (alice, left), (right, bob) = socket.socketpair(), socket.socketpair()
            for one in (alice, left, right, bob):
                one.setblocking(False)
            cause = cause_of(f"192.0.2.{number}", f"key {number}")
            toll = Toll(lambda cause, cost: 0.0, cause)

            def counted(way: str, size: int, number: int = number) -> None:
                moved[number] += size
                if min(moved) >= (each if in_all is None else 1):
                    over.set()

            planes.append(
                splice.SocketPlane(
                    (SocketLeg(left, toll), SocketLeg(right, toll)),
                    pipes=pipes,
                    count=counted,
                    on_end=lambda plane, reason: None,
                    paces=Paces(pacer, (cause, cause)),
                )
            )
            alice.send(bytes(1 << 16))
            planes[-1].start()
            ends += [alice, bob]
        began = loop.time()
        try:
            async with asyncio.timeout(LONG):
                await over.wait()
        finally:
            for plane in planes:
                plane.close("test")
            for end in ends:
                end.close()
        took = loop.time() - began
        assert took >= (max(moved) - 2 * key) / key * 0.9
        if in_all is not None:
            assert took >= (sum(moved) - in_all - (1 << 16)) / in_all * 0.9
        assert metrics.limited["bytes"] >= count // 2
        assert len(pacer._pace) == 0

    runner(share())
