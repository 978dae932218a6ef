"""One SQLite database in a thread of its own: what a call has returned from is on the disk.

Calls that wait at the same time share one transaction, and so one wait for the disk; each of them
is undone by itself where it fails. What is in the tables is in tables.py.
"""

import asyncio
import contextlib
import os
import sqlite3
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from protocol.errors import (
    ConnectionClosed,
    StoreDamaged,
    StoreFailed,
    StoreForeign,
    StoreFull,
    StoreLocked,
    StoreTooNew,
    UsageError,
)

if sys.platform != "win32":
    import fcntl

__all__ = ["Database", "Work"]

_T = TypeVar("_T")

Work = Callable[[sqlite3.Connection], object]
"""The program's own part of a transaction."""

_BUSY = 5.0
"""Seconds for another program that writes into the same database."""
_TOGETHER = 256
"""Calls in one transaction; beyond it the first would wait for the last."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


@dataclass(slots=True)
class _Call:
    work: Callable[[sqlite3.Connection], Any]
    done: "asyncio.Future[Any]"
    alone: bool
    """Whether nothing else is in its transaction."""
    result: Any = None
    error: BaseException | None = None


class Database:
    """A file, or a connection of the program's own. Call `open` first and `close` last."""

    def __init__(
        self, store: "str | os.PathLike[str] | sqlite3.Connection", migrations: Sequence[str]
    ) -> None:
        self._store = store
        self._migrations = migrations
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "peers-store")
        self._waiting: deque[_Call] = deque()
        self._turn = threading.Lock()
        """Held to look whether the thread is at work, and by it to stop."""
        self._is_working = False
        self._is_closed = False
        # In the thread only:
        self._connection: sqlite3.Connection | None = None
        """None while it is not open."""
        self._held = contextlib.ExitStack()
        """What is given back at the end."""

    @property
    def name(self) -> str:
        """What it is called in messages."""
        if isinstance(self._store, sqlite3.Connection):
            return "the program's database"
        return f"the store {os.fspath(self._store):.200}"

    async def open(self, owner: str) -> None:
        """Open it, made where there is none, and bring its tables up to the version of now. `owner`
        is the GUID whose conversations these are.

        Raises:
            StoreFailed: it cannot be used; the class says which fault it is.
            UsageError: the program's connection may not be used from here.
        """
        await self._in_thread(lambda: self._open(owner))

    async def run(self, work: Callable[[sqlite3.Connection], _T], *, alone: bool = False) -> _T:
        """Do work in a transaction, which is on the disk when this returns: `alone`, where it is
        not ours alone and may end it. Whoever is cancelled here does not know whether it was done.

        Raises:
            StoreFailed: nothing has changed.
            Exception: what the work has raised; nothing has changed.
        """
        if self._is_closed:
            raise ConnectionClosed(f"{self.name} is closed")
        call = _Call(work, self._loop.create_future(), alone)
        with self._turn:
            self._waiting.append(call)
            begins, self._is_working = not self._is_working, True
        if begins:
            self._thread.submit(self._work)
        # No timeout: a disk takes as long as it takes.
        result: _T = await asyncio.shield(call.done)
        return result

    async def close(self) -> None:
        """Do what was asked for, and close it. Nothing is done any more. A connection of the
        program's own stays open."""
        if not self._is_closed:
            self._is_closed = True
            closing = self._thread.submit(self._close)
            self._thread.shutdown(wait=False)
            await asyncio.shield(asyncio.wrap_future(closing))

    async def _in_thread(self, work: Callable[[], None]) -> None:
        def guarded() -> None:
            with _as_ours(self.name):
                work()

        doing = self._loop.run_in_executor(self._thread, guarded)
        await asyncio.shield(doing)

    # -- in the thread --------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._turn:
                calls = self._together()
                if not calls:
                    self._is_working = False
                    return
            try:
                with _as_ours(self.name):
                    self._transaction(calls)
            except Exception as error:
                for call in calls:
                    call.error = call.error or error
            with contextlib.suppress(RuntimeError):  # The loop has ended: nobody waits.
                self._loop.call_soon_threadsafe(_tell, calls)

    def _together(self) -> list[_Call]:
        """Take out the calls of the next transaction."""
        calls: list[_Call] = []
        while self._waiting and len(calls) < _TOGETHER:
            if calls and (self._waiting[0].alone or calls[0].alone):
                break
            calls.append(self._waiting.popleft())
        return calls

    def _transaction(self, calls: list[_Call]) -> None:
        connection = self._connection
        if connection is None:
            raise StoreFailed(f"{self.name} is not open")
        if connection.in_transaction:
            raise UsageError(
                f"{self.name} is in a transaction of the program: what belongs together is done "
                "by also=, and anything else by another connection"
            )
        connection.execute("BEGIN IMMEDIATE")
        try:
            for call in calls:
                connection.execute("SAVEPOINT roam")
                try:
                    with _as_ours(self.name):
                        call.result = call.work(connection)
                    if not connection.in_transaction:
                        raise UsageError(
                            "also= has ended the transaction, as commit and executescript do: what "
                            "was written before is written"
                        )
                except Exception as error:
                    if not connection.in_transaction:  # SQLite has undone all of it, or the work.
                        raise
                    call.error = error
                    connection.execute("ROLLBACK TO roam")
                connection.execute("RELEASE roam")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _open(self, owner: str) -> None:
        with contextlib.ExitStack() as held:
            if isinstance(self._store, sqlite3.Connection):
                connection = self._store
                if connection.in_transaction:
                    raise UsageError("the database is in a transaction: commit it first")
                if file := _file_of(connection):
                    held.enter_context(_locked(file, self.name))
            else:
                file = os.path.abspath(os.fspath(self._store))
                _make_private(file)
                held.enter_context(_locked(file, self.name))
                connection = sqlite3.connect(
                    file, isolation_level=None, check_same_thread=False, timeout=_BUSY
                )
                held.callback(connection.close)
                connection.execute("PRAGMA journal_mode = WAL")
            # What is deleted is written over: nobody finds it in the file afterwards, neither what
            # was said nor the key that a letter was sealed for.
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA synchronous = FULL")
            self._go_up(connection, owner)
            self._connection = connection
            self._held = held.pop_all()

    def _go_up(self, connection: sqlite3.Connection, owner: str) -> None:
        """All steps are one transaction with the number of their version: a kill leaves a version
        that is whole. The database may be a program's, so its own version is left alone."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS roam_meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID"
            )
            found = dict(_plain(connection).execute("SELECT key, value FROM roam_meta").fetchall())
            version, there = int(found.get("version", 0)), found.get("owner", owner)
            if version > len(self._migrations):
                raise StoreTooNew(
                    f"{self.name}: a newer version of this program has written it (its tables are "
                    f"of version {version}, and {len(self._migrations)} is the newest known here): "
                    "run that one"
                )
            if there != owner:
                raise StoreForeign(
                    f"{self.name} has the conversations of {there}, and this peer is {owner}: give "
                    "each identity a store of its own"
                )
            for migration in self._migrations[version:]:
                for statement in filter(str.strip, migration.split(";")):
                    connection.execute(statement)
            for key, value in (("version", len(self._migrations)), ("owner", owner)):
                connection.execute("INSERT OR REPLACE INTO roam_meta VALUES (?, ?)", (key, value))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _close(self) -> None:
        self._connection = None
        self._held.close()


def _tell(calls: list[_Call]) -> None:
    for call in calls:
        if call.done.cancelled():
            continue
        if call.error is not None:
            call.done.set_exception(call.error)
            call.done.exception()  # Whoever waited may have been cancelled.
        else:
            call.done.set_result(call.result)


def _plain(connection: sqlite3.Connection) -> sqlite3.Cursor:
    """Return a cursor whose rows are tuples, whatever the program likes them to be."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor


