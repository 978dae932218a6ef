"""How much of what others have to bear each kind of word may cause. PURE; what keeps to it is
`protocol.dialing.Budgets`.
"""

from collections.abc import Hashable, Mapping

from peers.dialing.scopes import Word
from protocol.dialing import Rate, Share

__all__ = ["MEETING", "MEETINGS", "QUESTION", "QUESTIONS", "SHARES"]

QUESTION = "a question"

SHARES: Mapping[Hashable, Share] = {
    # Who is behind one address may be many; the relay has seen all of them there.
    Word.RELAY: Share(
        Rate(16, 5.0), Rate(6, 10.0), Rate(256, 1.0), Rate(1024, 0.25), Rate(1024, 0.125),
        first_pause=5.0, longest_pause=60.0, wishes_spare_remote=True,
    ),
    # This peer has asked for that name: it is its own wish, sixteen records long.
    Word.ZONE: Share(
        Rate(16, 10.0), Rate(3, 20.0), Rate(16, 10.0), Rate(64, 2.0), Rate(128, 1.0),
        first_pause=30.0, longest_pause=600.0,
    ),
    # Nobody but the other side says so.
    Word.TOLD: Share(
        Rate(4, 60.0), Rate(2, 60.0), Rate(4, 60.0), Rate(8, 30.0), Rate(64, 1.0),
        first_pause=60.0, longest_pause=3600.0,
    ),
    # Few servers, each asked again and again while it is silent.
    Word.DELEGATION: Share(
        Rate(64, 1.0), Rate(32, 2.0), Rate(32, 2.0), Rate(64, 1.0), Rate(256, 0.25),
        first_pause=5.0, longest_pause=60.0,
    ),
    # A relay has few nodes, and each session has a leg at one of them.
    Word.NODE: Share(
        Rate(256, 1.0), Rate(64, 1.0), Rate(256, 1.0), Rate(512, 0.25), Rate(1024, 0.125),
        first_pause=5.0, longest_pause=60.0,
    ),
}  # fmt: skip
"""A race has sixteen candidates at most, so that one fits into what is the zone's and the relay's.
Told entries are few: beside the relay's, a home has one or two."""

MEETING = "a meeting"

MEETINGS: Mapping[Hashable, Share] = {
    MEETING: Share(
        Rate(8, 15.0), Rate(4, 15.0), Rate(16, 5.0), Rate(64, 1.0), Rate(256, 0.25),
        first_pause=5.0, longest_pause=60.0,
    )
}  # fmt: skip
"""Where the relay sees a peer's connection, and the peer has signed that it comes from there. Each
is five SYNs at most, of four sockets, to what has shown by a TCP handshake that it is there."""

QUESTIONS: Mapping[Hashable, Share] = {
    QUESTION: Share(
        Rate(8, 30.0), Rate(2, 300.0), Rate(8, 10.0), Rate(16, 5.0), Rate(32, 1.0),
        first_pause=0.0, longest_pause=0.0,
    )
}  # fmt: skip
"""What the relay is asked: strangers cause it, and it is charged to this peer. What it has met, the
relay says at once; where it has not, it is asked again after five minutes."""
