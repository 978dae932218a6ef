"""Prekeys: what letters to a peer are sealed for while it is away, each signed by that peer.

A peer registers one that is for all, which it replaces from time to time, and some that are for one
letter each. Who keeps the private halves, and for how long, is the peer's own matter.
"""

from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.errors import ProtocolViolation
from protocol.identity import Identity, public_key_of, verify

__all__ = [
    "CONTEXT_PREKEY",
    "MAX_PREKEY",
    "SUITE_X25519",
    "Prekey",
    "SignedPrekey",
    "make_prekey",
    "open_prekey",
    "sign_prekey",
]

CONTEXT_PREKEY = b"roam-relay/1 prekey\0"
MAX_PREKEY = 2048
"""Bytes of one that is signed: those of later suites are longer than X25519's."""
SUITE_X25519 = 1
"""HPKE (RFC 9180) in its base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305."""


class Prekey(msgspec.Struct, frozen=True, array_like=True):
    """A public key for letters: an array of four on the wire; further elements are ignored."""

    suite: Annotated[int, msgspec.Meta(ge=0, lt=2**16)]
    """How it is sealed for."""
    number: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    """Names it among its peer's; each is used once."""
    public: Annotated[bytes, msgspec.Meta(max_length=MAX_PREKEY - 32)]
    """The key, as its suite writes it."""
    one_time: bool
    """Whether it is for one letter."""


class SignedPrekey(msgspec.Struct, frozen=True):
    """A prekey as it travels: the signed bytes, and the peer's signature over them."""

    body: Annotated[bytes, msgspec.Meta(max_length=MAX_PREKEY)]
    """MessagePack of `Prekey`."""
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    """Ed25519 over the prekey context, the peer's public key and `body`."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Prekey).decode


def make_prekey(number: int, private_key: bytes, *, one_time: bool) -> Prekey:
    """Return the public half of a raw X25519 private key (32 bytes)."""
    public = X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()
    return Prekey(SUITE_X25519, number, public, one_time)


def sign_prekey(identity: Identity, prekey: Prekey) -> SignedPrekey:
    """Sign one of the identity's own prekeys."""
    body = _encode(prekey)
    return SignedPrekey(body, identity.sign(CONTEXT_PREKEY, identity.public_key, body))


def open_prekey(guid: str, signed: SignedPrekey) -> Prekey:
    """Check the signature of a prekey and return what it says.

    Raises:
        ProtocolViolation: not signed by `guid`, or malformed.
    """
    verify(guid, signed.signature, CONTEXT_PREKEY, public_key_of(guid), signed.body)
    try:
        return _decode(signed.body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolViolation(f"malformed prekey: {error}") from None
