"""The soak: peers that come, talk, move and go in every way, in laps; what is left after each.

A lap is a number of deeds and no time: at its end everybody goes, and all that was counted must be
back where it was when the first one came. Only memory is no count: a first lap warms up, and what
comes in the later ones must level off. What is done is drawn from one seed.
"""

import asyncio
import contextlib
import gc
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

from peers import (
    Carrier,
    Identity,
    Listener,
    Mode,
    Peer,
    PeerConfig,
    RoamRelayError,
    Session,
    SessionSettings,
)
from peers.path import Path as PeerPath
from tests.soak.strangers import stranger
from tests.support.addresses import Addresses, absent_addresses
from tests.support.faults import abort_flow, mute, reset
from tests.support.processes import KEEPS_NOTHING, environment
from tests.support.rooms import rooms

_SETTINGS = SessionSettings(ping_interval=0.5, silence_limit=2.0, resume_window=4.0, linger=1.0)
_RELAY = """
port = 0
heartbeat = 5
lease = 20
suspect_grace = 1
handshake_timeout = 5
ticket_lifetime = 3
plane_idle = 6
connects_per_second = 1e6
connects_burst = 1000000
max_connections_per_address = 100000
requests_per_second = 1e4
"""
_GONE = 120.0
"""Seconds for everything to be gone: every deadline of the relay is far shorter."""
_GROWTH = 1.10
"""Of the memory from the second lap to the last: what is above is no levelling off."""
_SLACK = 6 << 20
"""Bytes by which an allocator's rests may differ."""
_HANDS = 24
"""Deeds that are done at once."""


@dataclass
class Left:
    """What there was of everything after a lap."""

    deeds: int
    relay_memory: int
    relay: dict[str, int]
    """Descriptors, pipes, threads; and connections, watches, planes, newcomers by the metrics."""
    memory: int
    peers: dict[str, int]
    """Descriptors, tasks; and objects that are alive."""


@dataclass
class Report:
    """What a run has seen."""

    peers: int
    seconds: float = 0.0
    laps: list[Left] = field(default_factory=list)
    deeds: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{self.peers} peers, {self.seconds:.0f} s, {self.deeds.total()} deeds: "
            + ", ".join(f"{count} × {what}" for what, count in sorted(self.deeds.items())),
            "of them ended in an error of ours: "
            + (", ".join(f"{n} × {what}" for what, n in sorted(self.failures.items())) or "none"),
            "",
            "| lap | deeds | relay MiB | left at the relay | peers MiB | left at the peers |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for number, lap in enumerate(self.laps):
            lines.append(
                f"| {number or 'before'} | {lap.deeds} | {lap.relay_memory / 2**20:.1f} "
                f"| {_counts(lap.relay)} | {lap.memory / 2**20:.1f} | {_counts(lap.peers)} |"
            )
        return "\n".join([*lines, "", *(f"FAULT {fault}" for fault in self.faults)])


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing"


class _Host:
    """A place for a peer: its key and its addresses stay, the peer comes and goes."""

    def __init__(self, url: str, number: int) -> None:
        self.names = tuple(f"127.{32 + number // 250}.{number % 250}.{last}" for last in (1, 2))
        self.identity = Identity.generate()
        self.addresses = Addresses(self.names)
        self.config = PeerConfig(
            relay=url,
            carrier=Carrier.WEBSOCKET if number % 3 == 0 else None,
            sources=self.names,
            listen_hosts=("0.0.0.0",),
            stagger=0.05,
            connect_timeout=20.0,
            path_timeout=10.0,
            request_timeout=10.0,
            session=_SETTINGS,
        )
        self.peer: Peer | None = None
        self.busy = False
        """Somebody lets it come or go just now."""
        self._answering: asyncio.Task[None] | None = None

    async def come(self) -> None:
        """Open the peer and answer whoever opens a session."""
        peer = Peer(self.identity, config=self.config, addresses=self.addresses)
        await peer.__aenter__()
        self.peer = peer
        self._answering = asyncio.create_task(self._answer(peer.listen("soak")))

    async def go(self) -> None:
        """Close it."""
        peer, self.peer = self.peer, None
        answering, self._answering = self._answering, None
        if answering is not None:
            answering.cancel()
            await asyncio.wait([answering])
        if peer is not None:
            await peer.__aexit__(None, None, None)

    async def _answer(self, listener: Listener) -> None:
        async with asyncio.TaskGroup() as tasks:
            with contextlib.suppress(RoamRelayError):
                async for session in listener:
                    tasks.create_task(_echo(session))


async def _echo(session: Session) -> None:
    with contextlib.suppress(RoamRelayError):
        async for message in session:
            await session.send(message)
        await session.close()


