"""Error codes on the wire and the exceptions that users see.

Every code is named once, here. Which of them ends a registration, and when, is decided in
`peers.control.refusal`. No I/O, no rendering.
"""

from enum import StrEnum

__all__ = [
    "CallbackFailed",
    "Code",
    "ConnectionClosed",
    "ConversationFull",
    "IdentityError",
    "LetterRefused",
    "LimitExceeded",
    "MailboxFull",
    "MissingExtra",
    "NameServerUnavailable",
    "PathFailed",
    "PeerOffline",
    "ProtocolViolation",
    "Refused",
    "RelayMisconfigured",
    "RelayUnavailable",
    "RequestTimeout",
    "RoamRelayError",
    "SessionClosed",
    "SessionLost",
    "StaleSequence",
    "StoreDamaged",
    "StoreFailed",
    "StoreForeign",
    "StoreFull",
    "StoreLocked",
    "StoreTooNew",
    "Superseded",
    "UnknownPeer",
    "UnknownService",
    "Unsupported",
    "UpdateRefused",
    "UsageError",
    "WrongIdentity",
    "error_for",
]


class Code(StrEnum):
    """A reason as it stands in `error`, `service_response` and `path_reject` messages."""

    # The sender's message is at fault; the connection is closed.
    BAD_MESSAGE = "bad_message"
    """A message is malformed, or against the rules."""
    MESSAGE_TOO_LARGE = "message_too_large"
    """A message is over the size limit."""
    UNEXPECTED_MESSAGE = "unexpected_message"
    """A known message in the wrong state."""
    VERSION_UNSUPPORTED = "version_unsupported"
    """Another version of the protocol is spoken."""
    # The sender's message is not understood; the connection lives on.
    UNKNOWN_TYPE = "unknown_type"
    """A message that is not known here."""
    # Identity.
    BAD_GUID = "bad_guid"
    """The GUID is no key."""
    BAD_SIGNATURE = "bad_signature"
    """A signature is not that of its key."""
    STALE_SEQUENCE = "stale_sequence"
    """The number of a location record is not above the one in force."""
    NOT_ADMITTED = "not_admitted"
    """The operator, or the callee, does not admit this peer; with `retry_after` not for good."""
    SUPERSEDED = "superseded"
    """A newer connection with the same key took the place."""
    # The state of a control connection.
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    """Not registered in time."""
    HEARTBEAT_TIMEOUT = "heartbeat_timeout"
    """The other side was silent for too long."""
    SLOW_CONSUMER = "slow_consumer"
    """The other side did not read what it was sent."""
    RESTARTING = "restarting"
    """The relay goes down."""
    INTERNAL = "internal"
    """A fault of who says it; also any code that is not known."""
    # An HTTP request that does not ask for an upgrade, or has lost it on the way.
    UPGRADE_REQUIRED = "upgrade_required"
    """A request that asks for no upgrade, or has lost it on the way."""
    # Limits; `retry_after` says when to come back.
    LIMIT_EXCEEDED = "limit_exceeded"
    """A rate or a count; `retry_after` says how long to wait."""
    # A service request.
    UNKNOWN_PEER = "unknown_peer"
    """Nobody with this GUID has registered."""
    UNKNOWN_SERVICE = "unknown_service"
    """The peer offers no such service, or not to this caller."""
    UNKNOWN_REQUEST = "unknown_request"
    """An answer to a request that does not wait."""
    PEER_OFFLINE = "peer_offline"
    """The peer has registered, and is not here now."""
    NO_ENDPOINT = "no_endpoint"
    """No endpoint may be disclosed."""
    REFUSED = "refused"
    """The callee, or the application, said no."""
    REQUEST_TIMEOUT = "request_timeout"
    """The callee did not answer in time."""
    # A letter.
    MAILBOX_FULL = "mailbox_full"
    """No room for the letter: at its recipient, for this sender, or at the relay."""
    LETTER_REFUSED = "letter_refused"
    """The recipient takes no letters for that service, or none from this sender."""
    CLUSTER_UNAVAILABLE = "cluster_unavailable"
    """The relay cannot ask the others that are one relay with it, where the callee may be."""
    LOCK_UNSUPPORTED = "lock_unsupported"
    """The two sides have no lock for a plane in common."""
    # A plane ticket.
    TICKET_UNKNOWN = "ticket_unknown"
    """No such ticket of a plane."""
    TICKET_USED = "ticket_used"
    """The ticket was used."""
    TICKET_EXPIRED = "ticket_expired"
    """The ticket is too old."""
    TICKET_FOREIGN = "ticket_foreign"
    """The ticket is another peer's."""
    # A path hello.
    SESSION_UNKNOWN = "session_unknown"
    """No such session, not this peer's, or it is over."""
    PATH_SUPERSEDED = "path_superseded"
    """The session has taken a newer path."""

    @classmethod
    def _missing_(cls, value: object) -> "Code | None":
        # A code that a later version adds must not break a connection with this one.
        return cls.INTERNAL if isinstance(value, str) else None


