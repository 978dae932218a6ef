"""What several relays as one cost: a request within one node and between two, a plane whose leg has
come to another node than it is at, and subscriptions at NATS.

CPU is that of all relays that take part. One process asks and answers, one thing after the other.
"""

import contextlib
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.bulk import Control, read, write_plain
from benchmarks.measure import (
    Row,
    Server,
    cpu_seconds,
    median_rows,
    nats_server,
    relay_server,
    resident,
)
from protocol.identity import Identity
from protocol.messages import (
    Mode,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)

__all__ = ["measure_nodes", "measure_shared_port", "measure_subscriptions"]

_BATCH = 10_000
"""Subscriptions that are sent before the answer to a PING is waited for."""


@contextlib.contextmanager
def _cluster(nats: Server, *names: str) -> Iterator[list[Server]]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        key = Path(folder) / "relay.key"
        key.write_bytes(Identity.generate().to_pem())
        key.chmod(0o600)
        common = {
            "ROAM_RELAY_IDENTITY": str(key),
            "ROAM_RELAY_CLUSTER_SERVERS": f"nats://{nats.host}:{nats.port}",
        }
        yield [
            stack.enter_context(relay_server(common | {"ROAM_RELAY_CLUSTER_NODE": name}))
            for name in names
        ]


def _ask(
    caller: Control, callee: Control, mode: Mode
) -> tuple[ServiceRequestFrom, ServiceResponse]:
    """Ask until the node of the caller knows where the callee is; return what each is told."""
    end = time.monotonic() + 30
    while True:
        caller.send(ServiceRequestTo(1, callee.identity.guid, "bulk", mode, os.urandom(16)))
        if mode is Mode.P2P:
            answer = caller.expect(ServiceResponse)
            if answer.code is None:
                raise AssertionError("nobody tells an address")
            if answer.code.value not in ("unknown_peer", "cluster_unavailable", "peer_offline"):
                return ServiceRequestFrom(0, "", "", mode, bytes(16)), answer
            if time.monotonic() > end:
                raise RuntimeError(f"the nodes do not find one another: {answer.code}")
            time.sleep(0.1)
            continue
        asked = callee.expect(ServiceRequestFrom)
        callee.send(ServiceAnswer(asked.request, Verdict.ACCEPTED))
        return asked, caller.expect(ServiceResponse)


def _requests(name: str, caller: Control, callee: Control, pids: set[int], trips: int) -> list[Row]:
    _ask(caller, callee, Mode.P2P)
    before, began = sum(map(cpu_seconds, pids)), time.perf_counter()
    for _ in range(trips):
        _ask(caller, callee, Mode.COMBINED)
    seconds, cpu = time.perf_counter() - began, sum(map(cpu_seconds, pids)) - before
    return [
        Row(name, "request, CPU of the relays", cpu / trips * 1e6, "µs"),
        Row(name, "request, until it is answered", seconds / trips * 1e6, "µs"),
    ]


def _plane(
    name: str, caller: Control, callee: Control, at: Server, pids: set[int], total: int
) -> list[Row]:
    """Send through a plane at the callee's node; the caller's leg comes to `at`."""
    _ask(caller, callee, Mode.P2P)
    asked, answer = _ask(caller, callee, Mode.CENTRAL)
    source, target = callee.leg(asked.ticket), caller.leg(answer.ticket, at)
    before = sum(map(cpu_seconds, pids))

    def connect() -> socket.socket:
        source.close()  # That process has a copy of it.
        return target

    writer = multiprocessing.get_context("fork").Process(target=write_plain, args=(connect, total))
    writer.start()
    target.close()
    with source:
        seconds = read(source, total)
    cpu = sum(map(cpu_seconds, pids)) - before
    writer.join(10)
    return [
        Row(name, "plane, rate", total / seconds / 1e9, "GB/s"),
        Row(name, "plane, CPU of the relays", cpu / (total / 1e9), "s/GB"),
    ]


def measure_nodes(total: int, trips: int) -> list[Row]:
    """Return what requests and a plane cost with a relay that is alone, and with two nodes."""
    rows = []
    with relay_server() as alone, contextlib.ExitStack() as stack:
        callee, caller = (stack.enter_context(Control(alone, name)) for name in ("bulk", None))
        rows += _requests("alone", caller, callee, {alone.pid}, trips)
    with nats_server() as nats, _cluster(nats, "a", "b") as (a, b), contextlib.ExitStack() as stack:
        callee = stack.enter_context(Control(a, "bulk"))
        near, far = (stack.enter_context(Control(one, None)) for one in (a, b))
        both = {a.pid, b.pid}
        rows += _requests("two nodes, within one", near, callee, {a.pid}, trips)
        rows += _requests("two nodes, from one to the other", far, callee, both, trips)
        rows += _plane("two nodes, legs where the plane is", far, callee, a, both, total)
        rows += _plane("two nodes, a leg led to the plane", far, callee, b, both, total)
    return rows


def measure_subscriptions(counts: tuple[int, ...]) -> list[Row]:
    """Return what a nats-server has for subscriptions, and the time that making them takes it."""
    rows, many = [], 0
    with nats_server() as server, socket.create_connection((server.host, server.port), 120) as one:
        _answered(one, b'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n')
        empty, before = resident(server.pid), cpu_seconds(server.pid)
        for count in sorted(counts):
            while many < count:
                batch = range(many, min(many + _BATCH, count))
                lines = b"".join(b"SUB roam-relay.1.peer.%052d %d\r\n" % (n, n) for n in batch)
                _answered(one, lines + b"PING\r\n")
                many = batch.stop
            used, took = resident(server.pid) - empty, cpu_seconds(server.pid) - before
            name = f"nats-server, {count:,} subscriptions"
            rows += [
                Row(name, "memory of each", used / count, "bytes"),
                Row(name, "CPU of each", took / count * 1e6, "µs"),
            ]
    return rows


def _answered(one: socket.socket, data: bytes) -> None:
    one.sendall(data)
    heard = b""
    while not heard.endswith(b"PONG\r\n"):
        heard = (heard + one.recv(65_536))[-4096:]
        if heard.endswith(b"PING\r\n"):
            one.sendall(b"PONG\r\n")


def measure_shared_port(total: int, planes: int) -> list[Row]:
    """Return what planes cost of which each leg comes to any of two processes at one port."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        changes = {"ROAM_RELAY_DRAIN_TIMEOUT": "0"}
        flags = ("--nodes", "2", "--state", folder)
        with relay_server(changes, flags=flags) as server, contextlib.ExitStack() as stack:
            children = psutil.Process(server.pid).children(recursive=True)
            pids = {one.pid for one in children if "nats" not in one.name()}
            callee, caller = (stack.enter_context(Control(server, one)) for one in ("bulk", None))
            for _ in range(planes):
                rows += _plane("two processes at one port", caller, callee, server, pids, total)
    return median_rows([rows[number : number + 2] for number in range(0, len(rows), 2)])
