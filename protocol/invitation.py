"""Invitations: what an operator signs, the token that is handed on, and how a peer presents it.

A token holds a statement, which an operator has signed, and the private key of the invitation,
whose public half the statement names. Who presents it signs, with that key, for one relay, one
nonce and one peer: what is seen on the way, or by a relay, admits nobody else. The token itself
goes to nobody. No I/O and no clock; whether an invitation has expired is for who keeps count.
"""

import base64
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from msgspec import Meta

from protocol.errors import IdentityError, ProtocolViolation, RoamRelayError
from protocol.identity import Identity, guid_of, public_key_of, verify

__all__ = [
    "CONTEXT_INVITATION",
    "CONTEXT_PRESENTED",
    "MAX_NOTE",
    "MAX_PRESENTED",
    "BadInvitation",
    "Invitation",
    "Token",
    "opened",
    "read_statement",
]

CONTEXT_INVITATION = b"roam-relay/1 invitation\0"
"""What an operator signs."""
CONTEXT_PRESENTED = b"roam-relay/1 invitation presented\0"
"""What the key of the invitation signs."""
MAX_NOTE = 64
"""Characters of a note."""
MAX_PRESENTED = 1024
"""Bytes of what `register` carries."""

_PREFIX = "rr1-"
_SEED = 32
_SIGNATURE = 64
_CHECK = 4
_HINT = 8
"""Bytes of an operator's key by which it is found among those that a relay believes."""
_LONGEST_TOKEN = 2048
"""Characters, line ends of a mail included."""


class BadInvitation(RoamRelayError):
    """A token or what was made of it cannot be used. Says why."""


class Invitation(msgspec.Struct, frozen=True, array_like=True):
    """What an operator says of one invitation. It travels as a MessagePack array."""

    operator: Annotated[bytes, Meta(min_length=_HINT, max_length=_HINT)]
    """The first bytes of the operator's key."""
    key: Annotated[bytes, Meta(min_length=32, max_length=32)]
    """The public key of the invitation."""
    expires: Annotated[int, Meta(ge=0, le=2**53)]
    """Unix time after which nobody new is admitted by it."""
    uses: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    """Peers that may come by it; one that comes back is counted once."""
    lifetime: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """Seconds for which a peer is admitted from its first coming; 0: without end."""
    requests_per_second: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    """Service requests of each peer; 0: as the relay allows everybody."""
    modes: Annotated[tuple[Annotated[str, Meta(max_length=16)], ...], Meta(max_length=8)] = ()
    """Modes that they may ask for; empty: all."""
    note: Annotated[str, Meta(max_length=MAX_NOTE)] = ""
    """For the operator's eyes; whoever has the token can read it too."""

    @property
    def id(self) -> str:
        """Its name in lists and logs. It admits nobody."""
        return _sha256(self.key).hex()[:16]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Invitation).decode


class Token:
    """An invitation with the key that presents it: a secret. Its `repr` shows no more than its id.

    `text` is what is handed on.
    """

    def __init__(self, seed: bytes, signed: bytes) -> None:
        self._seed = seed
        self._signed = signed
        self.invitation = read_statement(signed[_SIGNATURE:])
        if Identity.from_seed(seed).public_key != self.invitation.key:
            raise BadInvitation("the invitation's key is not the one that it names")

    @classmethod
    def make(
        cls,
        operator: Identity,
        seed: bytes,
        *,
        expires: int,
        uses: int = 1,
        lifetime: int = 0,
        requests_per_second: float = 0.0,
        modes: tuple[str, ...] = (),
        note: str = "",
    ) -> "Token":
        """Make an invitation by an operator; `seed` are 32 fresh random bytes."""
        statement = _encode(
            Invitation(
                operator.public_key[:_HINT],
                Identity.from_seed(seed).public_key,
                expires,
                uses,
                lifetime,
                requests_per_second,
                modes,
                note,
            )
        )
        return cls(seed, operator.sign(CONTEXT_INVITATION, statement) + statement)

    @classmethod
    def parse(cls, text: str) -> "Token":
        """Read a token; white space and line ends, as a mail puts them in, do not matter.

        Raises:
            BadInvitation: it is none, or a part of one.
        """
        if len(text) > _LONGEST_TOKEN:
            raise BadInvitation("not an invitation: it is too long")
        text = "".join(text.split())
        if not text.startswith(_PREFIX):
            raise BadInvitation(f"not an invitation: one begins with {_PREFIX!r}")
        body = text.removeprefix(_PREFIX)
        try:
            data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise BadInvitation("the invitation has a character that belongs to none") from None
        data, check = data[:-_CHECK], data[-_CHECK:]
        if len(data) <= _SEED + _SIGNATURE or _checksum(data) != check:
            raise BadInvitation("the invitation is not whole: copy all of it")
        return cls(data[:_SEED], data[_SEED:])

    @property
    def statement(self) -> bytes:
        """What the operator says of it, and may be shown."""
        return self._signed[_SIGNATURE:]

    @property
    def text(self) -> str:
        """The whole token. It is a secret."""
        data = self._seed + self._signed
        body = base64.urlsafe_b64encode(data + _checksum(data)).decode().rstrip("=")
        return _PREFIX + body

    def present(self, relay: str, nonce: bytes, guid: str) -> bytes:
        """Return what admits `guid`, and nobody else, to `relay`, at the challenge with `nonce`."""
        proof = Identity.from_seed(self._seed).sign(
            CONTEXT_PRESENTED, public_key_of(relay), nonce, public_key_of(guid)
        )
        return proof + self._signed

    def __repr__(self) -> str:
        return f"<Token {self.invitation.id}>"


def opened(
    presented: bytes, operators: tuple[bytes, ...], relay_key: bytes, nonce: bytes, guid: str
) -> Invitation:
    """Check what a peer presents, and return the invitation. `operators` are the keys that the
    relay believes. At most two signatures are checked.

    Raises:
        BadInvitation: it is malformed, no operator has signed it, or it is presented by another.
    """
    proof, signed = presented[:_SIGNATURE], presented[_SIGNATURE:]
    signature, statement = signed[:_SIGNATURE], signed[_SIGNATURE:]
    if len(signature) < _SIGNATURE:
        raise BadInvitation("the invitation cannot be read")
    invitation = read_statement(statement)
    operator = next((key for key in operators if key[:_HINT] == invitation.operator), None)
    if operator is None:
        raise BadInvitation("the invitation is not from an operator of this relay")
    try:
        verify(guid_of(operator), signature, CONTEXT_INVITATION, statement)
    except ProtocolViolation:
        raise BadInvitation("the invitation is not signed by an operator of this relay") from None
    try:
        verify(
            guid_of(invitation.key), proof, CONTEXT_PRESENTED, relay_key, nonce, public_key_of(guid)
        )
    except (ProtocolViolation, IdentityError, ValueError):
        raise BadInvitation("the invitation was presented by another peer") from None
    return invitation


def read_statement(data: bytes) -> Invitation:
    """Read what an operator says of an invitation; who says it is not checked.

    Raises:
        BadInvitation: it is malformed.
    """
    try:
        return _decode(data)
    except (msgspec.DecodeError, ValueError):
        raise BadInvitation("the invitation cannot be read") from None


def _checksum(data: bytes) -> bytes:
    return _sha256(data)[:_CHECK]


def _sha256(data: bytes) -> bytes:
    digest = Hash(SHA256())
    digest.update(data)
    return digest.finalize()
