"""One SQLite file: for its owner alone, brought up to the version of now, written durably.

What a call has returned from is on the disk: kill -9 and a power loss keep it, and a full disk
keeps what was there before. Every call runs in one thread of its own, never on the event loop.
What is in the tables is decided by who opens them.
"""

import asyncio
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from relay.config import ConfigError
from relay.log import log

__all__ = ["Database", "Migrations", "StoreConflict", "StoreFailed", "StoreUnsure"]

_T = TypeVar("_T")

Migrations: TypeAlias = Sequence[str]
"""Statements that lead from one version of the tables to the next, the first from an empty file.
None of them is ever changed: what was deployed has been through it."""

_BUSY = 5.0
"""Seconds for another program that has the file open, as a backup does."""


class StoreFailed(Exception):
    """The database did not take it; nothing has changed."""


class StoreConflict(StoreFailed):
    """Somebody else has changed it since it was read; nothing has changed by this."""


class StoreUnsure(StoreFailed):
    """Nobody has said that it is stored: it may be, or not."""


class Database:
    """One file; None is in memory, and forgotten at the end. Call `open` first and `close` last.

    `name` is what it is in the configuration, for messages.
    """

    def __init__(self, file: str | None, migrations: Migrations, name: str) -> None:
        self._file = file
        self._migrations = migrations
        self._name = name
        self._thread = ThreadPoolExecutor(1, "relay-store")
        self._connection: sqlite3.Connection | None = None
        """None while it is not open. In the thread only."""
        self._is_closed = False
        self._version = 0
        """Of the file, as SQLite counts the changes of others. In the thread only."""

    async def open(self) -> None:
        """Open the file, made where there is none, and bring its tables up to the version of now.

        Raises:
            ConfigError: it cannot be used, or a newer version has written it; says what to do.
        """
        try:
            await self._in_thread(self._open)
        except StoreFailed as error:
            raise ConfigError(
                f"{self._name}: cannot use the store {self._file}: {error} (give it back to this "
                "program, or move it away: what is in it is forgotten then)"
            ) from None

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do work in one transaction, which is on the disk when this returns.

        Raises:
            StoreFailed: nothing has changed.
        """
        return await self._in_thread(lambda: self._transaction(work))

    async def changed(self) -> bool:
        """Return whether another process has changed the file since this was asked last.

        Raises:
            StoreFailed: it cannot be said.
        """
        return await self._in_thread(self._has_changed)

    async def scrub(self) -> None:
        """See that what was deleted is gone from the disk too, as far as files can say that: from
        SQLite's log beside the file. It may be there for longer while others read the file.

        Raises:
            StoreFailed: it is there for longer.
        """
        await self._in_thread(self._scrub)

    async def close(self) -> None:
        """Close the file. Nothing is done any more."""
        if not self._is_closed:
            closing = self._thread.submit(self._close)
            self._is_closed = True
            self._thread.shutdown(wait=False)
            await asyncio.shield(asyncio.wrap_future(closing))

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        def guarded() -> _T:
            try:
                return work()
            except (sqlite3.Error, OSError) as error:
                raise StoreFailed(str(error)) from None

        if self._is_closed:
            raise StoreFailed("the store is not open")
        # Not cancelled half-way: what the database has taken must be known.
        return await asyncio.shield(
            asyncio.get_running_loop().run_in_executor(self._thread, guarded)
        )

    # -- in the thread --------------------------------------------------------------------------

    def _open(self) -> None:
        if self._file is not None:
            _make_private(self._file)
        connection = sqlite3.connect(
            self._file or ":memory:", isolation_level=None, check_same_thread=False, timeout=_BUSY
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            # What is deleted is written over: nobody finds it in the file afterwards.
            connection.execute("PRAGMA secure_delete = ON")
            self._go_up(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._has_changed()

    def _go_up(self, connection: sqlite3.Connection) -> None:
        """Each step is one transaction with the number of its version: a kill between two of them,
        or within one, leaves a version that is whole; of two programs that open a file at once one
        makes the step."""
        version = _version_of(connection)
        while version < len(self._migrations):
            connection.execute("BEGIN IMMEDIATE")
            try:
                if _version_of(connection) == version:
                    for statement in _statements(self._migrations[version]):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {version + 1}")
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            version = _version_of(connection)
        if version > len(self._migrations):
            raise StoreFailed(
                f"a newer version of this program has written it (its tables are of version "
                f"{version}, and {len(self._migrations)} is the newest known here): run that one"
            )

    def _transaction(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        connection = self._connection
        if connection is None:
            raise StoreFailed("the store is not open")
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    def _has_changed(self) -> bool:
        if self._connection is None:
            return False
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        before, self._version = self._version, version
        return bool(version != before)

    def _scrub(self) -> None:
        if self._connection is not None:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _make_private(file: str) -> None:
    """Make the file where there is none, and take from others what they may do with it. SQLite
    gives the files beside it the same permissions."""
    folder = os.path.dirname(os.path.abspath(file))
    there = os.stat(folder).st_mode
    if os.name == "posix" and there & stat.S_IWOTH and not there & stat.S_ISVTX:
        raise StoreFailed(
            f"others may write into {folder} (mode {stat.S_IMODE(there):04o}), and so replace the "
            f"file: run 'chmod 700 {folder}'"
        )
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if os.name == "posix" and mode & 0o077:
            os.fchmod(descriptor, 0o600)
            log.warning(
                "others could read or write the store: now its owner alone can",
                file=file,
                mode=f"{mode:04o}",
            )
    finally:
        os.close(descriptor)


def _version_of(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _statements(script: str) -> Iterator[str]:
    """Return the statements of a script one by one: as a whole it would end the transaction."""
    statement = ""
    for part in script.split(";"):
        statement += f"{part};"
        if statement.strip("; \n") and sqlite3.complete_statement(statement):
            yield statement
            statement = ""
