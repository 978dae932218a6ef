"""What a program sees of the messages of a conversation: those that come, those that it sent."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from peers.config import checked_flag, checked_function, checked_kind
from peers.conversations.database import Work
from peers.conversations.numbers import Breach
from peers.conversations.tables import MessageState, Waiting
from protocol.conversation import Receipt

__all__ = ["Disruption", "Message", "Sent"]

_MAX_REASON = 512
"""Characters."""

_Done: TypeAlias = Callable[[Waiting, Receipt | None, Work | None], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was sent here, and how it stands."""

    id: str
    """What `send` has returned."""
    state: MessageState
    """How it stands."""
    sent: float
    """When it was sent, in seconds since 1970."""
    expires: float | None
    """When it expires, in seconds since 1970; None: never, or it has ended."""
    size: int
    """Bytes of its payload; 0 once it has ended."""
    reason: str
    """Why the other application refused it; else empty."""


@dataclass(frozen=True, slots=True)
class Disruption:
    """The numbers of both sides were out of step, as a store was lost or came back from an old
    copy. The conversation goes on; what is missing does not come any more."""

    kind: str
    """`lost`: messages that were delivered are not in the recipient's store any more, or were never
    kept for it; `began_again`: the sender's store has forgotten messages that were delivered."""
    count: int
    """How many messages it is about."""
    incoming: bool
    """Whether these came from the other side; else they were sent here."""


def disruption(breach: Breach, here: bool) -> Disruption:
    """Return what a program sees of it."""
    return Disruption(breach.kind.value, breach.count, here)


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the other side. It comes again until it is done, also in another program that
    opens the store; once it is done, never again."""

    id: str
    """What the other side's `send` has returned."""
    sender: str
    """The other side's GUID."""
    sent: float
    """When it was sent, in seconds since 1970, by the sender's clock."""
    payload: bytes
    """What was sent."""
    _waiting: Waiting = field(repr=False)
    _done: _Done = field(repr=False)
    _over: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def is_done(self) -> bool:
        """Whether it was taken out of the inbox by this object."""
        return self._over.is_set()

    async def done(self, *, read: bool = False, also: Work | None = None) -> None:
        """Take the message out of the inbox: it does not come again. With `read` the other side is
        told that it was read. What `also`, a function of the database's connection, writes is in
        the same transaction: both have happened, or neither. A second time, it does nothing.

        Raises:
            StoreFailed: it is not done.
            CallbackFailed: `also` has raised; it is not done.
            ConnectionClosed: the peer is closed.
        """
        checked_flag(read, "read")
        await self._end(Receipt(self._waiting.id) if read else None, also)

    async def refuse(self, reason: str, *, also: Work | None = None) -> None:
        """Take the message out of the inbox, and tell the other side that it is `refused`, and why.

        Raises:
            as `done`.
        """
        checked_kind("reason", reason, str, "a text")
        reason = reason.encode(errors="replace").decode()[:_MAX_REASON] or "refused"
        await self._end(Receipt(self._waiting.id, reason), also)

    async def _end(self, receipt: Receipt | None, also: Work | None) -> None:
        if also is not None:
            checked_function(also, "also")
        if not self._over.is_set():
            await self._done(self._waiting, receipt, also)
            self._over.set()
