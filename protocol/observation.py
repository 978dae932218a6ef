"""The question at a relay's second port, and its answer: where is this connection seen?

Both have 32 bytes, so that nobody gets more than was sent. The answer is covered by the question's
random bytes: some routers rewrite addresses that they find in what passes (RFC 8489 §14.2).
"""

import ipaddress

from protocol.endpoint import Endpoint
from protocol.errors import ProtocolViolation

__all__ = ["SIZE", "answer_to", "question", "read_answer"]

_WORD = b"roam-relay/1"
_RANDOM = 20
SIZE = len(_WORD) + _RANDOM
"""Bytes of a question, and of its answer."""


def question(random: bytes) -> bytes:
    """Return a question with 20 random bytes."""
    if len(random) != _RANDOM:
        raise ValueError(f"{_RANDOM} random bytes are needed")
    return _WORD + random


def answer_to(asked: bytes, host: str, port: int) -> bytes | None:
    """Return the answer to who is seen at an address and a port; None where it is no question."""
    if len(asked) != SIZE or not asked.startswith(_WORD):
        return None
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        address = ipaddress.IPv6Address(f"::ffff:{address}")
    told = address.packed + port.to_bytes(2, "big") + bytes(2)
    return _WORD + _covered(told, asked)


def read_answer(asked: bytes, answer: bytes) -> Endpoint:
    """Return where a connection is seen, by what answers its question.

    Raises:
        ProtocolViolation: it is no answer to that.
    """
    told = _covered(answer[len(_WORD) :], asked)
    if len(answer) != SIZE or not answer.startswith(_WORD) or told[18:] != bytes(2):
        raise ProtocolViolation("not an answer to where this is seen")
    return Endpoint.parse(str(ipaddress.IPv6Address(told[:16])), int.from_bytes(told[16:18], "big"))


def _covered(told: bytes, asked: bytes) -> bytes:
    random = asked[len(_WORD) :]
    return bytes(one ^ other for one, other in zip(told, random, strict=False))