class Soak:
    """One run."""

    def __init__(self, folder: Path, peers: int, seed: int, deeds: float = 3.0) -> None:
        """`deeds` are done in a lap for each peer."""
        self._folder = folder
        self._in_a_lap = round(deeds * peers)
        self._random = random.Random(seed)
        self._report = Report(peers)
        self._hosts: list[_Host] = []
        self._url = ""
        self._relay = psutil.Process()  # Until there is one.
        self._deeds = (
            (self._talk, 8),
            (self._talk_and_vanish, 3),
            (self._move, 5),
            (self._cut, 3),
            (self._come_and_go, 3),
            (self._watch, 3),
            (self._update, 3),
            (self._stranger, 6),
        )

    async def run(self, seconds: float, laps: int = 4) -> Report:
        """Run laps for so long, and at least so many."""
        began = time.monotonic()
        report = self._report
        (self._folder / "relay.toml").write_text(_RELAY)
        async with _serving(self._folder) as (self._url, self._relay):
            url = self._url
            self._hosts = [_Host(url, number) for number in range(report.peers)]
            with absent_addresses():
                report.laps.append(await self._left())
                while len(report.laps) <= laps or time.monotonic() - began < seconds:
                    await self._lap()
                    report.laps.append(await self._left())
        report.seconds = time.monotonic() - began
        self._judge()
        return report

    async def _lap(self) -> None:
        """Let all come, do deeds, let all go."""
        await self._with_hands([host.come for host in self._hosts])
        deeds, weights = zip(*self._deeds, strict=True)
        drawn = self._random.choices(deeds, weights, k=self._in_a_lap)
        for deed in drawn:
            self._report.deeds[deed.__name__.strip("_").replace("_", " ")] += 1
        await self._with_hands(drawn)
        await self._with_hands([host.go for host in self._hosts])

    async def _with_hands(self, works: Iterable[Callable[[], Awaitable[None]]]) -> None:
        """Do all of these, some at a time. Errors of ours are counted; others are faults."""
        waiting = iter(works)

        async def hand() -> None:
            for work in waiting:
                try:
                    async with asyncio.timeout(120):
                        await work()
                except RoamRelayError as error:
                    self._report.failures[f"{type(error).__name__} {error.code or ''}".strip()] += 1
                except Exception as error:
                    self._report.faults.append(f"{work.__name__}: {error!r}")

        async with asyncio.TaskGroup() as tasks:
            for _ in range(_HANDS):
                tasks.create_task(hand())

    # -- deeds ----------------------------------------------------------------------------------

    def _some(self) -> tuple[_Host, Peer] | None:
        """Return somebody who is here; None where it is somebody who is not."""
        host = self._random.choice(self._hosts)
        return None if host.peer is None or host.busy else (host, host.peer)

    async def _open(self) -> Session | None:
        here, there = self._some(), self._random.choice(self._hosts)
        if here is None or here[0] is there:
            return None
        mode = self._random.choice(list(Mode))
        return await here[1].connect(there.identity.guid, "soak", mode=mode)

    async def _talk(self) -> None:
        session = await self._open()
        if session is None:
            return
        for number in range(self._random.randrange(1, 9)):
            await session.send(b"%d" % number + bytes(self._random.randrange(4000)))
            await session.receive()
        await session.close()

    async def _talk_and_vanish(self) -> None:
        """Its path is reset or goes mute in the middle; the session goes on, or is left so."""
        session = await self._open()
        if session is None:
            return
        await session.send(b"before")
        await session.receive()
        (mute if self._random.random() < 0.3 else reset)(session)
        if self._random.random() < 0.7:
            await session.send(b"after")
            await session.receive()
        session.abort()

    async def _move(self) -> None:
        if (some := self._some()) is not None:
            some[0].addresses.set(self._random.choice(some[0].names))

    async def _cut(self) -> None:
        """A flow to the relay ends as when a process is killed: without a word."""
        if (some := self._some()) is not None:
            for connection in rooms(some[1]).registration.connections:
                abort_flow(connection)

    async def _come_and_go(self) -> None:
        host = self._random.choice(self._hosts)
        if host.busy:
            return
        host.busy = True
        try:
            await host.go()
            await host.come()
        finally:
            host.busy = False

    async def _watch(self) -> None:
        some = self._some()
        if some is None:
            return
        watching = some[1].watch(self._random.choice(self._hosts).identity.guid)
        async with contextlib.aclosing(watching), asyncio.timeout(60):
            await anext(watching)

    async def _update(self) -> None:
        some = self._some()
        if some is None:
            return
        listener = some[1].listen(f"more-{self._random.randrange(1 << 30)}")
        try:
            await some[1].published()
        finally:
            listener.close()

    async def _stranger(self) -> None:
        await stranger(self._random, self._url)

    # -- what is left ---------------------------------------------------------------------------

    async def _left(self) -> Left:
        """Wait until the relay has nobody any more; return what is there then."""
        relay: dict[str, int] = {}
        before = self._report.laps[0].relay if self._report.laps else await self._bare()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GONE):
                while True:
                    relay = await self._metrics() | _descriptors(self._relay)
                    if not any(relay[name] > before.get(name, 0) for name in _AWAITED):
                        break
                    await asyncio.sleep(0.2)
        memory = self._relay.memory_info().rss
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GONE):
                while len(asyncio.all_tasks()) > 1 or _alive():
                    await asyncio.sleep(0.2)
        own = psutil.Process()
        alive = _alive()
        peers = _descriptors(own) | {"tasks": len(asyncio.all_tasks()) - 1}
        peers |= {f"{kind.__name__} objects": alive[kind] for kind in _OBJECTS}
        return Left(self._report.deeds.total(), memory, relay, own.memory_info().rss, peers)

    async def _bare(self) -> dict[str, int]:
        """Return what the relay has when it serves nobody, who asks for it included."""
        found = []
        for _ in range(5):
            await asyncio.sleep(0.1)
            found.append(_descriptors(self._relay))
        return min(found, key=lambda one: one["sockets"])

    async def _metrics(self) -> dict[str, int]:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as client,
            client.get(f"{self._url}/metrics", headers={"Connection": "close"}) as answer,
        ):
            lines = (await answer.text()).splitlines()
        found = dict.fromkeys(_GAUGES, 0)
        for line in lines:
            name, _, value = line.rpartition(" ")
            kind = name.partition("{")[0].removeprefix("roam_relay_")
            if kind in found:
                found[kind] += int(float(value))
        # Whoever asks is a newcomer itself.
        found["newcomers"] = max(0, found["newcomers"] - 1)
        return found

    def _judge(self) -> None:
        report = self._report
        before, first, second, last = *report.laps[:3], report.laps[-1]
        for number, lap in enumerate(report.laps[1:], 1):
            for where, now, was, warm in (
                ("the relay", lap.relay, before.relay, first.relay),
                ("the peers", lap.peers, before.peers, first.peers),
            ):
                for what, count in now.items():
                    bound = warm[what] + _WARM[what] if what in _WARM else was[what]
                    if count > bound:
                        report.faults.append(
                            f"lap {number}: {count} {what} at {where}, not {bound}"
                        )
        for where, memory, was_before in (
            ("the relay", last.relay_memory, second.relay_memory),
            ("the peers", last.memory, second.memory),
        ):
            if memory > was_before * _GROWTH + _SLACK:
                report.faults.append(
                    f"the memory of {where} rises: {was_before >> 20} to {memory >> 20} MiB"
                )


