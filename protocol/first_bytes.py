"""What the first bytes of a path's stream can be, each way: one registry. PURE.

TLS begins with its handshake record (RFC 8446 §5.1). What is ours begins with two bytes that no
record of TLS has, a version and a kind; it stands before TLS and in place of nothing.
"""

from enum import IntEnum

from protocol.errors import ProtocolViolation

__all__ = [
    "FIRST_BYTES_VERSION",
    "FLIGHT_HEAD",
    "MAGIC",
    "MAX_SEALED",
    "TLS_HANDSHAKE",
    "FirstBytes",
    "FirstKind",
    "flight_head",
]

TLS_HANDSHAKE = 0x16
MAGIC = b"\x52\x52"
FIRST_BYTES_VERSION = 0x01

MAX_SEALED = 16_384
"""Bytes that are sealed in one flight, its tag among them: so much may wait here of a stranger."""
_KEY_ID, _RANDOM, _LENGTH = 16, 32, 2
FLIGHT_HEAD = len(MAGIC) + 2 + _KEY_ID + _RANDOM + _LENGTH
"""Bytes before what is sealed: magic, version, kind, the key's id, what is random, the length."""


class FirstKind(IntEnum):
    """The byte behind the version."""

    SEALED_FLIGHT = 0x01
    NOISE = 0x02
    """Kept for a path that is locked by Noise; nobody sends it, and nobody takes it."""


def flight_head(key_id: bytes, random: bytes, size: int) -> bytes:
    """Return the head of a sealed flight whose sealed part has `size` bytes."""
    kind = bytes((FIRST_BYTES_VERSION, FirstKind.SEALED_FLIGHT))
    return MAGIC + kind + key_id + random + size.to_bytes(_LENGTH, "big")


class FirstBytes:
    """Takes what stands before TLS off a stream, in whatever pieces it comes."""

    def __init__(self) -> None:
        self._held = bytearray()
        self.flight: bytes | None = None
        """The sealed flight that stood there, head and all; None where none did, or not yet."""
        self.done = False
        """Whether all that follows is for TLS."""

    def receive(self, data: bytes) -> bytes:
        """Take bytes as they came; return those that are for TLS.

        Raises:
            ProtocolViolation: what is ours, and is not known here, or has no end.
        """
        if self.done:
            return data
        held = self._held
        held += data
        if not held:
            return b""
        if held[:1] != MAGIC[:1]:
            return self._over(0)
        prefix = MAGIC + bytes((FIRST_BYTES_VERSION, FirstKind.SEALED_FLIGHT))
        if not prefix.startswith(held[: len(prefix)]):
            raise ProtocolViolation("first bytes of a kind that is not known here")
        if len(held) < FLIGHT_HEAD:
            return b""
        size = int.from_bytes(held[FLIGHT_HEAD - _LENGTH : FLIGHT_HEAD], "big")
        if size > MAX_SEALED:
            raise ProtocolViolation(f"a flight of more than {MAX_SEALED} bytes")
        end = FLIGHT_HEAD + size
        if len(held) < end:
            return b""
        self.flight = bytes(held[:end])
        return self._over(end)

    def _over(self, end: int) -> bytes:
        rest = bytes(memoryview(self._held)[end:])
        self._held = bytearray()
        self.done = True
        return rest
