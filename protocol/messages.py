"""Every message of the protocol but those of the mailbox, one frozen class each.

The flow on a control connection (all messages are MessagePack maps with a `type`):

    peer                                    relay
    hello            ────────────────────▶
                     ◀────────────────────  challenge
    register         ────────────────────▶
                     ◀────────────────────  registered
    then, in any order and number:
    update           ────────────────────▶         ◀──  registered
    ping / pong      ◀───────────────────▶
    service_request_to ──────────────────▶  (caller)
                     ◀────────────────────  service_request_from  (callee; not in p2p)
    service_answer   ────────────────────▶  (callee)
                     ◀────────────────────  service_response  (caller)
    endpoint_query   ────────────────────▶
                     ◀────────────────────  endpoint_response
    watch            ────────────────────▶
                     ◀────────────────────  peer_event
                     ◀────────────────────  restarting, error

and at the head of a path, inside the peers' own TLS: path_hello, then path_welcome or path_reject.

Which of them stands where is in `protocol.tables`, and those of the mailbox are in `protocol.mail`.

Times are seconds. Unknown keys are ignored everywhere. What each message means, field by field, is
in docs/protocol.md.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from protocol.endpoint import SignedEntry
from protocol.errors import Code
from protocol.identity import GUID_LENGTH
from protocol.invitation import MAX_PRESENTED
from protocol.offer import MAX_OFFER
from protocol.succession import LINK_BYTES, MAX_LINKS

VERSION = 1
"""The protocol's version; also in the upgrade token and the WebSocket subprotocol."""
UPGRADE_TOKEN = "roam-relay/1"
"""`Upgrade:` of the raw carrier, of control and plane alike."""
WEBSOCKET_PROTOCOL = "roam-relay.1"
PAGE_PROTOCOL = "roam-relay.1-page"
"""`Sec-WebSocket-Protocol` of the WebSocket carrier (a token may not hold a slash)."""

RESUME_HEADER = "Roam-Relay-Resume"
"""In the 101 of a plane's leg: the ticket for the next plane of the same session."""
EARLY_HEADER = "Roam-Relay-Early"
"""In the request for a leg, base64: the first bytes for the other leg."""
MAX_EARLY = 4096
"""Bytes in it."""
CODE_HEADER = "Roam-Relay-Code"
"""The HTTP header of a refusal that holds its code: a WebSocket client never sees the body."""

MAX_MESSAGE_BYTES = 65_536
"""The largest control message or path hello, in bytes on the wire."""
MAX_ENTRIES = 16
"""Endpoints of one service in one location record."""
MAX_SERVICES = 16
"""Services of one location record."""
MAX_DISCLOSE = 256
"""GUIDs in one disclosure list."""
MAX_METADATA = 1_024
"""Bytes that a session's caller says to the callee's application."""
MAX_NODES = 16
"""Nodes of one relay that it names."""
MAX_FEATURES = 32
"""Features that one side may name (protocol/features.py)."""
MAX_FEATURE_NAME = 32
"""Characters of one of them."""

Guid = Annotated[str, Meta(min_length=GUID_LENGTH, max_length=GUID_LENGTH)]
Service = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""1–63 of a–z, 0–9 and inner hyphens: it is a DNS label too."""
ServiceName = Annotated[str, Meta(min_length=1, max_length=63)]
"""A service that is asked for: one that breaks the pattern is simply registered nowhere."""
PublicKey = Annotated[bytes, Meta(min_length=32, max_length=32)]
Nonce = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
SessionId = Annotated[bytes, Meta(min_length=16, max_length=16)]
InstanceId = Annotated[bytes, Meta(min_length=16, max_length=16)]
RequestId = Annotated[int, Meta(ge=0, lt=2**32)]
Reason = Annotated[str, Meta(max_length=512)]
Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]
Entries = Annotated[tuple[SignedEntry, ...], Meta(max_length=MAX_ENTRIES)]
Ticket = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$")]
RelayUrl = Annotated[str, Meta(max_length=512)]
Feature = Annotated[str, Meta(min_length=1, max_length=MAX_FEATURE_NAME)]
Succession = Annotated[
    tuple[Annotated[bytes, Meta(min_length=LINK_BYTES, max_length=LINK_BYTES)], ...],
    Meta(max_length=MAX_LINKS),
]
Offer = Annotated[bytes, Meta(max_length=MAX_OFFER)]
"""What one side of a session tells the other, signed (protocol/offer.py); the relay passes it on
unread, between sides that have named the feature `offer`. Empty: none."""
ObservedHost = Annotated[str, Meta(max_length=45)]
ObservedPort = Annotated[int, Meta(ge=0, le=65535)]
Metadata = Annotated[bytes, Meta(max_length=MAX_METADATA)]
Features = Annotated[tuple[Feature, ...], Meta(max_length=MAX_FEATURES)]


class Mode(StrEnum):
    """The draft's modes of registration with a server (§4.2)."""

    P2P = "p2p"
    """The relay tells addresses, and the caller dials by itself."""
    CENTRAL = "central"
    """All bytes go through the relay, and neither side learns the other's addresses."""
    COMBINED = "combined"
    """The relay asks the callee, which may dial the caller: a direct path, from either side."""
    AUTO = "auto"
    """Not the draft's: central at once, and direct as soon as a direct path proves itself."""


