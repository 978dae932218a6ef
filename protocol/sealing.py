"""Sealing a secret for one receiver, over a connection that others may read.

A control connection over plain HTTP proves who is at its ends and hides nothing. What must stay
secret is sealed for a key that its receiver has just made and signed: X25519, HKDF-SHA256 and
ChaCha20-Poly1305, each key for one secret.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.errors import ProtocolViolation

__all__ = ["MAX_SECRET", "Receiver", "seal"]

MAX_SECRET = 64
"""Bytes of what is sealed."""
_PUBLIC = 32
_NONCE = bytes(12)
"""Each key seals once, so that the nonce may be a constant."""


class Receiver:
    """Makes a key pair for one secret. `public` is what the sender needs: 32 bytes."""

    def __init__(self, private_key: X25519PrivateKey | None = None) -> None:
        self._key = private_key or X25519PrivateKey.generate()
        self.public = self._key.public_key().public_bytes_raw()

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return what was sealed for this receiver under the same context.

        Raises:
            ProtocolViolation: it was not.
        """
        try:
            shared = self._key.exchange(X25519PublicKey.from_public_bytes(sealed[:_PUBLIC]))
            cipher = _cipher(shared, sealed[:_PUBLIC], self.public, context)
            return cipher.decrypt(_NONCE, sealed[_PUBLIC:], None)
        except (InvalidTag, ValueError):
            raise ProtocolViolation("what is sealed is not for us") from None


def seal(
    public: bytes, secret: bytes, context: bytes, private_key: X25519PrivateKey | None = None
) -> bytes:
    """Return the sender's public key (32 bytes) and the sealed secret (16 bytes longer than it).

    Raises:
        ProtocolViolation: `public` is no key that can be used.
    """
    key = private_key or X25519PrivateKey.generate()
    ours = key.public_key().public_bytes_raw()
    try:
        shared = key.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise ProtocolViolation("not a public key that can be sealed for") from None
    return ours + _cipher(shared, ours, public, context).encrypt(_NONCE, secret, None)


def _cipher(shared: bytes, sender: bytes, receiver: bytes, context: bytes) -> ChaCha20Poly1305:
    info = context + sender + receiver
    return ChaCha20Poly1305(HKDF(SHA256(), 32, salt=None, info=info).derive(shared))
