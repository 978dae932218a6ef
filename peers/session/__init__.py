"""A session as the application sees it."""

from peers.session.end import SessionEnd
from peers.session.events import PathChanged
from peers.session.explanation import Explanation, Trace, TraceEvent
from peers.session.figures import SessionFigures
from peers.session.flights import SessionFlight
from peers.session.news import (
    FlightKeysChanged,
    LocationTold,
    Over,
    PathLost,
    Pinned,
    SessionNews,
    StandbyLost,
    Switched,
)
from peers.session.session import Session
from peers.session.terms import Terms

__all__ = [
    "Explanation",
    "FlightKeysChanged",
    "LocationTold",
    "Over",
    "PathChanged",
    "PathLost",
    "Pinned",
    "Session",
    "SessionEnd",
    "SessionFigures",
    "SessionFlight",
    "SessionNews",
    "StandbyLost",
    "Switched",
    "Terms",
    "Trace",
    "TraceEvent",
]
