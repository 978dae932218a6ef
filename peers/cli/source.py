"""What a file is sent from: a file as it is; a pipe, or what else has no size, is read to its end
first, as the receiver is told the size before the bytes."""

import asyncio
import contextlib
import errno
import os
import select
import stat
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

__all__ = ["PIECE", "opened"]

PIECE = 256 * 1024
"""Bytes that are read at once."""
_ENDING = 0.5
"""Seconds for the thread to end when it was woken. One that is stuck in a read is left behind."""


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[IO[bytes], int]]:
    """Open something and give it with its size.

    Raises:
        OSError: it cannot be read; or there is no room for what a pipe gives.
    """
    # A pipe that nobody writes to yet would be waited for in `open`, where nothing can end it.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb", closefd=True) as file:
        there = os.fstat(descriptor)
        if stat.S_ISCHR(there.st_mode) and not os.path.samestat(there, os.stat(os.devnull)):
            raise OSError(errno.EINVAL, "it is a device, which has no end")
        # A small file is as long as what can be read: those of /proc say 0, of /sys 4096 bytes.
        if stat.S_ISREG(there.st_mode) and there.st_size > PIECE:
            yield file, there.st_size
            return
        with tempfile.SpooledTemporaryFile(max_size=PIECE) as kept:
            await _read_all(descriptor, kept)
            size = kept.tell()
            kept.seek(0)
            yield kept, size


async def _read_all(descriptor: int, kept: IO[bytes]) -> None:
    """Read in a thread of its own: the loop's pool would be waited for at the program's end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[OSError | None] = loop.create_future()
    woken, wake = os.pipe()

    def tell(failed: OSError | None) -> None:
        if not done.done():
            done.set_result(failed)

    def work() -> None:
        failed = None
        try:
            _copy(descriptor, kept, woken)
        except OSError as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody wants it.
            loop.call_soon_threadsafe(tell, failed)

    thread = threading.Thread(target=work, name="source", daemon=True)
    thread.start()
    try:
        # No timeout: how long the other end of a pipe takes is not ours to decide.
        failed = await done
    finally:
        os.close(wake)  # The thread's poll ends by it.
        thread.join(_ENDING)
        os.close(woken)
    if failed is not None:
        raise failed


def _copy(descriptor: int, kept: IO[bytes], woken: int) -> None:
    while True:
        if _wait(descriptor, woken):
            return
        try:
            piece = os.read(descriptor, PIECE)
        except BlockingIOError:
            continue
        if not piece:
            return
        try:
            kept.write(piece)
        except OSError as error:
            raise OSError(
                error.errno, f"no room for it in {tempfile.gettempdir()}: {error.strerror}"
            ) from None


def _wait(descriptor: int, woken: int) -> bool:
    """Wait until there is something to read; return whether the wait was ended instead."""
    if not hasattr(select, "poll"):
        return False  # The read itself waits, and is left behind at the end.
    poll = select.poll()
    poll.register(woken, 0)
    poll.register(descriptor, select.POLLIN)
    return any(one == woken for one, _ in poll.poll())
