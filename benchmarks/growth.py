"""What one peer costs our relay as it gets more of them: live ones, step by step in one process,
and then many that are only in its memory.

All is CPU time of the relay, so that a busy machine makes it dearer and not longer.
"""

import asyncio
import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.measure import Row, Server, cpu_seconds, raise_descriptors, resident
from benchmarks.peers import peer_relay, turns_while
from benchmarks.signaling import measured, run_pairs
from benchmarks.wire import CONTENDERS, Client, Contender, open_clients

__all__ = ["FIGURES", "measure_injected", "measure_live", "most_live"]

FIGURES = {
    "memory of one": "KiB",
    "CPU of a registration": "µs",
    "CPU of a forwarded message": "µs",
    "a turn of the loop, p99.9": "ms",
    "CPU of an idle one in an hour": "ms",
}
"""What is measured of how many peers, and in what."""
_FIRST = 100_000
_WARM = 50
_PAIRS, _UNDER_WAY = 32, 8
_BESIDE = 500
"""Live peers beside injected ones."""


def most_live() -> int:
    """Return for how many peers there are file descriptors."""
    return raise_descriptors() - 1_000


async def measure_live(name: str, counts: Iterable[int], seconds: float, trips: int) -> list[Row]:
    """Return the figures of each number of peers, as they come; idle for so many seconds."""
    contender, rows = CONTENDERS["raw"], []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "turns"
        with peer_relay(turns=file) as server:
            for client in await open_clients(contender, server, range(_WARM)):
                client.transport.close()
            await asyncio.sleep(0.2)  # Lets the relay notice; nothing is judged by it.
            memory = resident(server.pid)
            clients: list[Client] = []
            for many in sorted(set(counts)):
                before, new = cpu_seconds(server.pid), range(_FIRST + len(clients), _FIRST + many)
                clients += await open_clients(contender, server, new)
                values = {
                    "CPU of a registration": (cpu_seconds(server.pid) - before) / len(new) * 1e6,
                    "memory of one": (resident(server.pid) - memory) / many / 1024,
                }
                idle, took = await measured(server, asyncio.sleep(seconds))
                values["CPU of an idle one in an hour"] = idle / took / many * 3.6e6
                values |= await _talking(contender, server, file, clients, trips)
                rows += _rows(name, many, values)
            for client in clients:
                client.transport.abort()
    return rows


async def measure_injected(name: str, many: int, trips: int) -> list[Row]:
    """Return the figures of so many peers that are in memory alone, with some live ones."""
    contender = CONTENDERS["raw"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "turns"
        with peer_relay(turns=file, injected=many) as server:
            for client in await open_clients(contender, server, range(_WARM)):
                client.transport.close()
            taken = max(0.0, float(Path(f"{file}.injected").read_text()))
            beside, before = min(_BESIDE, many), cpu_seconds(server.pid)
            clients = await open_clients(contender, server, range(_FIRST, _FIRST + beside))
            values = {
                "CPU of a registration": (cpu_seconds(server.pid) - before) / beside * 1e6,
                "memory of one": taken / 1024,
            }
            values |= await _talking(contender, server, file, clients, trips)
            for client in clients:
                client.transport.abort()
    return _rows(f"{name}, in memory alone", many, values)


async def _talking(
    contender: Contender, server: Server, file: Path, clients: list[Client], trips: int
) -> dict[str, float]:
    count = min(_PAIRS, len(clients) // 2)
    pairs = [(clients[at], clients[-1 - at]) for at in range(count)]
    spent, _ = await measured(server, run_pairs(contender, pairs, trips, _UNDER_WAY))
    late, _ = await turns_while(server, file, run_pairs(contender, pairs, trips, 1))
    messages = 2 * count * max(1, trips // count)
    return {
        "CPU of a forwarded message": spent / messages * 1e6,
        "a turn of the loop, p99.9": late / 1e3,
    }


def _rows(name: str, many: int, values: dict[str, float]) -> list[Row]:
    return [
        Row(name, f"{many} peers: {figure}", values[figure], unit)
        for figure, unit in FIGURES.items()
        if figure in values
    ]
