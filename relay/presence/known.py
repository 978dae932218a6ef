"""The GUIDs that have registered, kept in the store: a relay that starts knows who may come back.

Written behind, once a second at most and in the store's own thread: a kill loses the last second.
No more are kept than peers that have gone are remembered; beyond it the network that has most
loses those that were seen longest ago.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from relay.limits import cause_of
from relay.log import log
from relay.presence.registry import RegisteredPeer, Registry
from relay.store import Database, StoreFailed

__all__ = ["Keeping", "KnownPeers"]

_MIGRATIONS = (
    """
    CREATE TABLE known (
        guid TEXT PRIMARY KEY, wide TEXT NOT NULL, network TEXT NOT NULL, seen REAL NOT NULL,
        here INTEGER NOT NULL, shown INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX known_by_network ON known (wide, network, seen);
    CREATE INDEX known_by_age ON known (seen, guid);
    CREATE TABLE alive (one INTEGER PRIMARY KEY CHECK (one = 1), at REAL NOT NULL)
    """,
)
_MAX_WAITING = 10_000
"""Changes that wait to be written. A store that takes none for so long forgets the oldest."""
_AT_ONCE = 250
"""Rows that are read at once, and taken before others have their turn: some 4 ms."""
_LEFT = 0.95
"""What is left where there are too many: some room, as it takes a quarter of a second of a thread
to find who has most."""
_ALIVE = 60.0
"""Seconds between two notes of when the relay was alive: until then whoever is here was seen."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """How many are kept, for how many seconds, and where; `file` is None without a state folder:
    then nothing is kept."""

    file: str | None
    most: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Row:
    guid: str
    wide: str
    network: str
    seen: float
    """Unix time at which anything was heard of it last."""
    here: bool
    """Whether it was registered: then it was seen for as long as the relay was alive."""
    shown: bool


class KnownPeers:
    """Those of one relay. Call `open` first and `close` last; `clock` gives Unix time."""

    VERSION = len(_MIGRATIONS)
    """Of its tables: a newer program has written what is above."""

    def __init__(self, keeping: Keeping, clock: Callable[[], float]) -> None:
        self._keeping = keeping
        self._clock = clock
        self._database = (
            Database(keeping.file, _MIGRATIONS, "state") if keeping.file is not None else None
        )
        self._changed: dict[str, _Row] = {}
        """What is not written yet, the oldest first."""
        self._writing = asyncio.Lock()
        self._noted_alive = 0.0
        self._fails = False

    async def open(self) -> None:
        """Open the store: whoever was here when the relay ended is not here now.

        Raises:
            ConfigError: the file cannot be used.
        """
        if self._database is None:
            return
        await self._database.open()
        try:
            await self._database.run(partial(_begin, self._clock() - self._keeping.seconds))
        except StoreFailed as error:
            self._complain(error)

    async def load(self, registry: Registry, clock: Callable[[], float]) -> None:
        """Tell a registry of all that are known, piece by piece; `clock` is the registry's."""
        after = (0.0, "")
        while self._database is not None:
            try:
                rows = await self._database.run(partial(_next, after))
            except StoreFailed as error:
                self._complain(error)
                return
            now, wall = clock(), self._clock()
            for row in rows:
                registry.recall(
                    row.guid, row.network, now, max(0.0, wall - row.seen), shown=row.shown
                )
            if len(rows) < _AT_ONCE:
                return
            after = rows[-1].seen, rows[-1].guid

    def came(self, peer: RegisteredPeer) -> None:
        """A peer is here, or shows something else to everybody now."""
        flow = peer.primary
        if flow is not None:
            self._note(peer.guid, flow.observed_host, 0.0, here=True, shown=peer.is_shown)

    def went(self, guid: str, host: str, ago: float, *, shown: bool) -> None:
        """A peer has gone, of which something was heard so many seconds ago."""
        self._note(guid, host, ago, here=False, shown=shown)

    async def write(self) -> None:
        """Write what has changed; what cannot be written is tried again the next time."""
        database, now = self._database, self._clock()
        if database is None or self._writing.locked():
            return
        if not self._changed and 0 <= now - self._noted_alive < _ALIVE:
            return
        async with self._writing:
            rows, self._changed = self._changed, {}
            try:
                await database.run(partial(_write, list(rows.values()), now, self._keeping))
            except StoreFailed as error:
                self._changed = {**rows, **self._changed}
                self._trim()
                self._complain(error)
            else:
                self._noted_alive, self._fails = now, False

    async def forget(self, guid: str) -> bool:
        """Remove what is kept of a peer, from the disk too; return whether there was anything.

        Raises:
            StoreFailed: it may be there still.
        """
        if self._database is None:
            return False
        async with self._writing:  # What is being written now may have it. Bounded as in `close`.
            waited = self._changed.pop(guid, None)
            rows = await self._database.run(partial(_forget, guid))
            await self._database.scrub()
        return waited is not None or rows > 0

    async def close(self) -> None:
        """Write the rest, and close the store."""
        database = self._database
        if database is not None:
            try:
                async with self._writing:  # Bounded, as SQLite's own timeout is.
                    pass
                self._noted_alive = 0.0
                await self.write()
            finally:
                self._database = None  # Nothing is written any more.
                await database.close()

    def _note(self, guid: str, host: str, ago: float, *, here: bool, shown: bool) -> None:
        if self._database is None:
            return
        cause = cause_of(host)
        self._changed.pop(guid, None)
        self._changed[guid] = _Row(
            guid, cause.wide, cause.network, self._clock() - ago, here, shown
        )
        self._trim()

    def _trim(self) -> None:
        while len(self._changed) > _MAX_WAITING:
            del self._changed[next(iter(self._changed))]

    def _complain(self, error: StoreFailed) -> None:
        if not self._fails:
            self._fails = True
            log.warning("who is known is not stored", reason=str(error))


# -- in the store's thread, each in a transaction ------------------------------------------------


def _begin(oldest: float, tables: sqlite3.Connection) -> None:
    tables.execute(
        "UPDATE known SET here = 0, seen = MAX(seen, (SELECT at FROM alive)) "
        "WHERE here = 1 AND EXISTS (SELECT 1 FROM alive)"
    )
    tables.execute("DELETE FROM known WHERE seen < ?", (oldest,))


def _forget(guid: str, tables: sqlite3.Connection) -> int:
    return tables.execute("DELETE FROM known WHERE guid = ?", (guid,)).rowcount


def _next(after: tuple[float, str], tables: sqlite3.Connection) -> list[_Row]:
    return [
        _Row(guid, wide, network, seen, bool(here), bool(shown))
        for guid, wide, network, seen, here, shown in tables.execute(
            "SELECT guid, wide, network, seen, here, shown FROM known "
            "WHERE (seen, guid) > (?, ?) AND here = 0 ORDER BY seen, guid LIMIT ?",
            (*after, _AT_ONCE),
        )
    ]


def _write(rows: list[_Row], now: float, keeping: Keeping, tables: sqlite3.Connection) -> None:
    tables.executemany(
        "INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?, ?)",
        (
            (row.guid, row.wide, row.network, row.seen, int(row.here), int(row.shown))
            for row in rows
        ),
    )
    tables.execute("INSERT OR REPLACE INTO alive VALUES (1, ?)", (now,))
    tables.execute("DELETE FROM known WHERE here = 0 AND seen < ?", (now - keeping.seconds,))
    (count,) = tables.execute("SELECT COUNT(*) FROM known").fetchone()
    if count > keeping.most:
        tables.execute(_EVICT, (count - int(keeping.most * _LEFT),))


_EVICT = """
    DELETE FROM known WHERE guid IN (
        SELECT guid FROM (
            SELECT guid, seen, ROW_NUMBER() OVER (
                PARTITION BY wide ORDER BY in_network, seen DESC, guid
            ) AS in_wide
            FROM (
                SELECT guid, wide, seen, ROW_NUMBER() OVER (
                    PARTITION BY wide, network ORDER BY seen DESC, guid
                ) AS in_network
                FROM known
            )
        )
        ORDER BY in_wide DESC, seen, guid LIMIT ?
    )
"""
"""Who has most loses its oldest until others have as many: first the wide networks, then the
networks in them."""
