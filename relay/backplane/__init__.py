"""Many relays as one: which of them each peer is at, what they tell one another, and how one is
asked. What carries it is not known here (`relay.cluster`)."""

from relay.backplane.backplane import ALONE, AskedHere, Backplane, News, Question
from relay.backplane.directory import (
    LOST,
    CameElsewhere,
    Directory,
    NodeLost,
    Outranked,
    Say,
    TellAll,
    WentElsewhere,
)
from relay.backplane.messages import (
    Answered,
    Asked,
    Claim,
    Foreign,
    NodeMessage,
    Seal,
    tag_of,
)

__all__ = [
    "ALONE",
    "LOST",
    "Answered",
    "Asked",
    "AskedHere",
    "Backplane",
    "CameElsewhere",
    "Claim",
    "Directory",
    "Foreign",
    "News",
    "NodeLost",
    "NodeMessage",
    "Outranked",
    "Question",
    "Say",
    "Seal",
    "TellAll",
    "WentElsewhere",
    "tag_of",
]
