"""HTTP: who is let in, and what a request becomes: a control connection, a leg, or an answer."""

from relay.http.admin import AdminRoutes, AdminToken
from relay.http.answers import refusal
from relay.http.control import ControlRoute
from relay.http.descriptors import Descriptors, hard_limit, raise_limit, tell_of_limits
from relay.http.door import Doorkeeper, Rules
from relay.http.entrance import Deadlines
from relay.http.front import Arrivals, Front
from relay.http.fronts import Fronts
from relay.http.handover import Handover
from relay.http.origin import Proxies, is_near
from relay.http.page import Pages
from relay.http.plane import PlaneRoute
from relay.http.public import PublicRoutes
from relay.http.routes import Routes, for_peers

__all__ = [
    "AdminRoutes",
    "AdminToken",
    "Arrivals",
    "ControlRoute",
    "Deadlines",
    "Descriptors",
    "Doorkeeper",
    "Front",
    "Fronts",
    "Handover",
    "Pages",
    "PlaneRoute",
    "Proxies",
    "PublicRoutes",
    "Routes",
    "Rules",
    "for_peers",
    "hard_limit",
    "is_near",
    "raise_limit",
    "refusal",
    "tell_of_limits",
]
