"""When a session looks for a second path that stands ready beside its own.

PURE: what happens and when goes in, what is to be done comes out.

A session that has just got a path waits a moment, as many are short. A look that found nothing to
dial waits for a change; one that failed is repeated, each time later. The session's caller looks
first: the callee finds one there, or looks where the caller could not.
"""

from enum import Enum

__all__ = ["Keeper", "KeeperState", "Looked"]

_SOON = 1.0
"""Seconds from a path to the first look for a second one, and from one that is gone to the next."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 600.0
"""Seconds to the next look where one has failed, twice as long after each: a new address often has
its route a moment later."""
_STOOD = 60.0
"""Seconds after which a second path that is gone was a good one: else the next waits longer."""
_BETWEEN = 0.25
"""Seconds between two looks that changes of this host's own bring about: a network comes with an
address, and then with another one."""
_TOLD_PAUSE = 1.0
"""The same where the other side says that it is elsewhere, however often: each look checks
signatures, and dials."""
_CALLEE_LATER = 4
"""Staggers by which the session's callee looks later than its caller."""


class KeeperState(Enum):
    """Where the search for a second path is."""

    OFF = "off"
    """None is wanted: the session has no path, or one that is not direct, or is over."""
    WAITING = "waiting"
    """The next look is at a deadline."""
    LOOKING = "looking"
    """A look is under way."""
    LOOKING_HURRIED = "looking, hurried"
    """A look is under way, and another one follows."""
    LOOKING_TOLD = "looking, told"
    """A look is under way, and another one follows after a pause: the other side has moved."""
    RESTING = "resting"
    """One stands ready, or there is nothing to dial: a change is waited for."""


class Looked(Enum):
    """What a look has brought."""

    STANDS = "stands"
    """A second path stands ready."""
    NOTHING = "nothing"
    """There is nothing to dial."""
    FAILED = "failed"


class Keeper:
    """The search for second paths of one session.

    `now` is any clock that only grows, in seconds; `stagger` is in seconds. Call `time` when
    `next_timeout` has come, begin a look where it says so, and tell by `looked` what came of it.
    """

    __slots__ = ("_began", "_deadline", "_failures", "_later", "_stands_since", "state")

    def __init__(self, *, is_caller: bool, stagger: float) -> None:
        self._later = 0.0 if is_caller else _CALLEE_LATER * stagger
        self._deadline = 0.0
        self._began = float("-inf")
        """When the last look began."""
        self._stands_since: float | None = None
        self._failures = 0
        self.state = KeeperState.OFF

    def next_timeout(self) -> float | None:
        """Return when to call `time`; None where nothing waits for it."""
        return self._deadline if self.state is KeeperState.WAITING else None

    def wanted(self, now: float) -> None:
        """The session has a path beside which a second one may stand."""
        match self.state:
            case KeeperState.OFF | KeeperState.RESTING:
                self._wait(now + _SOON)
            case KeeperState.LOOKING | KeeperState.LOOKING_TOLD:
                self.state = KeeperState.LOOKING_HURRIED
            case KeeperState.WAITING | KeeperState.LOOKING_HURRIED:
                pass

    def unwanted(self) -> None:
        """None is wanted any more. A look that is under way is over."""
        self.state = KeeperState.OFF
        self._stands_since = None

    def changed(self, now: float) -> None:
        """Something is different here: there may be something to dial."""
        match self.state:
            case KeeperState.RESTING | KeeperState.WAITING:
                self._look_by(max(now + self._later, self._began + _BETWEEN))
            case KeeperState.LOOKING | KeeperState.LOOKING_TOLD:
                self.state = KeeperState.LOOKING_HURRIED
            case KeeperState.OFF | KeeperState.LOOKING_HURRIED:
                pass

    def told(self, now: float) -> None:
        """The other side says that it is elsewhere: there may be something to dial."""
        match self.state:
            case KeeperState.RESTING | KeeperState.WAITING:
                self._look_by(max(now + self._later, self._began + _TOLD_PAUSE))
            case KeeperState.LOOKING:
                self.state = KeeperState.LOOKING_TOLD
            case KeeperState.OFF | KeeperState.LOOKING_HURRIED | KeeperState.LOOKING_TOLD:
                pass

    def gone(self, now: float) -> None:
        """No path stands ready any more: it has died, or the session goes on over it."""
        since, self._stands_since = self._stands_since, None
        if since is not None and now >= since + _STOOD:
            self._failures = 0
        match self.state:
            case KeeperState.RESTING:
                self._wait(now + _SOON * 2 ** min(self._failures, 10))
                self._failures += 1
            case _:
                pass  # The next look sees it.

    def time(self, now: float) -> bool:
        """A deadline may have come; return whether to look."""
        if self.state is not KeeperState.WAITING or now < self._deadline:
            return False
        self.state = KeeperState.LOOKING
        self._began = now
        return True

    def looked(self, result: Looked, now: float) -> None:
        """The look that was asked for is over."""
        was = self.state
        if was in (KeeperState.OFF, KeeperState.WAITING, KeeperState.RESTING):
            return
        self.state = KeeperState.RESTING
        if result is Looked.STANDS and self._stands_since is None:
            self._stands_since = now
        elif result is Looked.FAILED:
            pause = min(_FIRST_PAUSE * 2 ** min(self._failures, 12), _LONGEST_PAUSE)
            self._failures += 1
            self._wait(now + pause)
        if was is KeeperState.LOOKING_HURRIED:
            self.changed(now)
        elif was is KeeperState.LOOKING_TOLD:
            self.told(now)

    def _look_by(self, due: float) -> None:
        waits = self.state is KeeperState.WAITING
        self._deadline = min(self._deadline, due) if waits else due
        self._failures = 0
        self.state = KeeperState.WAITING

    def _wait(self, deadline: float) -> None:
        self._deadline = deadline + self._later
        self.state = KeeperState.WAITING
