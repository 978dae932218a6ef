"""When a session on a path by the relay goes over to the network that the routes lead to now.

PURE: what happens and when goes in, what is to be done comes out.

A host that comes to a second network keeps the first one for a moment, and a path by the relay has
no second one beside it: so it is replaced while it still works. A new address often has its route a
moment later, so the routes are looked at a few times after each change.
"""

from enum import Enum

__all__ = ["Follower", "FollowerState"]

_LOOKS = (0.0, 0.05, 0.2, 0.5, 1.0, 3.0)
"""Seconds after a change at which the routes are looked at."""
_BETWEEN = 1.0
"""Seconds between two tries, whatever changes: each costs the relay a plane."""
_LONGEST_PAUSE = 60.0
"""Seconds between two tries that have failed, at most: the first pause is `_BETWEEN`, and each is
twice as long as the one before."""


class FollowerState(Enum):
    """Where it is."""

    OFF = "off"
    """The session's path is none by the relay, or is to stay where it is."""
    RESTING = "resting"
    """The path is where the routes lead, as far as is known: a change is waited for."""
    WATCHING = "watching"
    """Something has changed: the routes are looked at, at a deadline."""
    MOVING = "moving"
    """Another path is being made."""


class Follower:
    """One session's path by the relay, and where the routes lead.

    `now` is any clock that only grows, in seconds. Call `time` when `next_timeout` has come, make
    another path where it says so, and tell by `moved` what came of it.
    """

    def __init__(self) -> None:
        self._changed = 0.0
        """When the last change was."""
        self._look = len(_LOOKS)
        """Which look at the routes is next; none is left where all were taken."""
        self._not_before = float("-inf")
        """No path is made before that."""
        self._failures = 0
        self.state = FollowerState.OFF

    def next_timeout(self) -> float | None:
        """Return when to call `time`; None where nothing waits for it."""
        if self.state is not FollowerState.WATCHING:
            return None
        due = self._changed + _LOOKS[self._look] if self._look < len(_LOOKS) else self._not_before
        return max(due, self._not_before)

    def wanted(self) -> None:
        """The session is on a path by the relay."""
        if self.state is FollowerState.OFF:
            self.state = FollowerState.RESTING

    def unwanted(self) -> None:
        """It is on none, or is to stay where it is. A path that is being made is not needed."""
        self.state = FollowerState.OFF

    def changed(self, now: float) -> None:
        """This host's addresses are others."""
        self._changed, self._look, self._failures = now, 0, 0
        if self.state is FollowerState.RESTING:
            self.state = FollowerState.WATCHING

    def time(self, now: float, *, strays: bool) -> bool:
        """A deadline may have come, and the path `strays` where the routes lead to another network
        than its own; return whether to make another path."""
        due = self.next_timeout()
        if due is None or now < due:
            return False
        if strays:
            self.state = FollowerState.MOVING
            return True
        while self._look < len(_LOOKS) and self._changed + _LOOKS[self._look] <= now:
            self._look += 1
        if self._look == len(_LOOKS):
            self.state = FollowerState.RESTING
        return False

    def moved(self, now: float, *, failed: bool) -> None:
        """The path that was asked for is there, or could not be made."""
        if self.state is not FollowerState.MOVING:
            return
        pause = _BETWEEN * 2 ** min(self._failures, 10) if failed else _BETWEEN
        self._failures = self._failures + 1 if failed else 0
        self._not_before = now + min(pause, _LONGEST_PAUSE)
        self.state = FollowerState.WATCHING
