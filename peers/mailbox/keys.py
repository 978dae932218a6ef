"""The tables of the mailbox: the private halves of prekeys, and which letters came before.

Each function runs within one transaction of whoever has the database. Times are Unix time of this
host; that it may be wrong changes how long a key is kept, and nothing else.
"""

import os
import sqlite3
from typing import TypeAlias

__all__ = [
    "MIGRATION",
    "Tables",
    "current",
    "half_of",
    "is_new",
    "make_one_time",
    "settle",
    "settled_place",
]

Tables: TypeAlias = sqlite3.Connection | sqlite3.Cursor
"""A database within a transaction; its rows are read by position."""

MIGRATION = """
    CREATE TABLE roam_prekey (
        number INTEGER PRIMARY KEY, half BLOB NOT NULL, one_time INTEGER NOT NULL,
        made REAL NOT NULL, replaced REAL
    );
    CREATE INDEX roam_prekey_made ON roam_prekey (one_time, made);
    CREATE TABLE roam_letter (
        sender TEXT NOT NULL, id BLOB NOT NULL, place INTEGER NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (sender, id)
    ) WITHOUT ROWID;
    CREATE INDEX roam_letter_at ON roam_letter (at)
    """
"""Statements that make the tables, in a database that has others."""

ROTATION = 7 * 86_400.0
"""Seconds after which another prekey for all takes the place of the last one."""
KEPT = 31 * 86_400.0
"""Seconds for which the one that was replaced still opens letters: those that were sealed for it
wait for 30 days at most, unless a relay keeps them for longer."""
_MAX_ONE_TIME = 4_096
"""Prekeys for one letter each whose halves are kept; beyond it the oldest open nothing more."""
_MAX_LETTERS = 100_000
"""Letters that are remembered; beyond it the oldest, if it came again, would be another one."""


def is_new(tables: Tables) -> bool:
    """Whether there is no prekey at all: nothing is known here of those that a relay may have."""
    return tables.execute("SELECT 1 FROM roam_prekey LIMIT 1").fetchone() is None


def current(tables: Tables, now: float) -> tuple[int, bytes]:
    """Return number and private half of the prekey for all, made where it is time for another one;
    halves that are of no use any more are destroyed."""
    row = tables.execute(
        "SELECT number, half, made FROM roam_prekey WHERE NOT one_time AND replaced IS NULL"
    ).fetchone()
    if row is not None and abs(now - row[2]) < ROTATION:
        return int(row[0]), bytes(row[1])
    tables.execute(
        "UPDATE roam_prekey SET replaced = ? WHERE NOT one_time AND replaced IS NULL", (now,)
    )
    # Also where the clock has gone back: what is replaced in days to come is not kept for ever.
    tables.execute(
        "DELETE FROM roam_prekey WHERE replaced < ? OR replaced > ?", (now - KEPT, now + KEPT)
    )
    tables.execute("DELETE FROM roam_letter WHERE at < ?", (now - 2 * KEPT,))
    return _make(tables, now, one_time=False)


def make_one_time(tables: Tables, now: float, count: int) -> list[tuple[int, bytes]]:
    """Make so many prekeys for one letter each; return their numbers and private halves."""
    tables.execute(
        "DELETE FROM roam_prekey WHERE number IN (SELECT number FROM roam_prekey WHERE one_time "
        "ORDER BY made DESC LIMIT -1 OFFSET ?)",
        (_MAX_ONE_TIME - count,),
    )
    return [_make(tables, now, one_time=True) for _ in range(count)]


def half_of(tables: Tables, number: int) -> bytes | None:
    """Return the private half of a prekey; None where it is not kept."""
    row = tables.execute("SELECT half FROM roam_prekey WHERE number = ?", (number,)).fetchone()
    return bytes(row[0]) if row is not None else None


def settled_place(tables: Tables, sender: str, letter: bytes) -> int | None:
    """Return the place in the mailbox of a letter of this sender and id that came before and is
    safe; None where there is none."""
    found = tables.execute(
        "SELECT place FROM roam_letter WHERE sender = ? AND id = ?", (sender, letter)
    ).fetchone()
    return int(found[0]) if found is not None else None


def settle(tables: Tables, letter: tuple[str, bytes, int], number: int, now: float) -> None:
    """A letter, of a sender, with an id, at a place, is safe: if it comes again it is a replay, and
    the half of a prekey that was for it alone is destroyed."""
    tables.execute("INSERT OR REPLACE INTO roam_letter VALUES (?, ?, ?, ?)", (*letter, now))
    tables.execute("DELETE FROM roam_prekey WHERE number = ? AND one_time", (number,))
    tables.execute(
        "DELETE FROM roam_letter WHERE (sender, id) IN (SELECT sender, id FROM roam_letter "
        "ORDER BY at DESC LIMIT 16 OFFSET ?)",
        (_MAX_LETTERS,),
    )


def _make(tables: Tables, now: float, *, one_time: bool) -> tuple[int, bytes]:
    # At random: the relay learns nothing of how many there were, nor of a store that was lost.
    number, half = int.from_bytes(os.urandom(8), "big") >> 1, os.urandom(32)
    tables.execute(
        "INSERT INTO roam_prekey VALUES (?, ?, ?, ?, NULL)", (number, half, one_time, now)
    )
    return number, half
