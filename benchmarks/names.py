"""The embedded zone beside BIND on the same records; how soon a new address is found by name."""

import asyncio
import base64
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dns.tsig
import psutil

from benchmarks.measure import Row
from peers import DdnsConfig, Identity, PathFailed, Peer, PeerConfig
from protocol.dns_records import peer_name
from relay.dns import DnsKeys
from tests.support import processes
from tests.support.addresses import Addresses, absent_addresses
from tests.support.named import ZONE, named
from tests.support.ports import free_port

__all__ = ["measure_names"]

_SECRET = base64.b64encode(bytes(range(32))).decode()


async def measure_names(queries: int, moves: int) -> list[Row]:
    """Return queries a second, CPU for each, and the time from a new address to its first caller.

    BIND is left out where it is not installed.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        rows += await _zone(Path(folder), queries, moves)
    if shutil.which("named", path="/usr/sbin:/usr/bin:/usr/local/sbin"):
        with tempfile.TemporaryDirectory() as folder:
            rows += await _bind(Path(folder), queries, moves)
    return rows


async def _zone(folder: Path, queries: int, moves: int) -> list[Row]:
    identity = Identity.generate()
    (folder / "relay.key").write_bytes(identity.to_pem())
    (folder / "relay.key").chmod(0o600)
    port = free_port()
    (folder / "relay.toml").write_text(
        f'identity = "{folder}/relay.key"\n[dns]\nzone = "{ZONE}"\nport = {port}\n'
        f'store = "{folder}/dns.sqlite"\nanswers_per_second = 1e9\n'
        "answers_burst = 1000000000\nmade_per_second = 1e9\n"
    )

    def secret(guid: str) -> str:
        return base64.b64encode(DnsKeys(identity, ZONE).secret(guid)).decode()

    with processes.relay(folder, "--config", str(folder / "relay.toml")) as (_, process):
        return await _measure("roam-relay, its own zone", process.pid, port, secret, queries, moves)


async def _bind(folder: Path, queries: int, moves: int) -> list[Row]:
    alice = Identity.generate()
    key = dns.tsig.Key(peer_name(alice.guid, ZONE), _SECRET, "hmac-sha256")
    with named(folder, [key]) as server:
        return await _measure(
            "BIND 9", server.process.pid, server.port, lambda guid: _SECRET, queries, moves, alice
        )


async def _measure(
    contender: str,
    pid: int,
    port: int,
    secret: Callable[[str], str],
    queries: int,
    moves: int,
    alice: Identity | None = None,
) -> list[Row]:
    alice = alice or Identity.generate()
    names = [f"127.0.77.{last}" for last in (1, 2)]
    server = f"127.0.0.1:{port}"
    with absent_addresses():
        addresses = Addresses(names)
        config = PeerConfig(
            ddns=DdnsConfig(zone=ZONE, server=server, key=secret(alice.guid)),
            sources=tuple(names),
        )
        waits = []
        async with Peer(alice, config=config, addresses=addresses) as callee:
            callee.listen("chat")
            await callee.published()
            rows = await _load(contender, pid, port, alice.guid, queries)
            finder = PeerConfig(ddns=DdnsConfig(zone=ZONE, server=server))
            async with Peer(Identity.generate(), config=finder) as caller:
                for move in range(1, moves + 1):
                    host = names[move % 2]
                    began = time.perf_counter()
                    addresses.set(host)
                    while not await _reached(caller, callee.guid, host):
                        pass
                    waits.append(time.perf_counter() - began)
    waits.sort()
    return [
        *rows,
        Row(contender, "new address to the first caller, p50", waits[len(waits) // 2] * 1e3, "ms"),
        Row(contender, "new address to the first caller, worst", waits[-1] * 1e3, "ms"),
    ]


async def _reached(caller: Peer, guid: str, host: str) -> bool:
    """Whether a new session, by a caller that remembers the old address, is at the new one."""
    try:
        session = await caller.connect(guid, "chat")
    except PathFailed:
        return False
    assert session.path is not None
    remote = session.path.remote
    session.abort()
    return remote.startswith(f"{host}:")


async def _load(contender: str, pid: int, port: int, guid: str, queries: int) -> list[Row]:
    rows = []
    process = psutil.Process(pid)
    for kind, name, way in (
        ("A", peer_name(guid, ZONE), "same"),
        ("A", peer_name(guid, ZONE), "mixed"),
        ("TXT", f"_chat._tcp.{peer_name(guid, ZONE)}", "same"),
    ):
        before = sum(process.cpu_times()[:2])
        done = await asyncio.to_thread(
            subprocess.run,
            [
                sys.executable,
                "-m",
                "benchmarks.dns_load",
                *("127.0.0.1", str(port), name, kind, str(queries), way),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        cpu = sum(process.cpu_times()[:2]) - before
        seconds, answered = done.stdout.split()
        assert int(answered) > 0.99 * queries, f"{contender}: {answered} of {queries} answered"
        rows += [
            Row(contender, f"{kind}, {way}: queries a second", int(answered) / float(seconds), ""),
            Row(contender, f"{kind}, {way}: CPU of one query", cpu / int(answered) * 1e6, "µs"),
        ]
    return rows
