"""Control connections: the handshake and then messages, on whatever carries them."""

from relay.control.carriers import Carrier, CarrierLimits, CarrierUser, RawCarrier, WebSocketCarrier
from relay.control.connection import ControlConnection, Source, State
from relay.control.reception import Reception, Rooms

__all__ = [
    "Carrier",
    "CarrierLimits",
    "CarrierUser",
    "ControlConnection",
    "RawCarrier",
    "Reception",
    "Rooms",
    "Source",
    "State",
    "WebSocketCarrier",
]
