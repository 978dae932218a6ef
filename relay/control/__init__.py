"""Control connections: the handshake and then messages, on whatever carries them."""

from relay.control.carriers import Carrier, CarrierLimits, CarrierUser, RawCarrier
from relay.control.connection import ControlConnection
from relay.control.reception import Reception, Rooms
from relay.control.source import Source
from relay.control.states import State
from relay.control.websocket import WebSocketCarrier

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
