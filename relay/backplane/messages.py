"""What the relays of one cluster tell one another, and how each knows that a relay has said it.

PURE: MessagePack in and out. Each message is sealed with a key that only who has the relay's own
key can make: what others say on the same subjects is refused, and so is what was said on another
one. Unknown keys are passed over; an unknown kind is another version's, and nothing.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from hmac import compare_digest
from itertools import islice
from typing import Annotated, TypeAlias

import msgspec

from protocol.identity import Identity
from protocol.messages import (
    Guid,
    InstanceId,
    ObservedPort,
    RequestId,
    Seconds,
    ServiceRequestTo,
    Ticket,
)
from protocol.messages import ServiceResponse as Response

__all__ = [
    "MAX_NAMED",
    "NODE_NAME",
    "Answered",
    "Asked",
    "Beat",
    "Bye",
    "Came",
    "Claim",
    "Foreign",
    "Known",
    "NodeMessage",
    "Seal",
    "Tell",
    "Went",
    "listing",
    "pieces",
    "tag_of",
]

NODE_NAME = r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"
"""The name of a node: it is a part of a subject of NATS."""
_Name = Annotated[str, msgspec.Meta(pattern=NODE_NAME)]
_Serial = Annotated[int, msgspec.Meta(ge=0)]
_Url = Annotated[str, msgspec.Meta(max_length=512)]
MAX_LISTED = 1024
"""GUIDs that may watch one peer from other nodes: of one that lists more, the first ones."""
MAX_NAMED = 8192
"""Bytes of what the zone shows of one peer, which each node keeps of the peers of all nodes: some
75 entries. Of a peer with more, the first services."""
PIECE, _PIECE_BYTES = 100, 1 << 18
"""Claims in one message, and bytes of them: NATS takes a megabyte."""
_MAC = 16
"""Bytes of the seal, in front of a message."""
_CONTEXT = b"roam-relay/1 cluster"


def listing(guids: Iterable[str]) -> bytes:
    """Return who may watch a peer as it is told to other nodes: 8 bytes for each, of `MAX_LISTED`
    at most."""
    return b"".join(map(_digest, islice(guids, MAX_LISTED)))


def pieces(claims: Iterable["Claim"]) -> Iterator[tuple["Claim", ...]]:
    """Return claims in pieces that each fit into one message; one that is empty where there are
    none."""
    piece: list[Claim] = []
    room = _PIECE_BYTES
    for claim in claims:
        room -= len(claim.named) + len(claim.listed)
        if len(piece) >= PIECE or (piece and room < 0):
            yield tuple(piece)
            piece, room = [], _PIECE_BYTES - len(claim.named) - len(claim.listed)
        piece.append(claim)
    yield tuple(piece)


def _digest(guid: str) -> bytes:
    return blake2b(guid.encode(), digest_size=8).digest()


def tag_of(node: str) -> str:
    """Return what the tickets of a node's planes begin with: 8 of their 32 digits."""
    return blake2b(node.encode(), digest_size=4).hexdigest()


class Foreign(Exception):
    """Something on the cluster's subjects was said by no relay of it, or by another version."""


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """A peer is registered at a node."""

    guid: Guid
    seq: Annotated[int, msgspec.Meta(ge=0)]
    """Of its location record."""
    instance: InstanceId
    node: _Name
    serial: _Serial
    """The node's count of what it has announced, when it announced this."""
    host: str = ""
    """Where the peer is observed; empty where that is not known."""
    offers: bool = False
    """Whether it offers any service."""
    shown: bool = False
    """Whether it discloses one to everybody: then anybody may watch it."""
    listed: Annotated[bytes, msgspec.Meta(max_length=8 * MAX_LISTED)] = b""
    """Who may watch it besides (`listing`)."""
    named: Annotated[bytes, msgspec.Meta(max_length=MAX_NAMED)] = b""
    """What the zone shows of it: what anybody may know, and what the node has proven. Empty where
    that is nothing, or its node serves no zone."""

    def may_be_watched(self, guid: str) -> bool:
        """Whether a peer may watch this one: who may know where may know whether."""
        if self.shown or not self.listed:
            return self.shown
        digest = _digest(guid)
        return any(
            self.listed[start : start + 8] == digest for start in range(0, len(self.listed), 8)
        )

    def outranks(self, other: "Claim") -> bool:
        """Whether the peer is this one's where both are claimed: the same at every node, in
        whichever order they learn of the two."""
        return self._rank > other._rank

    @property
    def _rank(self) -> tuple[int, bytes, str, int]:
        return self.seq, self.instance, self.node, self.serial


