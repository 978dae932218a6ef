"""How the `peer` command ends: a number for each kind of failure."""

from enum import IntEnum

from peers.cli.file_transfer import TransferCancelled
from peers.cli.output import OutputClosed
from peers.config import ConfigError, ContactLinkError, DdnsConfigError, PolicyError
from protocol.errors import (
    IdentityError,
    LimitExceeded,
    MissingExtra,
    NameServerUnavailable,
    PathFailed,
    PeerOffline,
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

__all__ = ["Exit", "exit_of"]


class Exit(IntEnum):
    """How `peer` ends."""

    DONE = 0
    """Done."""
    FAILED = 1
    """Failed: a file was not stored, input cannot be read, output cannot be written."""
    WRONG_USE = 2
    """Wrong use, configuration, policy or key."""
    NO_RELAY = 3
    """No relay, or no name server."""
    UNKNOWN = 4
    """Unknown peer or service."""
    OFFLINE = 5
    """The peer is offline."""
    REFUSED = 6
    """Refused: by the callee, the relay or the name server."""
    LIMITED = 7
    """A limit is reached."""
    TOO_LATE = 8
    """No answer in time."""
    NO_PATH = 9
    """No path."""
    WRONG_IDENTITY = 10
    """Another peer's key, or another relay's."""
    ENDED_EARLY = 11
    """The session ended early."""
    CANCELLED = 12
    """The other side has cancelled the transfer of a file."""
    HUNG_UP = 129
    """Ended by SIGHUP."""
    INTERRUPTED = 130
    """Ended by SIGINT (Ctrl-C)."""
    UNREAD = 141
    """Nobody reads standard output any more: what a shell says of a program that SIGPIPE ends."""
    TERMINATED = 143
    """Ended by SIGTERM."""


_EXITS: tuple[tuple[type[RoamRelayError], Exit], ...] = (
    (OutputClosed, Exit.UNREAD),
    (TransferCancelled, Exit.CANCELLED),
    (RelayUnavailable, Exit.NO_RELAY),
    (NameServerUnavailable, Exit.NO_RELAY),
    (UpdateRefused, Exit.REFUSED),
    (DdnsConfigError, Exit.WRONG_USE),
    (UnknownPeer, Exit.UNKNOWN),
    (UnknownService, Exit.UNKNOWN),
    (PeerOffline, Exit.OFFLINE),
    (Refused, Exit.REFUSED),
    (LimitExceeded, Exit.LIMITED),
    (RequestTimeout, Exit.TOO_LATE),
    (PathFailed, Exit.NO_PATH),
    (WrongIdentity, Exit.WRONG_IDENTITY),
    (SessionLost, Exit.ENDED_EARLY),
    (SessionClosed, Exit.ENDED_EARLY),
    (ConfigError, Exit.WRONG_USE),
    (IdentityError, Exit.WRONG_USE),
    (PolicyError, Exit.WRONG_USE),
    (MissingExtra, Exit.WRONG_USE),
    (ContactLinkError, Exit.WRONG_USE),
)
"""The first one that fits counts."""


def exit_of(error: RoamRelayError) -> int:
    """Return the exit code for an error."""
    return next((code for kind, code in _EXITS if isinstance(error, kind)), Exit.FAILED).value
