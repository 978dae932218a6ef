"""What one node of a cluster knows of what operators say at any node: heard from the bucket that
all share, kept in the node's own store, and what it had besides put there.

What is said at this node is in `shared.py`, and its rules too.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence
from enum import Enum, auto
from os import urandom
from sqlite3 import Connection
from typing import Any

from relay.admission import rows
from relay.admission.bans import Ban
from relay.admission.book import Book, Order
from relay.admission.bucket import Bucket
from relay.admission.records import (
    EPOCH,
    LATE,
    BanSaid,
    Epoch,
    Forgotten,
    InvitationSaid,
    MemberSaid,
    Record,
    RevokedSaid,
    Unreadable,
    lifetime_of,
    read,
    slot_of,
    write,
)
from relay.admission.rows import Member
from relay.admission.union import More, Union
from relay.config import ConfigError
from relay.log import guarded, log
from relay.store import StoreConflict, StoreFailed, StoreUnsure
from relay.tasks import Tasks

__all__ = ["TRIES", "Replica", "State"]

_FIRST = 5.0
"""Seconds at the start for what the other nodes know: then it goes on with what it knew."""
_AGAIN = 2.0
"""Seconds until what could not be put into the bucket is put there anew."""
_NEWS = 1.0
"""Seconds in which is heard who was faster; else the bucket is read anew."""
TRIES = 32
"""Times that somebody else may be faster."""
_AT_ONCE = 64
"""Values that are put into the bucket at once."""
_HERE = 300.0
"""Seconds for which a node can have been away and still hear what others have taken away since:
what is not there for another reason was taken away by a stranger."""
_PUT_BACK = 64
"""Values that strangers have written over, and that are put back, between two pauses."""


class State(Enum):
    AWAY = auto()
    """The bucket cannot be asked, or is being read."""
    ALONE = auto()
    """There is no JetStream, and never was: this node's book is its own."""
    JOINING = auto()
    """What this node had besides is put into the bucket."""
    SHARED = auto()


