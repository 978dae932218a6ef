"""When a session that has a path looks for a better one, and which one is better.

PURE: what happens and when goes in, what is to be done comes out.

In `auto`, and in `combined` that has fallen back, from the relay to a direct path: at once, every
minute, and whenever something changes.
Between direct paths only the session's caller looks, in rounds of a few probes, and the session
moves when another candidate was clearly better in five rounds running, so that delays that jitter
move nothing. After as many rounds without a message in between, the next ones become rarer, until
there is one. A session that is pinned is left where it is.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum

from peers.choice import Candidate, clearly_better
from peers.config import PathKind
from peers.session import Terms
from protocol.endpoint import Endpoint
from protocol.messages import Mode

__all__ = ["ROUNDS", "Monitor", "MonitorAction", "MonitorState", "Pace", "Seen"]

_DIRECT_INTERVAL = 60.0
"""Seconds between attempts to move an `auto` session from the relay to a direct path."""
ROUNDS = 5
"""Rounds in all of which a candidate must be clearly better before the session moves."""
_RAREST = 16
"""Intervals between two rounds of probes of a session that carries nothing, at most."""
_CALLEE_LATER = 4
"""Staggers by which the callee of a relayed session looks later than its caller."""
_TOLD_PAUSE = 1.0
"""Seconds from one look to the next that the other side's word brings about: it may name new
addresses a thousand times a second, and each look checks their signatures."""


class MonitorState(Enum):
    """Where the search for a better path is."""

    OFF = "off"
    """Nothing better is wanted."""
    WAITING = "waiting"
    """The next look is at a deadline."""
    LOOKING = "looking"
    """A look is under way."""
    LOOKING_HURRIED = "looking, hurried"
    """A look is under way, and another one follows at once."""
    LOOKING_TOLD = "looking, told"
    """A look is under way, and another one follows after a pause: the other side has moved."""


class MonitorAction(Enum):
    """How to look."""

    GO_DIRECT = "go direct"
    """Try for a direct path, and take it."""
    PROBE = "probe"
    """Measure the other candidates once, and move where one has been better for long enough."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to look, in seconds."""

    stagger: float
    probe_interval: float
    """Between two rounds of probes; 0 does not probe."""


