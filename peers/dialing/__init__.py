"""Whom this peer dials: the one door for every connection that it opens."""

from peers.dialing.door import Ask, DialCounts, DialRefused, Door, Leg, Passage, Reason, Witness
from peers.dialing.scopes import Here, Known, Word, refusal, word_of

__all__ = [
    "Ask",
    "DialCounts",
    "DialRefused",
    "Door",
    "Here",
    "Known",
    "Leg",
    "Passage",
    "Reason",
    "Witness",
    "Word",
    "refusal",
    "word_of",
]
