"""The peer library: `async with Peer(identity, relay=...) as peer`, then listen and connect."""

from peers.candidate import Candidate
from peers.config import ConfigError, PeerConfig
from peers.ddns_config import DdnsConfig, DdnsConfigError
from peers.ddns_key import DdnsKey
from peers.identity import Identity
from peers.listener import Listener
from peers.location import Located
from peers.path import PathKind
from peers.peer import Peer
from peers.policy import PolicyError
from peers.session import Session
from peers.session_events import PathChanged
from peers.survey import Surveyed
from peers.trace import Explanation, TraceEvent
from peers.upgrade import Carrier
from peers.watching import Presence
from protocol.endpoint import Endpoint, Phase, Provenance
from protocol.errors import (
    Code,
    ConnectionClosed,
    IdentityError,
    LimitExceeded,
    NameServerUnavailable,
    PathFailed,
    PeerOffline,
    ProtocolViolation,
    Refused,
    RelayUnavailable,
    RequestTimeout,
    RoamRelayError,
    SessionClosed,
    SessionLost,
    UnknownPeer,
    UnknownService,
    UpdateRefused,
    WrongIdentity,
)
from protocol.messages import Mode, PeerState
from protocol.session_settings import SessionSettings

__all__ = [
    "Candidate",
    "Carrier",
    "Code",
    "ConfigError",
    "ConnectionClosed",
    "DdnsConfig",
    "DdnsConfigError",
    "DdnsKey",
    "Endpoint",
    "Explanation",
    "Identity",
    "IdentityError",
    "LimitExceeded",
    "Listener",
    "Located",
    "Mode",
    "NameServerUnavailable",
    "PathChanged",
    "PathFailed",
    "PathKind",
    "Peer",
    "PeerConfig",
    "PeerOffline",
    "PeerState",
    "Phase",
    "PolicyError",
    "Presence",
    "ProtocolViolation",
    "Provenance",
    "Refused",
    "RelayUnavailable",
    "RequestTimeout",
    "RoamRelayError",
    "Session",
    "SessionClosed",
    "SessionLost",
    "SessionSettings",
    "Surveyed",
    "TraceEvent",
    "UnknownPeer",
    "UnknownService",
    "UpdateRefused",
    "WrongIdentity",
]
