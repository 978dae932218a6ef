"""Whom the commands of one key have nothing to do with: a folder beside the key file, and in it an
empty file for each GUID. So two programs that change it at once lose nothing, and a kill or a full
disk leaves it whole.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from peers import disk
from peers.cli.terminal import Terminal
from peers.config import ConfigError
from protocol.errors import IdentityError
from protocol.identity import public_key_of

__all__ = ["block", "blocked_by", "show", "unblock"]


def blocked_by(key: str) -> tuple[str, ...]:
    """Return the GUIDs that are blocked for a key file, in order. What else is in the folder is
    passed over.

    Raises:
        ConfigError: the folder cannot be read.
    """
    folder = _folder(key)
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"cannot read {folder}: {error.strerror}") from None
    return tuple(name for name in names if _is_guid(name))


async def block(terminal: Terminal, key: str, guids: Sequence[str]) -> None:
    """Block GUIDs from now on, for good."""
    folder = _folder(key)
    for guid in _checked(guids):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            disk.make(folder / guid, b"")
        except FileExistsError:
            if not folder.is_dir():
                raise ConfigError(f"cannot keep whom to block: {folder} is no folder") from None
            await terminal.answer(f"{guid} is blocked already", guid=guid, blocked=True)
        except OSError as error:
            raise ConfigError(f"cannot write {folder / guid}: {error.strerror}") from None
        else:
            await terminal.answer(f"{guid} is blocked", guid=guid, blocked=True)


async def unblock(terminal: Terminal, key: str, guids: Sequence[str]) -> None:
    """Block GUIDs no more."""
    folder = _folder(key)
    for guid in _checked(guids):
        try:
            os.unlink(folder / guid)
        except FileNotFoundError:
            await terminal.answer(f"{guid} was not blocked", guid=guid, blocked=False)
        except OSError as error:
            raise ConfigError(f"cannot remove {folder / guid}: {error.strerror}") from None
        else:
            await terminal.answer(f"{guid} is blocked no more", guid=guid, blocked=False)


async def show(terminal: Terminal, key: str) -> None:
    """Print whom `block` has blocked."""
    for guid in blocked_by(key):
        await terminal.answer(guid, guid=guid, blocked=True)


def _folder(key: str) -> Path:
    return Path(f"{key}.blocked")


def _checked(guids: Sequence[str]) -> Sequence[str]:
    """Return all of them, or raise IdentityError before anything is done."""
    for guid in guids:
        public_key_of(guid)
    return guids


def _is_guid(name: str) -> bool:
    try:
        public_key_of(name)
    except IdentityError:
        return False
    return True
