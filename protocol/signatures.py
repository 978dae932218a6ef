"""Whether an Ed25519 signature (RFC 8032) is that of a key, and nothing of who has it.

libsodium is asked where it is installed (the extra `sodium`), which takes half as long as OpenSSL:
58 µs and 117, and a registration has two signatures to verify. Both are given the same answer:
libsodium refuses keys and points of small order, under which one signature would hold for any
message, and keys that are not in canonical form; OpenSSL does not, and is not asked about them.
"""

from collections.abc import Callable
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["SIGNATURE_LENGTH", "Verifier", "by_openssl", "is_signature"]

SIGNATURE_LENGTH = 64
"""Bytes of a signature."""

Verifier = Callable[[bytes, bytes, bytes], bool]
"""Takes a key of 32 bytes, a signature and what was signed."""

_RECENT = 1024
"""Keys that are remembered as OpenSSL has them."""
_PRIME = 2**255 - 19
_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = frozenset((0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8))
"""The points whose order divides 8, by their y (the sign of x aside)."""


@lru_cache(maxsize=_RECENT)
def _openssl_key(key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(key)


def _is_weak(point: bytes) -> bool:
    """Whether a point is of small order, or not in canonical form."""
    y = int.from_bytes(point, "little") & (2**255 - 1)
    return y >= _PRIME or y in _SMALL_ORDER


def by_openssl(key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a signature is a key's, by OpenSSL."""
    if len(signature) != SIGNATURE_LENGTH or _is_weak(key) or _is_weak(signature[:32]):
        return False
    try:
        _openssl_key(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


is_signature: Verifier = by_openssl
"""Whether a signature is a key's, by the faster one that is here."""

try:
    from nacl.bindings import crypto_sign_open
    from nacl.exceptions import BadSignatureError
except ModuleNotFoundError:
    pass
else:

    def by_sodium(key: bytes, signature: bytes, message: bytes) -> bool:
        """Whether a signature is a key's, by libsodium."""
        if len(signature) != SIGNATURE_LENGTH:
            return False  # What is joined below would be taken apart elsewhere.
        try:
            crypto_sign_open(signature + message, key)
        except BadSignatureError:
            return False
        return True

    is_signature = by_sodium