class RoamRelayError(Exception):
    """The root of every exception that this project raises for its users."""

    code: Code | None = None
    """The word on the wire, where the error has one."""

    def __init__(self, reason: str = "", *, code: Code | None = None) -> None:
        super().__init__(reason or (code.value if code else self.__class__.__name__))
        self.reason = str(self)
        """What has happened, in words for people."""
        if code is not None:
            self.code = code


class ProtocolViolation(RoamRelayError):
    """The other side broke the protocol; `code` says how."""

    code = Code.BAD_MESSAGE


class StaleSequence(ProtocolViolation):
    """A location record is not newer than the one in force, whose number is `known`."""

    code = Code.STALE_SEQUENCE

    def __init__(self, reason: str, known: int) -> None:
        super().__init__(reason)
        self.known = known


class IdentityError(RoamRelayError):
    """A key file or a GUID cannot be used."""

    code = Code.BAD_GUID


class WrongIdentity(RoamRelayError):
    """Another key answered than the one that was asked for. Names both GUIDs."""

    code = Code.BAD_SIGNATURE

    def __init__(self, expected: str, actual: str, where: str) -> None:
        super().__init__(f"expected peer {expected} at {where}, but the key there is {actual}")
        self.expected = expected
        """The GUID that was asked for."""
        self.actual = actual
        """The GUID of the key that answered."""


