"""Two programs with numbered messages both ways, killed at random moments; and what their own
tables, written in the same transactions, say in the end."""

import contextlib
import os
import random
import select
import sqlite3
import subprocess
import sys
from pathlib import Path

from peers import Identity
from tests.support import processes

__all__ = ["run"]

DEADLINE = 120.0
"""Seconds for the next line of a program."""


class Program:
    """One of them, started anew when it was killed."""

    def __init__(self, arguments: list[str], store: Path) -> None:
        self._arguments = arguments
        self.store = store
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._said = b""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.peers.conversations.talker", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=processes.environment(),
        )

    def line(self) -> str:
        """Return the next thing that it says."""
        out = self.process.stdout
        assert out is not None
        while b"\n" not in self._said:
            readable, _, _ = select.select([out], [], [], DEADLINE)
            assert readable, "nothing was done in time"
            data = os.read(out.fileno(), 65_536)
            assert data, "it has ended by itself"
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def kill(self) -> None:
        """End it without a word, and start it anew."""
        self.end()
        self.process = self._start()

    def end(self) -> None:
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


def run(folder: Path, url: str, *, seed: int, kills: int, count: int) -> None:
    """Let two programs send `count` messages each way, with so many kills between them; fail unless
    each was done once, in order."""
    chance = random.Random(seed)
    identities = [Identity.load_or_create(folder / f"{number}.key") for number in range(2)]
    programs: list[Program] = []
    try:
        for number in range(2):
            store = folder / f"{number}.db"
            arguments = [url, str(folder / f"{number}.key"), identities[1 - number].guid]
            programs.append(Program([*arguments, str(store), str(count)], store))
        over = [False, False]
        for _ in range(kills):
            victim = chance.randrange(2)
            for _ in range(chance.randint(1, count)):
                if programs[victim].line() == "over":
                    break
            if chance.randrange(4) == 0:
                programs[1 - victim].kill()
            programs[victim].kill()
        for number, program in enumerate(programs):
            while not over[number]:
                over[number] = program.line() == "over"
        for program, other in (programs, programs[::-1]):
            assert program.told("sent") == list(range(count)), "not all was sent"
            assert other.told("done") == list(range(count)), "not what was sent, once, in order"
    finally:
        for program in programs:
            program.end()
