"""Letters and prekeys: what others have sealed and signed; only our violations leave."""

import contextlib

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from protocol.errors import ProtocolViolation
from protocol.identity import Identity
from protocol.letters import CONTEXT_LETTER, CONTEXT_LETTER_SEAL, LetterFault, open_letter
from protocol.prekeys import CONTEXT_PREKEY, SignedPrekey, open_prekey
from tests.fuzz.draws import Draw

__all__ = ["letters"]

_BOB = Identity.from_seed(b"b" * 32)
_HALF = bytes(range(32))
_PUBLIC = X25519PrivateKey.from_private_bytes(_HALF).public_key()
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_HEAD = b"\0\1" + bytes(8)
_SEAL = 58


def letters(data: bytes) -> None:
    """A letter as it comes; what is inside one, and its body, by a sender who signs anything; a
    prekey, likewise."""
    draw = Draw(data)
    kind, data = draw.number(4), draw.rest()
    if kind == 3:
        signature = _BOB.sign(CONTEXT_PREKEY, _BOB.public_key, data)
        with contextlib.suppress(ProtocolViolation):
            assert open_prekey(_BOB.guid, SignedPrekey(data, signature)).suite < 65_536
        return
    if kind == 2:
        signed = _BOB.sign(CONTEXT_LETTER, _BOB.public_key, _HEAD, data)
        data = _BOB.public_key + signed + len(data).to_bytes(4, "big") + data
    if kind:
        inside = data[: 512 - _SEAL].ljust(512 - _SEAL, b"\0")
        info = CONTEXT_LETTER_SEAL + _BOB.public_key + _HEAD
        data = _HEAD + _SUITE.encrypt(inside, _PUBLIC, info)
    with contextlib.suppress(LetterFault):
        opened = open_letter(_BOB.guid, data, _HALF)
        assert len(opened.id) == 16
        assert 1 <= len(opened.service) <= 63