class Monitor:
    """The search for better paths of one session.

    `now` is any clock that only grows, in seconds. Give it the time when `next_timeout` has come,
    and `looked` when what it asked for is done.
    """

    __slots__ = (
        "_began",
        "_carried",
        "_deadline",
        "_kind",
        "_pace",
        "_pinned",
        "_quiet",
        "_rests_until",
        "_terms",
        "state",
    )

    def __init__(self, terms: Terms, pace: Pace) -> None:
        self._terms = terms
        self._pace = pace
        self._kind: PathKind | None = None
        self._pinned = False
        self._deadline = 0.0
        self._began = -_TOLD_PAUSE
        """When the last look began."""
        self._carried = -1
        """Messages that the session had carried when the last round of probes began."""
        self._quiet = 0
        """Rounds of probes since it has carried any."""
        self._rests_until = 0.0
        """No round before that, where it has carried nothing meanwhile."""
        self.state = MonitorState.OFF

    def next_timeout(self) -> float | None:
        """Return when to call `time`; None where nothing waits for it."""
        return self._deadline if self.state is MonitorState.WAITING else None

    def path_taken(self, kind: PathKind, now: float) -> None:
        """The session is on a path of this kind from now on."""
        self._kind = kind
        wish = self._wish
        match self.state:
            case MonitorState.LOOKING | MonitorState.LOOKING_TOLD if (
                wish is MonitorAction.GO_DIRECT
            ):
                self.state = MonitorState.LOOKING_HURRIED
            case MonitorState.WAITING if wish is MonitorAction.GO_DIRECT:
                self._wait(now)
            case MonitorState.OFF if wish is not None:
                later = 0 if self._terms.is_caller else _CALLEE_LATER * self._pace.stagger
                direct = wish is MonitorAction.GO_DIRECT
                self._wait(now + (later if direct else self._pace.probe_interval))
            case _:
                pass

    def path_lost(self) -> None:
        """The session has no path: the next one is looked at anew."""
        self._kind = None

    def pin(self, pinned: bool, now: float) -> None:
        """Leave the session where it is, or look again."""
        self._pinned = pinned
        if pinned and self.state is MonitorState.WAITING:
            self.state = MonitorState.OFF
        elif not pinned and self._kind is not None:
            self.path_taken(self._kind, now)

    def hurry(self, now: float) -> None:
        """Something has changed here: look now."""
        self._quiet, self._rests_until = 0, 0.0
        match self.state:
            case MonitorState.WAITING:
                self._deadline = now
            case MonitorState.LOOKING | MonitorState.LOOKING_TOLD:
                self.state = MonitorState.LOOKING_HURRIED
            case _:
                pass

    def told(self, now: float) -> None:
        """The other side says that it is elsewhere: look now, or a pause after the last look."""
        self._quiet, self._rests_until = 0, 0.0
        match self.state:
            case MonitorState.WAITING:
                self._deadline = min(self._deadline, max(now, self._began + _TOLD_PAUSE))
            case MonitorState.LOOKING:
                self.state = MonitorState.LOOKING_TOLD
            case _:
                pass

    def time(self, now: float, carried: int = 0) -> MonitorAction | None:
        """A deadline may have come, and the session has carried so many messages, both ways: return
        how to look, if it is time to."""
        if self.state is not MonitorState.WAITING or now < self._deadline:
            return None
        wish = self._wish
        if wish is MonitorAction.PROBE:
            if carried == self._carried and now < self._rests_until:
                # Asked as often as ever: what carries something is measured again at once.
                self._wait(now + self._pace.probe_interval)
                return None
            self._quiet = self._quiet + 1 if carried == self._carried else 0
            self._carried = carried
            intervals = min(2 ** max(self._quiet - ROUNDS, 0), _RAREST)
            self._rests_until = now + intervals * self._pace.probe_interval
        self.state = MonitorState.OFF if wish is None else MonitorState.LOOKING
        self._began = now
        return wish

    def looked(self, now: float) -> None:
        """The look that was asked for is over, whatever came of it."""
        match self.state, self._wish:
            case ((MonitorState.OFF | MonitorState.WAITING), _):
                pass  # No look was under way.
            case _, None:
                self.state = MonitorState.OFF
            case MonitorState.LOOKING_HURRIED, _:
                self._wait(now)
            case MonitorState.LOOKING_TOLD, _:
                self._wait(max(now, self._began + _TOLD_PAUSE))
            case MonitorState.LOOKING, MonitorAction.GO_DIRECT:
                self._wait(now + _DIRECT_INTERVAL)
            case MonitorState.LOOKING, MonitorAction.PROBE:
                self._wait(now + self._pace.probe_interval)

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _wish(self) -> MonitorAction | None:
        terms = self._terms
        if self._pinned or not terms.discloses:
            return None
        if self._kind is PathKind.RELAYED:
            # In `combined` that is a session which found nothing direct, and may again.
            wants_direct = terms.mode in (Mode.AUTO, Mode.COMBINED)
            return MonitorAction.GO_DIRECT if wants_direct else None
        probes = terms.is_caller and terms.select == "fastest" and self._pace.probe_interval > 0
        return MonitorAction.PROBE if self._kind is PathKind.DIRECT and probes else None

    def _wait(self, deadline: float) -> None:
        self._deadline = deadline
        self.state = MonitorState.WAITING


class Seen:
    """The last round trips of a path and of what could take its place.

    A candidate is better when the worst of its last rounds is clearly better than the best of the
    path's: delays that jitter overlap.
    """

    __slots__ = ("_path", "_trips")

    def __init__(self) -> None:
        self._path: Hashable = None
        self._trips: dict[tuple[Endpoint, str | None] | None, deque[float]] = {}

    def clear(self) -> None:
        """Forget all: it is not comparable any more."""
        self._trips.clear()

    def on(self, path: Hashable) -> None:
        """The rounds that follow are compared with this path."""
        if path is not self._path:
            self._path = path
            self.clear()

    def note(self, candidate: Candidate | None, seconds: float | None) -> None:
        """Note one round trip, or that there was no answer; no candidate is the path itself."""
        key = None if candidate is None else (candidate.endpoint, candidate.source)
        if seconds is None:
            self._trips.pop(key, None)
        else:
            self._trips.setdefault(key, deque(maxlen=ROUNDS)).append(seconds)

    def better(self) -> Candidate | None:
        """Return the best of the candidates that were clearly better for long enough."""
        here = self._trips.get(None, ())
        if len(here) < ROUNDS:
            return None
        found = {
            key: max(trips)
            for key, trips in self._trips.items()
            if key is not None and len(trips) == ROUNDS and clearly_better(max(trips), min(here))
        }
        best = min(found, key=lambda key: found[key], default=None)
        return None if best is None else Candidate(*best)
