"""All conversations of one peer: their store, their services, and a session for each.

A session is opened where something is to be sent, and once when a conversation is opened, so that
the other side knows that this one is there; then, whenever a session was lost, again and again: at
once where the relay says that the other side has come, else after growing pauses, for ever. While
none can be had, what waits leaves in letters (courier.py); those that come are taken by intake.py.
"""

import asyncio
import contextlib
import os
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from peers.config import log
from peers.conversations import tables
from peers.conversations.conversation import Conversation, ConversationEnd
from peers.conversations.courier import Courier
from peers.conversations.database import Database
from peers.conversations.intake import Allowed, Intake, Target, is_known, untaken
from peers.conversations.keeper import Keeper, load_keeper
from peers.conversations.link import Link
from peers.conversations.offered import OfferedService
from peers.conversations.store import Preference, Store
from peers.mailbox import Mailbox
from peers.services import Services
from peers.session import Session, SessionEnd
from peers.tasks import Tasks, backoff, unless
from protocol.errors import ConnectionClosed, RoamRelayError, StoreFailed, UsageError

__all__ = ["Conversations"]

Opener: TypeAlias = Callable[[str, str, Preference, bool], Awaitable[Session]]
"""Opens a session with a service of a peer; says whether to wait for that peer without end."""

_LONGEST = 60.0
"""Seconds between two attempts to find the other side, at most; so long too it is waited for before
it is asked anew."""
_AT_ONCE = 16
"""Conversations whose other sides are asked for at once: a program may open thousands."""
_GOODBYE = 1.5
"""Seconds for a session to be closed cleanly, when its conversation is closed."""
_OFFERED = 1_024
"""Conversations of a service that others have begun and that the program has not taken; of those by
letter, while nobody asks for them, as many are in the store. More are refused."""
_NEVER = 3_600.0
"""Seconds after which expiry is looked at again, though nothing is known to expire."""


