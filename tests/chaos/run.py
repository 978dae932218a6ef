"""The chaos run: numbered traffic both ways in every mode, while all under it comes and goes.

What happens when is drawn from one seed; how the program takes it is not, so that a seed replays
the trouble and not the exact course.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from peers import Listener, Mode, RoamRelayError, Session
from tests.chaos.world import Host, Relay
from tests.support.addresses import absent_addresses
from tests.support.faults import mute, reset
from tests.support.flights import meddled_flights

_PACE = 0.002
"""Seconds between two messages of one sender, on average."""
_LEAST = 6
"""Troubles of a run, however short it is."""
_MEDDLED = 0.4
"""The share of sealed flights that somebody between the peers has changed."""
_QUIET = 3.0
"""Seconds without trouble before the end, so that the last trouble is answered too."""


Trouble = Callable[[], Coroutine[None, None, None]]


class World(Protocol):
    """What the peers find one another by."""

    async def start(self) -> None:
        """Start it."""

    async def kill(self) -> None:
        """End it without a word."""


@dataclass
class Report:
    """What a run has seen."""

    seed: int
    seconds: float = 0.0
    sent: int = 0
    received: int = 0
    sessions: int = 0
    paths: int = 0
    longest_gap: float = 0.0
    troubles: Counter[str] = field(default_factory=Counter)
    flights: Counter[str] = field(default_factory=Counter)
    """What has become of the sealed flights and their answers."""
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: {self.seconds:.0f} s, {self.sessions} sessions on {self.paths} "
            f"paths, {self.received} of {self.sent} messages, longest gap {self.longest_gap:.2f} s",
            ", ".join(f"{count} × {what}" for what, count in sorted(self.troubles.items())),
            "flights: "
            + ", ".join(f"{count} {what}" for what, count in sorted(self.flights.items())),
            *(f"FAULT {fault}" for fault in self.faults),
        ]
        return "\n".join(lines)


class _Talk:
    """Two ends of one session after the other in one mode, and what they have said."""

    def __init__(self, run: "Chaos", mode: Mode, caller: Host, callee: Host) -> None:
        self.run = run
        self.mode = mode
        self.caller, self.callee = caller, callee
        self.ends: list[Session] = []
        self.change = asyncio.Event()
        """Close this session and open one in another mode."""

    async def keep(self, listener: Listener) -> None:
        """Open a session, talk, close it, again and again, until the run is over."""
        run = self.run
        while not run.over.is_set():
            self.change.clear()
            try:
                async with asyncio.timeout(60):
                    here = await self._open()
                    there = await anext(listener)
                    while there.id != here.id:
                        there = await anext(listener)  # The caller has given that one up.
            except TimeoutError:
                run.report.faults.append(f"{self.mode.value}: no session within 20 s")
                return
            self.ends = [here, there]
            run.report.sessions += 1
            try:
                async with asyncio.TaskGroup() as tasks:
                    for end in self.ends:
                        tasks.create_task(self._follow(end))
                    sent = [tasks.create_task(self._send(end)) for end in self.ends]
                    got = [tasks.create_task(self._receive(end)) for end in self.ends]
            except ExceptionGroup as errors:
                run.report.faults += [f"{self.mode.value}: {e!r}" for e in errors.exceptions]
                return
            counts = [task.result() for task in sent], [task.result() for task in got]
            run.report.sent += sum(counts[0])
            run.report.received += sum(counts[1])
            if counts[0] != counts[1][::-1]:
                run.report.faults.append(
                    f"{self.mode.value}: sent {counts[0]}, arrived {counts[1]}"
                )
            self.ends = []
            if not run.over.is_set():
                self.mode = run.random.choice(run.modes)

    async def _open(self) -> Session:
        run = self.run
        while True:
            with contextlib.suppress(RoamRelayError):
                return await self.caller.peer.connect(
                    self.callee.peer.guid, run.service(self), mode=self.mode
                )
            await asyncio.sleep(0.1)

    async def _send(self, end: Session) -> int:
        number = 0
        while not self.run.over.is_set() and not self.change.is_set():
            await end.send(b"%d" % number)
            number += 1
            await asyncio.sleep(self.run.random.random() * 2 * _PACE)
        await end.close(timeout=300.0)  # A path may be missing for longer than usual.
        return number

    async def _receive(self, end: Session) -> int:
        number = 0
        last = time.monotonic()
        async for message in end:
            if message != b"%d" % number:
                self.run.report.faults.append(
                    f"{self.mode.value}: {message!r} arrived in place of {number}"
                )
                raise RoamRelayError("out of order")
            number += 1
            now = time.monotonic()
            self.run.report.longest_gap = max(self.run.report.longest_gap, now - last)
            last = now
        return number

    async def _follow(self, end: Session) -> None:
        async for event in end.events():
            self.run.report.paths += event.path is not None and event.reason != "now"


class Chaos:
    """One run."""

    def __init__(
        self, seed: int, world: World, hosts: list[Host], modes: Sequence[Mode] = tuple(Mode)
    ) -> None:
        self.modes = list(modes)
        self.random = random.Random(seed)
        self.report = Report(seed)
        self.world = world
        self.hosts = hosts
        self.over = asyncio.Event()
        self._talks: list[_Talk] = []

    @classmethod
    def one_relay(cls, seed: int, folder: Path, *, by_name: bool = False) -> "Chaos":
        """Return one with a relay. `by_name`: the peers find each other by dynamic DNS alone."""
        relay = Relay(folder)
        if by_name:
            hosts = [Host(number, None, relay.ddns) for number in (11, 12)]
            return cls(seed, relay, hosts, [Mode.P2P] * 4)
        return cls(seed, relay, [Host(number, relay.url) for number in (11, 12)])

    def service(self, talk: _Talk) -> str:
        """Return the service of a talk."""
        return f"talk-{self._talks.index(talk)}"

    def pair(self, talk: int) -> tuple[Host, Host]:
        """Return who calls whom in a talk."""
        callee, caller = self.hosts
        return caller, callee

    async def run(self, seconds: float) -> Report:
        """Make trouble for so long, and `_LEAST` times however slow the machine is; then let
        everything finish, and say what was seen."""
        began = time.monotonic()
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(absent_addresses())
            # Not the run's own chance: how many flights there are is not drawn.
            chance = random.Random(self.report.seed)
            self.report.flights = stack.enter_context(meddled_flights(chance, _MEDDLED)).done
            stack.push_async_callback(self.world.kill)
            await self.world.start()
            for host in self.hosts:
                await stack.enter_async_context(host.peer)
            self._talks = [
                _Talk(self, mode, *self.pair(number)) for number, mode in enumerate(self.modes)
            ]
            listeners = [talk.callee.peer.listen(self.service(talk)) for talk in self._talks]
            for talk in self._talks:
                await talk.callee.peer.published()
            async with asyncio.timeout(seconds + 90), asyncio.TaskGroup() as tasks:
                for talk, listener in zip(self._talks, listeners, strict=True):
                    tasks.create_task(talk.keep(listener))
                while (
                    time.monotonic() - began < seconds - _QUIET
                    or self.report.troubles.total() < _LEAST
                ):
                    await asyncio.sleep(self.random.random())
                    await self._trouble()
                await self._settle()
                self.over.set()
        self.report.seconds = time.monotonic() - began
        return self.report

    async def _trouble(self) -> None:
        kinds = self.kinds()
        trouble = self.random.choices(list(kinds), list(kinds.values()))[0]
        self.report.troubles[trouble.__name__.strip("_").replace("_", " ")] += 1
        await trouble()

    def kinds(self) -> dict[Trouble, int]:
        """Return the kinds of trouble, and how often each is to be."""
        return {
            self._reset: 6,
            self._mute: 3,
            self._move: 6,
            self._move_both: 2,
            self._add_address: 2,
            self._no_network: 1,
            self.kill_relay: 1,
            self._change_mode: 3,
        }

    def _ends(self) -> list[Session]:
        return [end for talk in self._talks for end in talk.ends if end.path is not None]

    async def _reset(self) -> None:
        for end in self.random.sample(self._ends(), min(2, len(self._ends()))):
            reset(end)

    async def _mute(self) -> None:
        if ends := self._ends():
            mute(self.random.choice(ends))

    async def _move(self) -> None:
        host = self.random.choice(self.hosts)
        host.addresses.set(self.random.choice(host.all))

    async def _move_both(self) -> None:
        for host in self.hosts:
            host.addresses.set(self.random.choice(host.all))

    async def _add_address(self) -> None:
        host = self.random.choice(self.hosts)
        host.addresses.set(*self.random.sample(host.all, 2))

    async def _no_network(self) -> None:
        host = self.random.choice(self.hosts)
        host.addresses.set()
        await asyncio.sleep(self.random.random() * 2)
        host.addresses.set(self.random.choice(host.all))

    async def kill_relay(self) -> None:
        """End it without a word, and start it again."""
        await self.world.kill()
        await asyncio.sleep(self.random.random())
        await self.world.start()

    async def _change_mode(self) -> None:
        self.random.choice(self._talks).change.set()

    async def _settle(self) -> None:
        """Let everybody have an address and a relay, and a while to find each other."""
        for host in self.hosts:
            if not host.addresses.hosts:
                host.addresses.set(host.all[0])
        await asyncio.sleep(_QUIET)
