"""Writing to a file descriptor of any kind without the loop ever waiting for it.

A pipe that nobody reads (`| less`), a stopped terminal or a slow disk holds up a thread and whoever
chooses to wait (`write`): sessions and heartbeats go on. The queue between has a bound.
"""

import asyncio
import contextlib
import os
import select
import threading
from collections.abc import Callable
from enum import Enum

from peers.cli.bell import Bell
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
        self._backlog = _Backlog()
        self._starting = threading.Lock()
        self._writer: _Writer | None = None

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
        self._backlog.put(data)
        self._started(self._descriptor).bell.ring()

    def notice(self, data: bytes) -> None:
        """Queue data that may be dropped where too much waits already. From any thread; never
        waits, never fails. What was dropped is told when there is room."""
        if self._descriptor is None or self._failed.done() or self._backlog.is_closed:
            return
        if self._backlog.put_if_room(data, self._limit):
            self._started(self._descriptor).bell.ring()

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
        if self._descriptor is not None and hasattr(select, "poll"):
            writer = self._started(self._descriptor)
            writer.watches_reader = True
            writer.bell.ring()

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
            self._backlog.is_closed = True
            if self._writer is not None:
                self._writer.bell.ring()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_ENDING):
                        await self._ended.wait()

    def _must_wait(self, bound: int) -> bool:
        return not self._failed.done() and self._backlog.must_wait(bound)

    def _started(self, descriptor: int) -> "_Writer":
        with self._starting:
            if self._writer is None:
                self._writer = _Writer(descriptor, self._backlog, self._told)
                threading.Thread(target=self._writer.run, name=self.name, daemon=True).start()
            return self._writer

    # -- what the thread tells, in it -----------------------------------------------------------

    def _told(self, what: "_Told | OSError") -> None:
        self._loop.call_soon_threadsafe(self._heard, what)

    # -- and in the loop ------------------------------------------------------------------------

    def _heard(self, what: "_Told | OSError") -> None:
        match what:
            case _Told.ROOM:
                self._waiters.wake()
            case _Told.ENDED:
                self._ended.set()
            case OSError():
                if not self._failed.done():
                    self._failed.set_result(self._failure(what))
                self._backlog.clear()
                self._waiters.wake()

    def _failure(self, error: OSError) -> OutputFailed:
        if isinstance(error, BrokenPipeError):
            return OutputClosed(f"nobody reads {self.name}")
        return OutputFailed(f"cannot write to {self.name}: {error.strerror}")


class _Told(Enum):
    """What a writer tells."""

    ROOM = "room"
    """As little waits as was asked for."""
    ENDED = "ended"


class _Backlog:
    """What waits to be written; shared by the loop and the thread that writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue = bytearray()
        self._dropped = 0
        self._wake_below: int | None = None
        self.is_closed = False
        """Whether nothing more is written."""

    def must_wait(self, bound: int) -> bool:
        """Whether more than `bound` bytes wait; who does until there is less is woken then."""
        with self._lock:
            if len(self._queue) <= bound:
                return False
            self._wake_below = max(self._wake_below or 0, bound // 2)
            return True

    def put(self, data: bytes) -> None:
        """Add data."""
        with self._lock:
            self._queue += data

    def put_if_room(self, data: bytes, limit: int) -> bool:
        """Add data, and before it how many were dropped, unless more than `limit` bytes wait: then
        it is dropped too. Return whether it was added."""
        with self._lock:
            if len(self._queue) > limit:
                self._dropped += 1
                return False
            if self._dropped:
                self._queue += f"… {self._dropped} notices are left out here\n".encode()
                self._dropped = 0
            self._queue += data
            return True

    def piece(self) -> bytes:
        """Return what is to be written next."""
        with self._lock:
            return bytes(self._queue[:_PIECE])

    def take_off(self, written: int) -> bool:
        """So much was written; return whether somebody waits for the room."""
        with self._lock:
            del self._queue[:written]
            woken = self._wake_below is not None and len(self._queue) <= self._wake_below
            if woken:
                self._wake_below = None
            return woken

    def clear(self) -> None:
        """Drop all that waits."""
        with self._lock:
            self._queue.clear()


class _Writer:
    """Writes a backlog to one descriptor, in a thread of its own: ring its `bell` when there is
    more. `tell` is called in that thread, with its end last; that it raises RuntimeError, as the
    loop is closed and there is nobody to tell, is an end too."""

    def __init__(
        self, descriptor: int, backlog: _Backlog, tell: Callable[[_Told | OSError], None]
    ) -> None:
        self._descriptor = descriptor
        self._backlog = backlog
        self._tell = tell
        self.bell = Bell()
        self.watches_reader = False
        """Whether a reader that has gone ends it at once."""

    def run(self) -> None:
        """Write until the backlog is closed, or it cannot be written."""
        with contextlib.suppress(RuntimeError):
            try:
                self._write_all()
                self._backlog.clear()
            except OSError as error:
                self._tell(error)  # What waits is dropped with the word that it was not written.
            finally:
                self.bell.close()
            self._tell(_Told.ENDED)

    def _write_all(self) -> None:
        while not self._backlog.is_closed:
            self._write(self._backlog.piece())

    def _write(self, piece: bytes) -> None:
        ready = self._wait(bool(piece))
        if ready and piece and not self._backlog.is_closed:
            with contextlib.suppress(BlockingIOError):
                if self._backlog.take_off(os.write(self._descriptor, piece)):
                    self._tell(_Told.ROOM)

    def _wait(self, wants_to_write: bool) -> bool:
        """Wait for more to do; return whether the descriptor takes something."""
        if not hasattr(select, "poll"):
            if not wants_to_write:
                self.bell.hear()
            return wants_to_write  # The write itself waits, and is left behind at the end.
        poll = select.poll()
        poll.register(self.bell.descriptor, select.POLLIN)
        if wants_to_write or self.watches_reader:
            poll.register(self._descriptor, select.POLLOUT if wants_to_write else 0)
        ready = dict(poll.poll())
        if self.bell.descriptor in ready:
            self.bell.hear()
        there = ready.get(self._descriptor, 0)
        if there & (select.POLLERR | select.POLLHUP) and not wants_to_write:
            raise BrokenPipeError
        return bool(there)