class PeerState(StrEnum):
    """What the relay knows of a registered peer."""

    ONLINE = "online"
    """At least one live control connection."""
    SUSPECT = "suspect"
    """The last one was lost less than the grace (30 s) ago."""
    OFFLINE = "offline"
    """Gone for longer than that, or closed by itself."""


class Verdict(StrEnum):
    """A callee's answer to a service request."""

    ACCEPTED = "accepted"
    REFUSED = "refused"


class Disclosure(StrEnum):
    """Who may learn a service's endpoints from the relay; `LISTED` are the GUIDs beside it."""

    ANYONE = "anyone"
    LISTED = "listed"
    NOBODY = "nobody"


class ServiceRecord(Struct, frozen=True, omit_defaults=True):
    """One service of a location record."""

    service: Service
    entries: Entries = ()
    disclose: Disclosure = Disclosure.ANYONE
    listed: Annotated[tuple[Guid, ...], Meta(max_length=MAX_DISCLOSE)] = ()


class LocationRecord(Struct, frozen=True):
    """All that a peer registers. `seq` only grows; the higher one wins, wherever it comes from."""

    seq: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    services: Annotated[tuple[ServiceRecord, ...], Meta(max_length=MAX_SERVICES)] = ()


class Limits(Struct, frozen=True, kw_only=True):
    """What the relay allows, told in `challenge`."""

    message_bytes: int = MAX_MESSAGE_BYTES
    entries: int = MAX_ENTRIES
    services: int = MAX_SERVICES
    pending_requests: int = 64
    """Requests of one connection that may wait for an answer at once."""
    request_timeout: float = 60.0
    """The longest timeout of a service request, in seconds."""
    heartbeat: float = 15.0
    """A connection that is silent for twice this many seconds is dropped."""
    lease: float = 120.0


