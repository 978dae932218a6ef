"""The conversation with the relay."""

from peers.control.account import Account, KnownRelay
from peers.control.connection import (
    ControlConnection,
    LetterArrived,
    PeerChanged,
    RelayRestarting,
    RelaySucceeded,
    RequestArrived,
)
from peers.control.dns_key import DdnsKey, fetch_key
from peers.control.handshake import Records
from peers.control.link import Link, LinkState, Status
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
    "KnownRelay",
    "LetterArrived",
    "Link",
    "LinkState",
    "PeerChanged",
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
