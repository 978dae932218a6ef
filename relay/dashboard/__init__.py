"""The dashboard: one page for the operator, and what it shows, told once a second."""

from relay.dashboard.routes import DashboardRoutes
from relay.dashboard.stream import Stream
from relay.dashboard.view import View

__all__ = ["DashboardRoutes", "Stream", "View"]
