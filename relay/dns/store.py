"""What peers have registered by DNS updates: one row for each peer.

It is replaced in one transaction that is on the disk before the update is answered; what that means
is in `relay.store`. In a cluster the nodes keep it together (`relay/cluster/zone.py`).
"""

import sqlite3
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from relay.backplane import ZoneUpdate
from relay.config import ConfigError
from relay.log import log
from relay.store import Database, StoreFailed, StoreUnsure

__all__ = [
    "DnsStore",
    "StoreFailed",
    "StoreUnsure",
    "Stored",
    "ZoneStore",
    "read_records",
    "write_records",
]

Told = Callable[[ZoneUpdate], None]
"""Told what is registered for a peer now."""

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


def write_records(records: Stored) -> bytes:
    """Return records as they are stored; empty where there are none."""
    rows = [_Row(name, kind, ttl, data) for (name, kind), (ttl, data) in records.items()]
    return _encode(rows) if rows else b""


def read_records(body: bytes) -> Stored:
    """Return what is stored.

    Raises:
        msgspec.MsgspecError: it is something else.
    """
    rows = _decode(body) if body else []
    return {(row.name, row.kind): (row.ttl, row.data) for row in rows}


class ZoneStore(Protocol):
    """Where what updates have registered is kept: of this relay, or of a whole cluster."""

    @property
    def has_learned(self) -> bool:
        """Whether it is known, or was once, what is registered."""

    async def open(self, remember: float, told: Told) -> None:
        """Tell what is registered, and what is from then on. What nobody has renewed for `remember`
        seconds is not, any more.

        Raises:
            ConfigError: it cannot be read; says why, and what to do.
        """

    async def change(self, guid: str, mac: bytes, make: Callable[[], bytes]) -> None:
        """Register what `make` returns for a peer, in place of what is. It may be asked several
        times, and may raise; `mac` is of the signature of the update.

        Raises:
            StoreFailed: it is not registered; or, `StoreUnsure`, it may be.
        """

    async def forget(self, guid: str) -> None:
        """Remove what is stored of a peer, from the disk too.

        Raises:
            StoreFailed: it may be there still.
        """

    async def drop_old(self, remember: float) -> None:
        """Drop what nobody has renewed for so long.

        Raises:
            StoreFailed: nothing has changed.
        """

    async def close(self) -> None:
        """Keep nothing more; what was accepted is kept."""


class DnsStore:
    """One database: a `ZoneStore` of one relay. Call `open` first and `close` last."""

    VERSION = len(_MIGRATIONS)
    """Of its tables: a newer program has written what is above."""
    has_learned = True

    def __init__(self, file: str | None, *, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._database = Database(file, _MIGRATIONS, "dns")
        self._told: Told = lambda update: None

    async def open(self, remember: float, told: Told) -> None:
        if self._file is None:
            log.warning("no [dns] store: DNS updates are forgotten at the end")
        self._told = told
        await self._database.open()
        try:
            await self.drop_old(remember)
            for guid, body in await self._database.run(_load):
                read_records(body)
                told(ZoneUpdate(guid, body))
        except (StoreFailed, msgspec.DecodeError) as error:
            raise ConfigError(
                f"dns: cannot use the store {self._file}: {error} (move it away: peers will "
                "register anew)"
            ) from None

    async def change(self, guid: str, mac: bytes, make: Callable[[], bytes]) -> None:
        body = make()
        await self._database.run(lambda database: _put(database, guid, self._clock(), body))
        self._told(ZoneUpdate(guid, body, mac))

    async def forget(self, guid: str) -> None:
        await self.change(guid, b"", bytes)
        await self._database.scrub()

    async def drop_old(self, remember: float) -> None:
        oldest = self._clock() - remember
        for guid in await self._database.run(lambda database: _drop_before(database, oldest)):
            self._told(ZoneUpdate(guid, b""))

    async def close(self) -> None:
        await self._database.close()


def _load(database: sqlite3.Connection) -> list[tuple[str, bytes]]:
    return database.execute("SELECT guid, records FROM peers").fetchall()


def _put(database: sqlite3.Connection, guid: str, now: float, body: bytes) -> None:
    if not body:
        database.execute("DELETE FROM peers WHERE guid = ?", (guid,))
    else:
        database.execute("INSERT OR REPLACE INTO peers VALUES (?, ?, ?)", (guid, now, body))


def _drop_before(database: sqlite3.Connection, oldest: float) -> list[str]:
    rows = database.execute("DELETE FROM peers WHERE updated < ? RETURNING guid", (oldest,))
    return [guid for (guid,) in rows.fetchall()]
