"""User planes: tickets, the legs that they admit, and bytes from one leg to the other."""

from relay.plane.detour import Detour, Detours, Wanted
from relay.plane.joining import Planes, Seat
from relay.plane.legs import Leg, SocketLeg, TlsLeg, WebSocketLeg
from relay.plane.limits import DetourLimits, PlaneLimits, pace_of
from relay.plane.pacing import Pacer
from relay.plane.tickets import Purpose, TicketRefused

__all__ = [
    "Detour",
    "DetourLimits",
    "Detours",
    "Leg",
    "Pacer",
    "PlaneLimits",
    "Planes",
    "Purpose",
    "Seat",
    "SocketLeg",
    "TicketRefused",
    "TlsLeg",
    "Wanted",
    "WebSocketLeg",
    "pace_of",
]
