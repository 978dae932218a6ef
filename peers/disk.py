"""Files that are there whole or not at all, and that nobody waits for.

The same file in `relay` and in `peers`, which may not import one another; a test holds them equal.
What a file must hold is decided by who reads it. What fails is an `OSError` here, whatever it was.
"""

import contextlib
import errno
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator

if sys.platform != "win32":
    import fcntl

__all__ = ["give", "make", "place", "read", "replace"]

_PATIENCE = 5.0
"""Seconds for others who put a file into the same folder: each takes the time of one rename."""
_PAUSE = 0.01
_NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What file systems say that have no locks for folders."""


def read(path: str | os.PathLike[str], limit: int = 65_536) -> tuple[bytes, int]:
    """Return what is in a file, at most `limit` bytes of it, and its permission bits; these are 0
    where the system has none.

    Raises:
        OSError: it cannot be read, or is no file: a pipe is not waited for.
    """
    with _as_os_error(), open(path, "rb", opener=_open_at_once) as file:
        there = os.fstat(file.fileno())
        if not stat.S_ISREG(there.st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        return file.read(limit), there.st_mode & 0o777 if os.name == "posix" else 0


def make(path: str | os.PathLike[str], data: bytes) -> None:
    """Make a file for its owner's eyes alone, and see that it is on the disk. Of several who make
    the same one, one does. Where the name is a link to nothing, the file that it leads to is made.

    Raises:
        FileExistsError: it is there already, and whole.
        OSError: it cannot be made; nothing is left.
    """
    with _as_os_error(), _written(where := os.path.realpath(path), data) as part:
        place(part, where)


def replace(path: str | os.PathLike[str], data: bytes) -> None:
    """Make a file, or put it into the place of an older one in one step. Where the name is a link,
    the file that it leads to is replaced.

    Raises:
        OSError: it cannot be made. What was there is there still, and nothing else is.
    """
    with _as_os_error():
        where = os.path.realpath(path)
        if os.path.lexists(where) and not os.path.isfile(where):
            raise OSError(errno.EINVAL, "it is not a file")
        with _written(where, data) as part:
            os.replace(part, where)
        _sync(os.path.dirname(where))


def place(part: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Give a file that is whole a name that nobody has, in the same folder. Where the file system
    has hard links the name `part` is left, for the caller to remove.

    Raises:
        FileExistsError: somebody has that name.
        OSError: it cannot have it.
    """
    folder = os.path.dirname(os.path.abspath(path))
    with _as_os_error():
        try:
            os.link(part, path)
            _sync(folder)
            return
        except FileExistsError:
            raise
        except OSError:
            pass  # Most likely there are no links (FAT); else the rename fails by the same.
        with _locked(folder):
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            os.rename(part, path)
        _sync(folder)


def give(path: str | os.PathLike[str], to: os.stat_result) -> None:
    """Give a file to the owner of another one, where the superuser has made it for him: else the
    program that runs as that owner could not read it.

    Raises:
        OSError: it cannot be given away.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        os.chown(path, to.st_uid, to.st_gid)


@contextlib.contextmanager
def _written(where: str, data: bytes) -> Iterator[str]:
    """A new file with this data beside `where`; it is gone afterwards unless it was renamed."""
    folder = os.path.dirname(where)
    # Its mode is 0600, and its name one that nobody can have made before.
    descriptor, part = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield part
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)


def _sync(folder: str) -> None:
    """See that a name is on the disk too, where folders can be opened and the system can do it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Nobody else who asks is inside for the same folder, as far as the system has such locks."""
    if sys.platform == "win32":
        yield  # A rename fails there by a file of that name.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise OSError(errno.ETIMEDOUT, "another program keeps the folder locked") from None
            time.sleep(_PAUSE)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return
        else:
            return


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """A name that no system takes is an `OSError` as well."""
    try:
        yield
    except ValueError as error:
        raise OSError(errno.EINVAL, f"no name of a file: {error}") from None
