"""Many relays as one: at which of them each peer is, and what they tell one another."""

from relay.backplane.backplane import ALONE, AskedHere, Backplane, News, Question
from relay.backplane.directory import (
    LOST,
    CameElsewhere,
    Directory,
    NodeLost,
    NodeNow,
    Outranked,
    PeerHere,
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
    listing,
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
    "NodeNow",
    "Outranked",
    "PeerHere",
    "Question",
    "Say",
    "Seal",
    "TellAll",
    "WentElsewhere",
    "listing",
    "tag_of",
]
