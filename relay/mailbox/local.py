"""Letters in one SQLite file of this relay.

What is asked while the file is at work waits for it, and is done in one transaction then: with one
write to the disk, however many peers are served by it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from sqlite3 import Connection
from typing import Any, Generic, TypeAlias, TypeVar

from protocol.mail import Letter, LetterLeave, MailboxUpdate
from protocol.prekeys import SignedPrekey
from relay.config import ConfigError, MailboxConfig
from relay.limits import Cause
from relay.log import guarded, log
from relay.mailbox.quotas import Ledger, NoRoom, Quotas
from relay.mailbox.store import MIGRATIONS, Tables
from relay.mailbox.stores import Kept, News, StoreFault, Then
from relay.store import Database, StoreFailed

__all__ = ["LocalStore", "Spawn"]

_T = TypeVar("_T")
Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]

_BATCH = 64
"""Things that are done in one transaction: 4 MiB of letters at most."""
_TELL = 60.0
"""Seconds between two lines in the log that say what fails here."""


@dataclass(slots=True)
class _Job(Generic[_T]):
    """Something to be done in the tables; `then` gets what came of it."""

    work: Callable[[Connection], _T]
    then: Then[_T]


class LocalStore:
    """The letters of one relay that is alone."""

    def __init__(
        self, config: MailboxConfig, file: str | None, clock: Callable[[], float], spawn: Spawn
    ) -> None:
        """`clock` gives Unix time: what is kept outlives the relay. `file` is None for one that is
        forgotten at the end."""
        self._file = file
        self._clock = clock
        self._spawn = spawn
        self.ledger = Ledger(Quotas.of(config))
        self._tables = Tables(self.ledger)
        self._database = Database(file, MIGRATIONS, "mailbox")
        self._jobs: list[_Job[Any]] = []
        self._is_working = False
        self._is_closed = False
        self._told = -_TELL
        self._news: News | None = None

    async def open(self, news: News) -> None:
        self._news = news
        await self._database.open()
        try:
            await self._database.run(self._tables.load)
        except StoreFailed as error:
            raise ConfigError(f"mailbox: cannot use the store {self._file}: {error}") from None
        self.ledger.commit()

    async def close(self) -> None:
        self._is_closed = True
        await self._database.close()

    # -- what is asked --------------------------------------------------------------------------

    def update(
        self, guid: str, network: str, said: MailboxUpdate, then: Then[tuple[int, int] | NoRoom]
    ) -> None:
        at = self._clock()
        self._do(lambda tables: self._tables.update(tables, guid, network, said, at), then)

    def prekey(
        self, sender: str, asked: tuple[str, str], one_time: bool, then: Then[SignedPrekey | NoRoom]
    ) -> None:
        self._do(
            lambda tables: self._tables.prekey(tables, sender, *asked, one_time=one_time), then
        )

    def leave(
        self, sender: Cause, said: LetterLeave, lifetime: int, then: Then[Kept | NoRoom]
    ) -> None:
        at = self._clock()

        def left(result: Kept | NoRoom | StoreFailed) -> None:
            then(result)
            if self._news is not None and isinstance(result, Kept) and result.is_new:
                self._news.came(said.guid)

        self._do(lambda tables: self._tables.leave(tables, sender, said, lifetime, at), left)

    def after(self, guid: str, number: int, most: int, then: Then[list[Letter]]) -> None:
        at = self._clock()
        self._do(lambda tables: self._tables.after(tables, guid, number, most, at), then)

    def done(self, guid: str, numbers: list[int], then: Then[int]) -> None:
        self._do(lambda tables: self._tables.done(tables, guid, numbers), then)

    def expire(self, then: Then[int]) -> None:
        at = self._clock()

        def work(tables: Connection) -> int:
            self._tables.drop_unused(tables, at)
            return self._tables.drop_expired(tables, at)

        self._do(work, then)

    async def forget(self, guid: str) -> int:
        ended: asyncio.Future[int | StoreFailed] = asyncio.get_running_loop().create_future()
        self._do(lambda tables: self._tables.forget(tables, guid), partial(_end, ended))
        # Bounded: what waits for the store is, and each of it has the store's own timeout.
        found = await ended
        if isinstance(found, StoreFailed):
            raise found
        await self._database.scrub()
        return found

    def wakes(self, guid: str) -> bool:
        return True

    # -- inside ---------------------------------------------------------------------------------

    def _do(self, work: Callable[[Connection], _T], then: Then[_T]) -> None:
        self._jobs.append(_Job(work, then))
        if not self._is_working:
            self._is_working = True
            self._spawn(self._work())

    async def _work(self) -> None:
        """Do what waits, as long as anything does."""
        try:
            while self._jobs:
                jobs, self._jobs = self._jobs[:_BATCH], self._jobs[_BATCH:]
                results = await self._results(jobs)
                for job, result in zip(jobs, results, strict=True):
                    with guarded("answering about letters"):
                        job.then(result)
        finally:
            self._is_working = False

    async def _results(self, jobs: list[_Job[Any]]) -> list[Any]:
        """Do jobs in one transaction; where that fails, each in its own: what one needs that there
        is none of, as room on the disk, the others may not."""
        try:
            results = await self._database.run(lambda tables: [job.work(tables) for job in jobs])
        except Exception as error:
            self.ledger.rollback()
            if len(jobs) > 1 and not self._is_closed:
                return [(await self._results([job]))[0] for job in jobs]
            if isinstance(error, StoreFailed):
                return [error] * len(jobs)
            self._tell_of_fault(error)
            return [StoreFault("the relay failed")] * len(jobs)
        except BaseException:
            self.ledger.rollback()
            raise
        self.ledger.commit()
        return results

    def _tell_of_fault(self, error: Exception) -> None:
        """Whoever asks again and again for what fails fills no log."""
        now = self._clock()
        if not self._is_closed and abs(now - self._told) >= _TELL:
            self._told = now
            log.error("the mailbox failed at what a peer asked", exc_info=error)


def _end(ended: "asyncio.Future[_T]", result: _T) -> None:
    if not ended.done():
        ended.set_result(result)
