"""User planes: tickets, the legs that they admit, and bytes from one leg to the other."""

from relay.plane.joining import PlaneLimits, Planes, Seat
from relay.plane.legs import Leg, SocketLeg, TlsLeg, WebSocketLeg
from relay.plane.pacing import Pacer
from relay.plane.tickets import Purpose, TicketRefused

__all__ = [
    "Leg",
    "Pacer",
    "PlaneLimits",
    "Planes",
    "Purpose",
    "Seat",
    "SocketLeg",
    "TicketRefused",
    "TlsLeg",
    "WebSocketLeg",
]
