"""Servers of a test, and their end while somebody may be at the door."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["close_server", "serving"]

_TIMEOUT = 60.0

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def close_server(server: asyncio.Server) -> None:
    """Close it once who was accepted has come in. asyncio accepts in one turn of the loop and
    makes the transport in the next; where the server is closed between the two, it leaves the
    socket open and, in debug mode, logs an AssertionError."""
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    await asyncio.sleep(0)
    server.close()


@contextlib.asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[int]:
    """Serve each connection on a port of 127.0.0.1, until who has come is gone. What ends with the
    connection is no error; asyncio logs one for a task of its streams that is cancelled."""
    tasks: set[asyncio.Task[None]] = set()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await serve(reader, writer)
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(guarded(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await close_server(server)
        if tasks:
            await asyncio.wait(tasks, timeout=_TIMEOUT)
        for task in list(tasks):
            task.cancel()
