"""Whom this peer dials: the one door for every connection that it opens."""

from peers.dialing.door import DialRefused, Door, Passage
from peers.dialing.looks import Health, health_of, observe
from peers.dialing.scopes import Here, Known, Word, refusal, word_of
from peers.dialing.wishes import Ask, DialCounts, Leg, Node, Reason, Witness

__all__ = [
    "Ask",
    "DialCounts",
    "DialRefused",
    "Door",
    "Health",
    "Here",
    "Known",
    "Leg",
    "Node",
    "Passage",
    "Reason",
    "Witness",
    "Word",
    "health_of",
    "observe",
    "refusal",
    "word_of",
]
