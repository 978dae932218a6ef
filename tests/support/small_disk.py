"""A disk of its own for one process and its children, so small that it can be full."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["filled", "small_disk"]

_MOUNT = 'mount -t tmpfs -o mode=700,size="$1" tmpfs "$2" && shift 2 && exec "$@"'
_PAGE = 4096


def small_disk(folder: Path, mebibytes: int) -> tuple[str, ...]:
    """Return what becomes a command that has a disk of its own at a folder."""
    unshare = ("unshare", "--user", "--map-root-user", "--mount")
    return *unshare, "sh", "-c", _MOUNT, "sh", f"{mebibytes}m", str(folder)


@contextlib.contextmanager
def filled(process: int, folder: Path) -> Iterator[None]:
    """Leave no room on the disk that a process has at a folder."""
    file = Path(f"/proc/{process}/root{folder}/filler")
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY)
    try:
        with contextlib.suppress(OSError):
            while True:
                os.write(descriptor, bytes(_PAGE))
        yield
    finally:
        os.close(descriptor)
        file.unlink()
