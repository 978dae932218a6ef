"""Plain questions, and their answers in wire form: what resolvers ask all day, without dnspython.

A question is plain where nothing but a name, a type and EDNS stand in its message; its answer is
one that dnspython has made before, under any spelling. All else, and what is malformed, is left to
those who say what is wrong with it. Pure: bytes in, bytes out.

Source: RFC 1035 §4.1; RFC 4343 for upper and lower case; RFC 6891 §6.1.
"""

import struct
from typing import NamedTuple

__all__ = ["Answer", "Plain", "answer_of", "read_plain", "spell"]

_HEADER = 12
_QUERY_FLAGS = 0x0130
"""What a query may say of itself: recursion is desired, and two words of DNSSEC. Only the first one
comes back."""
_RD, _ANSWER_FLAGS = 0x0100, 0x8400
_TRUNCATED = 0x0200
_OPT = b"\0\0\x29"
_OPT_SIZE = 11
_LONGEST = 512
"""Bytes of a question that is looked at here."""
_COUNTS = struct.Struct("!HHHH")
_HEAD = struct.Struct("!HH4H")


class Plain(NamedTuple):
    """A plain question."""

    name: bytes
    """As on the wire, in lower case."""
    kind: bytes
    """Type and class."""
    end: int
    """Where the question ends."""
    payload: int | None
    """Bytes of a datagram that its sender takes (EDNS); None: it does not say."""


class Answer(NamedTuple):
    """What follows the question in an answer, without EDNS. Names in it point into the question,
    which is as long in every spelling."""

    counts: tuple[int, int, int]
    rest: bytes


def read_plain(wire: bytes) -> Plain | None:
    """Return what a message asks; None where it is no plain question."""
    if not _HEADER + 5 <= len(wire) <= _LONGEST:
        return None
    _, flags, questions, answers, authorities, additional = _HEAD.unpack_from(wire)
    if flags & ~_QUERY_FLAGS or questions != 1 or answers or authorities or additional > 1:
        return None
    place, size = _HEADER, len(wire)
    while length := wire[place]:
        place += length + 1
        if length > 63 or place >= size:
            return None
    end = place + 5
    if place - _HEADER > 254 or end > size:
        return None
    payload = None
    if additional:
        # The root, OPT, what it takes, no extended code, version 0; its flags are nobody's here.
        if (
            size < end + _OPT_SIZE
            or wire[end : end + 3] != _OPT
            or wire[end + 5 : end + 7] != b"\0\0"
        ):
            return None
        if not _are_options(wire, end + _OPT_SIZE, int.from_bytes(wire[end + 9 : end + 11], "big")):
            return None
        payload = int.from_bytes(wire[end + 3 : end + 5], "big")
    elif size != end:
        return None
    return Plain(wire[_HEADER : place + 1].lower(), wire[place + 1 : end], end, payload)


def _are_options(wire: bytes, place: int, size: int) -> bool:
    """Whether a message ends with options of so many bytes."""
    if place + size != len(wire):
        return False
    while place + 4 <= len(wire):
        place += 4 + int.from_bytes(wire[place + 2 : place + 4], "big")
    return place == len(wire)


def answer_of(plain: Plain, response: bytes) -> Answer | None:
    """Take a response to a plain question apart; None where it is not whole."""
    _, flags, _, answers, authorities, additional = _HEAD.unpack_from(response)
    if flags & _TRUNCATED or flags & 0x0F or not answers:
        return None
    rest = response[plain.end :]
    if plain.payload is not None:
        if rest[-_OPT_SIZE : -_OPT_SIZE + 3] != _OPT or not additional:
            return None
        rest, additional = rest[:-_OPT_SIZE], additional - 1
    return Answer((answers, authorities, additional), rest)


def spell(wire: bytes, plain: Plain, answer: Answer, limit: int, takes: int) -> bytes | None:
    """Return the response to a plain question, in its own spelling; None where it has more than
    `limit` bytes. `takes` is what this side takes in a datagram."""
    answers, authorities, additional = answer.counts
    opt = b""
    if plain.payload is not None:
        additional += 1
        opt = _OPT + takes.to_bytes(2, "big") + bytes(6)
    if plain.end + len(answer.rest) + len(opt) > limit:
        return None
    flags = _ANSWER_FLAGS | ((wire[2] << 8) & _RD)
    head = wire[:2] + flags.to_bytes(2, "big") + _COUNTS.pack(1, answers, authorities, additional)
    return head + wire[_HEADER : plain.end] + answer.rest + opt
