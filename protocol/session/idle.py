"""Frames that bring nothing: each costs as much as one that does, and no window holds them back."""

from protocol.errors import Code, ProtocolViolation

__all__ = ["SMALL_PART", "IdleFrames"]

_MOST = 1024
"""In what arrives at once. A side that keeps to the protocol sends one in a second or so."""
SMALL_PART = 1024
"""Bytes; a part below this that is not the last one counts as such a frame."""


class IdleFrames:
    """How many of them have arrived."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = 0

    def begin(self) -> None:
        """Bytes have arrived: count anew."""
        self._count = 0

    def note(self) -> None:
        """One is among them.

        Raises:
            ProtocolViolation: too many are.
        """
        self._count += 1
        if self._count > _MOST:
            raise ProtocolViolation("frames that bring nothing", code=Code.LIMIT_EXCEEDED)
