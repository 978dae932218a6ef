"""The conversation with the relay."""

from peers.control.connection import ControlConnection
from peers.control.dns_key import DdnsKey, fetch_key
from peers.control.presence import Presence, Watching
from peers.control.registration import Registration

__all__ = [
    "ControlConnection",
    "DdnsKey",
    "Presence",
    "Registration",
    "Watching",
    "fetch_key",
]
