"""What a server spends on forwarding one small message: many under way, and one.

Ours: service requests in mode combined, each with a signed endpoint, and their answers, two
forwarded messages a round trip, of some 300 bytes; over a WebSocket each in a frame of its own. The
others: a message of 300 bytes there and one back (PeerJS: 64 bytes, in JSON). All clients are those
of benchmarks/wire.py.
"""

import asyncio
from collections.abc import Awaitable, Sequence

from benchmarks.measure import Row, Server, cpu_seconds
from benchmarks.wire import CONTENDERS, Client, Contender, open_clients

__all__ = ["measure_forwarding", "measured", "run_pairs"]

_PAIRS = 4
_UNDER_WAY = 64
"""Round trips of each pair; as many requests of one connection may wait at our relay."""
_FIRST = 1_000_000
"""The number of the first client, so that all have names of one length."""


async def measure_forwarding(kind: str, name: str, server: Server, round_trips: int) -> list[Row]:
    """Return a server's CPU for a forwarded message, and the rate, with many and with one round
    trip under way; `kind` is a key of `CONTENDERS`."""
    contender = CONTENDERS[kind]
    clients = await open_clients(contender, server, range(_FIRST, _FIRST + 2 * _PAIRS))
    pairs = [(clients[at], clients[at + 1]) for at in range(0, len(clients), 2)]
    await run_pairs(contender, pairs, max(1, round_trips // 20), _UNDER_WAY)  # Warms up.
    rows = []
    for word, used, under_way, many in (
        (f"{_PAIRS * _UNDER_WAY} under way", pairs, _UNDER_WAY, round_trips),
        ("one under way", pairs[:1], 1, max(1, round_trips // 4)),
    ):
        spent, seconds = await measured(server, run_pairs(contender, used, many, under_way))
        messages = 2 * len(used) * max(1, many // len(used))
        rows += [
            Row(name, f"{word}: CPU of a message", spent / messages * 1e6, "µs"),
            Row(name, f"{word}: messages a second", messages / seconds, ""),
        ]
    for client in clients:
        client.transport.close()
    return rows


async def measured(server: Server, work: Awaitable[object]) -> tuple[float, float]:
    """Do work; return the CPU seconds of the server meanwhile, and how long it took."""
    loop = asyncio.get_running_loop()
    before, began = cpu_seconds(server.pid), loop.time()
    await work
    return cpu_seconds(server.pid) - before, loop.time() - began


async def run_pairs(
    contender: Contender,
    pairs: Sequence[tuple[Client, Client]],
    round_trips: int,
    under_way: int,
) -> None:
    """Have pairs exchange so many round trips in all."""
    each = max(1, round_trips // len(pairs))
    async with asyncio.timeout(600):
        await asyncio.gather(*(contender.pair(*pair).exchange(each, under_way) for pair in pairs))
