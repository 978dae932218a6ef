"""A real nats-server for tests, and relays of one cluster behind it, in this process."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from msgspec import structs

from protocol.identity import Identity
from relay.config import ClusterConfig, RelayConfig
from relay.server import RelayServer

__all__ = ["TIMEOUT", "NatsServer", "cluster", "joined", "nats_server", "node"]

TIMEOUT = 60.0


class NatsServer:
    """One that can be stopped, and started again at its port."""

    def __init__(self, folder: Path, *lines: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
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


async def joined(*relays: RelayServer, nodes: int) -> None:
    """Wait until each of them is in a cluster of so many."""
    async with asyncio.timeout(TIMEOUT):
        for relay in relays:
            cluster = relay.cluster
            assert cluster is not None
            while len(cluster.directory.nodes) + 1 != nodes or not cluster.is_in:
                cluster.changed.clear()
                if len(cluster.directory.nodes) + 1 != nodes or not cluster.is_in:
                    await cluster.changed.wait()


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
