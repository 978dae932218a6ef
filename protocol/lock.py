"""Locks: what a path over a plane is locked by, how two sides agree on it, and the lock that is not
TLS. PURE.

A page in a browser has no TLS of its own to put on a plane. Its lock is Noise NN over the keys of
one path, and a signature of each side over all that the handshake was: who they are, for which
session, by which relay, and which locks were offered and chosen. Chance is handed in.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Annotated

import msgspec

from protocol.errors import ProtocolViolation
from protocol.first_bytes import FIRST_BYTES_VERSION, MAGIC, FirstKind
from protocol.identity import Identity, guid_of, verify
from protocol.noise import EPHEMERAL_BYTES, TAG_BYTES, Cipher, Handshake

__all__ = [
    "CONTEXT_LOCK",
    "LOCK_HEAD",
    "MAX_LOCKS",
    "MAX_LOCK_RECORD",
    "MAX_PLAIN",
    "PROLOGUE_LABEL",
    "RECORDS_PER_KEY",
    "Agreed",
    "Lock",
    "LockSide",
    "NoiseLock",
    "chosen_of",
    "lock_part",
    "locks_part",
    "prologue",
    "read_lock",
    "read_locks",
]


class Lock(StrEnum):
    """What a path over a plane is locked by."""

    TLS = "tls"
    """TLS 1.3, as every direct path."""
    NOISE = "noise"
    """Noise_NN_25519_AESGCM_SHA256 with the signatures of both identities."""


MAX_LOCKS = 8
"""Words that are offered at most."""
_MAX_WORD = 16
PROLOGUE_LABEL = b"roam-relay/1 noise\0"
CONTEXT_LOCK = b"roam-relay/1 lock\0"
"""What each side signs under: its role (one byte), and the handshake hash."""
LOCK_HEAD = MAGIC + bytes((FIRST_BYTES_VERSION, FirstKind.NOISE))
"""What each way begins with."""
MAX_PLAIN = 16_384
"""Bytes in one record, as in TLS: who waits for its end hears of it within a while."""
MAX_LOCK_RECORD = MAX_PLAIN + TAG_BYTES
RECORDS_PER_KEY = 1 << 20
"""Records of one direction under one key: far below what AES-GCM bears of such (2^24.5; RFC 8446
§5.5)."""
_LENGTH = 2
_SIGNATURE = 64
_FIRST = len(LOCK_HEAD) + EPHEMERAL_BYTES
_SECOND = _FIRST + TAG_BYTES


# -- what is offered and chosen -------------------------------------------------------------------

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=_MAX_WORD, pattern=r"^[!-~]+\Z")]


class _Offered(msgspec.Struct, frozen=True, omit_defaults=True):
    locks: Annotated[tuple[Word, ...], msgspec.Meta(max_length=MAX_LOCKS)] = ()
    relay: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)] | None = None


class _Chosen(msgspec.Struct, frozen=True, omit_defaults=True):
    lock: Word | None = None


_decode_offered = msgspec.msgpack.Decoder(_Offered).decode
_decode_chosen = msgspec.msgpack.Decoder(_Chosen).decode


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a plane of a session is locked by, and how that came about."""

    relay: bytes
    """The key of the relay, as who has asked knows it."""
    offered: tuple[str, ...]
    """By who has asked, as it was said; empty where a ticket asks for the plane, and nobody."""
    chosen: str
    """By who was asked."""

    def by_ticket(self) -> "Agreed":
        """Return what the next plane of the session has, which a ticket asks for."""
        return Agreed(self.relay, (), self.chosen)


def chosen_of(offered: Iterable[str] | None, taken: Iterable[Lock]) -> Lock | None:
    """Return which of the offered locks is chosen by a side that takes these; None where there is
    none. Whoever chooses does it so: TLS where both have it. Who says nothing of locks (None) has
    TLS alone."""
    both = {lock.value for lock in taken} & set((Lock.TLS,) if offered is None else offered)
    return next((lock for lock in Lock if lock.value in both), None)


