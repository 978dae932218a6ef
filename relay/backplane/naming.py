"""What a node says of the zone that it serves; what an update has registered there; and the zone's
serial number, which is the same at all nodes. PURE but for the clock that it is given.

Rule: each change raises the number at the node where it happens, every node says its number with
each beat, and the highest counts. So it is alike a second after the last change, and never lower
than it was. It is at most so far ahead of the clock as it begins ahead of it: a relay that is
started anew begins above all that it has said before, as long as its clock does not go back.
"""

from collections.abc import Callable
from dataclasses import dataclass

from relay.backplane.messages import Claim

__all__ = ["AHEAD", "Naming", "ZoneUpdate"]

AHEAD = 60
"""Seconds that the serial number begins ahead of the clock, and stays ahead of it at most: of more
changes than seconds, some have one number."""
_DAY = 86_400
"""A number that is so much further ahead is of a node whose clock is wrong: nobody follows it."""


@dataclass(frozen=True, slots=True)
class ZoneUpdate:
    """What is registered for a peer now."""

    guid: str
    records: bytes
    """Empty: nothing."""
    mac: bytes = b""
    """Of the signature of the update that has said so; empty where none has."""
    serial: int = 0
    """Of the zone then; 0: it is to be raised."""
    is_own: bool = True
    """Whether it was made by this node."""


class Naming:
    """Of one node. `zone` is the name of the zone that it serves; empty: it serves none."""

    def __init__(self, zone: str, clock: Callable[[], float]) -> None:
        self.zone = zone
        self._clock = clock
        self.serial = int(clock()) + AHEAD

    def changed(self) -> None:
        """Something in the zone is another one now."""
        if not self.zone:
            return
        now = int(self._clock())
        self.serial = max(self.serial, min(self.serial + 1, now + AHEAD), now)

    def claimed(self, before: Claim | None, after: Claim | None) -> None:
        """A peer here was claimed so, and is so now."""
        if _shown(before) != _shown(after):
            self.changed()

    def heard(self, zone: str, serial: int) -> None:
        """Another node says the number of the zone that it serves."""
        if zone == self.zone and self.serial < serial < self._clock() + AHEAD + _DAY:
            self.serial = serial


def _shown(claim: Claim | None) -> tuple[int, bytes, bytes] | None:
    """Return what of a claim is in the zone."""
    if claim is None or not claim.named:
        return None
    return claim.seq, claim.instance, claim.named
