"""What a caller sends right behind its hello, before the answer has come. PURE.

It is what would leave first on the new path in any case: `data` and `part` frames with the numbers
of the session, so that the other side sorts out what it has already. A path that is welcomed goes
on behind it; of one that is not, nothing counts as written.
"""

from dataclasses import dataclass

from protocol.session.pace import Position

__all__ = ["EARLY_BYTES", "NO_EARLY", "Early"]

EARLY_BYTES = 65_536
"""Bytes that may stand behind a hello that is not answered yet."""


@dataclass(frozen=True, slots=True)
class Early:
    """Frames, in their order."""

    frames: tuple[bytes, ...]
    ends: tuple[Position, ...]
    """Where each of them ends."""
    when: float
    """When they left."""


NO_EARLY = Early((), (), 0.0)
