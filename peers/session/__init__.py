"""A session as the application sees it."""

from peers.session.events import PathChanged
from peers.session.explanation import Explanation, TraceEvent
from peers.session.session import Session

__all__ = [
    "Explanation",
    "PathChanged",
    "Session",
    "TraceEvent",
]
