"""The one message of the other side that has arrived in part."""

from protocol.errors import Code, ProtocolViolation
from protocol.session.settings import MAX_PAYLOAD

__all__ = ["Reassembly"]


class Reassembly:
    """Its parts. They are kept over paths."""

    __slots__ = ("_buffer", "_total", "size")

    def __init__(self) -> None:
        # Grown with what arrives, never to what is only declared; used again for the next message.
        self._buffer = bytearray()
        self._total = 0
        self.size = 0
        """Bytes that are here."""

    def fresh(self, offset: int, total: int, piece: bytes) -> int:
        """Return how many bytes of a part are new.

        Raises:
            ProtocolViolation: it is no part of the message: a gap, another length than before, or
                more than that, or more than a message may have.
        """
        known, end = self.size, offset + len(piece)
        if total > MAX_PAYLOAD:
            raise ProtocolViolation("a message above 1 MiB", code=Code.MESSAGE_TOO_LARGE)
        if not 0 <= offset < end <= total:
            raise ProtocolViolation("a part that is none")
        if offset > known or (known and total != self._total):
            raise ProtocolViolation(f"{known} bytes of a message are here, not {offset}")
        return end - known

    def add(self, count: int, total: int, piece: bytes) -> bytes | None:
        """Take the last `count` bytes of a part; return the message if that makes it whole."""
        known, buffer = self.size, self._buffer
        self.size = end = known + count
        self._total = total
        if end > len(buffer):
            buffer += bytes(min(max(2 * len(buffer), end), total) - len(buffer))
        buffer[known:end] = piece if count == len(piece) else piece[-count:]
        if end < total:
            return None
        self.size = 0
        return bytes(buffer) if len(buffer) == total else bytes(memoryview(buffer)[:total])

    def drop(self) -> None:
        """Forget what is here."""
        self.size = 0
        self._buffer = bytearray()
