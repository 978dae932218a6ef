"""Another way for what waits, where the other side is not there: a mailbox, for example.

Nothing here is one, and nothing uses this yet. A mailbox takes `line` and `messages` of one line in
each letter, so that a letter says where it begins; a message and its head fit into one. What it
takes has left (`Keeper.load`). Where it brings a letter, its frames go to `Keeper.adopt` and `take`
in the order of their numbers, as those of the session that is current; what is missing before
it is waited for. The answer goes back with the next letter, or by the next session, which asks.
What expires in a mailbox expires by the mailbox's word; a session must not say `nothing` for it
before that (docs/protocol.md, R17.21). A store (`Database`) runs work as a mailbox wants it: in a
transaction.
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
