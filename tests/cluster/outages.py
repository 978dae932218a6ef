"""How long each of three peers is without what it needs, while something of their cluster fails.

Each peer knows one node at first, and they are at three. All talk with one another in every mode,
in both directions, with numbers; and each asks again and again where the next one is.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from peers import Identity, Listener, Mode, Peer, RoamRelayError, Session
from tests.cluster.nodes import Nodes

__all__ = ["FAULTS", "Outage", "measure", "table"]

_PACE = 0.025
"""Seconds between two messages of one sender, and between two requests of a peer."""
_PATIENCE = 1.0
"""Seconds for a request to be answered."""
_BEFORE, _AFTER = 1.0, 5.0
"""Seconds of traffic before a fault, and when it is over."""

Fault = Callable[[Nodes, float], Awaitable[None]]


async def _nothing(nodes: Nodes, seconds: float) -> None:
    await asyncio.sleep(seconds)


FAULTS: dict[str, tuple[Fault, float]] = {
    "nothing": (_nothing, 3.0),
    "a node, kill -9; again after 2 s": (
        lambda nodes, seconds: nodes.restart(nodes.all[0], signal.SIGKILL, seconds),
        2.0,
    ),
    "a node, SIGTERM; again at once": (
        lambda nodes, seconds: nodes.restart(nodes.all[0], signal.SIGTERM, seconds),
        0.0,
    ),
    "a node, SIGSTOP for 30 s": (lambda nodes, seconds: nodes.hang(nodes.all[0], seconds), 30.0),
    "a node, cut off from NATS for 10 s": (
        lambda nodes, seconds: nodes.cut(nodes.all[0], seconds),
        10.0,
    ),
    "nats-server, kill -9; again after 2 s": (
        lambda nodes, seconds: nodes.kill_nats(seconds),
        2.0,
    ),
    "nats-server, SIGSTOP for 10 s": (lambda nodes, seconds: nodes.hang_nats(seconds), 10.0),
}
"""What fails, and for how many seconds. The node is that of the first peer."""


@dataclass
class Outage:
    """The longest times, in seconds, of one peer."""

    control: float = 0.0
    """It was not registered, as far as it knew."""
    requests: float = 0.0
    """From a request that was answered to the next one that was."""
    delivery: float = 0.0
    """From one message to the next, in the session where that was longest."""


@dataclass
class _End:
    """One end of a session, and how many messages it has sent and got."""

    session: Session
    outage: Outage
    sent: int = 0
    got: int = 0
    faults: list[str] = field(default_factory=list)

    async def send(self, over: asyncio.Event) -> None:
        while not over.is_set():
            await self.session.send(b"%d" % self.sent)
            self.sent += 1
            await asyncio.sleep(_PACE)
        await self.session.close(timeout=120.0)

    async def receive(self) -> None:
        last = time.monotonic()
        async for message in self.session:
            if message != b"%d" % self.got:
                self.faults.append(f"{message!r} in place of {self.got}")
            self.got += 1
            now = time.monotonic()
            self.outage.delivery = max(self.outage.delivery, now - last)
            last = now


async def measure(folder: Path, fault: str) -> tuple[list[Outage], int, list[str]]:
    """Let something fail; return what each peer was without, how many messages there were, and
    what was wrong with any."""
    act, seconds = FAULTS[fault]
    nodes = Nodes(folder)
    outages = [Outage() for _ in nodes.all]
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(nodes.kill)
        await nodes.start()
        peers = [
            await stack.enter_async_context(Peer(Identity.generate(), node.url))
            for node in nodes.all
        ]
        ends, over = [], asyncio.Event()
        for number, callee in enumerate(peers):
            caller = (number + 1) % len(peers)
            for mode in Mode:
                listener = callee.listen(mode.value)
                await callee.published()
                here, there = await _opened(peers[caller], callee, listener, mode)
                ends.append((_End(here, outages[caller]), _End(there, outages[number])))
        async with asyncio.timeout(seconds + 240), asyncio.TaskGroup() as tasks:
            for pair in ends:
                for end in pair:
                    tasks.create_task(end.send(over))
                    tasks.create_task(end.receive())
            watching = [
                tasks.create_task(work)
                for number, peer in enumerate(peers)
                for work in (
                    _registered(peer, outages[number]),
                    _asks(peer, peers[(number + 1) % len(peers)].guid, outages[number]),
                )
            ]
            await asyncio.sleep(_BEFORE)
            await act(nodes, seconds)
            await asyncio.sleep(_AFTER)
            for task in watching:
                task.cancel()
            over.set()
    wrong = [fault for pair in ends for end in pair for fault in end.faults]
    for here, there in (each for pair in ends for each in (pair, pair[::-1])):
        if here.sent != there.got:
            wrong.append(f"{there.got} of {here.sent} have come")
    return outages, sum(end.sent for pair in ends for end in pair), wrong


def table(rows: dict[str, tuple[list[Outage], int, list[str]]]) -> str:
    """Return what was measured as a table: without control connection / without an answer / without
    a message."""
    lines = [
        "| what fails | the peer at that node | the second | the third | messages | "
        "lost, doubled, out of order |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for fault, (outages, count, wrong) in rows.items():
        cells = (f"{one.control:.2f} / {one.requests:.2f} / {one.delivery:.2f}" for one in outages)
        lines.append(f"| {fault} | {' | '.join(cells)} | {count:,} | {len(wrong)} |")
    return "\n".join(lines)


async def _opened(
    caller: Peer, callee: Peer, listener: Listener, mode: Mode
) -> tuple[Session, Session]:
    async with asyncio.timeout(60):
        here = await caller.connect(callee.guid, mode.value, mode=mode, wait=True)
        there = await anext(listener)
        while there.id != here.id:
            there = await anext(listener)
    return here, there


async def _registered(peer: Peer, outage: Outage) -> None:
    since: float | None = None
    try:
        async for status in peer.events():
            now = time.monotonic()
            if status.is_registered and since is not None:
                outage.control = max(outage.control, now - since)
                since = None
            elif not status.is_registered and since is None:
                since = now
    finally:
        if since is not None:
            outage.control = max(outage.control, time.monotonic() - since)


async def _asks(peer: Peer, other: str, outage: Outage) -> None:
    last = time.monotonic()
    try:
        while True:
            with contextlib.suppress(RoamRelayError):
                await peer.locate(other, Mode.P2P.value, timeout=_PATIENCE)
                outage.requests = max(outage.requests, time.monotonic() - last)
                last = time.monotonic()
            await asyncio.sleep(_PACE)
    finally:
        outage.requests = max(outage.requests, time.monotonic() - last)
