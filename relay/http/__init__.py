"""HTTP: who is let in, and what a request becomes: a control connection, a leg, or an answer."""

from relay.http.control import ControlRoute
from relay.http.door import Doorkeeper
from relay.http.plane import PlaneRoute
from relay.http.public import PublicRoutes
from relay.http.routes import application

__all__ = ["ControlRoute", "Doorkeeper", "PlaneRoute", "PublicRoutes", "application"]
