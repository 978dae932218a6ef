"""The relay's side of the handshake: who it is, and whether a peer is who it says.

Without I/O: the nonce is handed in.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import msgspec

from protocol.codec import decode_location
from protocol.errors import Code, IdentityError, ProtocolViolation
from protocol.features import RELAY_FEATURES, SUCCESSION, shared
from protocol.identity import (
    CONTEXT_CHALLENGE,
    CONTEXT_DNS_KEY,
    CONTEXT_REGISTER,
    public_key_of,
    verify,
)
from protocol.messages import (
    VERSION,
    Challenge,
    DnsKeyRequest,
    Hello,
    Limits,
    LocationRecord,
    Register,
    Registered,
    RelayNode,
)
from protocol.sealing import seal
from relay.control.source import Source
from relay.keys import Keys

__all__ = [
    "NOBODY",
    "Claim",
    "challenge",
    "check_key_request",
    "check_register",
    "confirmation",
    "sealed_key",
]


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a peer says it is, and the nonce that it has to sign."""

    hello: Hello
    key: bytes
    nonce: bytes
    relay: bytes = b""
    """The key under which the relay has answered: what the peer signs is for that one."""
    features: frozenset[str] = frozenset()
    """What both sides have named; what else the hello named is not kept."""


NOBODY = Claim(Hello("", b"", b""), b"", b"")
"""Who has said nothing yet."""


def challenge(
    keys: Keys,
    limits: Limits,
    hello: Hello,
    nonce: bytes,
    *,
    invitation: bool = False,
    features: Collection[str] = RELAY_FEATURES,
) -> tuple[Claim, Challenge]:
    """Take a hello; return what is claimed, and how it is answered: under the relay's key that is
    wanted. `invitation` says that one is asked for, `features` what this relay knows.

    Raises:
        ProtocolViolation: another version is spoken, or the GUID is none.
    """
    if hello.version != VERSION:
        raise ProtocolViolation(f"version {VERSION} is spoken here", code=Code.VERSION_UNSUPPORTED)
    try:
        key = public_key_of(hello.guid)
    except IdentityError as error:
        raise ProtocolViolation(str(error), code=Code.BAD_GUID) from None
    both = shared(features, hello.features)
    identity, links = keys.wanted(hello.relay, follows=SUCCESSION in both)
    signature = identity.sign(CONTEXT_CHALLENGE, key, hello.nonce, nonce)
    kept = msgspec.structs.replace(hello, features=(), relay=None)
    claim = Claim(kept, key, nonce, identity.public_key, both)
    named = tuple(features)
    answer = Challenge(identity.guid, nonce, signature, limits, named, invitation, links)
    return claim, answer


def check_register(claim: Claim, register: Register) -> LocationRecord:
    """Return the record that a peer registers with, once its claim is proven by it.

    Raises:
        RoamRelayError: the signature is not the peer's.
        ProtocolViolation: the record is malformed.
    """
    verify(
        claim.hello.guid,
        register.signature,
        CONTEXT_REGISTER,
        claim.relay,
        claim.nonce,
        claim.key,
        claim.hello.instance,
        register.location,
    )
    return decode_location(register.location)


class Told(Protocol):
    """What a relay tells each peer."""

    limits: Limits
    observe_port: int
    """Its second port; 0: none."""
    nodes: Callable[[], tuple[RelayNode, ...]]
    """Where else a peer may go."""


def confirmation(told: Told, source: Source, seq: int, name: str) -> Registered:
    """Return what a peer is told when its record is in force, whose name in the zone is this. Of a
    second port is told who can be seen there as it is seen here: who comes by no proxy."""
    return Registered(
        seq,
        source.host,
        source.port,
        told.limits.heartbeat,
        told.limits.lease,
        fqdn=name,
        nodes=told.nodes(),
        observe_port=told.observe_port if source.port and not source.proxy else 0,
    )


def check_key_request(claim: Claim, request: DnsKeyRequest) -> None:
    """Check that a peer itself asks for its key.

    Raises:
        RoamRelayError: the signature is not the peer's.
    """
    verify(claim.hello.guid, request.signature, CONTEXT_DNS_KEY, claim.relay, request.public)


def sealed_key(claim: Claim, request: DnsKeyRequest, secret: bytes) -> bytes:
    """Return a peer's zone key, which only the asker can open."""
    return seal(request.public, secret, CONTEXT_DNS_KEY + claim.relay + claim.key)
