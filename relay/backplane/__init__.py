"""Many relays as one: at which of them each peer is, and what they tell one another."""

from relay.backplane.backplane import ALONE, AskedHere, Backplane, News, Question
from relay.backplane.directory import LOST, Directory
from relay.backplane.events import (
    CameElsewhere,
    NodeLost,
    NodeNow,
    Outranked,
    PeerHere,
    Say,
    TellAll,
    WentElsewhere,
)
from relay.backplane.messages import (
    MAX_NAMED,
    Answered,
    Asked,
    Beat,
    Came,
    Claim,
    Foreign,
    Known,
    NodeMessage,
    Seal,
    Went,
    listing,
    tag_of,
)
from relay.backplane.naming import Naming, ZoneUpdate

__all__ = [
    "ALONE",
    "LOST",
    "MAX_NAMED",
    "Answered",
    "Asked",
    "AskedHere",
    "Backplane",
    "Beat",
    "Came",
    "CameElsewhere",
    "Claim",
    "Directory",
    "Foreign",
    "Known",
    "Naming",
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
    "Went",
    "WentElsewhere",
    "ZoneUpdate",
    "listing",
    "tag_of",
]
