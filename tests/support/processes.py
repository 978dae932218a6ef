"""The real commands as processes, for tests: started, waited for by what they say, and stopped."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

DEADLINE = 60.0
KEEPS_NOTHING = ("--state", "")
"""Flags of `relay serve` for one that keeps nothing."""


def environment() -> dict[str, str]:
    """Return the environment for a child: nothing of the outer configuration leaks in."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PEER_", "ROAM_RELAY_"))
    }


def stand_still(pid: int) -> None:
    """Stop a process and those that it has started, by SIGSTOP, and wait until all of their threads
    stand still: one that runs on another processor goes on for a moment."""
    first = psutil.Process(pid)
    end = time.monotonic() + DEADLINE
    for process in (first, *first.children(recursive=True)):
        process.suspend()
        while not _stands(process.pid):
            assert time.monotonic() < end, "it does not stop"
            select.select([], [], [], 0.001)


def _stands(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads)


@contextlib.contextmanager
def relay(
    folder: Path, *flags: str, within: Sequence[str] = ()
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `relay serve`, which keeps nothing unless the flags say so; yield its URL and its
    process. `within` is a command that becomes it."""
    names_place = {"--state", "--config"} & set(flags)
    flags = (*(() if names_place else KEEPS_NOTHING), *flags)
    with _relay(folder, environment(), *flags, within=within) as running:
        yield running


@contextlib.contextmanager
def plain_relay(folder: Path, *flags: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `relay serve` of a user whose files are in a folder."""
    with _relay(folder, at_home(folder), *flags) as running:
        yield running


def at_home(folder: Path) -> dict[str, str]:
    """Return the environment of a user whose files are in a folder."""
    return environment() | {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data")}


def run_relay(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a `relay` command of a user whose files are in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "relay", *arguments],
        text=True,
        capture_output=True,
        timeout=DEADLINE,
        env=at_home(folder),
        check=False,
    )


@contextlib.contextmanager
def _relay(
    folder: Path, variables: dict[str, str], *flags: str, within: Sequence[str] = ()
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    ready = folder / f"ready-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "relay", "serve", "--port", "0", "--ready-file", str(ready)]
    process = subprocess.Popen(
        [*within, *command, *flags],
        text=True,
        stderr=subprocess.PIPE,
        env=variables,
    )
    try:
        end = time.monotonic() + DEADLINE
        while not ready.exists():
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < end
            select.select([], [], [], 0.01)
        yield ready.read_text().strip(), process
    finally:
        stop(process)


@contextlib.contextmanager
def peer(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a `peer` command with pipes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "peers", *arguments],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    try:
        yield process
    finally:
        stop(process)


def run_peer(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a `peer` command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "peers", *arguments],
        text=True,
        capture_output=True,
        timeout=timeout,
        env=environment(),
        stdin=subprocess.DEVNULL,
        check=False,
    )


def fact(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the next JSON line of a process."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], DEADLINE)
    assert readable, "nothing was printed in time"
    line = process.stdout.readline()
    assert line, process.stderr and process.stderr.read()
    return dict(json.loads(line))


def end(process: subprocess.Popen[str]) -> None:
    """Interrupt a process and wait, with its pipes left to be read."""
    process.send_signal(signal.SIGINT)
    process.wait(DEADLINE)


def stop(process: subprocess.Popen[str]) -> int:
    """Interrupt a process and wait; return its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(DEADLINE)
        raise
    finally:
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
    return process.returncode
