"""Keys, GUIDs, signatures, and the self-signed certificate that a path presents.

Reading and writing key files is the shells' work; the rules for what a key file must look like are
here. Every signature covers a context string, so that none can stand for another.
"""

import base64
import datetime
from functools import cached_property, lru_cache
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from protocol.errors import Code, IdentityError, ProtocolViolation
from protocol.signatures import is_signature

__all__ = [
    "CONTEXT_CHALLENGE",
    "CONTEXT_DNS_KEY",
    "CONTEXT_ENDPOINT",
    "CONTEXT_PLANE",
    "CONTEXT_REGISTER",
    "GUID_LENGTH",
    "Identity",
    "guid_of",
    "public_key_of",
    "verify",
]

GUID_LENGTH = 52
"""Characters of a GUID: 32 bytes in base32 without padding."""

CONTEXT_CHALLENGE = b"roam-relay/1 challenge\0"
CONTEXT_REGISTER = b"roam-relay/1 register\0"
CONTEXT_ENDPOINT = b"roam-relay/1 endpoint\0"
CONTEXT_PLANE = b"roam-relay/1 plane\0"
CONTEXT_DNS_KEY = b"roam-relay/1 dns key\0"

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_INT_DIGITS = b"0123456789abcdefghijklmnopqrstuv"
_RECENT = 1024
"""GUIDs whose keys are remembered: one is read four times while a peer registers, and that costs as
much as half a signature. What is no GUID is not remembered."""

_DIGITS = bytes(
    _INT_DIGITS[_ALPHABET.index(chr(code))] if chr(code) in _ALPHABET else ord("!")
    for code in range(256)
)
"""Each character of a GUID as a digit to the base 32; others become none."""

# A certificate carries a key and nothing else; dates that never matter need no clock.
_NOT_BEFORE = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


def guid_of(public_key: bytes) -> str:
    """Return the GUID of a raw 32-byte Ed25519 public key: 52 lower-case base32 characters."""
    return base64.b32encode(public_key).decode().rstrip("=").lower()


@lru_cache(maxsize=_RECENT)
def public_key_of(guid: str) -> bytes:
    """Return the 32 raw bytes of the key that a GUID names.

    Raises:
        IdentityError: the text is not a GUID.
    """
    # The last character holds one bit of the key and four that must be zero.
    if len(guid) == GUID_LENGTH and guid.isascii() and guid[-1] in "aq":
        try:
            # As Python's own digits to that base: base64, which is Python code, takes 12 µs.
            number = int(guid.encode().translate(_DIGITS), 32)
        except ValueError:
            pass
        else:
            return (number >> 4).to_bytes(32)
    raise IdentityError(f"not a GUID ({GUID_LENGTH} base32 characters): {guid[:64]!r}")


def verify(guid: str, signature: bytes, context: bytes, *parts: bytes) -> None:
    """Check a signature of `guid` over a context and the parts that follow it.

    Every part but the last must have a fixed length.

    Raises:
        IdentityError: the GUID is malformed.
        ProtocolViolation: the signature is not that key's (`Code.BAD_SIGNATURE`).
    """
    if not is_signature(public_key_of(guid), signature, context + b"".join(parts)):
        raise ProtocolViolation(f"the signature is not that of {guid}", code=Code.BAD_SIGNATURE)


class Identity:
    """An Ed25519 key pair: who a peer, or a relay, is."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._key = private_key
        self.public_key: bytes = private_key.public_key().public_bytes_raw()
        """32 raw bytes."""
        self.guid: str = guid_of(self.public_key)
        """What others know its owner by."""

    @classmethod
    def generate(cls) -> Self:
        """Make a new identity."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Make the identity of a raw 32-byte Ed25519 private key (RFC 8032)."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def from_pem(cls, data: bytes, *, file_mode: int, name: str) -> Self:
        """Read a PKCS #8 PEM private key; `file_mode` are the permission bits of its file.

        Raises:
            IdentityError: others may read the file, or it holds no Ed25519 key.
        """
        if file_mode & 0o077:
            raise IdentityError(
                f"{name} can be read by others (mode {file_mode & 0o777:04o}): "
                f"run 'chmod 600 {name}', or make a new identity if the key may be known"
            )
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except TypeError:
            raise IdentityError(
                f"{name} holds a key that is locked with a password: take it off "
                f"('openssl pkey -in {name}' prints the key without)"
            ) from None
        except (ValueError, UnsupportedAlgorithm):
            what = "holds no whole PEM private key" if data.strip() else "is empty"
            raise IdentityError(
                f"{name} {what}: put back a copy of it, or move it away and make a new identity, "
                "with a new GUID"
            ) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise IdentityError(f"{name} holds a key of another kind: Ed25519 is needed")
        return cls(key)

    def to_pem(self) -> bytes:
        """Return the private key as PKCS #8 PEM."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def sign(self, context: bytes, *parts: bytes) -> bytes:
        """Return the 64-byte signature that `verify` accepts for the same context and parts."""
        return self._key.sign(context + b"".join(parts))

    @property
    def private_key(self) -> Ed25519PrivateKey:
        """The private key, for a TLS context."""
        return self._key

    @cached_property
    def certificate(self) -> x509.Certificate:
        """The self-signed certificate that proves this identity in TLS: only its key counts."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.guid)])
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(_NOT_BEFORE)
            .not_valid_after(_NOT_AFTER)
            .sign(self._key, None)
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.guid}>"
