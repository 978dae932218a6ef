"""Reading of pipes and terminals in a test, by its loop: no thread is left in a read for ever where
the test's time is over."""

import asyncio
import os

__all__ = ["read_line", "read_some"]


async def read_some(file: int, limit: int = 65_536) -> bytes:
    """Return what there is to read as soon as there is something, and nothing at the end."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(file, there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(file)
    return os.read(file, limit)


async def read_line(file: int) -> str:
    """Return the next line, with its end; byte by byte, so that what is behind it stays there.

    Raises:
        EOFError: there is none.
    """
    line = b""
    while not line.endswith(b"\n"):
        piece = await read_some(file, 1)
        if not piece:
            raise EOFError(line.decode())
        line += piece
    return line.decode()
