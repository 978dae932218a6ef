"""Files that have come in part: each is hidden until it is whole, and what a sender that has gone
had sent of a larger one is kept for its next attempt.

What is said about that between both sides is in file_transfer.py.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
import stat
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from peers import Session

if sys.platform != "win32":
    import fcntl

__all__ = ["WORTH", "Part", "Parts"]

WORTH = 1 << 20
"""Bytes below which a file is sent anew: that takes no longer than to say what is there."""
_KEPT = 64
"""Files in part that are kept in one folder."""
_KEPT_OF_ONE = 8
"""Those of one sender."""
_LIFETIME = 7 * 86_400.0
"""Seconds for which nothing has come, after which one is removed."""
_PATIENCE = 3.0
"""Seconds in which an attempt whose sender was ended is told so, or brings something. After them
the next attempt for the same file ends it."""
_SUFFIX = ".kept.part"


@dataclass(eq=False)
class Part:
    """A file that is coming."""

    path: Path
    file: BinaryIO
    had: int = 0
    """Bytes that were there from an earlier attempt."""
    is_kept: bool = False
    """Whether it stays when it is left before it is whole."""


@dataclass(eq=False)
class _Holder:
    """An attempt that has a file of an earlier one, or is making it."""

    session: Session
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something has come, and when it is over."""
    is_over: bool = False


class Parts:
    """What comes into one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._holders: dict[Path, _Holder] = {}

    @contextlib.asynccontextmanager
    async def open(self, session: Session, token: str | None, size: int) -> AsyncIterator[Part]:
        """Give the file for what a session brings: that of an earlier attempt, where the sender has
        named it by the same token. It is removed afterwards, unless it is to be kept.

        Raises:
            OSError: it cannot be made, or there is no room for all of it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f".{session.id.hex()}.part"
        if token is not None and size > WORTH and sys.platform != "win32":
            name = hashlib.sha256(f"{session.remote} {token} {size}".encode()).hexdigest()[:20]
            named = self.folder / f".{name}-{session.remote[:12]}{_SUFFIX}"
            if await self._is_free(named):
                holder = self._holders[named] = _Holder(session)
                try:
                    file = _take(named)
                    if file is not None:
                        with file:
                            async with self._used(Part(named, file), holder, size) as part:
                                yield part
                            return
                finally:
                    del self._holders[named]
                    holder.is_over = True
                    holder.moved.set()
        with path.open("x+b") as file:
            _lock(file.fileno())
            async with self._used(Part(path, file), None, size) as part:
                yield part

    def moved(self, part: Part) -> None:
        """Something has come."""
        holder = self._holders.get(part.path)
        if holder is not None:
            holder.moved.set()

    def tidy(self) -> None:
        """Remove what was kept for too long, and what is too much: of who has most the oldest. What
        is being used is left.

        Raises:
            OSError: the folder cannot be read.
        """
        kept = sorted(self._left(), key=lambda one: one.at)
        old = time.time() - _LIFETIME
        by_sender = Counter(one.sender for one in kept if one.is_kept)
        bytes_of = Counter[str]()
        for one in kept:
            bytes_of[one.sender] += one.size
        room = shutil.disk_usage(self.folder).free
        for one in kept:
            if one.is_kept:
                count, most = by_sender[one.sender], max(by_sender.values())
                is_too_many = count > _KEPT_OF_ONE or (by_sender.total() > _KEPT and count == most)
                has_most = bytes_of[one.sender] == max(bytes_of.values())
                is_too_many |= has_most and bytes_of.total() > room
            else:
                is_too_many = False
            if (one.at < old or is_too_many) and _remove(one.path):
                by_sender[one.sender] -= 1
                bytes_of[one.sender] -= one.size
                room += one.size

    def _left(self) -> Iterator["_Left"]:
        """Find what earlier attempts have left, and nobody is using here."""
        for path in self.folder.glob(".*.part"):
            if path not in self._holders:
                with contextlib.suppress(OSError):  # Somebody has just removed it.
                    there = path.lstat()
                    is_kept = path.name.endswith(_SUFFIX)
                    sender = _sender(path) if is_kept else ""
                    yield _Left(path, there.st_mtime, there.st_size, sender, is_kept)

    @contextlib.asynccontextmanager
    async def _used(self, part: Part, holder: _Holder | None, size: int) -> AsyncIterator[Part]:
        try:
            part.had = os.fstat(part.file.fileno()).st_size
            if size - part.had > shutil.disk_usage(self.folder).free:
                part.is_kept = part.had > WORTH
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield part
        finally:
            with contextlib.suppress(OSError):
                if not (part.is_kept and holder is not None):
                    part.path.unlink()
            if part.is_kept:
                with contextlib.suppress(OSError):
                    self.tidy()

    async def _is_free(self, path: Path) -> bool:
        """Wait for an earlier attempt, which may not know yet that its sender has gone; return
        whether the file may be used: not where that one goes on."""
        holder = self._holders.get(path)
        if holder is None:
            return True
        holder.moved.clear()
        try:
            async with asyncio.timeout(_PATIENCE):
                await holder.moved.wait()
        except TimeoutError:
            holder.session.abort("the same file was begun anew")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await holder.moved.wait()
        return holder.is_over and path not in self._holders


class _Left(NamedTuple):
    """A file that an attempt has left."""

    path: Path
    at: float
    """When something came, in seconds since the epoch."""
    size: int
    sender: str
    is_kept: bool
    """Whether it waits for another attempt; else a program was killed."""


def _sender(path: Path) -> str:
    return path.name.removesuffix(_SUFFIX).rpartition("-")[2]


def _lock(descriptor: int) -> None:
    """Have a file that was just made for this program alone, where there are locks."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _take(path: Path, *, is_to_go: bool = False) -> BinaryIO | None:
    """Open a file for this program alone; None where another one has it, or it is no file that a
    program of this user has made. One that `is_to_go` may have its own name already, besides.

    Raises:
        OSError: it cannot be made.
    """
    if sys.platform == "win32":
        return None
    try:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | (0 if is_to_go else os.O_CREAT)
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EACCES, errno.ENXIO, errno.EISDIR):
            return None
        raise
    try:
        there = os.fstat(descriptor)
        # In a folder that others may write into, what another user has put there is not ours.
        is_ours = stat.S_ISREG(there.st_mode) and there.st_uid == os.geteuid()
        if is_ours and (there.st_nlink == 1 or is_to_go):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(there, os.lstat(path)):
                return os.fdopen(descriptor, "r+b")
    except OSError:
        pass  # Another program has it, has just removed it, or there are no locks here.
    os.close(descriptor)
    return None


def _remove(path: Path) -> bool:
    """Remove what nobody has open; return whether it is gone."""
    try:
        file = _take(path, is_to_go=True)
        if file is None:
            return False
        with file:
            path.unlink()
    except OSError:
        return False
    return True
