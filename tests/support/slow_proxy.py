"""A TCP proxy that passes on so many bytes a second, and no more, to whom connects to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.support.servers import close_server

__all__ = ["SlowProxy"]

_PIECE = 4096


class SlowProxy:
    """In front of a relay: what the relay says to its clients is slow, and they share the rate."""

    def __init__(self, url: str, rate: float) -> None:
        self._target = int(url.rpartition(":")[2])
        self._rate = rate
        self._link = asyncio.Lock()
        self.moved = 0
        """Bytes that have gone through slowly."""
        self.url = ""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["SlowProxy"]:
        """Be there."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_PIECE)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            await close_server(server)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_connection("127.0.0.1", self._target, limit=_PIECE)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._slowly(there, writer))
                tasks.create_task(self._at_once(reader, to))
        except* OSError:
            pass
        finally:
            for one in (writer, to):
                one.close()

    async def _slowly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_PIECE):
            async with self._link:
                # Time passes: that is what a slow link is.
                await asyncio.sleep(len(data) / self._rate)
            self.moved += len(data)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    async def _at_once(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
