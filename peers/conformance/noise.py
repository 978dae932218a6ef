"""The lock of a path that is not TLS, from its pages alone: Noise NN (revision 34) step by step,
and docs/protocol.md §18 on top of it.

It is the kit's own, as its WebSocket and its sealed flights are: `protocol.noise` and
`protocol.lock` are under test, and a fault that both ends share would be seen by neither.
"""

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from peers.conformance.faults import Fault, within
from peers.conformance.pipes import Pipe
from protocol.errors import RoamRelayError
from protocol.identity import Identity, guid_of, verify

__all__ = ["HEAD", "LockFacts", "NoiseHandshake", "NoisePipe", "RecordCipher"]

HEAD = bytes((0x52, 0x52, 0x01, 0x02))
_NAME = b"Noise_NN_25519_AESGCM_SHA256"
_KEY, _TAG, _SIGNATURE, _LENGTH = 32, 16, 64, 2
_MOST = 16_384
_CONTEXT = b"roam-relay/1 lock\0"
_CALLER, _CALLEE = b"\x01", b"\x02"


class RecordCipher:
    """A CipherState of Noise (§5.1): a key, and the number of the next message."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._number = 0

    def encrypt(self, plain: bytes, associated: bytes = b"") -> bytes:
        """Return the next message."""
        return self._cipher.encrypt(self._nonce(), plain, associated)

    def decrypt(self, sealed: bytes, associated: bytes = b"") -> bytes:
        """Return what the next message says.

        Raises:
            Fault: it is not the other side's next message.
        """
        try:
            return self._cipher.decrypt(self._nonce(), sealed, associated)
        except InvalidTag:
            raise Fault("a message of Noise does not open") from None

    def _nonce(self) -> bytes:
        # AESGCM: four bytes of zeros, and the number with its most significant byte first (§12.4).
        number, self._number = self._number, self._number + 1
        return bytes(4) + number.to_bytes(8, "big")


class NoiseHandshake:
    """NN: `-> e`, `<- e, ee` (§7.5), at one of both sides."""

    def __init__(self, prologue: bytes, *, secret: bytes = b"") -> None:
        """`secret` is this side's ephemeral key, for vectors; without it, a fresh one."""
        self._own = X25519PrivateKey.from_private_bytes(secret or os.urandom(_KEY))
        # InitializeSymmetric (§5.2): a name of less than 32 bytes is filled up with zeros.
        self.hash = _NAME.ljust(32, b"\0")
        self._chaining_key = self.hash
        self._mix(prologue)

    @property
    def _public(self) -> bytes:
        return self._own.public_key().public_bytes_raw()

    def write_first(self, payload: bytes = b"") -> bytes:
        """Return the initiator's message."""
        self._mix(self._public)
        self._mix(payload)
        return self._public + payload

    def read_first(self, message: bytes) -> bytes:
        """Take it; return its payload."""
        remote, payload = message[:_KEY], message[_KEY:]
        self._mix(remote)
        self._mix(payload)
        self._remote = remote
        return payload

    def write_second(self, payload: bytes = b"") -> bytes:
        """Return the responder's message."""
        self._mix(self._public)
        sealed = self._shared(self._remote).encrypt(payload, self.hash)
        self._mix(sealed)
        return self._public + sealed

    def read_second(self, message: bytes) -> bytes:
        """Take it; return its payload.

        Raises:
            Fault: it does not open.
        """
        remote, sealed = message[:_KEY], message[_KEY:]
        self._mix(remote)
        payload = self._shared(remote).decrypt(sealed, self.hash)
        self._mix(sealed)
        return payload

    def split(self) -> tuple[RecordCipher, RecordCipher]:
        """Return the ciphers of what the initiator sends, and of what the responder sends."""
        first, second = _hkdf(self._chaining_key, b"")
        return RecordCipher(first), RecordCipher(second)

    def _shared(self, remote: bytes) -> RecordCipher:
        """MixKey of `ee`."""
        try:
            shared = self._own.exchange(X25519PublicKey.from_public_bytes(remote))
        except ValueError:
            raise Fault("an ephemeral key with which the secret is zero (R18.11)") from None
        self._chaining_key, key = _hkdf(self._chaining_key, shared)
        return RecordCipher(key)

    def _mix(self, data: bytes) -> None:
        self.hash = sha256(self.hash + data).digest()


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """HKDF of Noise (§4.3), with two outputs."""
    kept = hmac.digest(chaining_key, material, "sha256")
    first = hmac.digest(kept, b"\x01", "sha256")
    return first, hmac.digest(kept, first + b"\x02", "sha256")


@dataclass(frozen=True, slots=True)
class LockFacts:
    """What one side of a lock knows before the handshake."""

    identity: Identity
    remote: bytes
    """The other side's key."""
    session: bytes
    relay: bytes
    offered: tuple[str, ...]
    """The locks of the request; none where a ticket has asked for the plane."""
    is_caller: bool

    @property
    def prologue(self) -> bytes:
        """R18.10."""
        own = self.identity.public_key
        caller, callee = (own, self.remote) if self.is_caller else (self.remote, own)
        words = b"".join(bytes((len(word),)) + word.encode() for word in (*self.offered, "noise"))
        label = b"roam-relay/1 noise\0" + caller + callee + self.session + self.relay
        return label + bytes((len(self.offered),)) + words


