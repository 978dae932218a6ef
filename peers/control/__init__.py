"""The conversation with the relay."""

from peers.control.account import Account, KnownRelay, Line
from peers.control.connection import (
    ControlConnection,
    LetterArrived,
    PeerChanged,
    RelayRestarting,
    RelaySucceeded,
    RequestArrived,
)
from peers.control.dns_key import DdnsKey, fetch_key
from peers.control.handshake import Handshake, Records
from peers.control.link import Link, LinkState, Status
from peers.control.pin import Pin
from peers.control.presence import UNKNOWN, Presence, PresenceState, Watching
from peers.control.registration import (
    Answered,
    PrimaryChanged,
    Registration,
    RegistrationEnded,
    RegistrationEvent,
    RegistrationLost,
    StandbyLost,
)
from peers.control.relay_address import RelayAddresses

__all__ = [
    "UNKNOWN",
    "Account",
    "Answered",
    "ControlConnection",
    "DdnsKey",
    "Handshake",
    "KnownRelay",
    "LetterArrived",
    "Line",
    "Link",
    "LinkState",
    "PeerChanged",
    "Pin",
    "Presence",
    "PresenceState",
    "PrimaryChanged",
    "Records",
    "Registration",
    "RegistrationEnded",
    "RegistrationEvent",
    "RegistrationLost",
    "RelayRestarting",
    "RelaySucceeded",
    "RelayAddresses",
    "RequestArrived",
    "StandbyLost",
    "Status",
    "Watching",
    "fetch_key",
]
