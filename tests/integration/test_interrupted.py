"""Commands that a signal ends while they begin: without a word, with nothing left, and with the
code that a shell or systemd knows.
"""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.support.processes import at_home

LONG = 60.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_WORDS = ("Traceback", "Aborted", "Interrupt", "never awaited", "Exception")
"""What Python and click would say."""


@contextlib.contextmanager
def running(
    folder: Path, *words: str, options: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """Run a command of a user whose files are in a folder."""
    process = subprocess.Popen(
        [sys.executable, *options, "-m", *words],
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=at_home(folder) | {"TMPDIR": str(folder)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(LONG)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def ended(process: subprocess.Popen[str], code: int) -> str:
    """Return what was said on standard error, when it has ended with a code."""
    printed, said = process.communicate(timeout=LONG)
    assert printed == ""
    assert not [word for word in _WORDS if word in said], said
    assert process.returncode == code, said
    return said


def until(holds: Callable[[], bool]) -> None:
    """Look again and again."""
    end = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("words", [("relay", "serve"), ("peers", "id")])
def test_while_it_is_imported(tmp_path: Path, words: tuple[str, str]) -> None:
    """Nothing is open yet: it ends as any program does."""
    with running(tmp_path, *words, options=("-X", "importtime")) as process:
        assert process.stderr is not None
        # Half-way: our package has begun, and the command has not.
        for line in process.stderr:
            if line.split("|")[-1].strip() == "click.core":
                break
        process.send_signal(signal.SIGINT)
        ended(process, -signal.SIGINT)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A configuration that is never read to its end."""
    file = tmp_path / "config.toml"
    os.mkfifo(file)
    return file


READERS = [
    ("relay", "serve", "--config", "FILE"),
    ("relay", "serve", "--nodes", "2", "--config", "FILE"),
    ("relay", "check", "--config", "FILE"),
    ("relay", "status", "--config", "FILE"),
    ("relay", "backup", "--config", "FILE", "copy"),
    ("peers", "--config", "FILE", "id"),
    ("peers", "--config", "FILE", "connect", "someone", "chat"),
]
NIGHTLY = {"check", "status", "--nodes", "backup", "connect"}


@pytest.mark.parametrize(
    ("words", "number"),
    [
        pytest.param(
            words,
            SIGNALS[at % 2],
            marks=[pytest.mark.nightly] if NIGHTLY & set(words) else [],
        )
        for at, words in enumerate(READERS)
    ],
)
def test_while_it_reads_its_configuration(
    tmp_path: Path, pipe: Path, words: tuple[str, ...], number: signal.Signals
) -> None:
    asked = [word.replace("FILE", str(pipe)) for word in words]
    with running(tmp_path, *asked) as process, pipe.open("w"):  # Open once somebody reads.
        # `relay` ends by the signal; of `peer` the code is documented.
        code = -number if words[0] == "relay" else 128 + number
        process.send_signal(number)
        assert ended(process, code) == ""


@contextlib.contextmanager
def locked(state: Path) -> Iterator[Path]:
    """Hold the file that a relay opens as it starts."""
    state.mkdir(mode=0o700)
    file = state / "relay.sqlite"
    file.touch(mode=0o600)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as held:
        held.execute("BEGIN EXCLUSIVE")
        yield file


def serving(state: Path, *words: str) -> tuple[str, ...]:
    flags = ("--port", "0", "--state", str(state), "--log-format", "json")
    return ("relay", "serve", *flags, *words)


def has_opened(process: subprocess.Popen[str], file: Path) -> bool:
    assert process.poll() is None, process.communicate()
    return str(file) in {one.path for one in psutil.Process(process.pid).open_files()}


@pytest.mark.parametrize("number", SIGNALS)
def test_while_a_relay_starts(tmp_path: Path, number: signal.Signals) -> None:
    state, ready = tmp_path / "state", tmp_path / "ready"
    words = serving(state, "--ready-file", str(ready))
    with contextlib.ExitStack() as stack:
        with locked(state) as file:
            process = stack.enter_context(running(tmp_path, *words))
            until(lambda: has_opened(process, file))
            process.send_signal(number)
        said = [json.loads(line)["event"] for line in ended(process, 0).splitlines()]
    assert said == ["stopped"], "nobody was told that it serves"
    assert not ready.exists()
    assert not (state / "operator.sock").exists()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)]
)
def test_while_several_processes_start(tmp_path: Path, number: signal.Signals) -> None:
    state, ready = tmp_path / "state", tmp_path / "ready"
    words = serving(state, "--nodes", "2", "--ready-file", str(ready))
    with running(tmp_path, *words) as process:
        one = psutil.Process(process.pid)
        until(lambda: bool(one.children()) or process.poll() is not None)
        left = one.children(recursive=True)
        process.send_signal(number)
        said = [json.loads(line)["event"] for line in ended(process, 0).splitlines()]
    assert said[-1] == "stopped"
    assert "all nodes serve" not in said
    assert not ready.exists()
    assert not (state / "operator.sock").exists()
    _, alive = psutil.wait_procs(left, LONG)
    assert not alive


@pytest.mark.nightly
def test_before_any_process_is_started(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with contextlib.ExitStack() as stack:
        with locked(state) as file:
            process = stack.enter_context(running(tmp_path, *serving(state, "--nodes", "2")))
            until(lambda: has_opened(process, file))
            process.send_signal(signal.SIGTERM)
        assert ended(process, -signal.SIGTERM) == ""
    assert not list(tmp_path.glob("roam-relay-*"))


@pytest.mark.nightly
def test_a_command_that_asks_a_relay_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "operator.sock"))
        door.listen()
        words = ("relay", "status", "--state", str(tmp_path))
        with running(tmp_path, *words) as process, door.accept()[0] as asked:
            assert asked.recv(4096)
            process.send_signal(signal.SIGINT)
            assert ended(process, -signal.SIGINT) == ""
