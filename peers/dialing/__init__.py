"""Whom this peer dials: the one door for every connection that it opens."""

from peers.dialing.door import Ask, DialCounts, DialRefused, Door, Leg, Node, Reason, Witness
from peers.dialing.scopes import Here, Known, Word, refusal, word_of

__all__ = [
    "Ask",
    "DialCounts",
    "DialRefused",
    "Door",
    "Here",
    "Known",
    "Leg",
    "Node",
    "Reason",
    "Witness",
    "Word",
    "refusal",
    "word_of",
]