class Conversations:
    """Looks after the conversations of one peer."""

    def __init__(self, guid: str, services: Services, opener: Opener, mailbox: Mailbox) -> None:
        self._guid = guid
        self._mailbox = mailbox
        self._services = services
        self._opener = opener
        self._tasks = Tasks()
        self._running: dict[ConversationEnd, Tasks] = {}
        """What runs for each."""
        self._offers: dict[str, OfferedService] = {}
        self._store: Store | None = None
        """None while there is none."""
        self._database: Database | None = None
        """None before it is open."""
        self._intake: Intake | None = None
        """None before it is open."""
        self._letters_from: dict[str, Allowed] = {}
        """Who may leave letters, for each service that was ever offered."""
        self._turn = asyncio.Lock()
        """Held by who opens the database."""
        self._found = asyncio.Lock()
        """Held while a letter is taken, and while a conversation is opened, so that what it begins
        with is all that came."""
        self._dialing = asyncio.Semaphore(_AT_ONCE)
        """Held by who asks for another side now."""
        self._is_closed = False

    def conversation(
        self,
        guid: str,
        service: str,
        store: Store,
        disclose: str | Collection[str],
        preference: Preference,
    ) -> Conversation:
        """Return a conversation, to be opened."""
        if guid == self._guid:
            raise ValueError("guid is this peer's own: a conversation has two sides")
        self._use(store)
        begin = partial(self._begin, disclose=disclose)
        return ConversationEnd(guid, service, begin, self._end, preference)

    @property
    def open(self) -> tuple[tuple[str, str], ...]:
        """The GUID and the service of each conversation that is open."""
        return tuple((one.remote, one.service) for one in self._running)

    async def begun(
        self,
        service: str,
        store: Store,
        allow: Collection[str] | None,
        disclose: str | Collection[str],
    ) -> AsyncIterator[Conversation]:
        """Iterate over the conversations that others begin, and those of before in which something
        is left, each open already."""
        self._use(store)
        database = await self._opened()
        offer = self._offer(service, disclose)
        if offer.offered is not None:
            raise UsageError(f"two tasks ask for the conversations of {service}")
        offer.allow = None if allow is None else frozenset(allow)
        offer.offered = asyncio.Queue()
        try:
            for row in await database.run(lambda db: tables.unfinished(db.cursor(), service)):
                await self._newcomer(offer, row.remote, most=None)
            offer.admit()
            self._letters_from[service] = offer.allow
            await self._publish()
            while True:
                # No timeout: when somebody begins one is not ours to decide.
                conversation = await offer.offered.get()
                if conversation is None:
                    break
                if conversation.is_open:
                    yield conversation
            if offer.error is not None:
                raise offer.error
        except ConnectionClosed:
            if not self._is_closed:
                raise
            # The peer was closed while this began: nobody comes any more.
        finally:
            left, offer.offered, offer.allow = offer.offered, None, frozenset()
            while not left.empty():
                conversation = left.get_nowait()
                if conversation is not None:
                    await conversation.close()
            self._leave(offer)

    async def close(self) -> None:
        """End what runs: nothing comes or leaves any more. Sessions are the peer's to close."""
        is_first, self._is_closed = not self._is_closed, True
        for conversation in self._running:
            conversation.stop()
        if is_first and self._running:
            await asyncio.gather(*(self._flush(one) for one in self._running))
        for offer in self._offers.values():
            offer.end(None)
        await self._tasks.close()
        for running in list(self._running.values()):
            await running.close()

    async def close_store(self) -> None:
        """Close the database, when nothing asks for it any more."""
        database, self._database = self._database, None
        if database is not None:
            await database.close()

    # -- the store ------------------------------------------------------------------------------

    def _use(self, store: Store) -> None:
        if self._is_closed:
            raise ConnectionClosed("the peer is closed")
        if not isinstance(store, sqlite3.Connection):
            store = os.path.abspath(os.fspath(store))
        if self._store is None:
            self._store = store
        elif self._store != store:
            raise UsageError("all conversations of a peer are in one store: another one is in use")

    async def _opened(self) -> Database:
        async with self._turn:
            if self._is_closed or self._store is None:
                raise ConnectionClosed("the peer is closed")
            if self._database is None:
                database = Database(self._store, tables.MIGRATIONS)
                try:
                    await database.open(self._guid)
                except BaseException:
                    self._store = None  # The program may give another one.
                    await database.close()
                    raise
                self._database = database
                self._intake = Intake(database, self._mailbox)
                self._tasks.spawn(self._intake.run(self._letter_for))
            return self._database

    async def _publish(self) -> None:
        if self._intake is not None:
            try:
                await self._intake.publish(self._letters_from)
            except StoreFailed as error:  # Whoever opens the next one says it again.
                log.warning("the mailbox was not published", reason=error.reason)

    # -- each of them ---------------------------------------------------------------------------

    async def _begin(
        self, conversation: ConversationEnd, *, disclose: str | Collection[str] = "anyone"
    ) -> Keeper:
        remote, service = conversation.remote, conversation.service
        database = await self._opened()
        async with self._found:
            keeper = await load_keeper(database, remote, service)
            offer = self._offer(service, disclose)
            if remote in offer.open:
                raise UsageError(
                    f"the conversation with {remote[:8]} for {service} is open already"
                )
            offer.open[remote] = conversation
            offer.admit()
            conversation.begin(keeper, Courier(keeper, conversation.links, self._mailbox))
            running = self._running[conversation] = Tasks()
        self._letters_from.setdefault(service, frozenset())
        try:
            await self._publish()
        except BaseException:
            conversation.stop()
            del self._running[conversation], offer.open[remote]
            self._leave(offer)
            await running.close()
            raise
        running.spawn(self._expire(conversation), partial(_failed, conversation))
        running.spawn(self._connect(conversation), partial(_failed, conversation))
        running.spawn(conversation.courier.run(), partial(_failed, conversation))
        return keeper

    async def _end(self, conversation: ConversationEnd, keeper: Keeper) -> None:
        sessions = [link.session for link in conversation.links.all]
        running = self._running.pop(conversation, None)
        try:
            if running is not None:
                await running.close()
                await self._flush(conversation)
        finally:
            offer = self._offers.get(conversation.service)
            if offer is not None and offer.open.get(conversation.remote) is conversation:
                del offer.open[conversation.remote]
            if not self._is_closed:  # Else the peer closes them.
                for session in sessions:
                    with contextlib.suppress(RoamRelayError):
                        await session.close(_GOODBYE)
                with contextlib.suppress(StoreFailed):
                    await keeper.forget_empty()
                if offer is not None:
                    self._leave(offer)

    async def _flush(self, conversation: ConversationEnd) -> None:
        """Answer the letters that came, where no session has done that."""
        with contextlib.suppress(RoamRelayError, TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                await conversation.courier.flush()

    def _leave(self, offer: OfferedService) -> None:
        """Take a service back that nothing needs any more."""
        offer.admit()
        if not offer.open and offer.offered is None and not self._is_closed:
            self._offers.pop(offer.listener.service, None)
            offer.listener.close()

    def _offer(self, service: str, disclose: str | Collection[str]) -> OfferedService:
        """Return a service, which is offered from now on."""
        offer = self._offers.get(service)
        if offer is None or self._services.listeners.get(service) is not offer.listener:
            listener = self._services.offer_conversations(service, disclose)
            offer = self._offers[service] = OfferedService(listener)
            self._tasks.spawn(self._serve(offer))
        return offer

    async def _serve(self, offer: OfferedService) -> None:
        """Give the sessions of a service to its conversations."""
        try:
            async for session in offer.listener:
                try:
                    await self._came(offer, session)
                except Exception as error:
                    # It is this session's end, and nobody else's.
                    unknown = None if isinstance(error, RoamRelayError) else error
                    log.error("no conversation", peer=session.remote[:8], exc_info=unknown)
                    session.abort("the other side cannot take it")
        except RoamRelayError as error:
            for conversation in list(offer.open.values()):
                conversation.fail(error)
            offer.end(error)

    async def _came(self, offer: OfferedService, session: Session) -> None:
        if not _carries(session):
            session.abort(f"{session.service} is for conversations")
            return
        try:
            conversation = await self._newcomer(offer, session.remote, most=_OFFERED)
        except StoreFailed as error:
            log.warning("no conversation", peer=session.remote[:8], reason=error.reason)
            session.abort("the store of the other side takes nothing")
            return
        running = None if conversation is None else self._running.get(conversation)
        if conversation is None or running is None or not conversation.is_open:
            session.abort("no such conversation is open, or too many wait to be taken")
            return
        for link in conversation.links.all:
            # Of one side an older session is one that it has lost; and where both have opened one,
            # that of the smaller GUID stays: its other side closes its own.
            if not link.opened_here or self._guid > session.remote:
                link.session.abort("the conversation has another session")
        running.spawn(
            self._carry(conversation, session, opened_here=False),
            partial(_failed, conversation),
        )

    async def _newcomer(
        self, offer: OfferedService, remote: str, *, most: int | None
    ) -> ConversationEnd | None:
        """Return the conversation with a peer: the one that is open, or one for who asks for them;
        None where nobody does, or so many wait to be taken already."""
        async with offer.turn:
            there = offer.open.get(remote)
            offered = offer.offered
            if there is not None or offered is None:
                return there
            if most is not None and offered.qsize() >= most:
                return None
            conversation = ConversationEnd(remote, offer.listener.service, self._begin, self._end)
            try:
                await conversation.open()
            except UsageError:  # The program has opened it meanwhile.
                return offer.open.get(remote)
            if offer.offered is not offered:  # Nobody asks any more.
                await conversation.close()
                return None
            offered.put_nowait(conversation)
            return conversation

    @contextlib.asynccontextmanager
    async def _letter_for(self, remote: str, service: str) -> AsyncIterator[Target | None]:
        """Find the conversation that a letter is for."""
        offer = self._offers.get(service)
        if offer is not None and (offer.allow is None or remote in offer.allow):
            await self._newcomer(offer, remote, most=_OFFERED)
        database = await self._opened()
        async with self._found:
            offer = self._offers.get(service)
            if offer is not None and (there := offer.open.get(remote)) is not None:
                yield there if there.is_open else _Unopened(there.kept)
                return
            is_new = not await is_known(database, remote, service)
            if is_new:
                allowed = self._letters_from.get(service, frozenset())
                known = frozenset() if offer is None else frozenset(offer.open)
                may_begin = allowed is None or remote in allowed
                if not may_begin or await untaken(database, service, known) >= _OFFERED:
                    yield None
                    return
            keeper = await load_keeper(database, remote, service)
            try:
                yield _Unopened(keeper)
            finally:
                if is_new:
                    # Where that fails it counts, as long as it is there.
                    with contextlib.suppress(StoreFailed):
                        await keeper.forget_empty()

    # -- in the background ----------------------------------------------------------------------

    async def _carry(
        self, conversation: ConversationEnd, session: Session, *, opened_here: bool
    ) -> None:
        link = Link(session, conversation.keeper, conversation.links, opened_here=opened_here)
        try:
            await link.run()
        except* StoreFailed as failed:
            error = failed.exceptions[0]
            log.error("a conversation cannot go on", reason=str(error))
            session.abort("the store of the other side failed")
            if isinstance(error, RoamRelayError):
                conversation.fail(error)

    async def _connect(self, conversation: ConversationEnd) -> None:
        """Have a session where one is needed."""
        links, keeper, courier = conversation.links, conversation.keeper, conversation.courier
        pauses = backoff(random.random, longest=_LONGEST)
        is_first = True
        while True:
            while links.newest is not None or not (is_first or len(keeper.queue) or keeper.owes):
                if links.newest is not None:
                    courier.rest()
                waiters = keeper.grown if links.newest is None else links.changed
                await waiters.wait()  # No timeout: there is nothing to do before.
            came = asyncio.Event()
            waiting = asyncio.ensure_future(self._come(conversation, came))
            try:
                session = await unless(
                    came,
                    partial(self._session, conversation, wait=courier.is_away),
                    discard=Session.abort,
                )
                if session is not None and not _carries(session):
                    session.abort("the other side keeps no conversation")
                    raise RoamRelayError("the other side keeps no conversation")
            except (RoamRelayError, ValueError, TimeoutError) as error:
                pause = next(pauses)
                links.failed(error)
                log.debug("not there", peer=conversation.remote[:8], reason=str(error))
                courier.go()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await came.wait()
            else:
                links.error = None
                courier.rest()
                if session is not None:
                    before = keeper.queue.settled, keeper.came
                    await self._carry(conversation, session, opened_here=True)
                    if conversation.error is not None:
                        return
                    if (keeper.queue.settled, keeper.came) != before:
                        pauses = backoff(random.random, longest=_LONGEST)
                    elif links.newest is None:
                        # One that has brought nothing may be ended at once each time.
                        await asyncio.sleep(next(pauses))
            finally:
                waiting.cancel()
            is_first = False

    async def _session(self, conversation: ConversationEnd, *, wait: bool) -> Session:
        # Who is waited for costs nothing until it is there.
        turn = contextlib.nullcontext() if wait else self._dialing
        async with turn, asyncio.timeout(_LONGEST):
            return await self._opener(
                conversation.remote, conversation.service, conversation.preference, wait
            )

    async def _come(self, conversation: ConversationEnd, came: asyncio.Event) -> None:
        while conversation.links.newest is None:
            await conversation.links.changed.wait()
        came.set()

    async def _expire(self, conversation: ConversationEnd) -> None:
        """Tell when the time of a message is over, also where the other side is not there."""
        keeper = conversation.keeper
        while True:
            following = await keeper.expire()
            pause = _NEVER if following is None else max(following - time.time(), 0.0)
            with contextlib.suppress(TimeoutError):
                # The clock of the day may be set: it is looked at again in any case.
                async with asyncio.timeout(min(pause, _NEVER)):
                    await keeper.expiring.wait()


@dataclass(frozen=True, slots=True)
class _Unopened:
    """A conversation that is not open, for a letter."""

    keeper: Keeper

    def cut(self) -> None:
        """There is no session."""


def _carries(session: Session) -> bool:
    return isinstance(session, SessionEnd) and session.carries_conversation


def _failed(conversation: ConversationEnd, error: Exception) -> None:
    ours = isinstance(error, RoamRelayError)
    reason = error if ours else RoamRelayError(f"unexpected: {error!r}")
    if isinstance(reason, RoamRelayError):
        conversation.fail(reason)
