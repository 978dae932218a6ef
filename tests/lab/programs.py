"""The real commands inside the lab's hosts, as processes. What they are told and made to say is in
tests/lab/traffic.py."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tests.lab.links import ROOT
from tests.lab.network import Host
from tests.support.processes import environment

__all__ = ["DEADLINE", "PORT", "Commands", "Line", "Lines", "Program"]

DEADLINE = 40.0
"""Seconds for anything to happen; what takes longer is taken not to happen at all."""

PORT = 8440

Line = tuple[float, str]
"""A line of output, and the time of `time.monotonic` at which it came."""
Lines = queue.Queue[Line]


class Program:
    """A Python process in a host; its lines of output and of errors come through one queue each."""

    def __init__(self, host: Host, *arguments: str) -> None:
        self.host = host
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            host.lasting(sys.executable, "-m", *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment() | {"PYTHONUNBUFFERED": "1"},
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.out: Lines = queue.Queue()
        self.errors: Lines = queue.Queue()
        self._threads = [
            threading.Thread(target=self._read, args=(pipe, lines), daemon=True)
            for pipe, lines in ((self.process.stdout, self.out), (self.process.stderr, self.errors))
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _read(pipe: IO[str], lines: Lines) -> None:
        for line in pipe:
            lines.put((time.monotonic(), line.rstrip("\n")))

    def until(self, word: str, lines: Lines) -> str:
        """Return the next line that holds a word."""
        end = time.monotonic() + DEADLINE
        seen = []
        while time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                _, line = lines.get(timeout=0.2)
                seen.append(line)
                if word in line:
                    return line
            assert self.process.poll() is None or not lines.empty(), f"it ended: {seen}"
        raise AssertionError(f"{word!r} never came: {seen}")

    def taken(self, patience: float) -> list[Line]:
        """Return the lines of output that are there, or that come in these seconds."""
        lines = []
        with contextlib.suppress(queue.Empty):
            lines.append(self.out.get(timeout=patience))
            while True:
                lines.append(self.out.get_nowait())
        return lines

    def write(self, line: str) -> None:
        """Give it a line of input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def said(self) -> str:
        """Return its lines of errors that nobody has read yet: of a peer, why its paths changed."""
        lines = []
        with contextlib.suppress(queue.Empty):
            while True:
                lines.append(self.errors.get_nowait()[1])
        return "; ".join(lines)

    def registrations(self, guid: str) -> list[float]:
        """Return when a relay has told of a registration of a peer, since this was last asked."""
        lines = []
        with contextlib.suppress(queue.Empty):
            while True:
                lines.append(self.errors.get_nowait())
        return [when for when, line in lines if f'"{guid[:8]}"' in line and '"registered"' in line]

    def close(self) -> None:
        """Kill it, and wait."""
        self.process.kill()
        self.process.wait(DEADLINE)
        for thread in self._threads:
            thread.join(10)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Commands:
    """`relay` and `peer` in the hosts of one lab, which all use the relay at one address."""

    def __init__(self, folder: Path, server: str, more: str = "", session: str = "") -> None:
        """`more` are further lines of the peers' configuration, `session` of its sessions."""
        self._folder = folder
        self._server = server
        self._config = folder / "peer.toml"
        host = f"[{server}]" if ":" in server else server
        self._config.write_text(
            f'relay = "http://{host}:{PORT}"\n{more}'
            f"[session]\nping_interval = 0.5\nsilence_limit = 2.0\n{session}"
        )

    def peer(self, name: str, *arguments: str) -> tuple[str, ...]:
        """Return the words of a `peer` command with a key of this name."""
        key = str(self._folder / f"{name}.key")
        return ("peers", "--config", str(self._config), "--key", key, *arguments)

    @contextlib.contextmanager
    def relay(self, host: Host, *flags: str) -> Iterator[Program]:
        """Run the relay."""
        ready = self._folder / "ready"
        where = ("--host", self._server, "--port", str(PORT))
        flags = ("--ready-file", str(ready), "--state", "", *flags)
        program = Program(host, "relay", "serve", *where, *flags)
        try:
            end = time.monotonic() + DEADLINE
            while not ready.exists():
                assert time.monotonic() < end
                assert program.process.poll() is None, program.errors.queue
                time.sleep(0.02)
            yield program
        finally:
            program.close()

    @contextlib.contextmanager
    def listen(self, host: Host, *flags: str) -> Iterator[tuple[str, Program]]:
        """Run a peer that listens for `chat`; yield its GUID and the process."""
        words = self.peer(host.name, "listen", "chat", "--json", *flags)
        program = Program(host, *words)
        try:
            yield str(json.loads(program.until("listening", program.out))["guid"]), program
        finally:
            program.close()

    def connect(self, host: Host, guid: str, mode: str, policy: str = "") -> Program:
        """Run a peer that calls, and comes to an end by `close`."""
        more = ("--policy", policy) if policy else ()
        return Program(host, *self.peer(host.name, "connect", guid, "chat", "--mode", mode, *more))

    def locate(self, host: Host, guid: str) -> dict[str, Any]:
        """Return what `peer locate` says in a host."""
        words = self.peer(f"{host.name}-locate", "locate", guid, "chat", "--json")
        return dict(json.loads(self._output(host, *words)))

    def explain(self, host: Host, guid: str, mode: str) -> str:
        """Return what a session that is opened in a host says of its path."""
        return self._output(host, "tests.lab.explain", str(self._config), guid, mode)

    def nat_call(self, host: Host, guid: str, mode: str, patience: float) -> dict[str, Any]:
        """Return what a caller in a host says of its way to a direct path (tests/lab/nat_call.py),
        which it waits for during so many seconds."""
        words = ("tests.lab.nat_call", str(self._config), guid, mode, str(patience))
        return dict(json.loads(self._output(host, *words, deadline=DEADLINE + patience)))

    def quiet_call(self, host: Host, guid: str) -> str:
        """Return what a caller in a host has learned of quiet paths (tests/lab/quiet_call.py)."""
        words = ("tests.lab.quiet_call", str(self._config), guid)
        return self._output(host, *words, deadline=2 * DEADLINE)

    def _output(self, host: Host, *words: str, deadline: float = DEADLINE) -> str:
        done = subprocess.run(
            host.lasting(sys.executable, "-m", *words),
            capture_output=True,
            text=True,
            timeout=deadline,
            env=environment() | {"HOME": os.fspath(self._folder)},
            cwd=ROOT,
            check=True,
        )
        return done.stdout
