"""What peers have registered by DNS updates: one row for each peer.

It is replaced in one transaction that is on the disk before the update is answered; what that means
is in `relay.store`.
"""

import sqlite3
import time
from collections.abc import Callable

import msgspec

from relay.config import ConfigError
from relay.store import Database, StoreFailed

__all__ = ["DnsStore", "StoreFailed", "Stored"]

Stored = dict[tuple[str, str], tuple[int, tuple[str, ...]]]
"""(name below the zone, type) to the TTL and the data of its records as text."""

_MIGRATIONS = (
    # Version 0 had this table without a number.
    "CREATE TABLE IF NOT EXISTS peers "
    "(guid TEXT PRIMARY KEY, updated REAL NOT NULL, records BLOB NOT NULL) WITHOUT ROWID",
)


class _Row(msgspec.Struct, array_like=True):
    name: str
    kind: str
    ttl: int
    data: tuple[str, ...]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[_Row]).decode


class DnsStore:
    """One database. Call `open` first and `close` last."""

    VERSION = len(_MIGRATIONS)
    """Of its tables: a newer program has written what is above."""

    def __init__(self, file: str | None, *, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._database = Database(file, _MIGRATIONS, "dns")

    async def open(self, remember: float) -> dict[str, Stored]:
        """Return all that is stored and not older than `remember` seconds; the rest is dropped.

        Raises:
            ConfigError: the file cannot be used; says why, and what to do.
        """
        await self._database.open()
        try:
            await self.drop_old(remember)
            return await self._database.run(_load)
        except (StoreFailed, msgspec.DecodeError) as error:
            raise ConfigError(
                f"dns: cannot use the store {self._file}: {error} (move it away: peers will "
                "register anew)"
            ) from None

    async def put(self, guid: str, records: Stored) -> None:
        """Replace what is stored of a peer; nothing, where `records` is empty.

        Raises:
            StoreFailed: nothing has changed.
        """
        rows = [_Row(name, kind, ttl, data) for (name, kind), (ttl, data) in records.items()]
        body = _encode(rows) if rows else None
        await self._database.run(lambda database: _put(database, guid, self._clock(), body))

    async def forget(self, guid: str) -> None:
        """Remove what is stored of a peer, from the disk too.

        Raises:
            StoreFailed: it may be there still.
        """
        await self.put(guid, {})
        await self._database.scrub()

    async def drop_old(self, remember: float) -> list[str]:
        """Drop what is older than `remember` seconds; return whose it was.

        Raises:
            StoreFailed: nothing has changed.
        """
        oldest = self._clock() - remember
        return await self._database.run(lambda database: _drop_before(database, oldest))

    async def close(self) -> None:
        """Close the database."""
        await self._database.close()


def _load(database: sqlite3.Connection) -> dict[str, Stored]:
    found = {}
    for guid, body in database.execute("SELECT guid, records FROM peers"):
        found[guid] = {(row.name, row.kind): (row.ttl, row.data) for row in _decode(body)}
    return found


def _put(database: sqlite3.Connection, guid: str, now: float, body: bytes | None) -> None:
    if body is None:
        database.execute("DELETE FROM peers WHERE guid = ?", (guid,))
    else:
        database.execute("INSERT OR REPLACE INTO peers VALUES (?, ?, ?)", (guid, now, body))


def _drop_before(database: sqlite3.Connection, oldest: float) -> list[str]:
    rows = database.execute("DELETE FROM peers WHERE updated < ? RETURNING guid", (oldest,))
    return [guid for (guid,) in rows.fetchall()]
