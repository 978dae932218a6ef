"""The peer library: `async with Peer(identity, relay=...) as peer`, then listen and connect."""

from peers import interrupt as interrupt  # isort: skip
from peers import namesake as namesake
from peers.choice import Candidate
from peers.config import (
    CarrierKind as Carrier,
)
from peers.config import (
    ConfigError,
    ContactLink,
    ContactLinkError,
    DdnsConfig,
    DdnsConfigError,
    Dial,
    Identity,
    PathKind,
    PeerConfig,
    PolicyError,
    ServiceNameError,
    StandbyWord,
)
from peers.config import (
    Settings as PeerSettings,
)
from peers.control import UNKNOWN, DdnsKey, LinkState, Presence, PresenceState, Status
from peers.conversations import (
    Conversation,
    Disruption,
    Message,
    MessageState,
    Sent,
)
from peers.dialing import DialCounts
from peers.host import AddressSource, LocalAddress
from peers.location import Located
from peers.path import Path
from peers.peer import Peer
from peers.roaming import Surveyed
from peers.rooms import PeerFigures
from peers.services import Listener, SessionRequest
from peers.session import Explanation, PathChanged, Session, SessionFigures, TraceEvent
from protocol.endpoint import Endpoint, Entry, Phase, Provenance
from protocol.errors import (
    CallbackFailed,
    Code,
    ConnectionClosed,
    ConversationFull,
    IdentityError,
    LimitExceeded,
    MissingExtra,
    NameServerUnavailable,
    PathFailed,
    PeerOffline,
    ProtocolViolation,
    Refused,
    RelayMisconfigured,
    RelayUnavailable,
    RequestTimeout,
    RoamRelayError,
    SessionClosed,
    SessionLost,
    StoreDamaged,
    StoreFailed,
    StoreForeign,
    StoreFull,
    StoreLocked,
    StoreTooNew,
    Superseded,
    UnknownPeer,
    UnknownService,
    Unsupported,
    UpdateRefused,
    UsageError,
    WrongIdentity,
)
from protocol.lock import Lock
from protocol.messages import Mode, PeerState
from protocol.session import SessionSettings
from protocol.session import State as SessionState

__all__ = [
    "AddressSource",
    "CallbackFailed",
    "Candidate",
    "Carrier",
    "Code",
    "ConfigError",
    "ConnectionClosed",
    "ContactLink",
    "ContactLinkError",
    "Conversation",
    "ConversationFull",
    "DdnsConfig",
    "DdnsConfigError",
    "DdnsKey",
    "Dial",
    "DialCounts",
    "Disruption",
    "Endpoint",
    "Entry",
    "Explanation",
    "Identity",
    "IdentityError",
    "LimitExceeded",
    "LinkState",
    "Listener",
    "LocalAddress",
    "Located",
    "Lock",
    "Message",
    "MessageState",
    "MissingExtra",
    "Mode",
    "NameServerUnavailable",
    "Path",
    "PathChanged",
    "PathFailed",
    "PathKind",
    "Peer",
    "PeerConfig",
    "PeerFigures",
    "PeerOffline",
    "PeerSettings",
    "PeerState",
    "Phase",
    "PolicyError",
    "Presence",
    "PresenceState",
    "ProtocolViolation",
    "Provenance",
    "Refused",
    "RelayMisconfigured",
    "RelayUnavailable",
    "RequestTimeout",
    "RoamRelayError",
    "Sent",
    "ServiceNameError",
    "Session",
    "SessionClosed",
    "SessionFigures",
    "SessionLost",
    "SessionRequest",
    "SessionSettings",
    "SessionState",
    "StandbyWord",
    "Status",
    "StoreDamaged",
    "StoreFailed",
    "StoreForeign",
    "StoreFull",
    "StoreLocked",
    "StoreTooNew",
    "Superseded",
    "Surveyed",
    "TraceEvent",
    "UNKNOWN",
    "UnknownPeer",
    "UnknownService",
    "Unsupported",
    "UpdateRefused",
    "UsageError",
    "WrongIdentity",
]
