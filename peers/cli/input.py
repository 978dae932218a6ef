"""The lines of a file descriptor of any kind: pipe, file, terminal, socket, none at all.

A thread reads, and only what is asked for: the loop never waits for a descriptor, and a loop that
can only watch some kinds (uvloop aborts the process at a file or /dev/null) never meets it. The
thread cannot hold up the end of the program: it is woken, and left behind where it cannot be.
"""

import asyncio
import contextlib
import errno
import os
import select
import signal
import stat
import sys
import threading
from enum import Enum, auto

from protocol.errors import RoamRelayError

if sys.platform != "win32":
    import fcntl

__all__ = ["MAX_LINE", "Input", "InputFailed", "InputKind", "LineTooLong"]

MAX_LINE = 1 << 20
"""Bytes of a line without its end: what a session's message may hold."""

_CHUNK = 65_536
"""Bytes read at once."""
_BACKGROUND_PAUSE = 1.0
"""Seconds after which a program in the background looks whether the terminal is its own again."""
_ENDING = 0.5
"""Seconds for the thread to end when it was woken. One that is stuck in a read is left behind."""


class InputFailed(RoamRelayError):
    """Standard input cannot be read. Says why."""


class LineTooLong(RoamRelayError):
    """A line has more than `MAX_LINE` bytes. The next one can still be read."""


class InputKind(Enum):
    """What there is to read from."""

    NONE = auto()
    """/dev/null, a closed descriptor, one that is not for reading (`nohup`): nobody means to send
    anything."""
    TERMINAL = auto()
    STREAM = auto()
    """A pipe, a file, a socket: its end means that all was said."""


class Input:
    """The lines of one descriptor. One reader at a time; use it inside a running loop."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self.kind = kind_of(descriptor)
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._scanned = 0
        self._skipping = False
        self._asked = False
        self._over = self.kind is InputKind.NONE
        self._failure: OSError | None = None
        self._arrived = asyncio.Event()
        self._ended = asyncio.Event()
        self._wanted = threading.Semaphore(0)
        self._stopped = False
        self._wake: tuple[int, int] | None = None

    async def line(self) -> bytes | None:
        """Return the next line without its end (`\\n` or `\\r\\n`), None when there is no more.

        May be cancelled: nothing is lost.

        Raises:
            LineTooLong: told once for each such line; what remains of it is skipped.
            InputFailed: it cannot be read.
        """
        while True:
            end = self._buffer.find(b"\n", self._scanned)
            if end < 0 and self._over and self._failure is None:
                line, self._buffer = bytes(self._buffer), bytearray()
                self._scanned = 0
                if not line or self._skipping:
                    return None
                return self._checked(line)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._scanned = 0
                if self._skipping:
                    self._skipping = False
                    continue
                return self._checked(line.removesuffix(b"\r"))
            self._scanned = len(self._buffer)
            if self._skipping or len(self._buffer) > MAX_LINE + 1:
                told, self._skipping = self._skipping, True
                self._buffer.clear()
                self._scanned = 0
                if not told:
                    raise _too_long()
            if self._failure is not None:
                raise InputFailed(f"cannot read standard input: {self._failure.strerror}")
            await self._more()

    async def close(self) -> None:
        """Stop reading."""
        if self._stopped:
            return
        self._stopped = self._over = True
        if self._wake is None:
            return
        # In this order: the thread closes the pipe when it may go on.
        os.write(self._wake[1], b"x")
        self._wanted.release()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENDING):
                await self._ended.wait()

    def _checked(self, line: bytes) -> bytes:
        if len(line) > MAX_LINE:
            raise _too_long()
        return line

    async def _more(self) -> None:
        if self._wake is None:
            self._wake = os.pipe()
            threading.Thread(target=self._read, name="standard input", daemon=True).start()
        if not self._asked:
            self._asked = True
            self._wanted.release()
        self._arrived.clear()
        # No timeout: when something is typed, or comes, is not ours to decide.
        await self._arrived.wait()

    def _take(self, what: bytes | OSError) -> None:
        self._asked = False
        if isinstance(what, OSError):
            self._failure = what
        elif what:
            self._buffer += what
        else:
            self._over = True
        self._arrived.set()

    # -- the thread -----------------------------------------------------------------------------

    def _read(self) -> None:
        assert self._wake is not None
        if hasattr(signal, "pthread_sigmask"):
            # A program in the background that reads from its terminal is stopped as a whole, with
            # all its sessions, unless this signal cannot reach the thread: then the read fails.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN})
        try:
            while True:
                self._wanted.acquire()
                if self._stopped:
                    break
                self._loop.call_soon_threadsafe(self._take, self._chunk())
        except RuntimeError:
            return  # The loop is closed, and with it everybody who could want this.
        finally:
            for one in self._wake:
                os.close(one)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ended.set)

    def _chunk(self) -> bytes | OSError:
        assert self._descriptor is not None
        while not self._stopped:
            self._wait(self._descriptor, None)
            if self._stopped:
                break
            try:
                return os.read(self._descriptor, _CHUNK)
            except BlockingIOError:
                continue  # Another program reads from it too, and was faster.
            except OSError as error:
                if error.errno != errno.EIO:
                    return error
                if not self._in_background():
                    return b""  # The terminal is gone.
                self._wait(None, _BACKGROUND_PAUSE)
        return b""

    def _wait(self, descriptor: int | None, seconds: float | None) -> None:
        """Wait until the descriptor has something, or `close` is called."""
        assert self._wake is not None
        if not hasattr(select, "poll"):
            return  # The read itself waits, and is left behind at the end.
        poll = select.poll()
        poll.register(self._wake[0], select.POLLIN)
        if descriptor is not None:
            poll.register(descriptor, select.POLLIN)
        poll.poll(None if seconds is None else seconds * 1000)

    def _in_background(self) -> bool:
        assert self._descriptor is not None
        try:
            return os.tcgetpgrp(self._descriptor) != os.getpgrp()
        except OSError:
            return False


def kind_of(descriptor: int | None) -> InputKind:
    """Return what a descriptor is to read from."""
    if descriptor is None:
        return InputKind.NONE
    try:
        there = os.fstat(descriptor)
        if os.path.samestat(there, os.stat(os.devnull)):
            return InputKind.NONE
        if sys.platform != "win32":
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
            if flags & os.O_ACCMODE == os.O_WRONLY:
                return InputKind.NONE
        is_device = stat.S_ISCHR(there.st_mode)
        return InputKind.TERMINAL if is_device and os.isatty(descriptor) else InputKind.STREAM
    except OSError:
        return InputKind.NONE


def _too_long() -> LineTooLong:
    return LineTooLong(f"a line of standard input has more than 1 MiB ({MAX_LINE} bytes)")
