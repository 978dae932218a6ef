"""Writing to a file descriptor of any kind without the loop ever waiting for it.

A pipe that nobody reads (`| less`), a stopped terminal or a slow disk holds up a thread and whoever
chooses to wait (`write`): sessions and heartbeats go on. The queue between has a bound.
"""

import asyncio
import contextlib
import os
import select
import threading

from peers.tasks import Waiters
from protocol.errors import RoamRelayError

__all__ = ["Output", "OutputClosed", "OutputFailed"]

_LIMIT = 1 << 20
"""Bytes that may wait to be written; a writer waits, or its notice is dropped, beyond it."""
_PIECE = getattr(select, "PIPE_BUF", 4096)
"""Bytes of one write: what a pipe that is ready takes without blocking."""
_ENDING = 0.5
"""Seconds for the thread to end when it was woken. One that is stuck in a write is left behind."""


class OutputFailed(RoamRelayError):
    """Something cannot be written. Says what, and why."""


class OutputClosed(OutputFailed):
    """Nobody reads any more: the other end of the pipe is closed."""


class Output:
    """One descriptor to write to, by its `name` in errors; None where it is closed."""

    def __init__(self, descriptor: int | None, name: str, *, limit: int = _LIMIT) -> None:
        self.name = name
        self._descriptor = descriptor
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[OutputFailed] = self._loop.create_future()
        self._waiters = Waiters(self._loop)
        self._ended = asyncio.Event()
        self._lock = threading.Lock()
        self._queue = bytearray()
        self._dropped = 0
        self._wake_below: int | None = None
        self._wake: tuple[int, int] | None = None
        self._woken = False
        self._watches_reader = False
        self._stopped = False

    @property
    def is_terminal(self) -> bool:
        """Whether people read it as it comes."""
        return self._descriptor is not None and os.isatty(self._descriptor)

    async def write(self, data: bytes) -> None:
        """Queue data; wait while too much waits already.

        Raises:
            OutputFailed: this, or something before it, cannot be written.
        """
        while self._must_wait(self._limit):
            # No timeout: how long a reader may take is the reader's to decide.
            await self._waiters.wait()
        if self._descriptor is None:
            raise OutputFailed(f"cannot write to {self.name}: it is closed")
        if self._failed.done():
            raise self._failed.result()
        self._put(data)

    def notice(self, data: bytes) -> None:
        """Queue data that may be dropped where too much waits already. From any thread; never
        waits, never fails. What was dropped is told when there is room."""
        if self._descriptor is None or self._failed.done() or self._stopped:
            return
        with self._lock:
            if len(self._queue) > self._limit:
                self._dropped += 1
                return
            dropped, self._dropped = self._dropped, 0
        self._put((f"… {dropped} notices are left out here\n".encode() if dropped else b"") + data)

    async def flush(self) -> None:
        """Wait until all is written.

        Raises:
            OutputFailed: it cannot be.
        """
        while self._must_wait(0):
            # No timeout: how long a reader may take is the reader's to decide.
            await self._waiters.wait()
        if self._failed.done():
            raise self._failed.result()

    async def failure(self) -> OutputFailed:
        """Wait until something could not be written; return why."""
        # No timeout: most never fail.
        return await asyncio.shield(self._failed)

    def watch_reader(self) -> None:
        """From now on a reader that has gone is a failure at once, not at the next write."""
        self._watches_reader = True
        if self._descriptor is not None and hasattr(select, "poll"):
            self._rouse()

    async def close(self, patience: float | None) -> None:
        """Write what waits for at most `patience` seconds (None: as long as it takes); stop.

        Raises:
            OutputFailed: with `patience` None: it cannot be written.
        """
        try:
            if patience is None:
                await self.flush()
            else:
                with contextlib.suppress(OutputFailed, TimeoutError):
                    async with asyncio.timeout(patience):
                        await self.flush()
        finally:
            self._stopped = True
            if self._wake is not None:
                self._rouse()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_ENDING):
                        await self._ended.wait()

    def _must_wait(self, bound: int) -> bool:
        with self._lock:
            if len(self._queue) <= bound or self._failed.done():
                return False
            below = bound // 2
            self._wake_below = max(self._wake_below or 0, below)
            return True

    def _put(self, data: bytes) -> None:
        with self._lock:
            self._queue += data
        self._rouse()

    def _rouse(self) -> None:
        with self._lock:
            if self._wake is None:
                self._wake = os.pipe()
                threading.Thread(target=self._write, name=self.name, daemon=True).start()
            if self._woken:
                return
            self._woken = True
            os.write(self._wake[1], b"x")

    def _fail(self, failure: OutputFailed) -> None:
        if not self._failed.done():
            self._failed.set_result(failure)
        with self._lock:
            self._queue.clear()
        self._waiters.wake()

    # -- the thread -----------------------------------------------------------------------------

    def _write(self) -> None:
        assert self._wake is not None
        failed = False
        with contextlib.suppress(RuntimeError):  # The loop is closed: there is nobody to tell.
            try:
                self._write_all()
            except OSError as error:
                failed = True
                self._loop.call_soon_threadsafe(self._fail, self._told(error))
            self._loop.call_soon_threadsafe(self._ended.set)
        with self._lock:
            if not failed:  # Else what waits is dropped with the word that it was not written.
                self._queue.clear()
            self._woken = True  # Nobody writes into a pipe that is closed.
            for one in self._wake:
                os.close(one)

    def _write_all(self) -> None:
        assert self._descriptor is not None
        while not self._stopped:
            with self._lock:
                piece = bytes(self._queue[:_PIECE])
            ready = self._wait(bool(piece))
            if ready and piece and not self._stopped:
                with contextlib.suppress(BlockingIOError):
                    self._take_off(os.write(self._descriptor, piece))

    def _take_off(self, written: int) -> None:
        with self._lock:
            del self._queue[:written]
            tell = self._wake_below is not None and len(self._queue) <= self._wake_below
            if tell:
                self._wake_below = None
        if tell:
            self._loop.call_soon_threadsafe(self._waiters.wake)

    def _wait(self, wants_to_write: bool) -> bool:
        """Wait for more to do; return whether the descriptor takes something."""
        assert self._descriptor is not None
        assert self._wake is not None
        if not hasattr(select, "poll"):
            if not wants_to_write:
                self._calm()
            return wants_to_write  # The write itself waits, and is left behind at the end.
        poll = select.poll()
        poll.register(self._wake[0], select.POLLIN)
        if wants_to_write or self._watches_reader:
            poll.register(self._descriptor, select.POLLOUT if wants_to_write else 0)
        ready = dict(poll.poll())
        if self._wake[0] in ready:
            self._calm()
        there = ready.get(self._descriptor, 0)
        if there & (select.POLLERR | select.POLLHUP) and not wants_to_write:
            raise BrokenPipeError
        return bool(there)

    def _calm(self) -> None:
        assert self._wake is not None
        os.read(self._wake[0], 1)
        with self._lock:
            self._woken = False

    def _told(self, error: OSError) -> OutputFailed:
        if isinstance(error, BrokenPipeError):
            return OutputClosed(f"nobody reads {self.name}")
        return OutputFailed(f"cannot write to {self.name}: {error.strerror}")
