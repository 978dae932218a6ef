"""A real nats-server for tests, and relays of one cluster behind it, in this process."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from protocol.identity import Identity
from relay.config import ClusterConfig, RelayConfig
from relay.server import RelayServer
from tests.support.ports import free_port
from tests.support.processes import stand_still

__all__ = ["TIMEOUT", "NatsServer", "cluster", "joined", "known", "nats_server", "node", "until"]

TIMEOUT = 60.0


class NatsServer:
    """One that can be stopped, and started again at its port."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._config = folder / f"nats-{self.port}.conf"
        self._config.write_text("\n".join((f'listen: "127.0.0.1:{self.port}"', *lines, "")))
        self._log = folder / f"nats-{self.port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        command = Path(sys.executable).parent / "nats-server"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [command, "-c", self._config], stdout=log, stderr=log, process_group=0
            )
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert self._process.poll() is None, self._log.read_text()

    def stand_still(self) -> None:
        """Answer nothing any more, and end nothing, until `go_on`; `kill` ends it too."""
        assert self._process is not None
        stand_still(self._process.pid)

    def go_on(self) -> None:
        """Answer again."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """kill -9, whoever runs for it too."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def nats_server(folder: Path, *lines: str) -> Iterator[NatsServer]:
    """Run one, with these lines in its configuration."""
    server = NatsServer(folder, *lines)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def node(name: str, nats: NatsServer, prefix: str, **changes: Any) -> RelayConfig:
    """Return the configuration of one node."""
    cluster = structs.replace(
        ClusterConfig(node=name, servers=nats.url, prefix=prefix), **changes.pop("cluster", {})
    )
    return RelayConfig(port=0, cluster=cluster, **changes)


async def until(relay: RelayServer, is_so: Callable[[], bool]) -> None:
    """Wait until something is so that a relay learns from its cluster."""
    assert relay.cluster is not None
    async with asyncio.timeout(TIMEOUT):
        while not is_so():
            relay.cluster.changed.clear()
            await relay.cluster.changed.wait()


async def joined(*relays: RelayServer, nodes: int) -> None:
    """Wait until each of them is in a cluster of so many."""
    for relay in relays:
        await until(relay, partial(_is_in, relay, nodes))


async def known(guid: str, home: str, *relays: RelayServer) -> None:
    """Wait until these nodes know at which one a peer is; empty: at none of the others."""
    for relay in relays:
        await until(relay, partial(_is_home, relay, guid, home))


def _is_in(relay: RelayServer, nodes: int) -> bool:
    cluster = relay.cluster
    return cluster is not None and len(cluster.directory.nodes) + 1 == nodes and cluster.is_in


def _is_home(relay: RelayServer, guid: str, home: str) -> bool:
    claim = relay.cluster.home(guid) if relay.cluster is not None else None
    return (claim.node if claim is not None else "") == home


@contextlib.asynccontextmanager
async def cluster(
    nats: NatsServer, *names: str, **changes: Any
) -> AsyncIterator[tuple[RelayServer, ...]]:
    """Run relays of one identity, in a cluster of their own."""
    identity, prefix = Identity.generate(), os.urandom(4).hex()
    async with contextlib.AsyncExitStack() as stack:
        relays = [
            await stack.enter_async_context(
                RelayServer(node(name, nats, prefix, **changes), identity)
            )
            for name in names
        ]
        await joined(*relays, nodes=len(names))
        yield tuple(relays)
