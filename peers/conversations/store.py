"""What names a store of conversations, and by what sessions one is carried."""

import os
import sqlite3
from dataclasses import dataclass
from typing import TypeAlias

from peers.config import checked_mode, checked_policy
from protocol.messages import Mode

__all__ = ["NO_PREFERENCE", "Preference", "Store", "checked_store"]


@dataclass(frozen=True, slots=True)
class Preference:
    """By what sessions a conversation is carried that are opened here; None: as is configured."""

    mode: Mode | str | None = None
    policy: str | None = None

    def __post_init__(self) -> None:
        if self.mode is not None:
            checked_mode(self.mode)
        if self.policy is not None:
            checked_policy(self.policy)


NO_PREFERENCE = Preference()

Store: TypeAlias = str | os.PathLike[str] | sqlite3.Connection
"""Where conversations are kept: a file, or a database of the program's own."""


def checked_store(store: object) -> Store:
    """Return what names a store.

    Raises:
        TypeError: it names none.
        ValueError: no file has such a name.
    """
    if isinstance(store, sqlite3.Connection):
        return store
    name = os.fspath(store) if isinstance(store, str | os.PathLike) else None
    if not isinstance(name, str):
        raise TypeError(
            f"store is the name of a file or an sqlite3.Connection, not {type(store).__name__}"
        )
    try:
        usable = bool(name) and b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise ValueError(f"store is the name of a file, not {name!r:.80}")
    return name
