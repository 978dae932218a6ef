"""A TCP proxy before a relay: it can be cut, be silent, be left behind, and lead to another one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.support.servers import close_server

__all__ = ["Wire", "wire"]

_PIECE = 65_536


@dataclass(eq=False)
class _Connection:
    """One connection through it."""

    ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    is_plane: bool = False
    """Whether it is a leg of a plane: else it is a control connection, or a look-up."""
    loud: asyncio.Event = field(default_factory=asyncio.Event)

    def cut(self) -> None:
        for writer in self.ends:
            writer.transport.abort()
        self.loud.set()


class Wire:
    """What goes to one port goes on to another, for as long as it is not cut."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._connections: set[_Connection] = set()
        self._is_silent = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self, *, planes: bool = True, control: bool = True) -> int:
        """Reset what goes over it; return how many connections."""
        found = [one for one in self._connections if (planes if one.is_plane else control)]
        for one in found:
            one.cut()
        return len(found)

    def silence(self) -> None:
        """Pass nothing on, and tell nobody."""
        self._is_silent = True
        for one in self._connections:
            one.loud.clear()

    def sound(self) -> None:
        """Pass on again; what was silenced is cut, as nobody could tell what it has missed."""
        self._is_silent = False
        self.cut()

    def leave(self) -> None:
        """Pass on nothing of what is connected now, and tell nobody: as after a move to another
        network, on which the next connections are as good as ever."""
        for one in self._connections:
            one.loud.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            it = _Connection((writer, far_writer))
            if not self._is_silent:
                it.loud.set()
            try:
                self._connections.add(it)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._move(it, reader, far_writer))
                    both.create_task(self._move(it, far_reader, writer))
            finally:
                self._connections.discard(it)
                far_writer.transport.abort()
        writer.transport.abort()

    async def _move(
        self, it: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                it.is_plane |= data.startswith(b"GET /v1/plane/")
                await it.loud.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def wire(target: int) -> AsyncIterator[Wire]:
    """Run one until the block ends."""
    it = Wire(target)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(it.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        await close_server(server)
        it.sound()
        await asyncio.gather(*tasks, return_exceptions=True)
