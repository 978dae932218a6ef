"""DNS messages as nobody's library would make them."""

import struct
from collections.abc import Sequence

__all__ = ["DEEP", "POINTER", "message", "record"]

DEEP = b"\x01a" * 126 + b"\0"
"""The name with the most labels that there can be."""
POINTER = b"\xc0\x0c"
"""A name that is the first question's."""


def record(kind: int, data: bytes, name: bytes = POINTER, category: int = 1, ttl: int = 0) -> bytes:
    """Return one record."""
    return name + struct.pack("!HHIH", kind, category, ttl, len(data)) + data


def message(
    sections: Sequence[Sequence[bytes]],
    *,
    question: bytes = DEEP,
    kind: int = 16,
    opcode: int = 0,
    flags: int = 0,
    number: int = 7,
) -> bytes:
    """Return a message with one question and these records in the sections behind it."""
    counts = [len(section) for section in sections]
    head = struct.pack("!6H", number, opcode << 11 | flags, 1, *counts)
    records = b"".join(one for section in sections for one in section)
    return head + question + struct.pack("!HH", kind, 1) + records
