"""Two programs with numbered messages both ways, and a relay with a mailbox: killed at random
moments, one or all of them, or moved, or away for a while, or with a disk that is full; what the
programs' own tables, written in the same transactions, say in the end.
"""

import contextlib
import os
import random
import resource
import select
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from peers import Identity
from tests.support import processes
from tests.support.ports import free_port

__all__ = ["run"]

DEADLINE = 120.0
"""Seconds for the next line of a program."""
_A_PART = 0.7
"""How often it is one process of a cluster that is killed, and not all of them."""
QUIET = 1.0
"""Seconds without a line: the other one has nothing more to do alone."""
TROUBLES = (
    *("one", "one", "both", "relay", "relay", "all"),
    *("away", "away", "move", "move", "full disk", "full disk of the relay"),
)


class Relay:
    """A relay with a state folder, started anew at the same place when it was killed. One of a
    cluster is two processes, with a nats-server between them that keeps the letters."""

    def __init__(self, folder: Path, *, cluster: bool) -> None:
        self._folder = folder
        self._flags = ["--port", str(free_port()), "--state", str(folder / "state")]
        # Nobody reads what it says, and a run may be long.
        self._flags += ["--log-level", "error", *(("--nodes", "2") if cluster else ())]
        self._running = contextlib.ExitStack()
        self.url = self._start()

    def _start(self) -> str:
        running = processes.relay(self._folder, *self._flags)
        url, self.process = self._running.enter_context(running)
        return url

    def kill(self) -> None:
        """End it without a word, and start it anew."""
        self.process.kill()
        self.end()
        self._start()

    def kill_a_part(self, chance: random.Random) -> None:
        """End one process of a cluster without a word; it is started anew by the one that keeps
        them."""
        parts = psutil.Process(self.process.pid).children()
        with contextlib.suppress(psutil.NoSuchProcess):
            chance.choice(sorted(parts, key=lambda one: one.pid)).kill()

    def end(self) -> None:
        self._running.close()


class Program:
    """One of them, started anew when it was killed."""

    def __init__(self, arguments: list[str], store: Path) -> None:
        self._arguments = arguments
        self.store = store
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._said = b""
        self.is_open = self.is_over = False
        return subprocess.Popen(
            [sys.executable, "-m", "tests.peers.conversations.talker", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=processes.environment(),
        )

    def line(self, wait: float | None = None) -> str:
        """Return the next thing that it says; empty where it says nothing for so long as one may
        wait."""
        out = self.process.stdout
        assert out is not None
        while b"\n" not in self._said:
            readable, _, _ = select.select([out], [], [], DEADLINE if wait is None else wait)
            if not readable and wait is not None:
                return ""
            assert readable, "nothing was done in time"
            data = os.read(out.fileno(), 65_536)
            assert data, "it has ended by itself"
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        self.is_open = True
        self.is_over = self.is_over or line == b"over"
        return line.decode()

    def kill(self) -> None:
        """End it without a word, and start it anew."""
        self.end()
        self.begin()

    def begin(self) -> None:
        """Start it anew."""
        self.process = self._start()

    def end(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def told(self, what: str) -> list[int]:
        """Return the numbers that it has sent, or done."""
        with sqlite3.connect(self.store) as db:
            rows = db.execute("SELECT payload FROM told WHERE what = ?", (what,)).fetchall()
        db.close()
        return [int(row[0]) for row in rows]


@contextlib.contextmanager
def full_disk(process: int) -> Iterator[None]:
    """No file of a process can grow."""
    limit = resource.RLIMIT_FSIZE
    _, hard = resource.prlimit(process, limit)
    resource.prlimit(process, limit, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(process, limit, (hard, hard))


class Run:
    """One run, from a seed."""

    def __init__(self, folder: Path, *, seed: int, count: int, cluster: bool) -> None:
        """`count` messages are sent each way."""
        self._cluster = cluster
        self._chance = random.Random(seed)
        self._count = count
        self.troubles: Counter[str] = Counter()
        self._stack = contextlib.ExitStack()
        with self._stack:
            self.relay = Relay(folder, cluster=cluster)
            self._stack.callback(self.relay.end)
            keys = [folder / f"{number}.key" for number in range(2)]
            guids = [Identity.load_or_create(key).guid for key in keys]
            self.programs = []
            for number in range(2):
                store = folder / f"{number}.db"
                words = [self.relay.url, str(keys[number]), guids[1 - number], str(store)]
                hosts = ",".join(f"127.{70 + number}.0.{last}" for last in (1, 2))
                self.programs.append(Program([*words, str(count), hosts], store))
                self._stack.callback(self.programs[-1].end)
            self._stack = self._stack.pop_all()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def trouble(self) -> None:
        """Let them work for a while, and then do something to them."""
        chance = self._chance
        number = chance.randrange(2)
        victim, other = self.programs[number], self.programs[1 - number]
        for _ in range(chance.randint(1, self._count)):
            if victim.line(QUIET) in ("over", ""):
                break
        kind = chance.choice(TROUBLES)
        self.troubles[kind] += 1
        match kind:
            case "one":
                victim.kill()
            case "both":
                other.kill()
                victim.kill()
            case "relay" if self._cluster and chance.random() < _A_PART:
                self.relay.kill_a_part(chance)
            case "relay":
                self.relay.kill()
            case "all":
                for program in self.programs:
                    program.end()
                self.relay.kill()
                for program in self.programs:
                    program.begin()
            case "away":
                victim.end()
                while other.line(QUIET) not in ("over", ""):
                    pass
                victim.begin()
            case "move":
                for program in self.programs[: chance.randint(1, 2)]:
                    if program.is_open:  # Before that it has no ear for it.
                        program.process.send_signal(signal.SIGUSR1)
            case "full disk":
                if not victim.is_open:
                    victim.line()  # A store is opened where there is room for it.
                with full_disk(victim.process.pid):
                    for _ in range(5):
                        victim.line(QUIET / 5)
            case "full disk of the relay" if self._cluster:
                # nats-server cannot be told so by a limit: it ends.
                self.relay.kill_a_part(chance)
            case "full disk of the relay":
                with full_disk(self.relay.process.pid):
                    for _ in range(5):
                        other.line(QUIET / 5)

    def judge(self) -> None:
        """Wait until all is over; fail unless each message was done once, in order."""
        for program in self.programs:
            while not program.is_over:
                program.line()
        for program, there in (self.programs, self.programs[::-1]):
            assert program.told("sent") == list(range(self._count)), "not all was sent"
            done = there.told("done")
            assert done == list(range(self._count)), "not what was sent, once, in order"


def run(folder: Path, *, seed: int, kills: int, count: int, cluster: bool = False) -> Counter[str]:
    """Let two programs send `count` messages each way, with so many troubles meanwhile; fail unless
    each was done once, in order. Return what the troubles were."""
    with Run(folder, seed=seed, count=count, cluster=cluster) as chaos:
        for _ in range(kills):
            chaos.trouble()
        chaos.judge()
        return chaos.troubles