class RelayUnavailable(RoamRelayError):
    """The relay cannot be reached, or refuses this peer (`code` says why). Where it has said when
    to come back, that is `retry_after`, in seconds."""

    def __init__(
        self, reason: str = "", *, code: Code | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(reason, code=code)
        self.retry_after = retry_after
        """Seconds after which the relay wants to be asked again; None where it has not said."""


class RelayMisconfigured(RelayUnavailable):
    """The relay cannot be reached as it is configured, and waiting will not cure that: a
    certificate that does not verify, `https` where `http` is spoken, an address in `sources` that
    no interface has. A peer that is open goes on trying all the same."""


class NameServerUnavailable(RoamRelayError):
    """No name server gave an answer that can be used: silence, or an error of its own."""


class UpdateRefused(RoamRelayError):
    """A name server refused a registration by dynamic DNS. Says which of its codes, and the next
    step."""


class Superseded(RelayUnavailable, UpdateRefused):
    """Another program with the same key has registered later, with the relay or in the zone. The
    newest one stays; this one does not come back by itself."""

    code = Code.SUPERSEDED


class UnknownPeer(RoamRelayError):
    """Nobody with this GUID has registered. Where the relay cannot say so for sure yet, as in the
    minute after its start, `retry_after` says after how many seconds to ask again."""

    code = Code.UNKNOWN_PEER

    def __init__(self, reason: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        """Seconds after which to ask again; None where the relay is sure."""


class UnknownService(RoamRelayError):
    """The peer is registered, but not for this service (or not for this caller)."""

    code = Code.UNKNOWN_SERVICE


class PeerOffline(RoamRelayError):
    """The peer is registered but not attached. `last_seen` is in seconds ago."""

    code = Code.PEER_OFFLINE

    def __init__(self, reason: str = "", *, last_seen: float | None = None) -> None:
        super().__init__(reason)
        self.last_seen = last_seen
        """Seconds since the relay heard of the peer; None where it does not know."""


class Refused(RoamRelayError):
    """The other peer, or the relay on its behalf, said no. `reason` is its own word."""

    code = Code.REFUSED


class LimitExceeded(RoamRelayError):
    """A limit was reached. `retry_after` says how many seconds to wait."""

    code = Code.LIMIT_EXCEEDED

    def __init__(self, reason: str = "", *, retry_after: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        """Seconds to wait."""


class ConversationFull(LimitExceeded):
    """More messages wait for the other side than may: it is away, or its program does not read.
    Nothing was stored; what waits goes on waiting."""


class StoreFailed(RoamRelayError):
    """A store of conversations cannot be used, or did not take something; nothing has changed.
    Which fault it is, the class says, where there is one for it."""


class StoreLocked(StoreFailed):
    """Another program has the store open, or keeps it locked."""


class StoreForeign(StoreFailed):
    """The store is another identity's."""


class StoreTooNew(StoreFailed):
    """A newer version of this program has written the store: run that one."""


class StoreDamaged(StoreFailed):
    """The store is no database, or a damaged one. It was left as it is."""


class StoreFull(StoreFailed):
    """The disk takes nothing more. What was stored is safe, and it goes on when there is room."""


class MailboxFull(LimitExceeded):
    """There is no room for a letter: at its recipient, for this sender, or at the relay. Says
    which, and `retry_after` when to try again."""

    code = Code.MAILBOX_FULL


class LetterRefused(Refused):
    """The recipient takes no letters for that service, or none from this peer."""

    code = Code.LETTER_REFUSED


class RequestTimeout(RoamRelayError):
    """The other peer did not answer in time, and nothing more is known."""

    code = Code.REQUEST_TIMEOUT


class PathFailed(RoamRelayError):
    """No path could be made. `attempts` lists what was tried and what each said."""

    def __init__(self, reason: str, attempts: tuple[str, ...] = ()) -> None:
        super().__init__("; ".join((reason, *attempts)))
        self.attempts = attempts
        """What was tried, and what each said."""


class CallbackFailed(RoamRelayError):
    """A function that the program gave us has raised, or returned what cannot be used. What it
    raised is the `__cause__`."""


class UsageError(RoamRelayError, RuntimeError):
    """The program calls us as it cannot work: from another thread or event loop, or two tasks that
    receive from one session. Nothing has happened; says the next step."""


class MissingExtra(RoamRelayError):
    """What was asked for is done by a library that is not installed here. Names the extra of this
    package that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} is not part of this installation: pip install 'roam-relay[{extra}]'"
        )
        self.extra = extra
        """The extra of this package that brings it, as pip knows it."""


class ConnectionClosed(RoamRelayError):
    """The peer or the control connection has been closed by its owner."""


class SessionClosed(RoamRelayError):
    """The session, or the direction that was asked for, is closed: nothing more can be sent, or
    all that was to come was read."""


class Unsupported(RoamRelayError):
    """The other side's version does not know what was asked for. Nothing has changed."""


class SessionLost(RoamRelayError):
    """The session ended without a clean close.

    `unacknowledged` is the number of messages sent here that the other side is not known to have,
    and `messages` are these, in the order in which they were sent: to be sent again in another
    session, where the other program can bear to get one twice.
    """

    def __init__(
        self, reason: str, *, unacknowledged: int = 0, messages: tuple[bytes, ...] = ()
    ) -> None:
        super().__init__(f"{reason} ({unacknowledged} messages were not acknowledged)")
        self.unacknowledged = unacknowledged
        """Messages sent here that the other side is not known to have."""
        self.messages = messages
        """These, in the order in which they were sent."""


def error_for(
    code: Code,
    reason: str = "",
    *,
    last_seen: float | None = None,
    retry_after: float | None = None,
) -> RoamRelayError:
    """Return the exception that stands for a wire code: one ladder, used by every shell."""
    match code:
        case Code.UNKNOWN_PEER:
            return UnknownPeer(reason, retry_after=retry_after)
        case Code.UNKNOWN_SERVICE:
            return UnknownService(reason)
        case Code.PEER_OFFLINE:
            return PeerOffline(reason, last_seen=last_seen)
        case Code.REFUSED | Code.NO_ENDPOINT:
            return Refused(reason, code=code)
        case Code.LIMIT_EXCEEDED:
            return LimitExceeded(reason, retry_after=1.0 if retry_after is None else retry_after)
        case Code.MAILBOX_FULL:
            return MailboxFull(reason, retry_after=60.0 if retry_after is None else retry_after)
        case Code.LETTER_REFUSED:
            return LetterRefused(reason)
        case Code.REQUEST_TIMEOUT:
            return RequestTimeout(reason)
        case Code.CLUSTER_UNAVAILABLE:
            return RelayUnavailable(reason, code=code, retry_after=retry_after)
        case _:
            return RoamRelayError(reason, code=code)
