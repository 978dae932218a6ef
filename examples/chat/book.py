"""What the messenger keeps: contacts, settings, and what was said.

The tables are in the file in which `peers` keeps the conversations, so that a message goes from the
inbox into the history in one transaction: it is in one of the two, and never in both.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from peers import Message, Mode

__all__ = ["Book", "Contact", "Line", "Standing"]

_TABLES = """
CREATE TABLE IF NOT EXISTS chat_contacts (
    guid TEXT PRIMARY KEY, name TEXT NOT NULL, mode TEXT NOT NULL, standing TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS chat_lines (
    number INTEGER PRIMARY KEY, guid TEXT NOT NULL, id TEXT, is_own INTEGER NOT NULL,
    at REAL NOT NULL, text TEXT NOT NULL, state TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS chat_lines_of ON chat_lines (guid, number);
CREATE TABLE IF NOT EXISTS chat_settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
_SHOWN = 200
"""Lines of one contact that are read; older ones stay in the file."""
_PATIENCE = 5.0
"""Seconds for which another transaction of this program is waited for."""


class Standing(StrEnum):
    """What somebody is to the user."""

    CONTACT = "contact"
    """Added by the user."""
    STRANGER = "stranger"
    """Has written, and is neither added nor blocked yet."""
    BLOCKED = "blocked"
    """To have nothing to do with."""


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody, as it is kept."""

    guid: str
    name: str
    """What the user calls it, or what its link has said: text of others."""
    mode: Mode
    """How sessions with it are opened from here."""
    standing: Standing


@dataclass(frozen=True, slots=True)
class Line:
    """One message or file, as it is kept."""

    number: int
    """Its place in the history."""
    id: str | None
    """The message's; None of a file, and of a message that was stored as the program ended."""
    is_own: bool
    at: float
    """When it was sent, in seconds since 1970, by the sender's clock."""
    text: str
    state: str
    """Of a message a `MessageState`, of a file how far it is."""


class Book:
    """The messenger's own tables. A call takes milliseconds: nothing here waits for a network."""

    def __init__(self, file: Path) -> None:
        self.file = file
        """Where it is; the store of the conversations too."""
        # Made for its owner alone, before there is anything in it.
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
        self._database = sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    # -- settings and contacts ------------------------------------------------------------------

    def setting(self, key: str) -> str | None:
        """Return what was set last."""
        row = self._database.execute(
            "SELECT value FROM chat_settings WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else str(row[0])

    def set(self, key: str, value: str) -> None:
        """Keep a setting."""
        self._database.execute("INSERT OR REPLACE INTO chat_settings VALUES (?, ?)", (key, value))

    def contacts(self) -> list[Contact]:
        """Return all that are kept, the first added first."""
        rows = self._database.execute(
            "SELECT guid, name, mode, standing FROM chat_contacts ORDER BY rowid"
        )
        return [
            Contact(guid, name, Mode(mode), Standing(standing))
            for guid, name, mode, standing in rows
        ]

    def put(self, contact: Contact) -> None:
        """Keep a contact, in the place of what was known of it."""
        self._database.execute(
            "INSERT INTO chat_contacts VALUES (?, ?, ?, ?) ON CONFLICT (guid) DO UPDATE"
            " SET name = excluded.name, mode = excluded.mode, standing = excluded.standing",
            (contact.guid, contact.name, contact.mode.value, contact.standing.value),
        )

    # -- what was said --------------------------------------------------------------------------

    def lines(self, guid: str) -> list[Line]:
        """Return the last lines with somebody, the oldest first."""
        rows = self._database.execute(
            "SELECT number, id, is_own, at, text, state FROM chat_lines"
            " WHERE guid = ? ORDER BY number DESC LIMIT ?",
            (guid, _SHOWN),
        ).fetchall()
        return [
            Line(number, name, bool(is_own), at, text, state)
            for number, name, is_own, at, text, state in reversed(rows)
        ]

    def arrival(self, message: Message, text: str) -> Callable[[sqlite3.Connection], object]:
        """Return what writes a message of others, for `Message.done(also=...)`."""
        row = (message.sender, message.id, False, message.sent, text, "")
        return partial(_insert, row)

    def departure(
        self, guid: str, message_id: str, text: str
    ) -> Callable[[sqlite3.Connection], object]:
        """Return what writes a message of the user, for `Conversation.send(also=...)`."""
        return partial(_insert, (guid, message_id, True, time.time(), text, "queued"))

    def mark(self, guid: str, message_id: str, state: str) -> None:
        """Write down how a message of the user stands."""
        self._database.execute(
            "UPDATE chat_lines SET state = ? WHERE guid = ? AND is_own AND id = ?",
            (state, guid, message_id),
        )

    def add_file(self, guid: str, text: str, *, is_own: bool) -> int:
        """Write down that a file is on its way; return the number of its line."""
        row = (guid, None, is_own, time.time(), text, "on its way")
        return _insert(row, self._database)

    def mark_file(self, number: int, state: str) -> None:
        """Write down what has become of a file."""
        self._database.execute("UPDATE chat_lines SET state = ? WHERE number = ?", (state, number))

    def break_off_files(self) -> None:
        """No file is on its way any more: the program has ended since."""
        self._database.execute(
            "UPDATE chat_lines SET state = 'broken off' WHERE state = 'on its way'"
        )


def _insert(
    row: tuple[str, str | None, bool, float, str, str], database: sqlite3.Connection
) -> int:
    cursor = database.execute(
        "INSERT INTO chat_lines (guid, id, is_own, at, text, state) VALUES (?, ?, ?, ?, ?, ?)", row
    )
    return cursor.lastrowid or 0