class Message(Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """The root of every message."""


class Hello(Message, frozen=True, tag="hello"):
    """Open a control connection."""

    guid: Guid
    instance: InstanceId
    """Random, one for each running program: tells a peer that came back from its clone."""
    nonce: Nonce
    version: int = VERSION
    flow: Annotated[int, Meta(ge=0, lt=4)] = 0
    agent: Annotated[str, Meta(max_length=128)] = ""
    features: Features = ()
    """What the peer knows beyond version 1, for the relay."""
    relay: Guid | None = None
    """The relay that is wanted, where the peer knows it by its key: one that has changed its key
    answers under that one for a while."""


class Register(Message, frozen=True, tag="register"):
    """Prove the identity and say where it is."""

    location: Annotated[bytes, Meta(max_length=MAX_MESSAGE_BYTES)]
    """MessagePack of `LocationRecord`."""
    signature: Signature
    """Over the register context, relay key, relay nonce, peer key, instance and `location`."""
    invitation: Annotated[bytes, Meta(max_length=MAX_PRESENTED)] = b""
    """Only to a relay that asks for one: what the peer's invitation says, and its key's signature
    for this relay, nonce and peer (protocol/invitation.py)."""


class Update(Message, frozen=True, tag="update"):
    """Replace the location record. Never disturbs an established session (draft §4.2.1)."""

    location: Annotated[bytes, Meta(max_length=MAX_MESSAGE_BYTES)]


class ServiceRequestTo(Message, frozen=True, tag="service_request_to"):
    """Ask for a session with a peer's service."""

    request: RequestId
    guid: Guid
    service: ServiceName
    mode: Mode
    session: SessionId
    entries: Entries = ()
    """The caller's own endpoints for this session."""
    timeout: Annotated[float, Meta(gt=0, le=60)] = 10.0
    resume: bool = False
    """Whether the session is known to both sides, and this asks for its next path. Either side
    may ask, so that the one that is asked need not offer the service."""
    offer: Offer = b""


class ServiceAnswer(Message, frozen=True, tag="service_answer"):
    """The callee's answer to `service_request_from`."""

    request: RequestId
    verdict: Verdict
    reason: Reason = ""
    entries: Entries = ()
    code: Code | None = None
    """With a refusal: why, where it is more than the callee's own will."""
    offer: Offer = b""
    """Only to a request that had one."""


class Watch(Message, frozen=True, tag="watch"):
    """Ask to be told of a peer's coming, moving and going; answered by `peer_event`."""

    guid: Guid
    watching: bool = True
    """False takes the watch back."""


class PeerEvent(Message, frozen=True, tag="peer_event"):
    """What a watched peer does. The first one says how it stands now."""

    guid: Guid
    state: PeerState = PeerState.OFFLINE
    last_seen: Seconds | None = None
    """Seconds since anything was heard of it; absent where it was never here."""
    seq: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    """Of its location record in force: a higher one than before says that it has moved."""
    code: Code | None = None
    """`refused`: the peer does not let this one watch it. `limit_exceeded`: too many watches."""


class Challenge(Message, frozen=True, tag="challenge"):
    """The relay's answer to `hello`."""

    guid: Guid
    nonce: Nonce
    signature: Signature
    """Over the challenge context, peer key, peer nonce and relay nonce, by the relay's key."""
    limits: Limits = Limits()
    features: Features = ()
    """What the relay knows beyond version 1, for the peer."""
    invitation: bool = False
    """Whether the relay asks for an invitation, from who has one."""
    succession: Succession = ()
    """From `guid` to the relay's key of now, where it has another one; only to who has named the
    feature `succession`."""


class RelayNode(Struct, frozen=True):
    """One of the relays that are one (docs/scaling.md), as peers reach it."""

    url: RelayUrl
    weight: Annotated[int, Meta(ge=0, le=65_535)] = 100
    """How many peers come to it, in proportion."""


class Registered(Message, frozen=True, tag="registered"):
    """The record with this `seq` is in force."""

    seq: int
    observed_host: str
    observed_port: int
    heartbeat: float
    lease: float
    relays: tuple[str, ...] = ()
    fqdn: str = ""
    nodes: Annotated[tuple[RelayNode, ...], Meta(max_length=MAX_NODES)] = ()
    """Of a relay that is several, all that are there, this one too."""
    observe_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """A second port at the address that was dialed, where the relay tells who connects where it is
    seen (protocol/observation.py); 0: none."""


class ServiceRequestFrom(Message, frozen=True, tag="service_request_from"):
    """Somebody asks for a session with this peer."""

    request: RequestId
    guid: Guid
    service: ServiceName
    mode: Mode
    session: SessionId
    entries: Entries = ()
    timeout: float = 10.0
    ticket: Ticket | None = None
    """In `central` and `auto`: the callee's leg of the plane."""
    resume: bool = False
    """As in `service_request_to`."""
    url: RelayUrl = ""
    """With a ticket: the relay of the same key where the leg is opened; empty: this one."""
    offer: Offer = b""
    observed_host: ObservedHost = ""
    """Beside an offer, where the caller may be known: where the relay sees the flow on which it has
    asked. Empty: not told."""
    observed_port: ObservedPort = 0


class ServiceResponse(Message, frozen=True, tag="service_response"):
    """What became of a service request; `code` is absent where it succeeded."""

    request: RequestId
    code: Code | None = None
    reason: Reason = ""
    state: PeerState | None = None
    last_seen: Seconds | None = None
    """Seconds since anything was heard of the callee."""
    retry_after: Seconds | None = None
    entries: Entries = ()
    ticket: Ticket | None = None
    """In `central` and `auto`: the caller's leg of the plane."""
    url: RelayUrl = ""
    """As in `service_request_from`."""
    offer: Offer = b""
    """The callee's, where it has accepted."""
    observed_host: ObservedHost = ""
    """As in `service_request_from`, of the flow on which the callee has answered."""
    observed_port: ObservedPort = 0


class EndpointQuery(Message, frozen=True, tag="endpoint_query"):
    """Ask whether a peer's key was met where the peer says that it can be dialed. Only to a relay
    that has named the feature `endpoint-query`."""

    request: RequestId
    guid: Guid
    entry: SignedEntry
    """What the peer has told: signed by it, and not `leaving`."""


class EndpointResponse(Message, frozen=True, tag="endpoint_response"):
    """What the relay knows of an endpoint, or why it does not say. Whatever else than yes it is,
    the answer takes as long."""

    request: RequestId
    met: bool = False
    """Whether the relay has completed a TLS handshake there in which the peer's key has shown."""
    code: Code | None = None
    reason: Reason = ""
    retry_after: Seconds | None = None


class DnsKeyRequest(Message, frozen=True, tag="dns_key_request"):
    """Ask for the TSIG key of this peer's own name in the relay's zone."""

    request: RequestId
    public: PublicKey
    """X25519, made for this request: what the key is sealed for (protocol/sealing.py)."""
    signature: Signature
    """Over the DNS key context, the relay's key and `public`."""


class DnsKeyResponse(Message, frozen=True, tag="dns_key_response"):
    """The key, or why there is none."""

    request: RequestId
    code: Code | None = None
    reason: Reason = ""
    zone: Annotated[str, Meta(max_length=253)] = ""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Where the relay's own name server takes updates."""
    sealed: Annotated[bytes, Meta(max_length=128)] = b""
    """The secret (hmac-sha256), sealed under the DNS key context, the relay's key and the peer's.
    The key's name is that of the peer: `<guid>.<zone>`."""


class Restarting(Message, frozen=True, tag="restarting"):
    """The relay goes down. Come back after `delay` seconds and a random part of `spread` more."""

    delay: Seconds
    spread: Seconds
    urls: Annotated[tuple[RelayUrl, ...], Meta(max_length=MAX_NODES)] = ()
    """Of a relay that is several: those where the peer may go at once."""


class Ping(Message, frozen=True, tag="ping"):
    """Answered by a `pong` with the same number; sent by either side."""

    ping: RequestId = 0


class Pong(Message, frozen=True, tag="pong"):
    """The answer to `ping`."""

    ping: RequestId = 0


class Error(Message, frozen=True, tag="error"):
    """Something went wrong. Where the code says so, the connection is closed after it."""

    code: Code
    reason: Reason = ""
    retry_after: Seconds | None = None
    """When to come back. With `NOT_ADMITTED` it says that the refusal is not for good."""
    seq: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    """With `STALE_SEQUENCE`: the number of the record in force."""


class PathHello(Message, frozen=True, tag="path_hello"):
    """The first message on a path, from the side that dialed: which session this path is for."""

    session: SessionId
    service: ServiceName
    mode: Mode
    version: int = VERSION
    resume: bool = False
    """Whether the session has had a path before."""
    received: Annotated[int, Meta(ge=0)] = 0
    """Messages of the session that the sender of this has received."""
    consumed: Annotated[int, Meta(ge=0)] = 0
    """Weight of those that its application has taken (protocol/session/)."""
    window: Annotated[int, Meta(ge=1024)] = 8 << 20
    """Bytes that it is ready to hold."""
    path: Annotated[int, Meta(ge=1, lt=2**32)] = 1
    """The number of this path in its session: above that of every path known to the sender."""
    entries: Entries = ()
    """Where the sender of this can be dialed for the session's next path."""
    features: Features = ()
    """What the sender knows beyond version 1: the same at every path of a session."""
    partial: Annotated[int, Meta(ge=0)] = 0
    """Bytes of message `received` + 1 that the sender of this has received."""
    idle: Seconds = 0.0
    """The longest quiet of a path that its sender wishes; 0 for no wish."""
    standby: bool = False
    """Whether the path is to stand ready, and the session to stay where it is."""
    metadata: Metadata = b""
    """Of a first path: what the session's caller says to the callee's application."""


class PathWelcome(Message, frozen=True, tag="path_welcome"):
    """The path is accepted."""

    received: Annotated[int, Meta(ge=0)] = 0
    consumed: Annotated[int, Meta(ge=0)] = 0
    window: Annotated[int, Meta(ge=1024)] = 8 << 20
    entries: Entries = ()
    features: Features = ()
    partial: Annotated[int, Meta(ge=0)] = 0
    idle: Seconds = 0.0
    metadata: Metadata = b""
    """Of a first path that the callee has dialed: as in the hello."""


class PathReject(Message, frozen=True, tag="path_reject"):
    """The path is not accepted; it is closed after this."""

    code: Code
    reason: Reason = ""
