"""A conversation as a program sees it: `send`, and `async for message in conversation`.

How it gets a session is in room.py, what passes over one in link.py.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self

from peers.config import checked_function, checked_seconds
from peers.conversations.courier import Courier
from peers.conversations.database import Work
from peers.conversations.keeper import Keeper
from peers.conversations.link import Links
from peers.conversations.message import Disruption, Message, Sent, disruption
from peers.conversations.store import NO_PREFERENCE, Preference
from peers.conversations.tables import Entry, MessageState, Waiting
from peers.tasks import check_loop
from protocol.conversation import MAX_LETTER, Receipt
from protocol.errors import ConnectionClosed, RoamRelayError, UsageError

__all__ = ["Conversation", "ConversationEnd"]

_READ = 64
"""Messages that are read from the store at once."""
_ENDED = (
    MessageState.READ,
    MessageState.EXPIRED,
    MessageState.CANCELLED,
    MessageState.REFUSED,
)


class Conversation:
    """Messages to and from one service of one peer, which outlive both programs.

    Each message arrives in the other side's store exactly once and in order, however often either
    program is killed, or is told to have expired (docs/conversations.md). `async for message in
    conversation` waits for the next one without end, until the conversation is closed.

    Open it by `async with`, which raises what is wrong with the store. It belongs to one event
    loop; any number of tasks may send, and one at a time may iterate.
    """

    def __init__(
        self,
        remote: str,
        service: str,
        begin: Callable[["ConversationEnd"], Awaitable[Keeper]],
        end: Callable[["ConversationEnd", Keeper], Awaitable[None]],
        preference: Preference = NO_PREFERENCE,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._begin = begin
        self._end = end
        self._keeper: Keeper | None = None
        """None before it is open."""
        self._is_closed = False
        self._error: RoamRelayError | None = None
        self._reads = False
        """Whether a task waits for the next message."""
        self._links = Links()
        self._courier: Courier | None = None
        """None before it is open."""
        self.remote = remote
        """The GUID of the other peer."""
        self.service = service
        """The service that it is for."""
        self._preference = preference

    def __repr__(self) -> str:
        return f"<Conversation with {self.remote[:8]} for {self.service}>"

    async def open(self) -> Self:
        """Open it, as `async with` does; whoever calls this calls `close` in the end.

        Raises:
            StoreFailed: the store cannot be used; the class says which fault it is.
            UsageError: this conversation is open already, or another store is in use.
            ValueError: the service is offered otherwise already.
            ConnectionClosed: the peer, or this conversation, is closed.
        """
        check_loop(self._loop, "the conversation")
        if self._is_closed:
            raise ConnectionClosed("a conversation is opened once: ask the peer for another one")
        if self._keeper is None:
            await self._begin(self._itself)
        return self

    async def close(self) -> None:
        """Close it: nothing comes or leaves any more, until it is opened anew. What is in the store
        stays there. A second time, it does nothing."""
        check_loop(self._loop, "the conversation")
        if not self._is_closed:
            self._itself.stop()
            if self._keeper is not None:
                await self._end(self._itself, self._keeper)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def is_connected(self) -> bool:
        """Whether a session carries it now."""
        return self._links.newest is not None

    @property
    def mailbox_error(self) -> RoamRelayError | None:
        """Why the last letter for the other side was not taken; None where it was, or there was
        none. It is tried again."""
        return None if self._courier is None else self._courier.error

    @property
    def session_error(self) -> RoamRelayError | None:
        """Why no session with the other side could be opened last; None where one could, or none
        was asked for. It is tried again."""
        return self._links.error

    async def send(
        self,
        payload: bytes | bytearray | memoryview,
        *,
        expires: float | None = None,
        also: Work | None = None,
        message_id: str | None = None,
    ) -> str:
        """Send one message; return its id when it is safe in the store here. It leaves as soon as
        the other side is there, or its mailbox takes it.

        After `expires` seconds, where it has not left, it is not sent any more; one that has left
        is told to have expired only once the other side has said that it has not got it. What
        `also`, a function of the database's connection, writes is in the same transaction; where
        that has to know the id, `message_id` is one that `new_message_id` has made. Whoever cancels
        this does not know whether the message was stored: with such an id, `state` tells.

        Raises:
            TypeError, ValueError: it is no bytes, or above 57,344 of them; or a message was sent
                with this id.
            ConversationFull: too many messages wait: 10,000, or 64 MiB of them.
            StoreFailed: it was not stored.
            CallbackFailed: `also` has raised; it was not stored.
            ConnectionClosed: the conversation is closed.
        """
        keeper = self._open
        message = _bytes_of(payload)
        if also is not None:
            checked_function(also, "also")
        until = None if expires is None else time.time() + checked_seconds(expires, "expires")
        name = b"" if message_id is None else _name_of(message_id)
        if name and await keeper.entry(name) is not None:
            raise ValueError(f"a message was sent with the id {message_id}")
        return (await keeper.add(message, until, also, name)).hex()

    @staticmethod
    def new_message_id() -> str:
        """Return an id that no message has, to be given to `send`."""
        return os.urandom(16).hex()

    async def state(self, message_id: str) -> Sent | None:
        """Return how a message stands that was sent here; None where nothing is known of it. The
        last thousand that have ended are known.

        Raises:
            ValueError: that is no id of a message.
        """
        keeper, name = self._open, _name_of(message_id)
        await keeper.expire()
        entry = await keeper.entry(name)
        return None if entry is None else _sent(entry)

    async def follow(self, message_id: str) -> AsyncIterator[Sent]:
        """Iterate over how a message stands: first as it is now, then whenever that changes. It
        ends where nothing can change any more; or nothing is known of it.

        Raises:
            ValueError: that is no id of a message.
        """
        keeper, name = self._open, _name_of(message_id)
        event = keeper.follow(name)
        last: Sent | None = None
        try:
            while True:
                event.clear()
                now = await self.state(message_id)
                if now is None:
                    return
                if last is None or now.state is not last.state:
                    yield now
                    last = now
                if now.state in _ENDED:
                    return
                await event.wait()  # No timeout: when it changes is the other side's to decide.
        finally:
            keeper.unfollow(name, event)

    async def outgoing(self) -> tuple[Sent, ...]:
        """Return the messages that are not delivered yet, the oldest first; also those that were
        sent before this program began."""
        return tuple(map(_sent, await self._open.entries()))

    async def cancel(self, message_id: str) -> bool:
        """Take a message back; return whether that was done: not once it may have left.

        Raises:
            ValueError: that is no id of a message.
            StoreFailed: nothing has changed.
        """
        return await self._open.cancel(_name_of(message_id))

    async def disruptions(self) -> tuple[Disruption, ...]:
        """Return when the stores of both sides were out of step, the oldest first; 64 at most."""
        return tuple(disruption(*one) for one in await self._open.breaches())

    def __aiter__(self) -> AsyncIterator[Message]:
        return _Reader(self._itself)

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _open(self) -> Keeper:
        check_loop(self._loop, "the conversation")
        if self._is_closed or self._keeper is None:
            raise ConnectionClosed(
                "the conversation is not open: use it inside 'async with peer.conversation(...)'"
            )
        return self._keeper

    @property
    def _itself(self) -> "ConversationEnd":
        if not isinstance(self, ConversationEnd):
            raise UsageError("conversations are made by a peer: peer.conversation(...)")
        return self


class ConversationEnd(Conversation):
    """A conversation with all that the room needs of it."""

    @property
    def keeper(self) -> Keeper:
        """What keeps it."""
        return self._open

    @property
    def kept(self) -> Keeper:
        """The same, also while it is being closed."""
        if self._keeper is None:
            raise ConnectionClosed("the conversation was never open")
        return self._keeper

    @property
    def preference(self) -> Preference:
        """By what sessions it is carried that are opened here."""
        return self._preference

    @property
    def links(self) -> Links:
        """What carries it."""
        return self._links

    @property
    def is_open(self) -> bool:
        """Whether it was opened, and is not closed."""
        return self._keeper is not None and not self._is_closed

    def begin(self, keeper: Keeper, courier: Courier) -> None:
        """It is open from now on."""
        self._keeper = keeper
        self._courier = courier

    @property
    def courier(self) -> Courier:
        """What leaves letters for it."""
        if self._courier is None:
            raise ConnectionClosed("the conversation is not open")
        return self._courier

    def cut(self) -> None:
        """What a session of before still brings is not taken any more."""
        self._links.source = None

    @property
    def error(self) -> RoamRelayError | None:
        """Why nothing comes any more; None where nothing is wrong."""
        return self._error

    def stop(self) -> None:
        """The peer is closed: who iterates comes to the end."""
        self._is_closed = True
        if self._keeper is not None:
            self._keeper.arrived.wake()

    def fail(self, error: RoamRelayError) -> None:
        """Nothing comes any more: who iterates is told why."""
        self._error = error
        if self._keeper is not None:
            self._keeper.arrived.wake()

    async def next_waiting(self, after: int) -> list[Waiting]:
        """Wait for messages behind this position; return none where the conversation is closed."""
        if self._reads:
            raise UsageError(
                "two tasks iterate over one conversation: let one do it, and hand the messages on"
            )
        self._reads = True
        try:
            while self.is_open:
                keeper = self._open
                came = keeper.came
                found = await keeper.inbox(after, _READ)
                if found:
                    return found
                if self._error is not None:
                    raise self._error
                if keeper.came == came and self.is_open:
                    # No timeout: when the next message comes is the other application's to decide.
                    await keeper.arrived.wait()
            return []
        finally:
            self._reads = False

    async def end_message(
        self, waiting: Waiting, receipt: Receipt | None, also: Work | None
    ) -> bool:
        """Take a message out of the inbox."""
        return await self._open.done(waiting.position, receipt, also)


class _Reader:
    """One iteration over the messages of a conversation."""

    def __init__(self, conversation: ConversationEnd) -> None:
        self._conversation = conversation
        self._found: deque[Waiting] = deque()
        self._last: Message | None = None
        self._position = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        conversation = self._conversation
        check_loop(conversation._loop, "the conversation")
        if self._last is not None and conversation.is_open:
            await self._last.done()
            self._last = None
        if not self._found:
            self._found.extend(await conversation.next_waiting(self._position))
        if not self._found or not conversation.is_open:
            raise StopAsyncIteration
        waiting = self._found.popleft()
        self._position = waiting.position
        self._last = Message(
            waiting.id.hex(),
            conversation.remote,
            waiting.sent,
            waiting.payload,
            waiting,
            conversation.end_message,
        )
        return self._last


def _sent(entry: Entry) -> Sent:
    return Sent(entry.id.hex(), entry.state, entry.sent, entry.expires, entry.size, entry.reason)


def _name_of(message_id: str) -> bytes:
    try:
        name = bytes.fromhex(message_id)
    except (TypeError, ValueError):
        name = b""
    if len(name) != 16:
        raise ValueError(f"message_id is what send() has returned, not {message_id!r:.80}")
    return name


def _bytes_of(payload: bytes | bytearray | memoryview) -> bytes:
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise TypeError(f"a message is bytes, not {type(payload).__name__}: encode it first")
    size = payload.nbytes if isinstance(payload, memoryview) else len(payload)
    if size > MAX_LETTER:
        raise ValueError(f"a message may have at most {MAX_LETTER} bytes, not {size}")
    return bytes(payload)
