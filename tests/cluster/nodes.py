"""Three relays as one, at fixed ports, with a real nats-server: each a process that can be killed,
hang, drain, or be cut off."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from peers import Identity
from tests.cluster.cut import Way, way_to
from tests.cluster.nats import NatsServer
from tests.support.ports import free_port
from tests.support.processes import KEEPS_NOTHING, environment

__all__ = ["Node", "Nodes"]


class Node:
    """One of them."""

    def __init__(self, name: str, folder: Path, lines: str) -> None:
        """`lines` are its table `[cluster]`, but for its name and where NATS is."""
        port = free_port()
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self._config, self._ready = folder / f"{name}.toml", folder / f"{name}.ready"
        self._lines = f'port = {port}\n{lines}node = "{name}"\n'
        self._process: asyncio.subprocess.Process | None = None
        self.way: Way | None = None
        """To NATS: it can be cut."""

    def reach(self, way: Way) -> None:
        """It reaches NATS by a way, from its next start on."""
        self.way = way
        self._config.write_text(f'{self._lines}servers = "nats://127.0.0.1:{way.port}"\n')

    async def start(self) -> None:
        """Start it; return when it serves."""
        self._ready.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "relay", "serve", "--config", str(self._config), *KEEPS_NOTHING),
            *("--ready-file", str(self._ready)),
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(),
        )
        async with asyncio.timeout(60):
            while not self._ready.exists():
                assert self._process.returncode is None, "the node ended"
                await asyncio.sleep(0.02)

    def send(self, number: int) -> None:
        """Send its process a signal."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def end(self, number: int = signal.SIGKILL) -> None:
        """End it by a signal."""
        if self._process is not None:
            self.send(number)
            async with asyncio.timeout(60):
                await self._process.wait()
            self._process = None


class Nodes:
    """All of them: of one key, with a nats-server between them."""

    def __init__(self, folder: Path) -> None:
        key, prefix = folder / "nodes.key", os.urandom(4).hex()
        Identity.load_or_create(key)
        lines = f'identity = "{key}"\ndrain_timeout = 0.0\n[cluster]\nprefix = "{prefix}"\n'
        self.all = [Node(name, folder, lines) for name in "abc"]
        self.nats = NatsServer(folder)
        self._ways = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Start NATS and all nodes."""
        await asyncio.to_thread(self.nats.start)
        for node in self.all:
            node.reach(await self._ways.enter_async_context(way_to(self.nats.port)))
        await asyncio.gather(*(node.start() for node in self.all))

    async def kill(self) -> None:
        """kill -9, of all."""
        for node in self.all:
            await node.end()
        self.nats.kill()
        await self._ways.aclose()

    async def restart(self, node: Node, number: int, pause: float) -> None:
        """End a node by a signal, and start it again after a pause."""
        await node.end(number)
        await asyncio.sleep(pause)
        await node.start()

    async def hang(self, node: Node, seconds: float) -> None:
        """Let a node stand still for a while."""
        node.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            node.send(signal.SIGCONT)

    async def cut(self, node: Node, seconds: float) -> None:
        """Let nothing pass between a node and NATS for a while; nobody is told."""
        assert node.way is not None
        node.way.cut()
        try:
            await asyncio.sleep(seconds)
        finally:
            node.way.mend()

    async def kill_nats(self, pause: float) -> None:
        """End NATS without a word, and start it again after a pause."""
        await asyncio.to_thread(self.nats.kill)
        await asyncio.sleep(pause)
        await asyncio.to_thread(self.nats.start)

    async def hang_nats(self, seconds: float) -> None:
        """Let NATS stand still for a while."""
        self.nats.stand_still()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.nats.go_on()
