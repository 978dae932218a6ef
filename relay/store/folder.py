"""The folder for what outlives the relay: for its owner alone, and for one relay at a time."""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from relay.config import ConfigError
from relay.log import log

if sys.platform != "win32":
    import fcntl

__all__ = ["state_folder"]

_LOCK = "lock"


@contextlib.contextmanager
def state_folder(name: str) -> Iterator[Path]:
    """Keep a folder for this relay, made where there is none, until the block ends.

    Raises:
        ConfigError: it cannot be made or used, others may write into it, or another relay has it.
    """
    folder = Path(name)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(folder.stat().st_mode)
        if os.name == "posix" and mode & 0o022:
            raise ConfigError(
                f"state: others may write into {name} (mode {mode:04o}): run 'chmod 700 {name}'"
            )
        if os.name == "posix" and mode & 0o055:
            log.warning(
                "others may look into the state folder: run chmod 700 (systemd: "
                "StateDirectoryMode=0700)",
                folder=name,
                mode=f"{mode:04o}",
            )
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"state: cannot use the folder {name}: {error.strerror}") from None
    try:
        _take(descriptor, name)
        yield folder
    finally:
        os.close(descriptor)


def _take(descriptor: int, name: str) -> None:
    """Lock a file for as long as this process has it open: a kill gives it back too."""
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
            raise ConfigError(
                f"state: another relay uses {name}: stop it, or give each a folder of its own"
            ) from None
        # File systems without locks: who starts two relays there is not told.