def _file_of(connection: sqlite3.Connection) -> str:
    """Return the file of a connection; empty where it has none."""
    for _, name, file in _plain(connection).execute("PRAGMA database_list").fetchall():
        if name == "main":
            return str(file or "")
    return ""


@contextlib.contextmanager
def _as_ours(name: str) -> Iterator[None]:
    """What goes wrong with the database is one of our errors."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        if "thread" not in str(error):
            raise StoreFailed(f"{name}: {error}") from None
        raise UsageError(
            f"{name}: open it by sqlite3.connect(..., check_same_thread=False): it is used in a "
            "thread of its own"
        ) from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _DAMAGED:
            raise StoreDamaged(
                f"{name} is damaged, or no database ({error}): it was left as it is; put a copy "
                "into its place, or move it away"
            ) from None
        if code in _LOCKED:
            raise StoreLocked(f"{name}: another program keeps it locked ({error})") from None
        if code in _FULL:
            raise StoreFull(f"{name} cannot be written, the disk is full ({error})") from None
        raise StoreFailed(f"{name}: {error}") from None
    except OSError as error:
        raise StoreFailed(f"{name}: {error.strerror or error}") from None


def _make_private(file: str) -> None:
    """Make the file where there is none, for its owner's eyes alone, and take from others what they
    may do with it. SQLite gives the files beside it the same permissions."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        if os.name == "posix" and stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(file: str, name: str) -> Iterator[None]:
    """Keep a database for this program alone: a second one would give the same numbers. A kill
    gives it back too."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(f"{file}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreLocked(
                f"{name}: another peer has it open: stop that one, or give each a store of its own"
            ) from None
        except OSError:
            pass  # A file system without locks: who opens it twice there is not told.
        yield
    finally:
        os.close(descriptor)
