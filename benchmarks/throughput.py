"""What `relay serve --nodes` carries with one process and with two: requests of many peers, and
planes, as many as can be, and the CPU that all who take part have used meanwhile.

Who asks and answers, writes and reads, are processes of this machine too: where all its cores are
used up, CPU is what compares.
"""

import asyncio
import contextlib
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.synchronize import Barrier

import psutil
import uvloop

from benchmarks.bulk import Control, read, write_plain
from benchmarks.measure import Row, Server, cpu_seconds, relay_server
from benchmarks.signaling import run_pairs
from benchmarks.wire import CONTENDERS, open_clients
from protocol.messages import (
    Mode,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)

__all__ = ["measure_throughput"]

_COUNTS = 1, 2
_CLIENTS = 2
"""Processes that ask and answer."""
_PAIRS = 8
"""Of peers, of each of them: they come to any of the nodes."""
_UNDER_WAY = 16
_PLANES = 4
_SETTLING = 2.0
"""Seconds until each node knows who is where."""
_forked = multiprocessing.get_context("fork")


def measure_throughput(total: int, trips: int) -> list[Row]:
    """Return what one process and what two carry: `trips` requests, and `total` bytes in planes."""
    rows = []
    for count in _COUNTS:
        name = f"--nodes {count}"
        with _relay(count) as (server, pids, nats):
            rows += _signaling(name, server, pids, nats, trips)
            rows += _planes(name, server, pids, total)
    return rows


@contextlib.contextmanager
def _relay(count: int) -> Iterator[tuple[Server, list[int], list[int]]]:
    with tempfile.TemporaryDirectory() as folder:
        changes = {"ROAM_RELAY_DRAIN_TIMEOUT": "0"}
        flags = ("--nodes", str(count), "--state", folder)
        with relay_server(changes, flags=flags) as server:
            children = psutil.Process(server.pid).children(recursive=True)
            nats = [one.pid for one in children if "nats" in one.name()]
            # One process alone is the command itself.
            yield server, [server.pid, *(one.pid for one in children if one.pid not in nats)], nats


def _signaling(
    name: str, server: Server, pids: list[int], nats: list[int], trips: int
) -> list[Row]:
    # Each waits there before it asks, and when it has been answered.
    barrier = _forked.Barrier(_CLIENTS + 1)
    clients = [
        _forked.Process(target=_talk, args=(server, number, trips // _CLIENTS, barrier))
        for number in range(_CLIENTS)
    ]
    for client in clients:
        client.start()
    ours = [client.pid or 0 for client in clients]
    while barrier.n_waiting < _CLIENTS:
        if not all(client.is_alive() for client in clients):
            raise RuntimeError("one that asks has ended")
        time.sleep(0.05)
    began, groups = time.perf_counter(), (pids, nats, ours)
    before = [sum(map(cpu_seconds, group)) for group in groups]
    barrier.wait(60)
    barrier.wait(600)
    seconds = time.perf_counter() - began
    relays, between, asking = (
        sum(map(cpu_seconds, group)) - at for group, at in zip(groups, before, strict=True)
    )
    barrier.wait(60)
    for client in clients:
        client.join(30)
    return [
        Row(name, "requests a second", trips / seconds, ""),
        Row(name, "request, CPU of the relays", relays / trips * 1e6, "µs"),
        Row(name, "request, CPU of nats-server", between / trips * 1e6, "µs"),
        Row(name, "request, CPU of who asks and answers", asking / trips * 1e6, "µs"),
        Row(
            name, "requests, cores in use by all of them", (relays + between + asking) / seconds, ""
        ),
    ]


def _talk(server: Server, number: int, trips: int, barrier: Barrier) -> None:
    contender = CONTENDERS["raw"]

    async def talk() -> None:
        first = 2_000_000 + 100 * number
        clients = await open_clients(contender, server, range(first, first + 2 * _PAIRS))
        pairs = [(clients[at], clients[at + 1]) for at in range(0, len(clients), 2)]
        await asyncio.sleep(_SETTLING)
        await run_pairs(contender, pairs, trips // 10, _UNDER_WAY)
        for work in (run_pairs(contender, pairs, trips, _UNDER_WAY), asyncio.sleep(0)):
            await asyncio.to_thread(barrier.wait, 120)
            await work
        await asyncio.to_thread(barrier.wait, 600)
        for client in clients:
            client.transport.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(talk())


def _planes(name: str, server: Server, pids: list[int], total: int) -> list[Row]:
    works: list[tuple[Callable[..., object], tuple[object, ...]]] = []
    with contextlib.ExitStack() as stack:
        for _ in range(_PLANES):
            callee, caller = (stack.enter_context(Control(server, one)) for one in ("bulk", None))
            asked, answer = _asked(caller, callee)
            source = stack.enter_context(callee.leg(asked.ticket))
            target = stack.enter_context(caller.leg(answer.ticket))
            works += [
                (write_plain, (partial(_same, target), total // _PLANES)),
                (_read, (source, total // _PLANES)),
            ]
        before, began = sum(map(cpu_seconds, pids)), time.perf_counter()
        processes = [_forked.Process(target=work, args=given) for work, given in works]
        for process in processes:
            process.start()
        for process in processes[1::2]:  # Who reads has all then.
            process.join(600)
        seconds, cpu = time.perf_counter() - began, sum(map(cpu_seconds, pids)) - before
    for process in processes:
        process.join(30)
    return [
        Row(name, f"{_PLANES} planes, rate of all", total / seconds / 1e9, "GB/s"),
        Row(name, f"{_PLANES} planes, CPU of the relays", cpu / (total / 1e9), "s/GB"),
    ]


def _same(one: socket.socket) -> socket.socket:
    return one


def _read(source: socket.socket, total: int) -> None:
    read(source, total)
    source.shutdown(socket.SHUT_RDWR)  # Other processes have it too.


def _asked(caller: Control, callee: Control) -> tuple[ServiceRequestFrom, ServiceResponse]:
    """Ask until the caller's node knows where the callee is."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        guid = callee.identity.guid
        caller.send(ServiceRequestTo(1, guid, "bulk", Mode.P2P, os.urandom(16)))
        code = caller.expect(ServiceResponse).code
        if code is None or code.value not in ("unknown_peer", "cluster_unavailable"):
            caller.send(ServiceRequestTo(2, guid, "bulk", Mode.CENTRAL, os.urandom(16)))
            asked = callee.expect(ServiceRequestFrom)
            callee.send(ServiceAnswer(asked.request, Verdict.ACCEPTED))
            return asked, caller.expect(ServiceResponse)
        time.sleep(0.1)
    raise RuntimeError("the nodes do not find one another")
