"""Processes under measurement, and medians of interleaved runs."""

import contextlib
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import nats.aio.client
import psutil

from tests.support.ports import free_port

__all__ = [
    "Row",
    "Server",
    "cpu_seconds",
    "has_mosquitto",
    "has_peerjs",
    "median_rows",
    "mosquitto_server",
    "nats_in_step",
    "nats_server",
    "peerjs_server",
    "raise_descriptors",
    "relay_server",
    "resident",
    "websocket_server",
]


@dataclass(frozen=True)
class Server:
    """A running server and where it listens."""

    pid: int
    host: str
    port: int


@dataclass(frozen=True)
class Row:
    """One measured figure of one contender."""

    contender: str
    figure: str
    value: float
    unit: str


def cpu_seconds(pid: int) -> float:
    """Return user plus system time of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def resident(pid: int) -> int:
    """Return the bytes of a process's memory that are in use."""
    return int(psutil.Process(pid).memory_info().rss)


def median_rows(runs: list[list[Row]]) -> list[Row]:
    """Return each figure's median over the runs, in the first run's order."""
    rows = []
    for first in runs[0]:
        values = [
            row.value
            for run in runs
            for row in run
            if (row.contender, row.figure) == (first.contender, first.figure)
        ]
        rows.append(Row(first.contender, first.figure, statistics.median(values), first.unit))
    return rows


@contextlib.contextmanager
def _process(
    command: list[str], environment: dict[str, str] | None = None, said: Path | None = None
) -> Iterator[int]:
    """Run a program; what it says goes into the file `said`, or nowhere."""
    with said.open("wb") if said is not None else contextlib.nullcontext() as log:
        process = subprocess.Popen(
            command,
            env=os.environ | (environment or {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if log is None else log,
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def raise_descriptors() -> int:
    """Let this process, and what it starts, open as many files as it may; return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard, max(hard, 1 << 17)):  # More than the hard limit is root's to take.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@contextlib.contextmanager
def relay_server(
    changes: Mapping[str, str] | None = None,
    program: tuple[str, ...] = ("-m", "relay"),
    flags: tuple[str, ...] = ("--state", ""),
) -> Iterator[Server]:
    """Run our relay with its rates lifted: the load comes from few peers. `changes` are made in its
    environment; `program` is what Python runs, and `flags` what this version's is told."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        lifted = {
            "ROAM_RELAY_REQUESTS_PER_SECOND": "1000000000",
            "ROAM_RELAY_REQUESTS_BURST": "1000000000",
            "XDG_DATA_HOME": folder,  # What it keeps is not the user's own, in any version.
            **(changes or {}),
        }
        command = [
            sys.executable,
            *program,
            "serve",
            "--port",
            "0",
            "--ready-file",
            str(ready),
        ]
        if program == ("-m", "relay"):  # Of a version of before this is not known.
            command += flags
        said = Path(folder) / "said"
        with _process(command, lifted, said) as pid:
            end = time.monotonic() + 60
            while not ready.exists():
                ended = psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
                if ended or time.monotonic() > end:
                    raise RuntimeError(f"the relay did not start: {said.read_text()[-2000:]}")
                time.sleep(0.02)
            yield Server(pid, "127.0.0.1", int(ready.read_text().rsplit(":", 1)[1]))


def _wait_for_port(port: int) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


@contextlib.contextmanager
def nats_server(sync: str | None = None) -> Iterator[Server]:
    """Run nats-server as its PyPI package ships it; with JetStream where `sync` says how often that
    waits for the disk (`always`, or a time)."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{port}"\nmax_pending: 268435456\nmax_payload: 1048576\n'
            + (
                f'jetstream {{ store_dir: "{folder}/stored"\n sync_interval: {sync} }}\n'
                if sync is not None
                else ""
            )
        )
        command = [str(Path(sys.executable).parent / "nats-server"), "-c", str(config)]
        with _process(command) as pid:
            _wait_for_port(port)
            # The package may start the server as a child of its own.
            children = psutil.Process(pid).children(recursive=True)
            yield Server(children[0].pid if children else pid, "127.0.0.1", port)


async def nats_in_step(client: nats.aio.client.Client) -> None:
    """Return when nats-server has read all that `client` was told before, a subscription too.

    One flush of nats-py does not say so: its PING overtakes what is still to be written, and a
    request sent by then is answered "no responders". What was waiting has been written when the
    first PONG comes, so that the second stands behind it.
    """
    await client.flush()
    await client.flush()


def has_mosquitto() -> bool:
    """Whether mosquitto is installed (Debian: apt-get install mosquitto)."""
    return shutil.which("mosquitto", path=_PATH) is not None


def has_peerjs() -> bool:
    """Whether PeerJS' server is installed (npm install -g peer), or named by PEERJS."""
    return shutil.which(_PEERJS) is not None


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
_PEERJS = os.environ.get("PEERJS", "peerjs")


@contextlib.contextmanager
def mosquitto_server() -> Iterator[Server]:
    """Run mosquitto."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "mosquitto.conf"
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            "log_dest none\nuser root\nmax_queued_messages 0\nset_tcp_nodelay true\n"
        )
        program = shutil.which("mosquitto", path=_PATH) or "mosquitto"
        with _process([program, "-c", str(config)]) as pid:
            _wait_for_port(port)
            yield Server(pid, "127.0.0.1", port)


@contextlib.contextmanager
def peerjs_server() -> Iterator[Server]:
    """Run the PeerJS server."""
    port = free_port()
    command = [_PEERJS, "--host", "127.0.0.1", "--port", str(port)]
    with _process([*command, "--concurrent_limit", "1000000"]) as pid:
        _wait_for_port(port)
        yield Server(pid, "127.0.0.1", port)


@contextlib.contextmanager
def websocket_server() -> Iterator[Server]:
    """Run the aiohttp WebSocket echo."""
    port = free_port()
    with _process([sys.executable, "-m", "benchmarks.echo_server", str(port)]) as pid:
        _wait_for_port(port)
        yield Server(pid, "127.0.0.1", port)
