"""A proxy in front of a relay that passes what a test says: in the test's own process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from tests.support.servers import close_server

__all__ = ["PickyProxy", "picky_proxy"]


class PickyProxy:
    """Passes the requests that `passes`, and gives the others `answer` and the end. CONNECT leads
    to the relay whichever host it names."""

    def __init__(self, port: int, passes: Callable[[bytes], bool], answer: bytes | None) -> None:
        self._relay = port
        self.passes = passes
        self.answer = answer
        """None: a reset."""
        self.port = 0
        self.heads: list[bytes] = []
        """Every request that has come."""
        self._tasks: set[asyncio.Task[None]] = set()

    def count(self, word: bytes) -> int:
        """Return how many requests had a word in them."""
        return sum(word in head.lower() for head in self.heads)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection in a task of our own: one that asyncio's streams make logs an error
        when it is cancelled (Python 3.11)."""
        task = asyncio.get_running_loop().create_task(self._guarded(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if not self.passes(head):
            if self.answer is not None:
                writer.write(self.answer)
                await writer.drain()
                writer.write_eof()
                await reader.read()
            return
        there, onward = await asyncio.open_connection("127.0.0.1", self._relay)
        try:
            if head.startswith(b"CONNECT"):
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                onward.write(head)
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, onward))
                both.create_task(_copy(there, writer))
        except* OSError:
            pass
        finally:
            onward.transport.abort()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        to.write(data)
        await to.drain()
    if to.can_write_eof():
        to.write_eof()


@contextlib.asynccontextmanager
async def picky_proxy(
    relay_url: str, passes: Callable[[bytes], bool], answer: bytes | None
) -> AsyncIterator[PickyProxy]:
    proxy = PickyProxy(int(relay_url.rpartition(":")[2]), passes, answer)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        await close_server(server)
        await proxy.close()