def locks_part(locks: Sequence[str], relay: bytes) -> dict[str, object]:
    """Return the part of a request's body that says so."""
    return {"locks": tuple(locks), "relay": relay}


def lock_part(lock: str) -> dict[str, object]:
    """Return the part of an answer's body that says so."""
    return {"lock": lock}


def read_locks(body: bytes) -> tuple[tuple[str, ...], bytes] | None:
    """Return the locks that a request offers, and the relay's key; None where it says nothing of
    them, or cannot be read."""
    try:
        said = _decode_offered(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return (said.locks, said.relay) if said.locks and said.relay is not None else None


def read_lock(body: bytes) -> str | None:
    """Return the lock that an answer has chosen; None where it says nothing of it, or cannot be
    read."""
    try:
        return _decode_chosen(body).lock
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def prologue(caller: bytes, callee: bytes, session: bytes, agreed: Agreed) -> bytes:
    """Return what both sides put before the handshake: keys of 32 bytes, the session, and what was
    agreed on."""
    words = b"".join(_word(word) for word in agreed.offered)
    offered = bytes((len(agreed.offered),)) + words
    chosen = _word(agreed.chosen)
    return PROLOGUE_LABEL + caller + callee + session + agreed.relay + offered + chosen


def _word(word: str) -> bytes:
    return bytes((len(word),)) + word.encode("ascii")


# -- the lock -------------------------------------------------------------------------------------


class _Stage(Enum):
    NEW = "new"
    """A caller that has not begun."""
    KEYS = "keys"
    """Waiting for the other side's ephemeral key."""
    PROOF = "proof"
    """Waiting for the other side's signature."""
    OPEN = "open"
    ENDED = "ended"
    """The other side has said that nothing more follows."""


_CALLER, _CALLEE = b"\x01", b"\x02"
"""Roles, as they are signed."""


@dataclass(frozen=True, slots=True)
class LockSide:
    """One side of a lock: who it is, and what it expects of the other one."""

    identity: Identity
    remote: bytes
    """The other side's key."""
    session: bytes
    agreed: Agreed
    is_caller: bool

    @property
    def prologue(self) -> bytes:
        """What both sides put before the handshake."""
        keys = (self.identity.public_key, self.remote)
        caller, callee = keys if self.is_caller else keys[::-1]
        return prologue(caller, callee, self.session, self.agreed)


class NoiseLock:
    """The lock of one path at one of its ends: bytes in, bytes out.

    Feed what arrived to `receive`; write `to_send` to the stream after every call. After a
    violation it is of no use.
    """

    def __init__(
        self, side: LockSide, ephemeral: bytes, *, records_per_key: int = RECORDS_PER_KEY
    ) -> None:
        """`ephemeral` are 32 fresh random bytes."""
        self._side = side
        self._handshake = Handshake(side.prologue, ephemeral)
        self._records_per_key = records_per_key
        self._stage = _Stage.NEW if side.is_caller else _Stage.KEYS
        self._ciphers: tuple[Cipher, Cipher] | None = None
        """Of what leaves, and of what arrives; once the keys are known."""
        self._held = bytearray()
        """What has arrived of a message or record that is not whole."""
        self._leaving: list[bytes] = []
        self._is_closed = False
        """Whether this side has said that nothing more follows."""
        self.remote_guid = ""
        """The identity that the other side has proven; empty before that."""

    @property
    def established(self) -> bool:
        """Whether the other side has proven its key."""
        return bool(self.remote_guid)

    @property
    def handshake_hash(self) -> bytes:
        """What both sides have signed, once both keys are known."""
        return self._handshake.hash

    @property
    def ended(self) -> bool:
        """Whether the other side has said that nothing more follows."""
        return self._stage is _Stage.ENDED

    def start(self) -> None:
        """Begin, as the caller."""
        if self._stage is _Stage.NEW:
            self._stage = _Stage.KEYS
            self._leaving.append(LOCK_HEAD + self._handshake.begin())

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the stream, and return the other side's among them.

        Raises:
            ProtocolViolation: they are not what the other side has sent, whole and in order.
        """
        if self.ended:
            return b""  # Nothing follows the close.
        held = self._held
        held += data
        if self._stage is _Stage.KEYS and not self._take_keys():
            return b""
        pieces: list[bytes] = []
        at = 0
        with memoryview(held) as view:
            while not self.ended and len(held) - at >= _LENGTH:
                size = int.from_bytes(view[at : at + _LENGTH], "big")
                if not TAG_BYTES <= size <= MAX_LOCK_RECORD:
                    raise ProtocolViolation("a record whose length no record has")
                end = at + _LENGTH + size
                if len(held) < end:
                    break
                self._record(self._opened(bytes(view[at + _LENGTH : end])), pieces)
                at = end
        if self.ended:
            held.clear()
        else:
            del held[:at]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def send(self, data: bytes) -> None:
        """Seal bytes, in as many records as they need."""
        for at in range(0, len(data), MAX_PLAIN):
            self._seal(data[at : at + MAX_PLAIN])

    def end(self) -> None:
        """Say that nothing more follows."""
        if self.established and not self._is_closed:
            self._is_closed = True
            self._seal(b"")

    def to_send(self) -> bytes:
        """Return the bytes that are to be written to the stream."""
        leaving, self._leaving = self._leaving, []
        return leaving[0] if len(leaving) == 1 else b"".join(leaving)

    # -- inside -----------------------------------------------------------------------------------

    def _take_keys(self) -> bool:
        """Take the other side's ephemeral key; False where it is not whole yet."""
        held = self._held
        if not LOCK_HEAD.startswith(held[: len(LOCK_HEAD)]):
            raise ProtocolViolation("another lock than the one that was agreed on")
        size = _SECOND if self._side.is_caller else _FIRST
        if len(held) < size:
            return False
        message = bytes(held[len(LOCK_HEAD) : size])
        del held[:size]
        if self._side.is_caller:
            self._handshake.finish(message)
            self._ciphers = self._handshake.split()
        else:
            self._handshake.take(message)
            self._leaving.append(LOCK_HEAD + self._handshake.answer())
            self._ciphers = self._handshake.split()[::-1]
            self._prove(_CALLEE)
        self._stage = _Stage.PROOF
        return True

    def _record(self, plain: bytes, pieces: list[bytes]) -> None:
        if self._stage is _Stage.PROOF:
            self._take_proof(plain)
        elif plain:
            pieces.append(plain)
        else:
            self._stage = _Stage.ENDED

    def _take_proof(self, signature: bytes) -> None:
        if len(signature) != _SIGNATURE:
            raise ProtocolViolation("no signature where one was expected")
        remote, role = guid_of(self._side.remote), _CALLEE if self._side.is_caller else _CALLER
        verify(remote, signature, CONTEXT_LOCK, role, self._handshake.hash)
        if self._side.is_caller:
            # Who calls proves itself to nobody but the callee.
            self._prove(_CALLER)
        self.remote_guid = remote
        self._stage = _Stage.OPEN

    def _prove(self, role: bytes) -> None:
        self._seal(self._side.identity.sign(CONTEXT_LOCK, role, self._handshake.hash))

    def _seal(self, plain: bytes) -> None:
        cipher = self._both()[0]
        sealed = cipher.seal(plain)
        self._leaving.append(len(sealed).to_bytes(_LENGTH, "big") + sealed)
        self._renew(cipher)

    def _opened(self, data: bytes) -> bytes:
        cipher = self._both()[1]
        plain = cipher.open(data)
        self._renew(cipher)
        return plain

    def _renew(self, cipher: Cipher) -> None:
        if cipher.sealed % self._records_per_key == 0:
            cipher.renew()

    def _both(self) -> tuple[Cipher, Cipher]:
        if self._ciphers is None:
            raise ProtocolViolation("the lock is not open yet")
        return self._ciphers
