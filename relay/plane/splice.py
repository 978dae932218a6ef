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


class _Direction:
    """One way of a plane."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.ended = False
        """The source has ended; what is held still has to leave."""
        self.done = False
        self.reading = self.writing = False
        self.wants_read = self.wants_write = False
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
        wants_read = wants_write = False
        budget = _SLICE
        while budget > 0 and not self.done:
            moved = 0
            if not self.ended:
                try:
                    self.ended = self.buffer.fill(source) == 0
                except _BLOCKED:
                    # Either nothing came, or the buffer is full: then writing goes first.
                    wants_read = not self.buffer.held
            if self.buffer.held:
                try:
                    moved = self.buffer.drain(target)
                except _BLOCKED:
                    wants_write = True
                    break
            elif self.ended:
                self.done = True
                with contextlib.suppress(OSError):
                    self.target.shutdown(socket.SHUT_WR)
                break
            if wants_read and not self.buffer.held:
                break
            self.moved += moved
            budget -= max(moved, 1)
        # Out of budget with neither: the loop calls again after the others had their turn.
        self.wants_read = wants_read and not wants_write
        self.wants_write = wants_write


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
        if all(one.done for one in self._directions):
            self.close("finished")
            return
        loop, source, target = self._loop, direction.source, direction.target
        if direction.wants_read != direction.reading:
            direction.reading = direction.wants_read
            if direction.reading:
                loop.add_reader(source, self._run, direction)
            else:
                loop.remove_reader(source)
        if direction.wants_write != direction.writing:
            direction.writing = direction.wants_write
            if direction.writing:
                loop.add_writer(target, self._run, direction)
            else:
                loop.remove_writer(target)
        if not direction.done and not direction.reading and not direction.writing:
            loop.call_soon(self._run, direction)

    def _settle(self, direction: _Direction, before: int) -> None:
        moved = direction.moved - before
        if moved:
            self.idle_since = self._loop.time()
            self._count(direction.buffer.way, moved)
