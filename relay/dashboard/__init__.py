"""The dashboard: one page for the operator, and what it shows, told once a second."""

from relay.dashboard.routes import EVENTS, DashboardRoutes
from relay.dashboard.stream import Stream
from relay.dashboard.view import MOST, MOST_NEWS, MOST_PLANES, Change, Shows, View

__all__ = [
    "EVENTS",
    "MOST",
    "MOST_NEWS",
    "MOST_PLANES",
    "Change",
    "DashboardRoutes",
    "Shows",
    "Stream",
    "View",
]
