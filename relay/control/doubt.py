"""When a connection that is doubted is silent for too long. Pure: times go in, a word comes out.

Its peer may be gone, or the link may be slow: who waits for the peer is told sooner than the
connection is given up.
"""

from enum import Enum

__all__ = ["Doubt", "Verdict"]

_UNANSWERED, _DEAD = 6.0, 12.0
"""Seconds for a peer that is pinged to say something, before those who wait for it are told, and
before it is given up: a link that is full of other bytes may need many for a round trip. A peer
that is there registers anew."""
_ROUND_TRIPS = 3
"""That it may take, where they are known to be long."""


class Verdict(Enum):
    """How a doubt stands."""

    WAITING = "waiting"
    UNFOUNDED = "unfounded"
    """Something was heard."""
    UNANSWERED = "unanswered"
    """Nothing was, and those who wait are to be told: said once."""
    DEAD = "dead"


class Doubt:
    """Of one connection, which is pinged at `since`. `round_trip` is in seconds, as far as it is
    known; else 0."""

    __slots__ = ("_patience", "_told", "since")

    def __init__(self, since: float, round_trip: float) -> None:
        self.since = since
        self._patience = _ROUND_TRIPS * round_trip
        self._told = False

    def judge(self, heard: float, now: float) -> Verdict:
        """Say how it stands; something was heard last at `heard`."""
        if heard >= self.since:
            return Verdict.UNFOUNDED
        waited = now - self.since
        if waited >= max(_DEAD, self._patience):
            return Verdict.DEAD
        if self._told or waited < max(_UNANSWERED, self._patience):
            return Verdict.WAITING
        self._told = True
        return Verdict.UNANSWERED
