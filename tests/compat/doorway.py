"""A TCP proxy before a relay that can be closed for control connections and kept for planes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from tests.support.servers import close_server

__all__ = ["Doorway", "doorway"]


class Doorway:
    """The connections through it. What each is for stands in its first line."""

    def __init__(self, relay: str) -> None:
        parts = urlsplit(relay)
        self._relay = parts.hostname, parts.port
        self.url = ""
        self._control: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def close(self) -> None:
        """End every control connection, and let no other one in."""
        self._closed = True
        for task in self._control:
            task.cancel()

    async def end(self) -> None:
        """End every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on until either side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # No timeout: the connection ends with the peer's.
            head = await reader.readline()
            if b" /v1/control " in head:
                self._control.add(task)
                if self._closed:
                    return
            there, out = await asyncio.open_connection(*self._relay)
            with contextlib.closing(out):
                out.write(head)
                passing = [
                    asyncio.create_task(_pass(*way)) for way in ((reader, out), (there, writer))
                ]
                try:
                    await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for one in passing:
                        one.cancel()
        except asyncio.CancelledError:
            pass  # By `close` or `end`: the connection is all that it was there for.
        finally:
            self._tasks.discard(task)
            self._control.discard(task)
            writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        # No timeout: the connection ends with the peer's.
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def doorway(relay: str) -> AsyncIterator[Doorway]:
    """Have a doorway before a relay."""
    door = Doorway(relay)
    server = await asyncio.start_server(door.serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        door.url = f"http://{host}:{port}"
        try:
            yield door
        finally:
            await close_server(server)
            await door.end()
