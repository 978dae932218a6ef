"""A TCP proxy before a relay that can be cut, be silent, and lead to another relay."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.support.servers import close_server

__all__ = ["Wire", "wire"]

_PIECE = 65_536


class Wire:
    """What goes to one port goes on to another, for as long as it is not cut."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loud = asyncio.Event()
        self._loud.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Reset all that goes over it."""
        for writer in self._writers:
            writer.transport.abort()

    def silence(self) -> None:
        """Pass nothing on, and tell nobody."""
        self._loud.clear()

    def sound(self) -> None:
        """Pass on again; what was silenced is cut, as nobody could tell what it has missed."""
        self.cut()
        self._loud.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            try:
                self._writers |= {writer, far_writer}
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._move(reader, far_writer))
                    both.create_task(self._move(far_reader, writer))
            finally:
                self._writers -= {writer, far_writer}
                far_writer.transport.abort()
        writer.transport.abort()

    async def _move(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                await self._loud.wait()
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
