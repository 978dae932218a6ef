"""Letters: sealed for a peer who is away, and opened there.

Outside stands what the recipient needs to find its key. Inside, and nowhere else, stand who has
written it, proven by a signature, for which service, under which id, and the payload. A letter has
one of a few sizes. What a payload means, and whether it came before, is not decided here.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from protocol.errors import Code, ProtocolViolation, RoamRelayError
from protocol.identity import Identity, guid_of, public_key_of, verify
from protocol.prekeys import SUITE_X25519, Prekey

__all__ = [
    "CONTEXT_LETTER",
    "CONTEXT_LETTER_SEAL",
    "MAX_LETTER",
    "MAX_LETTER_PAYLOAD",
    "SIZES",
    "Fault",
    "Head",
    "LetterFault",
    "OpenedLetter",
    "open_letter",
    "read_head",
    "seal_letter",
]

CONTEXT_LETTER = b"roam-relay/1 letter\0"
CONTEXT_LETTER_SEAL = b"roam-relay/1 letter seal\0"
MAX_LETTER = 61_440
"""Bytes of a sealed letter at most: it fits into one control message."""
SIZES = (512, 1024, 2048, 4096, *range(8192, MAX_LETTER + 1, 4096))
"""The sizes that a sealed letter has: what is shorter is filled up with zeros inside."""
MAX_LETTER_PAYLOAD = 60_416
"""Bytes of the payload."""

_HEAD = 10
"""Bytes before what is sealed: the suite (2) and the prekey's number (8)."""
_SEAL = 48
"""Bytes that sealing adds: the encapsulated key (32) and the tag (16)."""
_KEY, _SIGNATURE, _LENGTH = 32, 64, 4
_BEFORE_BODY = _KEY + _SIGNATURE + _LENGTH

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


class Fault(StrEnum):
    """Why a letter brings nothing."""

    MALFORMED = "malformed"
    """It is not made as letters are."""
    UNSUPPORTED = "unsupported"
    """It is sealed by a suite that is not known here."""
    KEY_GONE = "key_gone"
    """The key that it is sealed for is not kept any more, was for another letter, or never was."""
    UNOPENED = "unopened"
    """The seal does not open: it was changed, or is not for this peer."""
    FORGED = "forged"
    """Its writer's signature does not hold, or it says otherwise inside than outside."""
    REPLAYED = "replayed"
    """It has come before."""
    BLOCKED = "blocked"
    """The recipient will have nothing to do with its sender."""


class LetterFault(ProtocolViolation):
    """A letter brings nothing; `fault` says why."""

    def __init__(self, fault: Fault, reason: str) -> None:
        super().__init__(reason)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Head:
    """What a sealed letter says outside."""

    suite: int
    number: int
    """Of the prekey that it is sealed for."""


@dataclass(frozen=True, slots=True)
class OpenedLetter:
    """What a letter says inside, all of it proven to be its writer's."""

    sender: str
    """The writer's GUID."""
    service: str
    id: bytes
    """16 bytes, chosen by the writer: the same for what is left twice."""
    payload: bytes


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """What the writer signs; further elements are ignored."""

    service: Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
    id: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    payload: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


def seal_letter(
    identity: Identity, recipient: str, prekey: Prekey, letter: tuple[str, bytes, bytes]
) -> bytes:
    """Seal a letter of service, id and payload for a prekey that its recipient has signed.

    Raises:
        ProtocolViolation: the payload is too long (`message_too_large`), or the prekey cannot be
            sealed for.
    """
    service, letter_id, payload = letter
    if len(payload) > MAX_LETTER_PAYLOAD:
        raise ProtocolViolation(
            f"the payload of a letter has at most {MAX_LETTER_PAYLOAD} bytes",
            code=Code.MESSAGE_TOO_LARGE,
        )
    if prekey.suite != SUITE_X25519:
        raise ProtocolViolation(f"suite {prekey.suite} of a prekey is not known here")
    there = public_key_of(recipient)
    head = _head(prekey.suite, prekey.number)
    body = _encode(_Body(service, letter_id, payload))
    signature = identity.sign(CONTEXT_LETTER, there, head, body)
    inside = identity.public_key + signature + len(body).to_bytes(_LENGTH, "big") + body
    whole = len(inside) + _HEAD + _SEAL
    inside += bytes(next(size for size in SIZES if size >= whole) - whole)
    try:
        public = X25519PublicKey.from_public_bytes(prekey.public)
        return head + _SUITE.encrypt(inside, public, CONTEXT_LETTER_SEAL + there + head)
    except ValueError:
        raise ProtocolViolation("not a prekey that can be sealed for") from None


def read_head(sealed: bytes) -> Head:
    """Return what a sealed letter says outside.

    Raises:
        LetterFault: it is none, or of a suite that is not known here.
    """
    if len(sealed) < _HEAD:
        raise LetterFault(Fault.MALFORMED, "a letter without a head")
    head = Head(int.from_bytes(sealed[:2], "big"), int.from_bytes(sealed[2:_HEAD], "big"))
    if head.suite != SUITE_X25519:
        raise LetterFault(Fault.UNSUPPORTED, f"suite {head.suite} of a letter is not known here")
    if len(sealed) not in SIZES:
        raise LetterFault(Fault.MALFORMED, f"no letter has {len(sealed)} bytes")
    return head


def open_letter(recipient: str, sealed: bytes, private_key: bytes) -> OpenedLetter:
    """Open a letter with the private half (32 bytes) of the prekey that its head names.

    Raises:
        LetterFault: it brings nothing; says why.
    """
    read_head(sealed)
    head, there = sealed[:_HEAD], public_key_of(recipient)
    try:
        inside = _SUITE.decrypt(
            sealed[_HEAD:],
            X25519PrivateKey.from_private_bytes(private_key),
            CONTEXT_LETTER_SEAL + there + head,
        )
    except (InvalidTag, ValueError):
        raise LetterFault(Fault.UNOPENED, "the seal of a letter does not open") from None
    length = int.from_bytes(inside[_KEY + _SIGNATURE : _BEFORE_BODY], "big")
    body, filling = inside[_BEFORE_BODY : _BEFORE_BODY + length], inside[_BEFORE_BODY + length :]
    if len(body) != length or filling.count(0) != len(filling):
        raise LetterFault(Fault.MALFORMED, "a letter is not filled up as letters are")
    sender, signature = guid_of(inside[:_KEY]), inside[_KEY : _KEY + _SIGNATURE]
    try:
        verify(sender, signature, CONTEXT_LETTER, there, head, body)
    except (RoamRelayError, ValueError):
        raise LetterFault(Fault.FORGED, "a letter is not signed by its writer") from None
    try:
        said = _decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise LetterFault(Fault.MALFORMED, "a letter is not written as letters are") from None
    return OpenedLetter(sender, said.service, said.id, said.payload)


def _head(suite: int, number: int) -> bytes:
    return suite.to_bytes(2, "big") + number.to_bytes(8, "big")
