"""A service at which others reach the conversations of this peer: who may, and who has come."""

import asyncio
from dataclasses import dataclass, field

from peers.conversations.conversation import ConversationEnd
from peers.services import ConversationsEnd
from protocol.errors import RoamRelayError

__all__ = ["OfferedService"]


@dataclass(slots=True)
class OfferedService:
    """It, and the conversations there."""

    listener: ConversationsEnd
    open: dict[str, ConversationEnd] = field(default_factory=dict)
    """The conversations that are open, by the other side's GUID."""
    allow: frozenset[str] | None = frozenset()
    """Who may begin one; None: anyone."""
    offered: "asyncio.Queue[ConversationEnd | None] | None" = None
    """Those that others have begun; None while the program does not ask for them. In it None is the
    end."""
    error: RoamRelayError | None = None
    """Why nobody comes any more."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by who opens a conversation that the other side begins."""

    def end(self, error: RoamRelayError | None) -> None:
        """Nobody comes any more."""
        self.error = error
        if self.offered is not None:
            self.offered.put_nowait(None)

    def admit(self) -> None:
        """Let those ask who may."""
        known = frozenset(self.open)
        self.listener.admit(None if self.allow is None else self.allow | known)