class Replica(Book):
    """The book of one node as it follows the bucket; its store has a copy of what all have said."""

    def __init__(self, file: str | None, clock: Callable[[], float], bucket: Bucket) -> None:
        super().__init__(file, clock)
        self._bucket = bucket
        self._tasks = Tasks()
        self._state = State.AWAY
        self._reason = "it is being read"
        self._said = asyncio.Event()
        """Whether it is known what there is."""
        self._union = Union(bucket.name)
        self._last = 0
        """The revision that the bucket had when it was opened."""
        self._heard: list[tuple[Record | None, Record | None]] = []
        """What is not in the store yet: what was there, what is there."""
        self._work = asyncio.Event()
        self._news = asyncio.Event()
        """Set whenever something was heard."""
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        """Until all is looked at again."""
        self._left = -math.inf
        """When it was lost, by the loop's clock."""
        self._next_put_back = 0.0
        """When values that strangers have written over may be put back again."""
        self._is_torn = False
        """Whether the store has not got all that was heard."""
        self._bucket_known = ""
        """Of which bucket the store is a copy; empty: of none."""
        self._orders: list[Order] = []
        self._orders_done = 0
        self._own = urandom(8)
        self._has_changed = False

    # -- the bucket -----------------------------------------------------------------------------

    @property
    def is_shared(self) -> bool:
        """Whether what is said here holds at all nodes now."""
        return self._state is State.SHARED

    @property
    def strange(self) -> int:
        """How many values of strangers are in the bucket that are not put right yet."""
        return len(self._union.foreign)

    async def open(self) -> None:
        await super().open()
        try:
            copy = await self._database.run(rows.copied)
        except StoreFailed as error:
            raise ConfigError(f"state: cannot use the store {self._file}: {error}") from None
        self._bucket_known = copy.shared.get("bucket", "")
        self._orders_done = int(copy.shared.get("orders", "0"))
        self._tasks.spawn(self._bucket.serve(self))
        self._tasks.spawn(self._keep())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST):
                await self._said.wait()
        if not self._bucket_known and self._state is not State.ALONE:
            log.warning(
                "nothing is known yet of whom the operator keeps out: it was never heard",
                reason=self._reason,
            )

    def _first(self, tables: Connection) -> tuple[list[Ban], list[Member]]:
        return rows.load(tables)

    async def close(self) -> None:
        await self._tasks.close()
        self._forget_timer()
        await super().close()

    async def refresh(self) -> bool:
        """Return whether anything was heard since this was asked."""
        had, self._has_changed = self._has_changed, False
        return had

    def orders(self) -> list[Order]:
        found, self._orders = self._orders, []
        return found

    async def carried_out(self, order: Order) -> None:
        self._orders_done = max(self._orders_done, order.revision)
        await self._database.run(lambda tables: rows.put_shared(tables, self._mark()))

    def opened(self, last: int) -> None:
        self._union, self._last = Union(self._bucket.name), last
        self._heard.clear()
        self._forget_timer()
        if self._state is not State.ALONE:
            self._state, self._reason = State.AWAY, "it is being read"

    def hear(self, key: str, revision: int, value: bytes | None) -> None:
        record = None
        if value is not None:
            try:
                record = read(key, value, self._bucket.name)
            except Unreadable as error:
                self._union.note(key, revision)
                log.warning("what the operator has said cannot be read", reason=str(error))
                return
        before = self._union.hear(key, revision, record)
        self._heard.append((before, record))
        if isinstance(record, Forgotten) and self._state is State.SHARED:
            self._order(record, revision)
        self._heard_something()

    def hear_foreign(self, key: str, revision: int) -> None:
        self._union.hear_foreign(key, revision)
        self._heard_something()

    def whole(self) -> None:
        if self._state in (State.AWAY, State.ALONE):
            self._state, self._reason = State.JOINING, "what this node had is put there"
            self._work.set()

    def lost(self, reason: str, *, missing: bool) -> None:
        if self._state is State.SHARED:
            self._left = asyncio.get_running_loop().time()
        alone = missing and not self._bucket_known
        state = State.ALONE if alone else State.AWAY
        if (state, reason) != (self._state, self._reason):
            if alone:
                log.warning(
                    "what the operator says is of this node alone: say it at each", reason=reason
                )
            elif self._state is not State.AWAY or not self._said.is_set():
                log.warning(
                    "what the operator says cannot be shared now: what was said holds, and "
                    "changes are refused",
                    reason=reason,
                )
        self._state, self._reason = state, reason
        self._said.set()
        for _, waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(StoreUnsure(_unsure(reason)))
        self._waiting.clear()

    async def drop_old(self) -> None:
        await super().drop_old()
        self._union.drop_old(self._clock() - LATE)

    # -- inside: the bucket ---------------------------------------------------------------------

    async def _all(self, changes: Sequence[Any]) -> None:
        """Do many, some at once; the first that fails is raised when all have ended."""
        for start in range(0, len(changes), _AT_ONCE):
            some = changes[start : start + _AT_ONCE]
            for error in await asyncio.gather(*some, return_exceptions=True):
                if isinstance(error, BaseException):
                    for left in changes[start + _AT_ONCE :]:
                        left.close()
                    raise error

    async def _until(self, revision: int) -> None:
        """Wait until a change is heard here and in the store."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, waiting))
        self._work.set()
        async with self._bucket.waiting():
            await waiting

    async def _place(self, key: str, record: Record, last: int | None = None) -> int:
        """Put something under a key, for as long as it is to be there; return its revision."""
        lifetime = lifetime_of(record, self._clock())
        return await self._bucket.put(key, write(record), last=last, lifetime=lifetime)

    async def _put(self, key: str, record: Record) -> int | None:
        """Put something in place of what was heard under its key, and return its revision; None
        where somebody was faster, and that is heard now."""
        union = self._union
        # What is on the list, or banned, is gone by itself: of uses it is known what is there.
        last = union.revision_of(key)
        try:
            return await self._place(key, record, last if slot_of(key) is not None else None)
        except StoreConflict:
            pass
        try:
            async with asyncio.timeout(_NEWS):
                while union.revision_of(key) == last:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            self._bucket.again()
            raise StoreFailed("the bucket is not as it was heard: it is read anew") from None
        if union is not self._union:
            raise StoreFailed("the bucket is read anew")
        return None

    def _heard_something(self) -> None:
        self._news.set()
        self._work.set()

    def _order(self, said: Forgotten, revision: int) -> None:
        if said.by == self._own:
            self._orders_done = max(self._orders_done, revision)
        elif revision > self._orders_done and revision not in {
            one.revision for one in self._orders
        }:
            self._orders.append(Order(said.guid, revision))

    # -- inside: the copy -----------------------------------------------------------------------

    async def _keep(self) -> None:
        """Bring what is heard into the store, as long as the relay serves."""
        while True:
            await self._work.wait()
            self._work.clear()
            with guarded("keeping what the operator has said"):
                try:
                    if self._state is State.JOINING and self._timer is None:
                        await self._join()
                    if self._state is State.SHARED:
                        await self._apply()
                        await self._put_back()
                except StoreFailed as error:
                    if self._state is State.JOINING:
                        self._cannot_join(str(error))
            if self._state is State.JOINING:
                self._again_in(_AGAIN)

    def _again_in(self, seconds: float) -> None:
        """Look at all of it again, in so many seconds at the latest."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._work.set()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cannot_join(self, reason: str) -> None:
        """What is in the bucket holds all the same, beside what this node knew."""
        if reason != self._reason:
            log.warning("what the operator said at this node cannot be shared", reason=reason)
        self._reason = reason
        for _, _, record in self._union.records():
            self._hold(None, record)
        self._has_changed = True
        self._said.set()

    async def _join(self) -> None:
        """Put into the bucket what this node has besides, and take over what is there."""
        union = self._union
        copy = await self._database.run(rows.copied)
        if union.epoch is None:
            epoch = write(Epoch(urandom(8).hex()))
            with contextlib.suppress(StoreConflict):
                await self._bucket.put(EPOCH, epoch, last=union.revision_of(EPOCH))
            async with self._bucket.waiting():
                while union.epoch is None:
                    self._news.clear()
                    await self._news.wait()
        knows = (
            copy.shared.get("bucket") == union.epoch
            and int(copy.shared.get("revision", "0")) <= self._last
        )
        was_here = not self._is_torn and asyncio.get_running_loop().time() - self._left < _HERE
        what = (More.LOST if was_here else More.FOREIGN) if knows else More.ALL
        count = 0
        for _ in range(3):
            more = union.more(copy, self._clock(), what)
            if not more:
                break
            count += len(more)
            await self._add(union, more)
        if union is not self._union or self._state is not State.JOINING:
            return  # It is read anew.
        if not knows:
            self._orders_done = 0  # It was counted in another one.
        self._bucket_known = union.epoch or ""
        self._heard.clear()
        await self._replace()
        # What was heard meanwhile is in the list still.
        if union is not self._union or self._state is not State.JOINING:
            return
        self._state, self._reason = State.SHARED, ""
        for _, revision, record in union.records():
            if isinstance(record, Forgotten):
                self._order(record, revision)
        log.info("what the operator says is shared by all nodes", added=count)
        self._said.set()

    async def _add(self, union: Union, more: list[tuple[str, Record]]) -> None:
        plain = [(key, record) for key, record in more if key]
        revisions: list[int] = []

        async def put(key: str, record: Record) -> None:
            revisions.append(await self._place(key, record))

        await self._all([put(key, record) for key, record in plain])
        for key, record in more:
            if key or not isinstance(record, MemberSaid):
                continue
            for _ in range(TRIES):
                if any(one.invitation == record.invitation for _, one in union.of(record.guid)):
                    break  # Another node has put it there.
                revision = await self._put(union.free_use(record.invitation), record)
                if revision is not None:
                    await self._until_in(union, revision)
                    break
        if revisions:
            await self._until_in(union, max(revisions))

    async def _until_in(self, union: Union, revision: int) -> None:
        async with self._bucket.waiting():
            while union.revision < revision:
                self._news.clear()
                await self._news.wait()

    async def _apply(self) -> None:
        """Bring into the store what was heard since."""
        heard, self._heard = self._heard, []
        union = self._union
        revision = union.revision
        if self._is_torn:
            await self._replace()
        elif heard:
            mark = self._mark()

            def work(tables: Connection) -> None:
                for before, record in heard:
                    _store(tables, union, (before, record))
                rows.put_shared(tables, mark)

            try:
                await self._database.run(work)
                if any(isinstance(record, Forgotten) for _, record in heard):
                    await self._database.scrub()
            except StoreFailed as error:
                self._torn(error)
        for before, record in heard:
            self._hold(before, record)
        if heard:
            self._has_changed = True
        for number, waiting in list(self._waiting):
            if number <= revision:
                self._waiting.remove((number, waiting))
                if not waiting.done():
                    waiting.set_result(None)

    async def _put_back(self) -> None:
        """Put back what strangers have written over; with a pause, as they may do it again."""
        union, loop = self._union, asyncio.get_running_loop()
        if not union.foreign:
            return
        if loop.time() < self._next_put_back:
            self._again_in(self._next_put_back - loop.time())
            return
        self._next_put_back = loop.time() + _NEWS
        for key in list(union.foreign)[:_PUT_BACK]:
            union.foreign.discard(key)
            record = union.get(key)
            if record is not None:
                last = union.revision_of(key)
                with contextlib.suppress(StoreConflict):  # Another node has done it.
                    await self._place(key, record, last)
        if union.foreign:
            self._again_in(_NEWS)

    async def _replace(self) -> None:
        union = self._union
        copy = union.copy(self._mark())
        try:
            await self._database.run(lambda tables: rows.replace(tables, copy))
            self._is_torn = False
        except StoreFailed as error:
            self._torn(error)
        self._take(copy.bans, [rows.admitted(row) for row in copy.members if row.revoked is None])
        self._has_changed = True

    def _torn(self, error: StoreFailed) -> None:
        """It holds, but not after a restart without NATS."""
        if not self._is_torn:
            log.error("what the operator has said is not in the store here", reason=str(error))
        self._is_torn = True
        self._again_in(_AGAIN)

    def _mark(self) -> dict[str, str]:
        return {
            "bucket": self._bucket_known,
            "revision": str(self._union.revision),
            "orders": str(self._orders_done),
        }

    def _hold(self, before: Record | None, record: Record | None) -> None:
        """Have it hold here."""
        if isinstance(before, BanSaid):
            self.bans.lift(before.subject)
        if isinstance(record, BanSaid):
            self.bans.put(record.ban)
        for one in (before, record):
            if isinstance(one, MemberSaid):
                self._members.pop(one.guid, None)
                for _, there in self._union.of(one.guid):
                    if there.revoked is None:
                        self._remember(rows.admitted(there.row))


def _unsure(reason: str) -> str:
    return f"it may hold, or not: the connection was lost meanwhile ({reason}); say it again"


def _store(tables: Connection, union: Union, change: tuple[Record | None, Record | None]) -> None:
    """Bring one change into the tables."""
    before, record = change
    if isinstance(before, BanSaid):
        rows.drop_bans(tables, [before.subject])
    elif isinstance(before, MemberSaid):
        rows.drop_member(tables, before.guid, before.invitation)
    if isinstance(record, BanSaid):
        rows.put_ban(tables, record.ban)
    elif isinstance(record, MemberSaid):
        rows.put_member(tables, record.row)
    elif isinstance(record, InvitationSaid | RevokedSaid):
        rows.put_invitation(tables, union.invitation(record.id))
