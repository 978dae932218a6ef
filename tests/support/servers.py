"""Ends a server of a test while somebody may be at its door."""

import asyncio

__all__ = ["close_server"]


async def close_server(server: asyncio.Server) -> None:
    """Close it once who was accepted has come in. asyncio accepts in one turn of the loop and
    makes the transport in the next; where the server is closed between the two, it leaves the
    socket open and, in debug mode, logs an AssertionError."""
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    await asyncio.sleep(0)
    server.close()