class _Said(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type"):
    node: _Name
    incarnation: _Serial
    """Of the running program: higher for one that has begun later."""


class Beat(_Said, frozen=True, tag="beat"):
    """To all, every second: the node is there, and has announced so much."""

    serial: _Serial
    urls: Annotated[tuple[_Url, ...], msgspec.Meta(max_length=8)] = ()
    """Where peers reach it."""
    is_new: bool = False
    """Whether it has just come: the others answer with a beat of theirs at once."""
    weight: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 100
    """How many peers come to it, in proportion."""
    leaves: bool = False
    """Whether it drains: nobody is sent there."""
    zone: Annotated[str, msgspec.Meta(max_length=253)] = ""
    """The zone that it serves; empty: none."""
    zone_serial: _Serial = 0
    """The serial number of that zone."""


class Came(_Said, frozen=True, tag="came"):
    """To all: a peer is registered here, or its record has changed."""

    claim: Claim


class Went(_Said, frozen=True, tag="went"):
    """To all: a peer is not registered here any more."""

    serial: _Serial
    guid: Guid
    seq: Annotated[int, msgspec.Meta(ge=0)]
    instance: InstanceId
    ago: Seconds
    """Since anything was heard of it."""
    closed: bool
    """Whether it has closed its connection itself."""
    shown: bool
    """Whether it disclosed any service to everybody."""
    host: str = ""


class Bye(_Said, frozen=True, tag="bye"):
    """To all: the node ends, and with it all that it has claimed."""


class Tell(_Said, frozen=True, tag="tell"):
    """To one node: say all that you claim; something was missed."""


class Known(_Said, frozen=True, tag="known"):
    """To who has asked: a piece of all that is claimed, as it was at `serial`."""

    serial: _Serial
    claims: tuple[Claim, ...]
    is_last: bool


class Asked(_Said, frozen=True, tag="asked"):
    """To the home of a peer: somebody has a request to it."""

    number: RequestId
    caller: Guid
    host: str
    """Where the caller is observed."""
    request: ServiceRequestTo
    """Its entries are those that the peer may be told."""
    ticket: Ticket | None = None
    """Of a plane that is made already, at the node that asks: the peer's own. It is asked for its
    leg, and for nothing else."""
    url: _Url = ""
    """Where that leg is opened."""
    port: ObservedPort = 0
    """At which the caller is observed; 0 where that is not known."""
    offers: bool = False
    """Whether the caller knows of offers."""


class Answered(_Said, frozen=True, tag="answered"):
    """To the node that has asked."""

    number: RequestId
    response: Response
    home: str = ""
    """The node at which the peer is now, where it is not at this one any more."""


NodeMessage: TypeAlias = Beat | Came | Went | Bye | Tell | Known | Asked | Answered


class Seal:
    """The seal of one cluster: nodes have it by the relay's key, which they share."""

    def __init__(self, identity: Identity) -> None:
        # Ed25519 signs the same twice alike: it is a secret of who has the key.
        self._key = blake2b(identity.sign(_CONTEXT), digest_size=32).digest()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(NodeMessage)

    def close(self, subject: str, message: NodeMessage) -> bytes:
        """Return a message as it is sent."""
        return self.wrap(subject, self._encoder.encode(message))

    def wrap(self, subject: str, data: bytes) -> bytes:
        """Return a message that is encoded already, as it is sent."""
        return self._mac(subject, data) + data

    def unwrap(self, subject: str, sealed: bytes) -> bytes:
        """Return what `wrap` was given.

        Raises:
            Foreign: no relay of this cluster has said it there.
        """
        data = sealed[_MAC:]
        if not compare_digest(sealed[:_MAC], self._mac(subject, data)):
            raise Foreign("it was not sealed by a relay of this cluster")
        return data

    def open(self, subject: str, sealed: bytes) -> NodeMessage:
        """Read a message that has come.

        Raises:
            Foreign: no relay of this cluster has said it there; or it cannot be read.
        """
        try:
            message: NodeMessage = self._decoder.decode(self.unwrap(subject, sealed))
        except msgspec.MsgspecError as error:
            raise Foreign(f"it cannot be read: {error}") from None
        return message

    def origin(self, ticket: str, host: str) -> str:
        """Return the proof that a node has met the bearer of a ticket at an address."""
        return self._mac("leg", f"{ticket} {host}".encode()).hex()

    def word(self, text: str) -> str:
        """Return a word for a text that the nodes of this cluster make alike, and nobody else."""
        return self._mac("word", text.encode()).hex()

    def _mac(self, subject: str, data: bytes) -> bytes:
        mac = blake2b(subject.encode(), digest_size=_MAC, key=self._key)
        mac.update(b"\0" + data)
        return mac.digest()
