"""The real commands inside the lab's hosts, and numbered traffic through them."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.integration.processes import environment
from tests.lab.draft import SERVER
from tests.lab.network import Host

__all__ = ["DEADLINE", "Conversation", "Program", "locate", "relay"]

DEADLINE = 40.0


class Program:
    """A process in a host; its lines of output and of errors come through one queue each."""

    def __init__(self, host: Host, *arguments: str) -> None:
        self.process = subprocess.Popen(
            host.command(sys.executable, "-m", *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment() | {"PYTHONUNBUFFERED": "1"},
            cwd=Path(__file__).parents[2],
        )
        self.out: queue.Queue[str] = queue.Queue()
        self.errors: queue.Queue[str] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._read, args=(pipe, lines), daemon=True)
            for pipe, lines in ((self.process.stdout, self.out), (self.process.stderr, self.errors))
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _read(pipe: Any, lines: "queue.Queue[str]") -> None:
        for line in pipe:
            lines.put(line.rstrip("\n"))

    def until(self, word: str, lines: "queue.Queue[str]") -> str:
        """Return the next line that holds a word."""
        end = time.monotonic() + DEADLINE
        seen = []
        while time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                line = lines.get(timeout=0.2)
                seen.append(line)
                if word in line:
                    return line
            assert self.process.poll() is None or not lines.empty(), f"it ended: {seen}"
        raise AssertionError(f"{word!r} never came: {seen}")

    def write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def registrations(self, guid: str) -> int:
        """Return how many registrations of a peer a relay has told of so far."""
        lines = []
        with contextlib.suppress(queue.Empty):
            while True:
                lines.append(self.errors.get_nowait())
        return sum(f'"{guid[:8]}"' in line and '"registered"' in line for line in lines)

    def close(self) -> None:
        """Kill it, and wait."""
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(10)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@contextlib.contextmanager
def relay(host: Host, folder: Path) -> Iterator[Program]:
    """Run the relay on the server."""
    ready = folder / "ready"
    program = Program(
        host, "relay", "serve", "--host", SERVER, "--port", "8440", "--ready-file", str(ready)
    )
    try:
        end = time.monotonic() + DEADLINE
        while not ready.exists():
            assert time.monotonic() < end
            assert program.process.poll() is None
            time.sleep(0.02)
        yield program
    finally:
        program.close()


def _common(folder: Path, name: str) -> tuple[str, ...]:
    config = folder / "peer.toml"
    config.write_text(
        f'relay = "http://{SERVER}:8440"\n[session]\nping_interval = 0.5\nsilence_limit = 2.0\n'
    )
    return ("peers", "--config", str(config), "--key", str(folder / f"{name}.key"))


@contextlib.contextmanager
def echo(host: Host, folder: Path) -> Iterator[str]:
    """Run a peer that echoes; yield its GUID."""
    program = Program(host, *_common(folder, host.name), "listen", "chat", "--echo", "--json")
    try:
        yield str(json.loads(program.until("listening", program.out))["guid"])
    finally:
        program.close()


class Conversation:
    """A caller that sends numbered lines, and takes note of every one that comes back."""

    def __init__(self, host: Host, folder: Path, guid: str, mode: str) -> None:
        self.host = host
        self.program = Program(
            host, *_common(folder, host.name), "connect", guid, "chat", "--mode", mode
        )
        self.sent = 0
        self.arrived: list[tuple[float, int]] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self) -> str:
        """Wait until it is connected; return the line that says how."""
        told = self.program.until("connected", self.program.errors)
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._send, self._take)
        ]
        for thread in self._threads:
            thread.start()
        return told

    def _send(self) -> None:
        while not self._stop.wait(0.005):
            self.program.write(str(self.sent))
            self.sent += 1

    def _take(self) -> None:
        while not self._stop.is_set() or self.arrived[-1][1] < self.sent - 1:
            with contextlib.suppress(queue.Empty):
                line = self.program.out.get(timeout=0.2)
                self.arrived.append((time.monotonic(), int(line)))
            if self.program.process.poll() is not None and self.program.out.empty():
                return

    def more(self, count: int = 50) -> None:
        """Wait for so many more to come back."""
        wanted = len(self.arrived) + count
        end = time.monotonic() + DEADLINE
        while len(self.arrived) < wanted:
            assert time.monotonic() < end, f"nothing after {len(self.arrived)}"
            time.sleep(0.01)

    def moves_to(self, address: str) -> None:
        """Wait until the kernel has a connection to an address, and traffic flows."""
        end = time.monotonic() + DEADLINE
        while address not in self.host.remote_hosts():
            assert time.monotonic() < end, self.host.remote_hosts()
            time.sleep(0.02)
        self.more()

    def finish(self) -> float:
        """Stop sending; check that each came back once and in order; return the longest gap."""
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE)
        assert [number for _, number in self.arrived] == list(range(self.sent))
        times = [when for when, _ in self.arrived]
        return max(later - earlier for earlier, later in pairwise(times))

    def close(self) -> None:
        self._stop.set()
        self.program.close()


def locate(host: Host, folder: Path, guid: str) -> dict[str, Any]:
    """Run `peer locate` in a host."""
    done = subprocess.run(
        host.command(
            sys.executable, "-m", *_common(folder, f"{host.name}-locate"), "locate", guid, "chat"
        )
        + ["--json"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment() | {"HOME": os.fspath(folder)},
        check=True,
    )
    return dict(json.loads(done.stdout))
