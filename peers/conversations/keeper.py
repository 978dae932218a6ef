"""One conversation as it is kept: its rows in the store, and its numbers in memory.

What decides is in numbers.py, each statement in tables.py: both meet here, in one transaction each.
"""

import asyncio
import inspect
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from peers.config import log
from peers.conversations import letters, tables
from peers.conversations.database import Database, Work
from peers.conversations.numbers import Breach, Queue, Received, adopt, missed, new_items
from peers.tasks import Waiters, calling
from protocol.conversation import (
    Acknowledged,
    Announced,
    Enclosed,
    Item,
    Letter,
    Messages,
    Receipt,
    read_item,
)
from protocol.errors import ConversationFull, StoreFull, StoreLocked

__all__ = ["INBOX", "Keeper", "load_keeper"]

_T = TypeVar("_T")

OUTBOX, OUTBOX_BYTES = 10_000, 64 << 20
"""Messages, and bytes of them, that may wait for the other side in one conversation."""
INBOX = 1_000
"""Messages of one conversation that wait to be done before its sender is stopped."""
_RECEIPTS = 2 * OUTBOX
"""Beyond so many that wait, no receipt is added: who acknowledges nothing is told nothing."""
_CACHED, _CACHED_BYTES = 256, 1 << 20
"""Items that were just put into the queue, and need not be read again to be sent."""
_PAUSES = (0.25, 1.0, 5.0)
"""Seconds until a store that took nothing is asked again; the last one as long as it takes."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What a conversation begins with."""

    row: tables.Row
    queue: Queue
    weight: int
    held: int
    owes: int


def _find(connection: sqlite3.Connection, remote: str, service: str) -> _Found:
    db = _cursor(connection)
    row = tables.find(db, remote, service)
    return _Found(
        row,
        Queue(tables.lines(db, row), row.settled),
        tables.weight(db, row.id),
        tables.held(db, row.id),
        letters.owed(db, row.id),
    )


async def load_keeper(database: Database, remote: str, service: str) -> "Keeper":
    """Return what is kept of a conversation, which begins where there is none."""
    return Keeper(database, await database.run(lambda db: _find(db, remote, service)))


