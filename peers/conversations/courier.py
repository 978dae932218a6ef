"""Another way for what waits, where the other side is not there: a mailbox, for example.

Nothing of this package is one. What a mailbox needs of a conversation, and what it gives, is here.
"""

from typing import Protocol

__all__ = ["Courier"]


class Courier(Protocol):
    """Takes frames of a conversation (protocol/conversation.py), sealed on the way, to a peer that
    is not there, in the order in which it gets them or not at all."""

    async def hand_over(
        self, remote: str, service: str, frames: tuple[bytes, ...], expires: float | None
    ) -> None:
        """Take frames, which are bytes as a session would carry them; return when they are safe.
        `expires` is when they are of no use any more, in seconds since 1970.

        Raises:
            RoamRelayError: they were not taken; says why.
        """
        ...
