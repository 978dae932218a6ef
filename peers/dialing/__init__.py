"""Whom this peer dials: the one door for every connection that it opens."""

from peers.dialing.budgets import Budgets, Outcome
from peers.dialing.door import Ask, DialCounts, DialRefused, Door, Leg, Reason
from peers.dialing.scopes import Here, Known, Word, refusal, word_of

__all__ = [
    "Ask",
    "Budgets",
    "DialCounts",
    "DialRefused",
    "Door",
    "Here",
    "Known",
    "Leg",
    "Outcome",
    "Reason",
    "Word",
    "refusal",
    "word_of",
]
