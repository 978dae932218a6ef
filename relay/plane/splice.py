"""Moving bytes from one socket to another, both ways, without bringing them into Python.

`os.splice` through a pipe where the system has it, one buffer and `recv_into` elsewhere. Either
direction ends on its own: the end of one stream is passed on as a half-close, after its last byte.
"""

import asyncio
import contextlib
import fcntl
import os
import socket
from collections.abc import Callable
from enum import Enum

from relay.log import log

__all__ = ["SocketPlane"]

_PIPE_BYTES = 1 << 20
_SLICE = 4 << 20
"""Bytes that one direction may move in one callback, so that other connections get their turn."""
_COPY_BYTES = 1 << 18
_BLOCKED = (BlockingIOError, InterruptedError)


class _Splice:
    """A pipe between two sockets."""

    way = "splice"

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # An unprivileged process may not have that much in all; then the default size serves.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.held = 0

    def fill(self, source: int) -> int:
        count = os.splice(source, self._in, _PIPE_BYTES, flags=os.SPLICE_F_NONBLOCK)
        self.held += count
        return count

    def drain(self, target: int) -> int:
        count = os.splice(self._out, target, self.held, flags=os.SPLICE_F_NONBLOCK)
        self.held -= count
        return count

    def close(self) -> None:
        os.close(self._in)
        os.close(self._out)


class _Copy:
    """A buffer between two sockets."""

    way = "copy"

    def __init__(self) -> None:
        self._view = memoryview(bytearray(_COPY_BYTES))
        self._begin = 0
        self.held = 0

    def fill(self, source: int) -> int:
        if self.held:
            raise BlockingIOError
        self._begin = 0
        self.held = os.readv(source, [self._view])
        return self.held

    def drain(self, target: int) -> int:
        count = os.write(target, self._view[self._begin : self._begin + self.held])
        self._begin += count
        self.held -= count
        return count

    def close(self) -> None:
        self._view.release()


class _Stage(Enum):
    """How far one way of a plane is."""

    FLOWING = "flowing"
    ENDING = "ending"
    """The source has ended; what is held still has to leave."""
    DONE = "done"


class _Wait(Enum):
    """What one way of a plane waits for."""

    NOTHING = "nothing"
    """There may be more to do at once."""
    SOURCE = "source"
    """Bytes from the source."""
    TARGET = "target"
    """Room at the target."""


# Python 3.11 looks an enum's member up in 0.3 µs: these are asked for with every piece.
_FLOWING, _ENDING, _DONE = _Stage.FLOWING, _Stage.ENDING, _Stage.DONE
_NOTHING, _SOURCE, _TARGET = _Wait.NOTHING, _Wait.SOURCE, _Wait.TARGET


class _Direction:
    """One way of a plane."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.stage = _FLOWING
        self.wait = self.watched = _NOTHING
        """What it waits for; what the loop has been asked to tell."""
        self.moved = 0
        """Bytes that have left towards the target."""
        self.buffer: _Splice | _Copy
        try:
            self.buffer = _Splice() if hasattr(os, "splice") else _Copy()
        except OSError:  # No descriptors left for a pipe.
            self.buffer = _Copy()

    def pump(self) -> None:
        """Move what can be moved now, up to a slice."""
        target, source = self.target.fileno(), self.source.fileno()
        self.wait = _NOTHING
        budget = _SLICE
        while budget > 0 and self.stage is not _DONE:
            moved = 0
            is_empty = False
            if self.stage is _FLOWING:
                try:
                    if self.buffer.fill(source) == 0:
                        self.stage = _ENDING
                except _BLOCKED:
                    # Either nothing came, or the buffer is full: then writing goes first.
                    is_empty = not self.buffer.held
            if self.buffer.held:
                try:
                    moved = self.buffer.drain(target)
                except _BLOCKED:
                    self.wait = _TARGET
                    break
            elif self.stage is _ENDING:
                self.stage = _DONE
                with contextlib.suppress(OSError):
                    self.target.shutdown(socket.SHUT_WR)
                break
            if is_empty:
                self.wait = _SOURCE
                break
            self.moved += moved
            budget -= max(moved, 1)
        # Out of budget it waits for nothing: the loop calls again after the others had their turn.


class SocketPlane:
    """Two sockets joined. `on_end` is called once, with a reason, when both are closed.

    `moved` is asked for by the metrics; `idle_since` is when bytes last moved.
    """

    def __init__(
        self,
        first: socket.socket,
        second: socket.socket,
        *,
        count: Callable[[str, int], None],
        on_end: Callable[["SocketPlane", str], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = (first, second)
        self._count = count
        self._on_end = on_end
        self._over = False
        self.idle_since = self._loop.time()
        self._directions = (
            _Direction(first, second),
            _Direction(second, first),
        )

    def start(self) -> None:
        """Begin to move bytes."""
        for direction in self._directions:
            self._run(direction)

    def close(self, reason: str) -> None:
        """End the plane now."""
        if self._over:
            return
        self._over = True
        for end in self._sockets:
            self._loop.remove_reader(end)
            self._loop.remove_writer(end)
            end.close()
        for direction in self._directions:
            direction.buffer.close()
        self._on_end(self, reason)

    def _run(self, direction: _Direction) -> None:
        if self._over:
            return
        before = direction.moved
        try:
            direction.pump()
        except OSError as error:
            self._settle(direction, before)
            self.close("reset" if isinstance(error, ConnectionError) else "failed")
            return
        self._settle(direction, before)
        try:
            self._listen(direction)
        except Exception as error:
            log.error("a plane failed", exc_info=error)
            self.close("failed")

    def _listen(self, direction: _Direction) -> None:
        """Have the loop call again for what a direction waits for; or end, where nothing is."""
        if all(one.stage is _DONE for one in self._directions):
            self.close("finished")
            return
        loop, source, target = self._loop, direction.source, direction.target
        if direction.wait is not direction.watched:
            match direction.watched:
                case _Wait.SOURCE:
                    loop.remove_reader(source)
                case _Wait.TARGET:
                    loop.remove_writer(target)
                case _Wait.NOTHING:
                    pass
            match direction.wait:
                case _Wait.SOURCE:
                    loop.add_reader(source, self._run, direction)
                case _Wait.TARGET:
                    loop.add_writer(target, self._run, direction)
                case _Wait.NOTHING:
                    pass
            direction.watched = direction.wait
        if direction.stage is not _DONE and direction.wait is _NOTHING:
            loop.call_soon(self._run, direction)

    def _settle(self, direction: _Direction, before: int) -> None:
        moved = direction.moved - before
        if moved:
            self.idle_since = self._loop.time()
            self._count(direction.buffer.way, moved)
