"""Where this peer's key and what belongs to it are, where nobody says."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_data_path

from peers.config import ConfigError

__all__ = ["default_key"]

_KEY = "peer.key"


def default_key(state: str | None, environment: Mapping[str, str]) -> str:
    """Return the file of the key: in the folder that was named, else in the one that systemd names
    (STATE_DIRECTORY), else in this user's. Its folder is made where there is none, for its owner
    alone.

    Raises:
        ConfigError: there is no place for it.
    """
    if state is None and sys.platform != "win32":
        state = environment.get("STATE_DIRECTORY", "").partition(":")[0] or None
    folder = Path(state) if state is not None else _own_place(environment)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"no place for the key, give --key or --state: cannot make {folder}: {error.strerror}"
        ) from None
    return str(folder / _KEY)


def _own_place(environment: Mapping[str, str]) -> Path:
    try:
        if environment.get("HOME") == "":
            raise RuntimeError("HOME is empty")
        before = Path.home() / ".config" / "roam-relay"
    except RuntimeError as error:
        raise ConfigError(f"no place for the key, give --key or --state: {error}") from None
    # Where it was before there were folders for state: a key that is there stays the peer's.
    if os.path.lexists(before / _KEY):
        return before
    return user_data_path("roam-relay", appauthor=False) / "peer"
