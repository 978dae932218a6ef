"""Noise_NN_25519_AESGCM_SHA256 (the Noise Protocol Framework, revision 34): the handshake and the
two ciphers that it ends in. PURE.

What is Noise's is here, and nothing of ours: prologue, payloads and the private half of the
ephemeral key are handed in. Who the two sides are is proven elsewhere (lock.py).
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.errors import ProtocolViolation

__all__ = ["EPHEMERAL_BYTES", "TAG_BYTES", "Cipher", "Handshake"]

_NAME = b"Noise_NN_25519_AESGCM_SHA256"
_HASH = 32
EPHEMERAL_BYTES = 32
"""Of either half of an ephemeral key."""
TAG_BYTES = 16
"""What encryption adds."""
_LAST_NONCE = 2**64 - 1
"""Noise keeps it for a new key (§4.2)."""


class Cipher:
    """One direction: a key, and the number of the next message (Noise §5.1)."""

    def __init__(self, key: bytes) -> None:
        self._key = AESGCM(key)
        self.sealed = 0
        """Messages that it has sealed or opened: the number of the next one."""

    def seal(self, plain: bytes, associated: bytes = b"") -> bytes:
        """Encrypt the next message."""
        data = self._key.encrypt(_nonce(self.sealed), plain, associated)
        self.sealed += 1
        return data

    def open(self, data: bytes, associated: bytes = b"") -> bytes:
        """Decrypt the next message.

        Raises:
            ProtocolViolation: it is not what the other side has sealed as its next one.
        """
        try:
            plain = self._key.decrypt(_nonce(self.sealed), data, associated)
        except (InvalidTag, ValueError):  # The latter: it is shorter than its tag.
            raise ProtocolViolation("what came is not the other side's next message") from None
        self.sealed += 1
        return plain

    def renew(self) -> None:
        """Go on under the key that follows this one, from which this one cannot be found (REKEY of
        §4.2); the numbers go on as well."""
        self._key = AESGCM(self._key.encrypt(_nonce(_LAST_NONCE), bytes(_HASH), b"")[:_HASH])


class Handshake:
    """Both messages of NN, at one of its sides: `-> e`, `<- e, ee`."""

    def __init__(self, prologue: bytes, ephemeral: bytes) -> None:
        """`ephemeral` is the private half, fresh for each handshake."""
        self._own = X25519PrivateKey.from_private_bytes(ephemeral)
        # The name is shorter than a hash: it stands for one, filled up with zeros (§5.2).
        self._chaining_key = self.hash = _NAME.ljust(_HASH, b"\0")
        """What both sides have said so far, and who they are to be: the handshake hash, at its
        end."""
        self._mix_hash(prologue)

    def begin(self, payload: bytes = b"") -> bytes:
        """Return the initiator's message; the payload travels in clear."""
        return self._ephemeral() + self._mixed(payload)

    def take(self, message: bytes) -> bytes:
        """Take the initiator's message, and return its payload.

        Raises:
            ProtocolViolation: it is too short to be one.
        """
        payload = self._remote_ephemeral(message)
        self._mix_hash(payload)
        return payload

    def answer(self, payload: bytes = b"") -> bytes:
        """Return the responder's message.

        Raises:
            ProtocolViolation: the initiator's key is none that a secret can be made with.
        """
        message = self._ephemeral()
        return message + self._mixed(self._agree().seal(payload, self.hash))

    def finish(self, message: bytes) -> bytes:
        """Take the responder's message, and return its payload.

        Raises:
            ProtocolViolation: it was not made for this handshake.
        """
        sealed = self._remote_ephemeral(message)
        payload = self._agree().open(sealed, self.hash)
        self._mix_hash(sealed)
        return payload

    def split(self) -> tuple[Cipher, Cipher]:
        """Return the ciphers of what the initiator sends, and of what the responder does."""
        first, second = self._derive(b"")
        return Cipher(first), Cipher(second)

    # -- inside -----------------------------------------------------------------------------------

    def _ephemeral(self) -> bytes:
        return self._mixed(self._own.public_key().public_bytes_raw())

    def _remote_ephemeral(self, message: bytes) -> bytes:
        """Take the other side's key off a message, and return what is left of it."""
        if len(message) < EPHEMERAL_BYTES:
            raise ProtocolViolation("a message of a handshake that is too short")
        key = self._mixed(message[:EPHEMERAL_BYTES])
        self._remote = X25519PublicKey.from_public_bytes(key)
        return message[EPHEMERAL_BYTES:]

    def _agree(self) -> Cipher:
        try:
            shared = self._own.exchange(self._remote)
        except ValueError:
            # A point of small order: the secret would be zero whatever the private half.
            raise ProtocolViolation("a key that no secret can be made with") from None
        self._chaining_key, key = self._derive(shared)
        return Cipher(key)

    def _derive(self, material: bytes) -> tuple[bytes, bytes]:
        """HKDF of §4.3, which is that of RFC 5869 with no info."""
        derived = HKDF(hashes.SHA256(), 2 * _HASH, self._chaining_key, b"").derive(material)
        return derived[:_HASH], derived[_HASH:]

    def _mixed(self, data: bytes) -> bytes:
        self._mix_hash(data)
        return data

    def _mix_hash(self, data: bytes) -> None:
        digest = hashes.Hash(hashes.SHA256())
        digest.update(self.hash)
        digest.update(data)
        self.hash = digest.finalize()


def _nonce(number: int) -> bytes:
    """Return the nonce of a message: AESGCM takes it with the most significant byte first (§12.4 of
    revision 34)."""
    return bytes(4) + number.to_bytes(8, "big")
