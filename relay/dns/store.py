"""What peers have registered by DNS updates, kept in SQLite: one row for each peer.

A row is replaced in one transaction that is on the disk before the update is answered: kill -9 and
a power loss keep what was acknowledged, and a full disk keeps what was there before. Every call
runs in one thread of its own, never on the event loop.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from relay.config import ConfigError

__all__ = ["DnsStore", "StoreFailed", "Stored"]

_T = TypeVar("_T")

Stored = dict[tuple[str, str], tuple[int, tuple[str, ...]]]
"""(name below the zone, type) to the TTL and the data of its records as text."""


class StoreFailed(Exception):
    """The database did not take it; nothing has changed."""


class _Row(msgspec.Struct, array_like=True):
    name: str
    kind: str
    ttl: int
    data: tuple[str, ...]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[_Row]).decode


class DnsStore:
    """One database. Call `open` first and `close` last."""

    def __init__(self, file: str | None, *, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "dns-store")
        self._table: _Table | None = None
        """None while it is not open. In the thread only."""

    async def open(self, remember: float) -> dict[str, Stored]:
        """Return all that is stored and not older than `remember` seconds; the rest is dropped.

        Raises:
            ConfigError: the file cannot be used; says why, and what to do.
        """
        try:
            return await self._run(lambda: self._open(remember))
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
        await self._run(lambda: self._opened().put(guid, body))

    async def drop_old(self, remember: float) -> list[str]:
        """Drop what is older than `remember` seconds; return whose it was.

        Raises:
            StoreFailed: nothing has changed.
        """
        return await self._run(lambda: self._opened().drop_old(remember))

    async def close(self) -> None:
        """Close the database."""
        await self._run(self._close)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], _T]) -> _T:
        def guarded() -> _T:
            try:
                return work()
            except sqlite3.Error as error:
                raise StoreFailed(str(error)) from None

        # Not cancelled half-way: what the database has taken must be known.
        return await asyncio.shield(
            asyncio.get_running_loop().run_in_executor(self._thread, guarded)
        )

    # -- in the thread --------------------------------------------------------------------------

    def _open(self, remember: float) -> dict[str, Stored]:
        database = sqlite3.connect(
            self._file or ":memory:", isolation_level=None, check_same_thread=False, timeout=5.0
        )
        table = self._table = _Table(database, self._clock)
        return table.load(remember)

    def _opened(self) -> "_Table":
        if self._table is None:
            raise StoreFailed("the store is not open")
        return self._table

    def _close(self) -> None:
        table, self._table = self._table, None
        if table is not None:
            table.close()


class _Table:
    """The table in an open database. Each call is in the store's thread, and may raise
    `sqlite3.Error`; then nothing has changed."""

    def __init__(self, database: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def load(self, remember: float) -> dict[str, Stored]:
        """Make the table where there is none; return what is in it, and not too old."""
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS peers "
            "(guid TEXT PRIMARY KEY, updated REAL NOT NULL, records BLOB NOT NULL) WITHOUT ROWID"
        )
        self.drop_old(remember)
        found = {}
        for guid, body in self._database.execute("SELECT guid, records FROM peers"):
            found[guid] = {(row.name, row.kind): (row.ttl, row.data) for row in _decode(body)}
        return found

    def put(self, guid: str, body: bytes | None) -> None:
        """Replace the row of a peer; without a body it has none."""
        if body is None:
            self._database.execute("DELETE FROM peers WHERE guid = ?", (guid,))
        else:
            self._database.execute(
                "INSERT OR REPLACE INTO peers VALUES (?, ?, ?)", (guid, self._clock(), body)
            )

    def drop_old(self, remember: float) -> list[str]:
        """Drop the rows that are older than `remember` seconds; return whose they were."""
        rows = self._database.execute(
            "DELETE FROM peers WHERE updated < ? RETURNING guid", (self._clock() - remember,)
        )
        return [guid for (guid,) in rows.fetchall()]

    def close(self) -> None:
        """Close the database."""
        self._database.close()
