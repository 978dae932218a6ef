"""Control connections: the handshake and then messages, on whatever carries them."""

from relay.control.carriers import Carrier, CarrierLimits, CarrierUser, RawCarrier, WebSocketCarrier
from relay.control.connection import ControlConnection
from relay.control.reception import Reception, Rooms
from relay.control.source import Source
from relay.control.states import State

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
