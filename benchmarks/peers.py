"""What a server spends on each of many registered peers: memory, coming, talking, being idle.

Each peer comes from a loopback address of its own, so that limits for one source, and the ports of
one address, bound nothing. Memory is the growth of the server's resident memory, divided.
"""

import asyncio
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psutil

from benchmarks.measure import (
    Row,
    Server,
    cpu_seconds,
    has_mosquitto,
    has_peerjs,
    mosquitto_server,
    nats_server,
    peerjs_server,
    raise_descriptors,
    relay_server,
)
from benchmarks.signaling import measured, run_pairs
from benchmarks.wire import CONTENDERS, open_clients

__all__ = [
    "contenders",
    "measure_peers",
    "measure_start",
    "measure_turns",
    "most_peers",
    "peer_relay",
    "turns_while",
]

_PAIRS = 32
_UNDER_WAY = 8
_WARM = 50
"""Clients that come and go before anything is measured."""


def peer_relay(
    path: Path | None = None, turns: Path | None = None, injected: int = 0
) -> AbstractContextManager[Server]:
    """Run our relay, of this checkout or of that at `path`, for many peers; with `turns`, its loop
    is watched, and writes there, and so many peers are in its memory."""
    lifted = {
        "ROAM_RELAY_CONNECTS_PER_SECOND": "1000000",
        "ROAM_RELAY_CONNECTS_BURST": "1000000",
        "ROAM_RELAY_MAX_CONNECTIONS_PER_ADDRESS": "100000",
        "ROAM_RELAY_WORK_PER_PEER": "1",
        "ROAM_RELAY_WORK_PER_NETWORK": "1",
        "ROAM_RELAY_WORK_IN_ALL": "1",
    }
    if path is not None:
        # The folder that this is started in would go first on the path.
        lifted |= {"PYTHONPATH": str(path), "PYTHONSAFEPATH": "1"}
    program = ("-m", "relay")
    if turns is not None:
        program = (str(Path(__file__).with_name("turns.py")), str(turns))
        lifted.setdefault("PYTHONPATH", str(Path(__file__).parents[1]))
        lifted["BENCHMARK_INJECTED"] = str(injected)
    return relay_server(lifted, program)


def contenders(
    before: Path | None = None,
) -> Iterator[tuple[str, str, Callable[[], AbstractContextManager[Server]]]]:
    """Yield the kind, the name and the server of each that is here."""
    yield "raw", "roam-relay, raw carrier", peer_relay
    yield "websocket", "roam-relay, WebSocket", peer_relay
    if before is not None:
        yield "raw", "before, raw carrier", lambda: peer_relay(before)
        yield "websocket", "before, WebSocket", lambda: peer_relay(before)
    yield "nats", "nats-server (Go)", nats_server
    if has_mosquitto():
        yield "mosquitto", "mosquitto (C)", mosquitto_server
    if has_peerjs():
        yield "peerjs", "PeerJS (node)", peerjs_server


async def measure_peers(
    kind: str, name: str, server: Server, many: int, seconds: float
) -> list[Row]:
    """Return what `many` peers cost a server that has none; idle for so many seconds."""
    contender = CONTENDERS[kind]
    warm = await open_clients(contender, server, range(200_000, 200_000 + _WARM))
    for client in warm:
        client.transport.close()
    await asyncio.sleep(0.2)  # Lets the server notice; nothing is judged by it.
    process = psutil.Process(server.pid)
    memory, before = process.memory_info().rss, cpu_seconds(server.pid)
    clients = await open_clients(contender, server, range(100_000, 100_000 + many))
    spent = cpu_seconds(server.pid) - before
    grown = process.memory_info().rss - memory
    idle, took = await measured(server, asyncio.sleep(seconds))
    pairs = [(clients[at], clients[-1 - at]) for at in range(min(_PAIRS, many // 2))]
    trips = 20 * many
    talked, _ = await measured(server, run_pairs(contender, pairs, trips, _UNDER_WAY))
    messages = 2 * len(pairs) * max(1, trips // len(pairs))
    rows = [
        Row(name, f"{many} peers: memory of one", grown / many / 1024, "KiB"),
        Row(name, f"{many} peers: CPU of a registration", spent / many * 1e6, "µs"),
        Row(name, f"{many} peers: CPU of a forwarded message", talked / messages * 1e6, "µs"),
        Row(name, f"{many} peers: CPU of an idle one in an hour", idle / took / many * 3.6e6, "ms"),
    ]
    for client in clients:
        client.transport.abort()
    return rows


async def measure_turns(kind: str, name: str, path: Path | None, many: int) -> list[Row]:
    """Return how long a turn of our relay's loop is with so many peers, some of which talk."""
    contender = CONTENDERS[kind]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "turns"
        with peer_relay(path, file) as server:
            clients = await open_clients(contender, server, range(100_000, 100_000 + many))
            pairs = [(clients[at], clients[-1 - at]) for at in range(min(_PAIRS, many // 2))]
            late, longest = await turns_while(
                server, file, run_pairs(contender, pairs, 10 * many, 1)
            )
            for client in clients:
                client.transport.abort()
    return [
        Row(name, f"{many} peers: a turn of the loop, p99.9", late / 1e3, "ms"),
        Row(name, f"{many} peers: the longest turn of the loop", longest / 1e3, "ms"),
    ]


async def turns_while(server: Server, file: Path, work: Awaitable[object]) -> tuple[float, float]:
    """Do work; return how long the turns of the relay's loop were, at p99.9 and at most, in µs."""
    file.unlink(missing_ok=True)
    os.kill(server.pid, signal.SIGUSR1)
    await work
    os.kill(server.pid, signal.SIGUSR2)
    async with asyncio.timeout(60):
        while not file.exists():
            await asyncio.sleep(0.05)
    late, longest = map(float, file.read_text().split())
    return late, longest


def most_peers() -> int:
    """Return for how many peers there are file descriptors: our relay keeps a part of its own for
    planes and for newcomers."""
    return int(raise_descriptors() * 0.6)


def measure_start(name: str, path: Path | None = None) -> list[Row]:
    """Return what our relay spends until it serves: the least of five."""
    spent = []
    for _ in range(5):
        with peer_relay(path) as server:
            spent.append(cpu_seconds(server.pid))
    return [Row(name, "CPU until it serves", min(spent), "s")]