class NoisePipe(Pipe):
    """One end of a stream that is locked by Noise. `prove` first."""

    def __init__(self, pipe: Pipe, facts: LockFacts) -> None:
        self._pipe = pipe
        self._facts = facts
        self._held = b""
        self._ciphers: tuple[RecordCipher, RecordCipher] | None = None
        """Of what leaves, and of what comes."""
        self.ended_in_order = False
        self.changes: Callable[[bytes], bytes] = lambda data: data
        """What is done to what leaves."""

    async def prove(self) -> None:
        """Do the handshake, as R18.8 has it.

        Raises:
            Fault: it fails.
        """
        async with within("whole handshake of Noise"):
            await self.exchange()
            if self._facts.is_caller:
                await self.callee_proof()
                self.send(self.signature())
            else:
                self.send(self.signature())
                await self._check(_CALLER)

    async def exchange(self) -> None:
        """Do both messages of Noise: what is left are the signatures.

        Raises:
            Fault: they do not hold.
        """
        handshake = self._handshake = NoiseHandshake(self._facts.prologue)
        if self._facts.is_caller:
            self._pipe.send(HEAD + handshake.write_first())
            handshake.read_second(await self._headed(_KEY + _TAG))
            first, second = handshake.split()
            self._ciphers = first, second
        else:
            handshake.read_first(await self._headed(_KEY))
            self._pipe.send(HEAD + handshake.write_second())
            first, second = handshake.split()
            self._ciphers = second, first

    async def callee_proof(self) -> None:
        """Read the callee's signature, as the caller.

        Raises:
            Fault: it does not hold.
        """
        async with within("signature of the callee"):
            await self._check(_CALLEE)

    def signature(self, by: Identity | None = None) -> bytes:
        """Return this side's proof (R18.13); `by` signs another key, in place of its own."""
        role = _CALLER if self._facts.is_caller else _CALLEE
        return (by or self._facts.identity).sign(_CONTEXT, role, self._handshake.hash)

    async def receive(self) -> bytes:
        if self.ended_in_order:
            return b""
        plain = await self._record()
        if plain == b"":
            self.ended_in_order = True
        return plain or b""

    def send(self, data: bytes) -> None:
        pieces = [data[at : at + _MOST] for at in range(0, len(data), _MOST)]
        self._write(b"".join(map(self._sealed, pieces)))

    async def flush(self) -> None:
        await self._pipe.flush()

    def close(self) -> None:
        self._write(self._sealed(b""))

    def abort(self) -> None:
        self._pipe.abort()

    async def _check(self, role: bytes) -> None:
        proof, remote = await self._record() or b"", guid_of(self._facts.remote)
        if len(proof) != _SIGNATURE:
            raise Fault(f"a record of {len(proof)} bytes where a signature is to stand (R18.13)")
        try:
            verify(remote, proof, _CONTEXT, role, self._handshake.hash)
        except RoamRelayError as error:
            raise Fault(f"the signature of the lock does not hold: {error} (R18.13)") from None

    async def _record(self) -> bytes | None:
        """Return what the next record says; None at the end of the stream."""
        if not await self._holds(_LENGTH):
            return None
        size = int.from_bytes(self._held[:_LENGTH], "big")
        if not _TAG <= size <= _MOST + _TAG:
            raise Fault(f"a record of {size} bytes (R18.19)")
        if not await self._holds(_LENGTH + size):
            return None
        sealed = self._held[_LENGTH : _LENGTH + size]
        self._held = self._held[_LENGTH + size :]
        return self._both[1].decrypt(sealed)

    async def _headed(self, size: int) -> bytes:
        if not await self._holds(len(HEAD) + size):
            raise Fault("the stream ended in the handshake of Noise")
        head, message = self._held[: len(HEAD)], self._held[len(HEAD) : len(HEAD) + size]
        self._held = self._held[len(HEAD) + size :]
        if head != HEAD:
            raise Fault(f"begins with {head.hex()}, not with {HEAD.hex()} (R18.8)")
        return message

    async def _holds(self, size: int) -> bool:
        """Read until so many bytes are held; False where the stream ends before."""
        while len(self._held) < size:
            data = await self._pipe.receive()
            if not data:
                self.was_reset = self._pipe.was_reset
                return False
            self._held += data
        return True

    def _sealed(self, plain: bytes) -> bytes:
        sealed = self._both[0].encrypt(plain)
        return len(sealed).to_bytes(_LENGTH, "big") + sealed

    def _write(self, data: bytes) -> None:
        self._pipe.send(self.changes(data))

    @property
    def _both(self) -> tuple[RecordCipher, RecordCipher]:
        if self._ciphers is None:
            raise Fault("the lock of the kit is not open yet")
        return self._ciphers
