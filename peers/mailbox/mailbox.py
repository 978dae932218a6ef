"""This peer's mailbox at its relay, and the letters that it leaves for others.

It publishes who may leave letters and what they are sealed for, on each connection anew; opens
what comes, and hands it to who reads it. Where anything is kept, and what a payload means, is for
who uses it.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from functools import partial
from typing import Protocol, TypeVar

from peers.config import PeerConfig, checked_guid, checked_service, log
from peers.control import ControlConnection, Registration
from peers.mailbox import keys
from peers.mailbox.incoming import IncomingLetter, Spoiled
from peers.mailbox.window import Window
from peers.tasks import Tasks, backoff
from protocol.codec import encode
from protocol.errors import (
    ConnectionClosed,
    LimitExceeded,
    ProtocolViolation,
    RoamRelayError,
    Unsupported,
    UsageError,
    error_for,
)
from protocol.features import MAILBOX
from protocol.identity import Identity
from protocol.letters import Fault, LetterFault, open_letter, read_head, seal_letter
from protocol.mail import (
    MAX_ONE_TIME,
    MAX_WINDOW,
    Letter,
    LetterDone,
    LetterLeave,
    LetterResponse,
    LetterService,
    LetterWindow,
    MailboxState,
    MailboxUpdate,
    PrekeyRequest,
    PrekeyResponse,
)
from protocol.messages import MAX_MESSAGE_BYTES
from protocol.prekeys import Prekey, SignedPrekey, make_prekey, open_prekey, sign_prekey

__all__ = ["Mailbox", "Store"]

_T = TypeVar("_T")

_AT_ONCE = 8
"""Letters that are being left: the relay lets half as many more of one peer wait."""
_FEW = 32
"""Prekeys for one letter each below which more are made."""
_AGAIN = 86_400.0
"""Seconds after which all is published again: prekeys may have been used up, or it is time for
another one."""
_LONGEST = 600.0
"""Seconds between two attempts to publish that fail."""
_FIRST, _STORE = 0.1, 30.0
"""Seconds between two attempts at a store that fails: the first time, and at most."""
_SPOILED = 64
"""Spoiled letters that wait to be read; one more is only in the log."""
_YEAR = 31_536_000


class Store(Protocol):
    """A database with the tables of `MIGRATION`."""

    async def run(self, work: Callable[[keys.Tables], _T]) -> _T:
        """Do work in one transaction, which is on the disk when this returns.

        Raises:
            RoamRelayError: nothing has changed.
        """


class Mailbox:
    """The mailbox of one peer. Leaving letters needs nothing; `open` is for getting some."""

    def __init__(
        self,
        identity: Identity,
        config: PeerConfig,
        registration: Registration,
        blocks: Callable[[str], bool],
    ) -> None:
        """`blocks` says whether this peer has nothing to do with another one."""
        self._identity = identity
        self._timeout = config.request_timeout
        self._registration = registration
        self._blocks = blocks
        self._tasks = Tasks()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._services: tuple[LetterService, ...] = ()
        self._store: Store | None = None
        """None while this peer takes no letters."""
        self._connection: ControlConnection | None = None
        """Where letters come from now."""
        self._publishing: asyncio.Task[None] | None = None
        self._window = Window()
        self._changed = asyncio.Event()
        self._arrived: deque[tuple[ControlConnection, Letter]] = deque()
        self._is_opening = False
        self._open: dict[tuple[str, bytes], tuple[IncomingLetter, ControlConnection]] = {}
        """Letters that were opened and are not done, and where they came from last."""
        self._ready: deque[IncomingLetter | Spoiled] = deque()
        self._spoiled = 0
        """How many of these are spoiled."""
        self._wake = asyncio.Event()
        self._is_closed = False

    async def leave(
        self, guid: str, service: str, payload: bytes, *, message_id: bytes, lifetime: float
    ) -> int:
        """Leave a letter for a peer; return for how many seconds the relay keeps it. When this
        returns it is on the relay's disk. Whatever this raises, it may be left again with the same
        `message_id` (16 bytes): while one is there, it is the same letter.

        Raises:
            LetterRefused: that peer takes no such letters from this one.
            MailboxFull, LimitExceeded: not now; `retry_after` says when to try again.
            Unsupported: the relay keeps no letters.
            RelayUnavailable, RequestTimeout: there is no relay, or it does not answer.
            ProtocolViolation: the payload is too long, or the relay's answer is none.
            IdentityError, ValueError: not a GUID, a service, an id or a time.
        """
        return await self.put(
            guid,
            service,
            payload,
            prekey=await self.prekey(guid, service),
            message_id=message_id,
            lifetime=lifetime,
        )

    async def prekey(self, guid: str, service: str) -> Prekey:
        """Return what a letter is to be sealed for, to be left by `put` soon after. Nothing has
        left by that.

        Raises:
            as `leave`.
        """
        checked_guid(guid)
        checked_service(service)
        async with self._turns:
            connection = await self._registration.connection(self._timeout)
            if MAILBOX not in connection.relay.features:
                raise Unsupported("the relay keeps no letters for peers who are away")
            asked = await connection.mail(PrekeyRequest(0, guid, service), self._timeout)
            _check(asked)
            if not isinstance(asked, PrekeyResponse) or asked.prekey is None:
                raise ProtocolViolation("the relay has answered without a prekey")
            return open_prekey(guid, asked.prekey)

    async def put(
        self,
        guid: str,
        service: str,
        payload: bytes,
        *,
        prekey: Prekey,
        message_id: bytes,
        lifetime: float,
    ) -> int:
        """Leave a letter, sealed for that prekey; the rest of `leave`."""
        if len(message_id) != 16:
            raise ValueError("message_id has 16 bytes")
        if not lifetime >= 1:
            raise ValueError(f"lifetime is seconds, and at least 1, not {lifetime!r:.40}")
        async with self._turns:
            connection = await self._registration.connection(self._timeout)
            if MAILBOX not in connection.relay.features:
                raise Unsupported("the relay keeps no letters for peers who are away")
            sealed = seal_letter(self._identity, guid, prekey, (service, message_id, payload))
            left = LetterLeave(0, guid, service, message_id, sealed, int(min(lifetime, _YEAR)))
            answer = await connection.mail(left, self._timeout)
            _check(answer)
            if not isinstance(answer, LetterResponse):
                raise ProtocolViolation("the relay has answered something else")
            return answer.lifetime

    def open(self, store: Store, services: Sequence[LetterService]) -> None:
        """Take letters for these services from now on, and keep what belongs to that in the store.
        Again, it says for which services and from whom from now on.

        Raises:
            ValueError: these are more than can be said in one message.
            UsageError: another store is in use.
            ConnectionClosed: the peer is closed.
        """
        if self._is_closed:
            raise ConnectionClosed("the peer is closed")
        if self._store is not None and self._store is not store:
            raise UsageError("the mailbox has a store: close the peer before it gets another one")
        room = MAX_MESSAGE_BYTES - 16_384  # Prekeys are in the same message.
        if len(services) > 16 or len(encode(MailboxUpdate(0, tuple(services)))) > room:
            raise ValueError("too many services or GUIDs for one mailbox")
        self._services = tuple(services)
        self._store = store
        self._changed.set()
        if self._publishing is None and (connection := self._registration.current) is not None:
            self.connected(connection)

    async def letters(self) -> AsyncGenerator[IncomingLetter | Spoiled, None]:
        """Yield letters as they come, those of one relay in the order in which they were left.
        Who takes them and is done with none gets no more: few are on their way at once.

        Raises:
            ConnectionClosed: the peer was closed.
        """
        while True:
            while self._ready:
                letter = self._ready.popleft()
                self._spoiled -= isinstance(letter, Spoiled)
                yield letter
            if self._is_closed:
                raise ConnectionClosed("the peer is closed")
            self._wake.clear()
            await self._wake.wait()  # No timeout: when a letter comes is not ours to decide.

    # -- the registration's side ----------------------------------------------------------------

    def connected(self, connection: ControlConnection) -> None:
        """Another connection is the primary one: letters come over it from now on."""
        if self._is_closed or self._store is None or connection is self._connection:
            return
        if self._publishing is not None:
            self._publishing.cancel()
        self._connection = connection
        self._window = Window()
        self._publishing = self._tasks.spawn(self._publish(connection, self._store))

    def arrived(self, connection: ControlConnection, letter: Letter) -> None:
        """A letter has come."""
        if self._store is None or connection is not self._connection:
            return
        if len(self._arrived) + len(self._open) >= 2 * MAX_WINDOW:
            log.warning("a relay sends more letters than were asked for: one was dropped")
            return
        if self._window.came(time.monotonic()):
            connection.say(LetterWindow(self._window.letters))
        self._arrived.append((connection, letter))
        if not self._is_opening:
            self._is_opening = True
            self._tasks.spawn(self._open_all(self._store))

    async def close(self) -> None:
        """Take no more letters; who reads them is told. What was not done comes again."""
        self._is_closed = True
        self._wake.set()
        await self._tasks.close()

    # -- the letters' side ----------------------------------------------------------------------

    async def run(self, work: Callable[[keys.Tables], _T]) -> _T:
        """Do work in the store."""
        if self._store is None:
            raise UsageError("the mailbox has no store")
        return await self._store.run(work)

    def settle(self, tables: keys.Tables, letter: IncomingLetter, prekey: int) -> None:
        """A letter is safe, as far as this transaction is."""
        keys.settle(tables, (letter.sender, letter.id, letter.number), prekey, time.time())

    def forget(self, letter: IncomingLetter) -> None:
        """Have the relay forget a letter that is safe."""
        kept = self._open.pop((letter.sender, letter.id), None)
        if kept is not None:
            self._say_done(kept[1], letter.number)

    # -- inside ---------------------------------------------------------------------------------

    def _say_done(self, connection: ControlConnection, number: int) -> None:
        self._window.asked(time.monotonic())
        connection.say(LetterDone((number,)))

    async def _publish(self, connection: ControlConnection, store: Store) -> None:
        """Say who may leave letters, and then ask for them; again when that changes, or it is time
        for other prekeys. Ends with the connection."""
        if MAILBOX not in connection.relay.features:
            return
        pauses: Iterator[float] | None = None
        has_asked = False
        while not connection.is_closed:
            self._changed.clear()
            try:
                await self._update(connection, store)
                pauses, wait = None, _AGAIN
                if not has_asked:
                    has_asked = True
                    self._window.asked(time.monotonic())
                    connection.say(LetterWindow(self._window.letters))
            except RoamRelayError as error:
                if connection.is_closed:
                    return
                after = error.retry_after if isinstance(error, LimitExceeded) else 0.0
                pauses = pauses or backoff(random.random, first=1.0, longest=_LONGEST)
                wait = max(after, next(pauses))
                log.warning("the mailbox was not published", reason=error.reason)
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _update(self, connection: ControlConnection, store: Store) -> None:
        now = time.time()
        if await store.run(keys.is_new):
            # What the relay may have of a store that was lost opens nothing any more.
            _check(await connection.mail(MailboxUpdate(0), self._timeout))
        current = await store.run(partial(keys.current, now=now))
        prekey = self._signed(*current, one_time=False)
        said = MailboxUpdate(0, self._services, prekey)
        if not self._services:
            said = MailboxUpdate(0)
        state = await connection.mail(said, self._timeout)
        _check(state)
        if not self._services or not isinstance(state, MailboxState) or state.one_time >= _FEW:
            return
        made = await store.run(partial(keys.make_one_time, now=now, count=MAX_ONE_TIME))
        once = tuple(self._signed(*one, one_time=True) for one in made)
        said = MailboxUpdate(0, self._services, prekey, once)
        _check(await connection.mail(said, self._timeout))

    def _signed(self, number: int, half: bytes, *, one_time: bool) -> SignedPrekey:
        return sign_prekey(self._identity, make_prekey(number, half, one_time=one_time))

    async def _open_all(self, store: Store) -> None:
        """Open what has arrived, one after the other; where the store fails, again and again, so
        that nothing comes out of order."""
        pauses: Iterator[float] | None = None
        try:
            while self._arrived:
                connection, letter = self._arrived[0]
                try:
                    if connection is self._connection:  # Else it comes again, over the next one.
                        await self._open_one(connection, letter, store)
                    pauses = None
                except LetterFault as fault:
                    self._spoil(letter, fault)
                    self._say_done(connection, letter.number)
                except RoamRelayError as error:
                    if pauses is None:
                        pauses = backoff(random.random, first=_FIRST, longest=_STORE)
                        log.warning("letters cannot be opened now", reason=error.reason)
                    await asyncio.sleep(next(pauses))
                    continue
                self._arrived.popleft()
        finally:
            self._is_opening = False

    def _spoil(self, letter: Letter, fault: LetterFault) -> None:
        log.info("a letter brings nothing", fault=fault.fault.value, peer=letter.guid[:8])
        if self._spoiled < _SPOILED:
            self._spoiled += 1
            self._ready.append(Spoiled(fault.fault, fault.reason, letter.guid))
            self._wake.set()

    async def _open_one(self, connection: ControlConnection, letter: Letter, store: Store) -> None:
        kept = self._open.get((letter.guid, letter.id))
        if kept is not None:
            # It came on a connection before, and is not done: here it is the same one.
            kept[0].number = letter.number
            self._open[letter.guid, letter.id] = (kept[0], connection)
            return
        if self._blocks(letter.guid):
            raise LetterFault(Fault.BLOCKED, "this peer blocks the sender")
        head = read_head(letter.sealed)

        def look(tables: keys.Tables) -> tuple[int | None, bytes | None]:
            place = keys.settled_place(tables, letter.guid, letter.id)
            return place, keys.half_of(tables, head.number)

        place, half = await store.run(look)
        if place == letter.number:
            # The relay has not heard that it is done.
            self._say_done(connection, letter.number)
            return
        if place is not None:
            raise LetterFault(Fault.REPLAYED, "this letter came before")
        if half is None:
            raise LetterFault(Fault.KEY_GONE, "the key that this letter is for is not kept here")
        opened = open_letter(self._identity.guid, letter.sealed, half)
        said = opened.sender, opened.service, opened.id
        if said != (letter.guid, letter.service, letter.id):
            raise LetterFault(Fault.FORGED, "a letter says otherwise inside than outside")
        one = IncomingLetter(self, opened, head.number, letter.number, letter.age)
        self._open[opened.sender, opened.id] = (one, connection)
        self._ready.append(one)
        self._wake.set()


def _check(answer: MailboxState | PrekeyResponse | LetterResponse) -> None:
    """Raise what an answer says is wrong."""
    if answer.code is not None:
        raise error_for(answer.code, answer.reason, retry_after=answer.retry_after)
