"""Offers: what the two sides of a session tell one another with a request and its answer.

The relay passes an offer on unread, so each is signed by the side that makes it, for the one other
side and the one session; that of an answer also for the very offer that it answers. What the body
says is for those who have made a feature of it; here it is bytes. A relay can leave an offer out,
and show that of a request again to the same side for the same session: what lives in it bears both.
"""

from collections.abc import Mapping

import msgspec
from cryptography.hazmat.primitives import hashes

from protocol.errors import ProtocolViolation
from protocol.identity import Identity, public_key_of, verify

__all__ = [
    "CONTEXT_OFFER",
    "CONTEXT_OFFER_ANSWER",
    "MAX_BODY",
    "MAX_OFFER",
    "answer_offer",
    "body_of",
    "body_with",
    "make_offer",
    "open_answer",
    "open_offer",
]

CONTEXT_OFFER = b"roam-relay/1 offer\0"
"""What a request's is signed under: both keys, the session, the body."""
CONTEXT_OFFER_ANSWER = b"roam-relay/1 offer answer\0"
"""What an answer's is signed under: as before, with the hash of the request's before the body."""

_SIGNATURE = 64
MAX_OFFER = 2048
"""Bytes of an offer on the wire: a post-quantum key and some words."""
MAX_BODY = MAX_OFFER - _SIGNATURE

_encode = msgspec.msgpack.Encoder().encode


def body_with(parts: Mapping[str, object]) -> bytes:
    """Return the body that says these parts, each a feature's own under its key."""
    return _encode(parts)


def make_offer(identity: Identity, remote: str, session: bytes, body: bytes) -> bytes:
    """Return the offer that goes with a request to `remote`, for one session.

    Raises:
        ValueError: the body is longer than `MAX_BODY`.
        IdentityError: `remote` is no GUID.
    """
    return _sealed(identity, body, CONTEXT_OFFER, public_key_of(remote), session)


def open_offer(offer: bytes, maker: str, here: str, session: bytes) -> bytes:
    """Return the body of a request's offer, which `maker` has made for `here` and the session.

    Raises:
        ProtocolViolation: it is no offer, or was made by another, for another, or elsewhere.
        IdentityError: one of the two is no GUID.
    """
    return _opened(offer, maker, CONTEXT_OFFER, public_key_of(here), session)


def answer_offer(
    identity: Identity, remote: str, session: bytes, asked: bytes, body: bytes
) -> bytes:
    """Return the offer that goes with the answer to a request whose offer was `asked`.

    Raises:
        ValueError: the body is longer than `MAX_BODY`.
        IdentityError: `remote` is no GUID.
    """
    key = public_key_of(remote)
    return _sealed(identity, body, CONTEXT_OFFER_ANSWER, key, session, _hash(asked))


def open_answer(offer: bytes, maker: str, here: str, session: bytes, asked: bytes) -> bytes:
    """Return the body of an answer's offer, made for the offer `asked` of a request from `here`.

    Raises:
        ProtocolViolation: it is no offer, was made by another or for another, or answers another.
        IdentityError: one of the two is no GUID.
    """
    key = public_key_of(here)
    return _opened(offer, maker, CONTEXT_OFFER_ANSWER, key, session, _hash(asked))


def body_of(offer: bytes) -> bytes:
    """Return the body of an offer of which nothing is proven; empty where there is none."""
    return offer[_SIGNATURE:MAX_OFFER]


def _sealed(identity: Identity, body: bytes, context: bytes, *parts: bytes) -> bytes:
    if len(body) > MAX_BODY:
        raise ValueError(f"an offer of more than {MAX_BODY} bytes")
    return identity.sign(context, identity.public_key, *parts, body) + body


def _opened(offer: bytes, maker: str, context: bytes, *parts: bytes) -> bytes:
    if not _SIGNATURE <= len(offer) <= MAX_OFFER:
        raise ProtocolViolation("an offer that is too short or too long")
    signature, body = offer[:_SIGNATURE], offer[_SIGNATURE:]
    verify(maker, signature, context, public_key_of(maker), *parts, body)
    return body


def _hash(offer: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(offer)
    return digest.finalize()
