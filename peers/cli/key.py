"""Where this peer's key is, where nobody says."""

import os
from pathlib import Path

from peers.config import ConfigError

__all__ = ["default_key"]


def default_key() -> str:
    """Return the file of the key; its folder is made where there is none.

    Raises:
        ConfigError: there is no place for it.
    """
    try:
        if os.environ.get("HOME") == "":
            raise RuntimeError("HOME is empty")
        folder = Path.home() / ".config" / "roam-relay"
    except RuntimeError as error:
        raise ConfigError(f"no place for the key, give --key: {error}") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"no place for the key, give --key: cannot make {folder}: {error.strerror}"
        ) from None
    return str(folder / "peer.key")