_GAUGES = ("connections_open", "watches", "planes_open", "newcomers")
_AWAITED = (*_GAUGES, "sockets", "pipes")
_OBJECTS = (Peer, Session, PeerPath, Listener)
_WARM = {"threads": 8, "descriptors": 4}
"""What the first use of something leaves by design, and how many."""


def _alive() -> Counter[type]:
    """Return what there is of a peer's objects. The last of a path's is gone with its timers."""
    gc.collect()
    return Counter(type(one) for one in gc.get_objects() if type(one) in _OBJECTS)


@contextlib.asynccontextmanager
async def _serving(folder: Path) -> AsyncIterator[tuple[str, psutil.Process]]:
    """A relay in a process of its own: its URL, and the process."""
    ready = folder / "ready"
    words = ("--config", str(folder / "relay.toml"), "--ready-file", str(ready))
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "tests.soak.small_relay",
            "serve",
            *words,
            *KEEPS_NOTHING,
            "--log-level",
            "error",
        ),
        stderr=None,
        env=environment(),
    )
    try:
        async with asyncio.timeout(60):
            while not ready.exists():
                assert process.returncode is None, "the relay ended"
                await asyncio.sleep(0.02)
        yield ready.read_text().strip(), psutil.Process(process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _descriptors(process: psutil.Process) -> dict[str, int]:
    folder = Path(f"/proc/{process.pid}/fd")
    kinds: Counter[str] = Counter()
    for one in folder.iterdir():
        with contextlib.suppress(OSError):
            kinds[one.readlink().name.partition(":")[0]] += 1
    return {
        "sockets": kinds["socket"],
        "pipes": kinds["pipe"],
        "descriptors": kinds.total(),
        "threads": process.num_threads(),
    }