class Keeper:
    """Keeps one conversation. Calls of several tasks are done in their order."""

    def __init__(self, database: Database, found: _Found) -> None:
        loop = asyncio.get_running_loop()
        self._database = database
        self._id = found.row.id
        self._line = os.urandom(16)
        """Of what is numbered from now on."""
        self._weight = found.weight
        self._adding = 0
        """Messages that are being stored."""
        self._cache: dict[int, Item] = {}
        self._cached = 0
        self._followers: dict[bytes, set[asyncio.Event]] = {}
        self.row = found.row
        """The conversation as it was when this began."""
        self.queue = found.queue
        """The numbers that are to be sent."""
        self.gone = found.row.gone
        """Numbers up to this one may have left."""
        self.held = found.held
        """Messages that wait to be done."""
        self.owes = found.owes
        """Letters that are not answered."""
        self.came = 0
        """Messages that have come since this began."""
        self.goes = False
        """Whether a session takes what is put into the queue."""
        self.grown = Waiters(loop)
        """Woken when the queue, or the room in the inbox, has grown."""
        self.arrived = Waiters(loop)
        """Woken when something has come."""
        self.expiring = Waiters(loop)
        """Woken when something expires earlier than all before."""

    # -- what is sent ---------------------------------------------------------------------------

    async def add(
        self, payload: bytes, expires: float | None, also: Work | None, name: bytes = b""
    ) -> bytes:
        """Put a message into the queue; return its id, which is another one where none is given.

        Raises:
            ConversationFull, StoreFailed, CallbackFailed: it was not stored.
        """
        if len(self.queue) + self._adding >= OUTBOX or (
            self._weight and self._weight + len(payload) > OUTBOX_BYTES
        ):
            raise ConversationFull(
                f"{len(self.queue)} messages wait for {self.row.remote[:8]}: as many as may"
            )
        self._adding += 1
        self._weight += len(payload)
        item = Letter(name or os.urandom(16), time.time(), payload)
        try:
            await self._put(item, item.sent, expires, also)
        except BaseException:
            self._weight = max(self._weight - len(payload), 0)
            raise
        finally:
            self._adding -= 1
        if expires is not None:
            self.expiring.wake()
        return item.id

    async def done(self, position: int, receipt: Receipt | None, also: Work | None) -> bool:
        """Take a message out of the inbox, and put a receipt into the queue where there is one, in
        one transaction; return whether it was there still."""
        if len(self.queue) >= _RECEIPTS:
            receipt = None
        now, goes = time.time(), self.goes

        def work(connection: sqlite3.Connection) -> tuple[bool, int]:
            db = _cursor(connection)
            if not tables.done(db, position):
                return False, 0
            number = 0
            if receipt is not None:
                given = tables.Given(self._line, receipt, now)
                number = tables.put(db, self._id, given, goes=goes)
            _also(connection, also)
            return True, number

        def then(result: tuple[bool, int]) -> None:
            was_there, number = result
            self.held -= was_there
            if number and receipt is not None:
                self._queued(number, receipt, goes)
            self.grown.wake()

        return (await self._kept(work, then, alone=also is not None))[0]

    async def _put(self, item: Item, sent: float, expires: float | None, also: Work | None) -> None:
        goes = self.goes

        def work(connection: sqlite3.Connection) -> int:
            given = tables.Given(self._line, item, sent, expires)
            number = tables.put(_cursor(connection), self._id, given, goes=goes)
            _also(connection, also)
            return number

        await self._kept(
            work, lambda number: self._queued(number, item, goes), alone=also is not None
        )

    async def _kept(
        self,
        work: Callable[[sqlite3.Connection], _T],
        then: Callable[[_T], None],
        *,
        alone: bool,
    ) -> _T:
        """Do work, and know of it here, whoever is cancelled meanwhile."""

        def over(done: "asyncio.Future[_T]") -> None:
            if not done.cancelled() and done.exception() is None:
                then(done.result())

        storing = asyncio.ensure_future(self._database.run(work, alone=alone))
        storing.add_done_callback(over)
        return await asyncio.shield(storing)

    def _queued(self, number: int, item: Item, goes: bool) -> None:
        self.queue.add(self._line, number)
        if goes:
            self.gone = max(self.gone, number)
        size = len(item.payload) if isinstance(item, Letter) else 0
        if len(self._cache) < _CACHED and self._cached + size <= _CACHED_BYTES:
            self._cache[number] = item
            self._cached += size
        self.grown.wake()

    async def load(self, first: int, count: int) -> list[Item | None]:
        """Return what is to be sent under these numbers, which may have left from now on."""
        last = first + count - 1
        numbers = range(first, last + 1)
        if last <= self.gone and all(number in self._cache for number in numbers):
            return [self._uncache(number) for number in numbers]

        def work(connection: sqlite3.Connection) -> list[Item | None]:
            db = _cursor(connection)
            tables.leaves(db, self._id, last)
            return tables.load(db, self._id, first, count)

        items = await self._insist(work)
        self.gone = max(self.gone, last)
        for number in numbers:
            self._uncache(number)
        return items

    def _uncache(self, number: int) -> Item | None:
        item = self._cache.pop(number, None)
        self._cached -= len(item.payload) if isinstance(item, Letter) else 0
        return item

    async def settle(
        self, number: int | None, frame: Acknowledged, asked: Announced | None
    ) -> None:
        """The other side says what it has: all up to `number` is settled by that. With `asked` it
        is the answer to that announcement: what it has not got then, nobody brings any more."""
        breach = missed(asked, frame) if asked is not None else None
        if number is None and asked is None:
            return
        now, settles = time.time(), number or 0
        # Of a later line letters may have brought some: it is asked for by itself.
        line = self.queue.line(asked.line) if asked is not None else None

        def work(connection: sqlite3.Connection) -> tuple[list[bytes], int]:
            db = _cursor(connection)
            changed = [name for name, _ in tables.settle(db, self._id, settles)]
            if line is not None:
                changed += tables.expire(db, self._id, now, frame.received, line.last)
            if breach is not None:
                tables.note(db, self._id, breach, here=False)
            return changed, tables.weight(db, self._id)

        changed, self._weight = await self._insist(work)
        if breach is not None:
            self._log(breach)
        self._settled(settles)
        self._forget(changed)

    def _log(self, breach: Breach) -> None:
        log.warning(
            "out of step with the other side's store",
            peer=self.row.remote[:8],
            what=breach.kind.value,
            count=breach.count,
        )

    def _settled(self, number: int) -> None:
        for gone in [one for one in self._cache if one <= number]:
            self._uncache(gone)
        self.queue.settle(number)

    async def expire(self) -> float | None:
        """End what has not left and whose time is over; return when the next one expires."""
        now = time.time()

        def work(connection: sqlite3.Connection) -> tuple[list[bytes], float | None]:
            db = _cursor(connection)
            expired = tables.expire(db, self._id, now)
            return expired, tables.next_expiry(db, self._id)

        expired, following = await self._insist(work)
        self._forget(expired)
        return following

    async def cancel(self, name: bytes) -> bool:
        """Take a message back; return whether it had not left."""
        done = await self._database.run(lambda db: tables.cancel(_cursor(db), self._id, name))
        if done:
            self._forget([name])
        return done

    def _forget(self, names: list[bytes]) -> None:
        """These have changed, and nothing of them is to be sent any more."""
        if names:
            for number in [one for one, item in self._cache.items() if item.id in names]:
                self._uncache(number)
        self._changed(names)

    async def entries(self) -> list[tables.Entry]:
        """Return what is not delivered yet."""
        await self.expire()
        return await self._database.run(lambda db: tables.entries(_cursor(db), self._id))

    async def entry(self, name: bytes) -> tables.Entry | None:
        """Return one message; None where nothing is known of it."""
        return await self._database.run(lambda db: tables.entry(_cursor(db), self._id, name))

    # -- what comes -----------------------------------------------------------------------------

    async def adopt(self, frame: Announced, become: Callable[[], None]) -> Acknowledged:
        """Go on with a line; return the answer. `become` makes its session the current one, in the
        transaction: a letter that was taken before cuts none that came after it."""

        def work(connection: sqlite3.Connection) -> Received:
            become()
            db = _cursor(connection)
            letters.heard(db, self._id, frame.epoch)
            known = tables.received(db, self._id, frame.line)
            state, breach = adopt(tables.current(db, self._id), known, frame)
            if state != known:
                tables.keep(db, self._id, frame.line, state)
            if breach is not None:
                tables.note(db, self._id, breach, here=True)
            return state

        state = await self._insist(work)
        self.owes = 0
        before = state.received if state.before is None else state.before
        return Acknowledged(frame.line, state.received, self.room, before)

    async def take(self, frame: Messages, is_current: Callable[[], bool]) -> Acknowledged | None:
        """Put what has come into the inbox; return what is to be said to its sender. None where it
        is not taken, as its session is not the current one any more: what is taken after that would
        belie the answer that another one has had.

        Raises:
            ProtocolViolation: it does not fit to what came before.
        """
        items = [read_item(item) for item in frame.items]

        def work(connection: sqlite3.Connection) -> tuple[int, int, list[bytes]] | None:
            if not is_current():
                return None
            db = _cursor(connection)
            known = tables.received(db, self._id, frame.line)
            skipped = new_items(known, frame.first, len(items))
            received = frame.first + len(items) - 1
            if skipped == len(items):
                return (received if known is None else known.received), 0, []
            read = tables.take(db, self._id, items[skipped:])
            tables.keep(db, self._id, frame.line, Received(received))
            came = sum(isinstance(item, Letter) for item in items[skipped:])
            return received, came, [name for name, _, _ in read]

        taken = await self._insist(work)
        if taken is None:
            return None
        received, came, read = taken
        self.held += came
        self.came += came
        if came:
            self.arrived.wake()
        self._changed(read)
        return Acknowledged(frame.line, received, self.room, received)

    # -- letters ----------------------------------------------------------------------------------

    async def begin_session(self) -> int:
        """Return the epoch that a session names, before the first message is sent on it."""
        return await self._insist(lambda db: letters.stamp(_cursor(db), self._id))

    async def next_letter(
        self, is_away: Callable[[], bool], *, leaves: bool
    ) -> tuple[letters.Leaving | None, float | None]:
        """Return the letter that is to be left next, if there is any; and when those that were left
        are void. None where a session has come, which is looked at in the transaction."""
        answers, now = self.held <= INBOX, time.time()

        def work(connection: sqlite3.Connection) -> tuple[letters.Leaving | None, float | None]:
            if not is_away():
                return None, None
            db = _cursor(connection)
            return letters.compose(db, self._id, now, answers=answers, leaves=leaves)

        leaving, void_at = await self._insist(work)
        if leaves and leaving is not None:
            self.gone = max(self.gone, leaving.last)
            for number in [one for one in self._cache if one <= leaving.last]:
                self._uncache(number)
        return leaving, void_at

    async def has_left(self, leaving: letters.Leaving, lifetime: float) -> None:
        """The relay has a letter, and keeps it for so many seconds."""
        until = time.time() + lifetime

        def work(connection: sqlite3.Connection) -> tuple[list[bytes], int]:
            db = _cursor(connection)
            return letters.left(db, self._id, leaving, until), letters.owed(db, self._id)

        changed, self.owes = await self._insist(work)
        self._changed(changed)

    async def bring(
        self, enclosed: Enclosed, settle: Callable[[sqlite3.Cursor], None], cut: Callable[[], None]
    ) -> None:
        """Take what a letter brings, and settle it, in one transaction; a ProtocolViolation where
        something in it is no item. `cut` is called where its sender has begun another epoch: what
        a session before it brings is too late."""
        items = [] if (part := enclosed.part) is None else [read_item(one) for one in part.items]
        moment = time.time(), 2 * INBOX

        def work(connection: sqlite3.Connection) -> letters.Brought:
            db = _cursor(connection)
            brought = letters.bring(db, self._id, enclosed, items, moment)
            if brought.is_newer:
                cut()
            settle(db)
            return brought

        brought = await self._database.run(work)  # Not insisted on: nothing is opened meanwhile.
        came, self._weight, self.owes = brought.came, brought.weight, brought.owes
        self.held += came
        self.came += came
        for breach in brought.breaches:
            self._log(breach)
        self._settled(brought.settled)
        if came:
            self.arrived.wake()
        self._forget(brought.changed)
        self.grown.wake()

    @property
    def room(self) -> int:
        """How many more messages are taken now."""
        return max(INBOX - self.held, 0)

    async def inbox(self, after: int, limit: int) -> list[tables.Waiting]:
        """Return what is not done, the oldest first, behind this position."""
        return await self._database.run(
            lambda db: tables.inbox(_cursor(db), self._id, after, limit)
        )

    async def breaches(self) -> list[tuple[Breach, bool]]:
        """Return in what ways the numbers were out of step."""
        return await self._database.run(lambda db: tables.breaches(_cursor(db), self._id))

    async def forget_empty(self) -> None:
        """Forget a conversation in which nothing was ever said."""
        await self._database.run(lambda db: tables.forget_empty(_cursor(db), self._id))

    # -- who follows ----------------------------------------------------------------------------

    def follow(self, name: bytes) -> asyncio.Event:
        """Return what is set whenever this message has changed. Give it back by `unfollow`."""
        event = asyncio.Event()
        self._followers.setdefault(name, set()).add(event)
        return event

    def unfollow(self, name: bytes, event: asyncio.Event) -> None:
        """Nobody looks at this any more."""
        followers = self._followers.get(name, set())
        followers.discard(event)
        if not followers:
            self._followers.pop(name, None)

    def _changed(self, names: list[bytes]) -> None:
        for name in names:
            for event in self._followers.get(name, ()):
                event.set()

    async def _insist(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do what must be done to go on: again and again, while the disk is full or somebody else
        keeps the store locked."""
        tried = 0
        while True:
            try:
                return await self._database.run(work)
            except (StoreFull, StoreLocked) as error:
                if not tried:
                    log.warning("a store takes nothing: it is tried again", reason=error.reason)
                pause = _PAUSES[min(tried, len(_PAUSES) - 1)]
                tried += 1
            await asyncio.sleep(pause)


def _cursor(connection: sqlite3.Connection) -> sqlite3.Cursor:
    """Return a cursor whose rows are tuples, whatever the program likes them to be."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor


def _also(connection: sqlite3.Connection, also: Work | None) -> None:
    if also is not None:
        with calling("also"):
            result = also(connection)
            if inspect.isawaitable(result):
                if inspect.iscoroutine(result):
                    result.close()
                raise TypeError("it is a plain function, that awaits nothing")
