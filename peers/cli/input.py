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
from collections.abc import Callable
from enum import Enum, auto

from peers.cli.bell import Bell
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
        self.kind = kind_of(descriptor)
        self._source: int | OSError | None = None if self.kind is InputKind.NONE else descriptor
        """What is read; or why it cannot be; None when there is no more."""
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._scanned = 0
        self._skipping = False
        """Whether what comes is the rest of a line that was too long."""
        self._asked = False
        """Whether the thread has been asked for more, and has brought none yet."""
        self._arrived = asyncio.Event()
        self._ended = asyncio.Event()
        self._reader: _Reader | None = None

    async def line(self) -> bytes | None:
        """Return the next line without its end (`\\n` or `\\r\\n`), None when there is no more.

        May be cancelled: nothing is lost.

        Raises:
            LineTooLong: told once for each such line; what remains of it is skipped.
            InputFailed: it cannot be read.
        """
        while True:
            end = self._buffer.find(b"\n", self._scanned)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._scanned = 0
                if self._skipping:
                    self._skipping = False
                    continue
                return self._checked(line.removesuffix(b"\r"))
            source = self._source
            if source is None:
                return self._rest()
            self._scanned = len(self._buffer)
            if self._skipping or len(self._buffer) > MAX_LINE + 1:
                told, self._skipping = self._skipping, True
                self._buffer.clear()
                self._scanned = 0
                if not told:
                    raise _too_long()
            if isinstance(source, OSError):
                raise InputFailed(f"cannot read standard input: {source.strerror}")
            await self._more(source)

    async def close(self) -> None:
        """Stop reading."""
        if not isinstance(self._source, OSError):
            self._source = None
        reader, self._reader = self._reader, None
        if reader is None:
            return
        reader.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENDING):
                await self._ended.wait()

    def _rest(self) -> bytes | None:
        """Return the last line, which has no end."""
        line, self._buffer = bytes(self._buffer), bytearray()
        self._scanned = 0
        return None if not line or self._skipping else self._checked(line)

    def _checked(self, line: bytes) -> bytes:
        if len(line) > MAX_LINE:
            raise _too_long()
        return line

    async def _more(self, descriptor: int) -> None:
        if self._reader is None:
            self._reader = _Reader(descriptor, self._told)
            threading.Thread(target=self._reader.run, name="standard input", daemon=True).start()
        if not self._asked:
            self._asked = True
            self._reader.ask()
        self._arrived.clear()
        # No timeout: when something is typed, or comes, is not ours to decide.
        await self._arrived.wait()

    def _told(self, what: bytes | OSError | None) -> None:
        """The thread has read something, or ends (None)."""
        self._loop.call_soon_threadsafe(self._take, what)

    def _take(self, what: bytes | OSError | None) -> None:
        if what is None:
            self._ended.set()
            return
        self._asked = False
        if isinstance(what, OSError):
            self._source = what
        elif what:
            self._buffer += what
        else:
            self._source = None
        self._arrived.set()


class _Reader:
    """Reads one descriptor in a thread of its own: so much at once as there is, each time that it
    is asked. `tell` is called in that thread, with None at its end; that it raises RuntimeError, as
    the loop is closed and with it everybody who could want this, is an end too."""

    def __init__(self, descriptor: int, tell: Callable[[bytes | OSError | None], None]) -> None:
        self._descriptor = descriptor
        self._tell = tell
        self._wanted = threading.Semaphore(0)
        self._bell = Bell()
        self._is_stopped = False

    def ask(self) -> None:
        """Read once."""
        self._wanted.release()

    def stop(self) -> None:
        """Read no more, and end."""
        self._is_stopped = True
        self._bell.ring()
        self._wanted.release()

    def run(self) -> None:
        """Read when it is asked, until it is stopped."""
        if hasattr(signal, "pthread_sigmask"):
            # A program in the background that reads from its terminal is stopped as a whole, with
            # all its sessions, unless this signal cannot reach the thread: then the read fails.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN})
        with contextlib.suppress(RuntimeError):
            try:
                while True:
                    self._wanted.acquire()
                    if self._is_stopped:
                        break
                    self._tell(self._chunk())
            finally:
                self._bell.close()
            self._tell(None)

    def _chunk(self) -> bytes | OSError:
        while not self._is_stopped:
            self._wait(self._descriptor, None)
            if self._is_stopped:
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
        """Wait until the descriptor has something, or `stop` is called."""
        if not hasattr(select, "poll"):
            return  # The read itself waits, and is left behind at the end.
        poll = select.poll()
        poll.register(self._bell.descriptor, select.POLLIN)
        if descriptor is not None:
            poll.register(descriptor, select.POLLIN)
        poll.poll(None if seconds is None else seconds * 1000)

    def _in_background(self) -> bool:
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
