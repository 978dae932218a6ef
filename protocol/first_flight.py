"""The sealed first flight of a session's next path: its keys, sealing, opening, no replay. PURE.

Both sides have exported one secret from the TLS of a path that the session was welcomed on
(RFC 8446 §7.5). What the next path brings before its own TLS is sealed under it: known only to
whoever was inside that TLS. Each flight has a key of its own, by 32 random bytes that it carries;
so no number has to be unique, and chance is handed in.
"""

from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.first_bytes import FLIGHT_HEAD, MAX_SEALED, flight_head

__all__ = [
    "CONTEXT_FLIGHT",
    "EXPORTED_BYTES",
    "EXPORTER_LABEL",
    "RANDOM_BYTES",
    "FlightKeys",
    "Opened",
    "Sealed",
    "key_id_in",
]

EXPORTER_LABEL = b"EXPORTER-roam-relay/1 first flight"
"""The exporter's context is the session's id."""
EXPORTED_BYTES = 48
"""16 of the key's id, then 32 of the secret."""
CONTEXT_FLIGHT = b"roam-relay/1 first flight\0"
RANDOM_BYTES = 32
_ID_AT, _ID_BYTES, _TAG_BYTES = 4, 16, 16
_NONCE = bytes(12)
"""Each key seals once, so that the nonce may be a constant."""
_KEPT = 2
"""Secrets that are kept: who was welcomed last is not known to a side whose welcome was lost."""
_MOST = 64
"""Flights under one secret that leave from here, or are taken: a path that is taken brings the
next secret. No more are, so that none of them is ever forgotten."""


class _Part(IntEnum):
    """Who has sealed, by who dialed the path whose TLS has given the secret, and for what: what one
    side has sealed nobody can show to it as the other's."""

    DIALER = 1
    DIALED = 2
    DIALER_ANSWERS = 3
    DIALED_ANSWERS = 4


_PARTS = {
    (True, False): _Part.DIALER,
    (False, False): _Part.DIALED,
    (True, True): _Part.DIALER_ANSWERS,
    (False, True): _Part.DIALED_ANSWERS,
}
"""By whether the dialer has sealed it, and whether it is an answer."""


@dataclass(slots=True, eq=False)
class _Secret:
    id: bytes
    key: bytes
    dialed_here: bool
    """Whether this side has dialed the path that it is from."""
    sent: int = 0
    seen: set[bytes] | None = None
    """The random bytes of those that were opened; None where none was, which is the usual: an empty
    set takes 0.2 KiB."""

    def cipher(self, random: bytes, *, here: bool, answers: bool) -> ChaCha20Poly1305:
        """Return the cipher of one flight, or of its answer, that is sealed here or there."""
        part = _PARTS[self.dialed_here is here, answers]
        info = CONTEXT_FLIGHT + bytes((part,))
        return ChaCha20Poly1305(HKDF(SHA256(), 32, random, info).derive(self.key))


@dataclass(frozen=True, slots=True)
class Sealed:
    """A flight that leaves from here."""

    data: bytes
    """All of it, with its head."""
    secret: _Secret
    random: bytes

    def open_answer(self, data: bytes) -> bytes | None:
        """Return what its answer says; None where it is none."""
        if key_id_in(data) != self.secret.id:
            return None
        random = self.random + _random_in(data)
        return _opened(self.secret.cipher(random, here=False, answers=True), data)


@dataclass(frozen=True, slots=True)
class Opened:
    """A flight of the other side, which has not come before."""

    plain: bytes
    secret: _Secret
    random: bytes

    def answer(self, random: bytes, plain: bytes) -> bytes:
        """Seal the answer, with 32 random bytes of its own."""
        cipher = self.secret.cipher(self.random + random, here=True, answers=True)
        return _sealed(cipher, self.secret.id, random, plain)


class FlightKeys:
    """The secrets of one session, at one of its sides."""

    __slots__ = ("_secrets",)

    def __init__(self) -> None:
        self._secrets: list[_Secret] = []  # A deque takes 0.7 KiB, at every session.

    @property
    def ids(self) -> tuple[bytes, ...]:
        """What the secrets are known by; the newest is the last."""
        return tuple(one.id for one in self._secrets)

    def add(self, exported: bytes, *, dialed_here: bool) -> None:
        """Note what the TLS of a path has given that the session was welcomed on."""
        key_id, secret = exported[:_ID_BYTES], exported[_ID_BYTES:]
        self._secrets.append(_Secret(key_id, secret, dialed_here))
        if len(self._secrets) > _KEPT:
            del self._secrets[0]

    def clear(self) -> None:
        """Forget all of them: no flight leaves or is taken."""
        self._secrets.clear()

    def seal(self, random: bytes, plain: bytes) -> Sealed | None:
        """Seal a flight, with 32 fresh random bytes; None where there is no secret, or where that
        has sealed enough, or where it would be too large."""
        if not self._secrets or len(plain) + _TAG_BYTES > MAX_SEALED:
            return None
        secret = self._secrets[-1]
        if secret.sent >= _MOST:
            return None
        secret.sent += 1
        cipher = secret.cipher(random, here=True, answers=False)
        return Sealed(_sealed(cipher, secret.id, random, plain), secret, random)

    def open(self, data: bytes) -> Opened | None:
        """Return what a flight of the other side says, once; None where it is none, or has come
        before, or where too many have come."""
        secret = next((one for one in self._secrets if one.id == key_id_in(data)), None)
        if secret is None:
            return None
        random = _random_in(data)
        seen = set() if secret.seen is None else secret.seen
        if random in seen or len(seen) >= _MOST:
            return None
        plain = _opened(secret.cipher(random, here=False, answers=False), data)
        if plain is None:
            return None
        # Only what has proven itself takes a place: who cannot seal uses none up.
        seen.add(random)
        secret.seen = seen
        return Opened(plain, secret, random)


def key_id_in(data: bytes) -> bytes:
    """Return the id of the key that a flight is sealed under, as it says in clear."""
    return data[_ID_AT : _ID_AT + _ID_BYTES]


def _random_in(data: bytes) -> bytes:
    return data[_ID_AT + _ID_BYTES : _ID_AT + _ID_BYTES + RANDOM_BYTES]


def _sealed(cipher: ChaCha20Poly1305, key_id: bytes, random: bytes, plain: bytes) -> bytes:
    head = flight_head(key_id, random, len(plain) + _TAG_BYTES)
    return head + cipher.encrypt(_NONCE, plain, head)


def _opened(cipher: ChaCha20Poly1305, data: bytes) -> bytes | None:
    try:
        return cipher.decrypt(_NONCE, data[FLIGHT_HEAD:], data[:FLIGHT_HEAD])
    except InvalidTag:
        return None
