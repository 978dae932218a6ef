"""How long nothing is delivered when the network changes under a session.

Two peers in one process, the relay in another, messages every millisecond each way. The clock
begins when the old address has gone and the new one is there (or when the killed relay serves
again), and ends when the first message has arrived over the new path. Addresses are loopback's, so
that the round trip is a fraction of a millisecond and the figure is our own part: what the network
adds is in units of round trips, and is measured in the lab of namespaces.
"""

import asyncio
import contextlib
import math
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.measure import Row
from peers import Identity, Listener, Mode, Peer, PeerConfig, RoamRelayError, Session
from tests.chaos.world import Relay
from tests.support.addresses import Addresses, absent_addresses

__all__ = ["measure_moves", "measure_relay_restarts"]

_PACE = 0.001
"""Seconds between two messages of one side."""
_STEADY = 0.3
"""Seconds of undisturbed traffic before each move."""


class _Talk:
    """Both ends of one session, and a note of when each message arrived on which path."""

    def __init__(self, here: Session, there: Session) -> None:
        self.ends = here, there
        self.arrived = asyncio.Event()
        self.faults = 0

    async def send(self, end: Session) -> None:
        number = 0
        while True:
            await end.send(b"%d" % number)
            number += 1
            await asyncio.sleep(_PACE)

    async def receive(self, end: Session) -> None:
        number = 0
        async for message in end:
            self.faults += message != b"%d" % number
            number += 1
            self.arrived.set()

    async def first_on_new_path(self, old: tuple[object, object]) -> float:
        """Return when each end has got a message on another path than its old one."""
        async with asyncio.timeout(60):
            for end, before in zip(self.ends, old, strict=True):
                while end.path is None or end.path is before:
                    await self._next()
            for end in self.ends:
                received = end._machine.received
                while end._machine.received == received:
                    await self._next()
        return time.perf_counter()

    async def _next(self) -> None:
        # Messages come every millisecond once there is a path; without one, look as often.
        self.arrived.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PACE):
                await self.arrived.wait()


class _World:
    """A relay process and two peers that can move."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.places = [[f"127.0.{net}.{host}" for host in (1, 2)] for net in (31, 32)]
        self.addresses = [Addresses(places) for places in self.places]
        self.peers = [
            Peer(
                Identity.generate(),
                config=PeerConfig(
                    relay=relay.url, sources=tuple(places), listen_hosts=("0.0.0.0",)
                ),
                addresses=addresses,
            )
            for places, addresses in zip(self.places, self.addresses, strict=True)
        ]

    def move(self, index: int) -> str:
        """Take the address of one peer away and give it the other; return that."""
        old = self.addresses[index].hosts[0]
        new = next(place for place in self.places[index] if place != old)
        self.addresses[index].set(new)
        return new

    @contextlib.asynccontextmanager
    async def talk(self, listener: Listener, mode: Mode) -> AsyncIterator[_Talk]:
        caller, callee = self.peers
        here = await caller.connect(callee.guid, "gap", mode=mode)
        talk = _Talk(here, await anext(listener))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work(end))
                for end in talk.ends
                for work in (talk.send, talk.receive)
            ]
            yield talk
            for task in tasks:
                task.cancel()
        for end in talk.ends:
            end.abort()
        if talk.faults:
            raise RuntimeError(f"{talk.faults} messages were out of place in {mode.value}")


@contextlib.asynccontextmanager
async def _world() -> AsyncIterator[tuple[_World, Listener]]:
    with tempfile.TemporaryDirectory() as folder, absent_addresses():
        relay = Relay(Path(folder))
        await relay.start()
        try:
            world = _World(relay)
            async with world.peers[0], world.peers[1]:
                listener = world.peers[1].listen("gap")
                await world.peers[1].published()
                yield world, listener
        finally:
            await relay.kill()


async def measure_moves(moves: int) -> list[Row]:
    """Move the callee and the caller in turn, in each mode; return gaps and times to register."""
    rows: list[Row] = []
    registered: list[float] = []
    async with _world() as (world, listener):
        for mode in Mode:
            gaps: list[float] = []
            trips: list[float] = []
            async with world.talk(listener, mode) as talk:
                for number in range(moves):
                    await asyncio.sleep(_STEADY)
                    old = talk.ends[0].path, talk.ends[1].path
                    trips += [trip for end in talk.ends if (trip := end.round_trip) is not None]
                    began = time.perf_counter()
                    place = world.move(1 - number % 2)
                    gaps.append(await talk.first_on_new_path(old) - began)
                    if not number % 2:
                        registered.append(await _registered(world, place) - began)
            rows += _percentiles(f"roam-relay, {mode.value}", "gap when an address vanishes", gaps)
            trip = statistics.median(trips) if trips else float("nan")
            rows.append(Row(f"roam-relay, {mode.value}", "round trip", trip * 1e3, "ms"))
    return rows + _percentiles("roam-relay", "new address until callers get it", registered)


async def _registered(world: _World, place: str) -> float:
    """Return when a caller that asks the relay gets the callee's new address first."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(RoamRelayError):
                located = await world.peers[0].locate(world.peers[1].guid, "gap")
                if located.entries and located.entries[0].host == place:
                    return time.perf_counter()
            await asyncio.sleep(_PACE)


async def measure_relay_restarts(restarts: int) -> list[Row]:
    """Kill the relay with SIGKILL and start it again, under a session in each mode."""
    rows: list[Row] = []
    async with _world() as (world, listener):
        for mode in (Mode.CENTRAL, Mode.AUTO):
            gaps: list[float] = []
            async with world.talk(listener, mode) as talk:
                for _ in range(restarts):
                    await asyncio.sleep(_STEADY)
                    old = talk.ends[0].path, talk.ends[1].path
                    await world.relay.kill()
                    await world.relay.start()
                    began = time.perf_counter()
                    if mode is Mode.CENTRAL:
                        gaps.append(max(0.0, await talk.first_on_new_path(old) - began))
                    else:
                        # The session is on its direct path, which nothing has happened to.
                        assert (talk.ends[0].path, talk.ends[1].path) == old
                        gaps.append(0.0)
            rows += _percentiles(
                f"roam-relay, {mode.value}", "gap when the relay was killed and serves again", gaps
            )
    return rows


def _percentiles(contender: str, figure: str, seconds: list[float]) -> list[Row]:
    ordered = sorted(seconds)
    return [
        Row(contender, f"{figure}, p50", statistics.median(ordered) * 1e3, "ms"),
        Row(contender, f"{figure}, p99", ordered[math.ceil(0.99 * len(ordered)) - 1] * 1e3, "ms"),
    ]
