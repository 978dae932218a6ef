"""When one flow comes back: events and the time in, actions out. Nothing is done here.

Rule 1: what may follow what is in `TRANSITIONS`; an event that a state does not know is our own
mistake, and raises.
Rule 2: there is one attempt at a time.
Rule 3: a flow ends when it is told to, or on an error that is judged final
(`peers.control.refusal`); else it tries again within a bound.
Rule 4: whoever hurries still leaves the relay `SHORTEST_PAUSE` between two attempts; and one that
sends a flow away again and again soon after it has come, whatever it says, more and more, up to
`RETURN_URGENT` while somebody waits for it.
Rule 5: a hurry counts for one wait, and not for one that begins long after: when a relay restarts,
its peers come back spread.
Rule 6: who was told when to come back waits for that, however many wait for the relay; but a host
that has moved tries at once, as the refusal may have been of where it was.
Rule 7: while somebody waits for the relay, as a session without a path does, no pause but one that
was told grows beyond `RETURN_URGENT`, whatever has failed before.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias, assert_never

from peers.control.refusal import PASSES, Judgement
from peers.tasks import LONGEST_WITHOUT_PATH, backoff
from protocol.errors import Code, RoamRelayError
from protocol.messages import Restarting

__all__ = [
    "HURRY_HOLDS",
    "RETURN_IDLE",
    "RETURN_URGENT",
    "SHORTEST_PAUSE",
    "SOON",
    "TRANSITIONS",
    "Action",
    "Attempt",
    "AttemptFailed",
    "AttemptSucceeded",
    "Begin",
    "ConnectionEnded",
    "Event",
    "Hurry",
    "Reconnect",
    "Release",
    "Report",
    "State",
    "Stop",
    "TimePassed",
]

RETURN_IDLE, RETURN_URGENT = 5.0, LONGEST_WITHOUT_PATH
"""Seconds within which a flow comes back, at random, after its relay has gone without a word: many
peers lose it in the same moment. It is urgent where somebody waits for the relay: then this bounds
every pause that was not told, too."""
SHORTEST_PAUSE = 0.05
"""Seconds that nobody cuts short."""
HURRY_HOLDS = 3.0
"""Seconds for which a hurry counts while the flow is registered: as long as a flow may be checked
after the network has changed, and a little."""
SOON = 5.0
"""Seconds for which a connection lasts at least that was no waste."""
_LONGEST_REST = 15.0
"""Seconds between two attempts that a relay can bring a flow to at most, but for a little at
random."""
_LONGEST_RESTART = 600.0
"""Seconds for which a relay that goes down can send a flow away at most, and the random part too:
as long as any relay that has proven itself can."""
_SPREAD = 0.25
"""The part of a wait that the relay has asked for which is added at random."""
_FIRST_WAIT = 0.5
"""The bound in seconds of the first wait after an attempt that failed; the next ones grow."""


class State(Enum):
    """What a flow does."""

    IDLE = "idle"
    """It has not begun."""
    TRYING = "trying"
    """An attempt is under way."""
    TRYING_HURRIED = "trying, hurried"
    """Should it fail, the next one is in a hurry."""
    TRYING_MOVED = "trying, moved"
    """The host has moved since it began: should it fail, the next one comes whatever was told."""
    REGISTERED = "registered"
    REGISTERED_HURRIED = "registered, hurried"
    """Should it end soon, the next attempt is in a hurry."""
    RESTING = "resting"
    """The part of a wait that only a move cuts short: the shortest one, and what was told."""
    RESTING_HURRIED = "resting, hurried"
    """The next attempt comes behind it."""
    RESTING_MOVED = "resting, moved"
    """The next attempt comes behind the shortest pause."""
    WAITING = "waiting"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Begin:
    """The flow shall be there from now on."""


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """The attempt that was under way has failed."""

    error: RoamRelayError
    judgement: Judgement = PASSES
    urgent: bool = False
    """Whether somebody waits for the relay."""


@dataclass(frozen=True, slots=True)
class AttemptSucceeded:
    """The flow is registered."""


@dataclass(frozen=True, slots=True)
class ConnectionEnded:
    """The registered connection is over."""

    error: RoamRelayError
    restarting: Restarting | None = None
    """What the relay said before, where it goes down."""
    network_changed: bool = False
    """Whether it was dropped here, as it led nowhere any more."""
    urgent: bool = False
    """Whether somebody waits for the relay."""
    forgotten: bool = False
    """Whether the way may be lost, and not the relay, or there is another node of it: few others
    come in this moment to where this flow does, if any."""
    judgement: Judgement = PASSES


@dataclass(frozen=True, slots=True)
class Hurry:
    """Cut the wait short: this one, or else the next one."""

    moved: bool = False
    """Whether this host has: then a wait that the relay has asked for is cut short too."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Do not come back."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The time that `next_timeout` has named may have come."""


Event: TypeAlias = (
    Begin | AttemptFailed | AttemptSucceeded | ConnectionEnded | Hurry | Stop | TimePassed
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Try to register."""


@dataclass(frozen=True, slots=True)
class Release:
    """Cancel the attempt that is under way, or close the connection."""


@dataclass(frozen=True, slots=True)
class Report:
    """Say that the flow is not registered."""

    error: RoamRelayError
    final: bool
    """Whether it will not come back."""


Action: TypeAlias = Attempt | Release | Report

TRANSITIONS: dict[State, dict[type[Event], frozenset[State]]] = {
    State.IDLE: {
        Begin: frozenset({State.TRYING}),
        Hurry: frozenset({State.IDLE}),
        Stop: frozenset({State.ENDED}),
    },
    State.TRYING: {
        AttemptSucceeded: frozenset({State.REGISTERED}),
        AttemptFailed: frozenset({State.TRYING, State.RESTING, State.ENDED}),
        Hurry: frozenset({State.TRYING_HURRIED, State.TRYING_MOVED}),
        Stop: frozenset({State.ENDED}),
    },
    State.TRYING_HURRIED: {
        AttemptSucceeded: frozenset({State.REGISTERED_HURRIED}),
        AttemptFailed: frozenset({State.TRYING, State.RESTING_HURRIED, State.ENDED}),
        Hurry: frozenset({State.TRYING_HURRIED, State.TRYING_MOVED}),
        Stop: frozenset({State.ENDED}),
    },
    State.TRYING_MOVED: {
        AttemptSucceeded: frozenset({State.REGISTERED_HURRIED}),
        AttemptFailed: frozenset({State.TRYING, State.RESTING_MOVED, State.ENDED}),
        Hurry: frozenset({State.TRYING_MOVED}),
        Stop: frozenset({State.ENDED}),
    },
    State.REGISTERED: {
        ConnectionEnded: frozenset({State.TRYING, State.RESTING, State.ENDED}),
        Hurry: frozenset({State.REGISTERED_HURRIED}),
        Stop: frozenset({State.ENDED}),
    },
    State.REGISTERED_HURRIED: {
        ConnectionEnded: frozenset(
            {State.TRYING, State.RESTING, State.RESTING_HURRIED, State.ENDED}
        ),
        TimePassed: frozenset({State.REGISTERED, State.REGISTERED_HURRIED}),
        Hurry: frozenset({State.REGISTERED_HURRIED}),
        Stop: frozenset({State.ENDED}),
    },
    State.RESTING: {
        TimePassed: frozenset({State.RESTING, State.WAITING, State.TRYING}),
        Hurry: frozenset({State.RESTING_HURRIED, State.RESTING_MOVED}),
        Stop: frozenset({State.ENDED}),
    },
    State.RESTING_HURRIED: {
        TimePassed: frozenset({State.RESTING_HURRIED, State.TRYING}),
        Hurry: frozenset({State.RESTING_HURRIED, State.RESTING_MOVED}),
        Stop: frozenset({State.ENDED}),
    },
    State.RESTING_MOVED: {
        TimePassed: frozenset({State.RESTING_MOVED, State.TRYING}),
        Hurry: frozenset({State.RESTING_MOVED}),
        Stop: frozenset({State.ENDED}),
    },
    State.WAITING: {
        TimePassed: frozenset({State.WAITING, State.TRYING}),
        Hurry: frozenset({State.TRYING}),
        Stop: frozenset({State.ENDED}),
    },
    State.ENDED: {
        Hurry: frozenset({State.ENDED}),
        Stop: frozenset({State.ENDED}),
    },
}
"""Which states may follow one, by event. Begin: the first attempt comes at once."""


class _Failures:
    """What has failed since the flow was registered last."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._waits: Iterator[float] = backoff(random, first=_FIRST_WAIT)
        self._stale = 0
        """Attempts running that came behind a newer record."""

    def wait_after(self, error: RoamRelayError) -> float:
        """Return how many seconds to wait after one more."""
        # Another flow was faster with a newer record: then this one's was only late, and the next
        # is not. Should it be late again, it waits as for everything else.
        self._stale = self._stale + 1 if error.code is Code.STALE_SEQUENCE else 0
        return 0.0 if self._stale % 2 else next(self._waits)


class Reconnect:
    """The return of one flow. `random` gives numbers from 0 to 1."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._state = State.IDLE
        self._failures = _Failures(random)
        self._soonest = self._rested = self._due = 0.0
        """Of the wait of now: when a host that has moved tries, when whoever waits for the relay
        does, and when it is over."""
        self._since = 0.0
        """When the flow was registered last."""
        self._soon = 0
        """How many times running its connection has ended soon."""
        self._hurry_ends = 0.0
        """When a hurry counts no more, while the flow is registered."""

    @property
    def state(self) -> State:
        """What the flow does now."""
        return self._state

    @property
    def is_trying(self) -> bool:
        """Whether an attempt is under way."""
        return self._state in (State.TRYING, State.TRYING_HURRIED, State.TRYING_MOVED)

    @property
    def is_registered(self) -> bool:
        """Whether there is a connection whose end was not told yet."""
        return self._state in (State.REGISTERED, State.REGISTERED_HURRIED)

    def next_timeout(self) -> float | None:
        """Return when to say `TimePassed`; None while nothing depends on the time."""
        match self._state:
            case State.RESTING | State.RESTING_HURRIED:
                return self._rested
            case State.RESTING_MOVED:
                return self._soonest
            case State.WAITING:
                return self._due
            case State.REGISTERED_HURRIED:
                return self._hurry_ends
            case _:
                return None

    def receive(self, event: Event, now: float) -> list[Action]:
        """Take an event and return what is to be done, in this order.

        Raises:
            RuntimeError: nobody may say this in the state of now.
        """
        if type(event) not in TRANSITIONS[self._state]:
            raise RuntimeError(f"{event} while {self._state.value}")
        match event:
            case Begin():
                return self._try()
            case AttemptSucceeded():
                return self._succeeded(now)
            case AttemptFailed(error, judgement) | ConnectionEnded(error, judgement=judgement):
                if judgement.final:
                    self._state = State.ENDED
                    return [Report(error, final=True)]
                return [Report(error, final=False), *self._rest(event, now)]
            case Hurry(moved):
                return self._hurry(moved, now)
            case Stop():
                held = self.is_trying or self.is_registered
                self._state = State.ENDED
                return [Release()] if held else []
            case TimePassed():
                return self._time_passed(now)
            case _:
                assert_never(event)

    def _succeeded(self, now: float) -> list[Action]:
        self._failures = _Failures(self._random)
        self._since = now
        if self._state in (State.TRYING_HURRIED, State.TRYING_MOVED):
            self._hurry_ends = now + HURRY_HOLDS
            self._state = State.REGISTERED_HURRIED
        else:
            self._state = State.REGISTERED
        return []

    def _rest(self, event: AttemptFailed | ConnectionEnded, now: float) -> list[Action]:
        """Pause after what has happened, at random: those to whom it has happened in one moment do
        not come back in one."""
        told = event.judgement.retry_after or 0.0
        if isinstance(event, AttemptFailed):
            wait, least = self._failures.wait_after(event.error), 0.0
            if event.urgent:
                wait = min(wait, self._urgent_bound())
        else:
            wait, least = self._after_end(event), self._least_pause(event, now)
            told = 0.0 if event.network_changed else told
        told *= 1 + _SPREAD * self._random()
        hurried = min(least, self._urgent_bound())
        least = hurried if event.urgent else least
        return self._pause(max(wait, least), told, hurried, now)

    def _urgent_bound(self) -> float:
        return RETURN_URGENT * (0.5 + 0.5 * self._random())

    def _after_end(self, event: ConnectionEnded) -> float:
        if event.network_changed or event.error.code is Code.HEARTBEAT_TIMEOUT:
            # The way was lost, and not the relay: nobody else has lost it in this moment.
            return 0.0
        if event.restarting is not None:
            delay = min(event.restarting.delay, _LONGEST_RESTART)
            return delay + min(event.restarting.spread, _LONGEST_RESTART) * self._random()
        soon = event.urgent or event.forgotten
        return self._random() * (RETURN_URGENT if soon else RETURN_IDLE)

    def _least_pause(self, event: ConnectionEnded, now: float) -> float:
        """Return for how many seconds a flow does not come back after its connection has ended,
        whatever the relay has said: more each time that it ends soon."""
        if event.network_changed:
            return 0.0
        self._soon = self._soon + 1 if now - self._since < SOON else 0
        if self._soon < 2:
            return 0.0 if event.error.code is Code.HEARTBEAT_TIMEOUT else SHORTEST_PAUSE
        bound = min(_FIRST_WAIT * 2.0 ** min(self._soon - 2, 10), _LONGEST_REST)
        return bound * (1 + _SPREAD * self._random())

    def _pause(self, wait: float, told: float, least: float, now: float) -> list[Action]:
        wait = max(wait, told)
        if not wait:
            return self._try()
        self._soonest = now + max(min(wait, SHORTEST_PAUSE), least)
        self._rested = max(self._soonest, now + told)
        self._due = now + wait
        match self._state:
            case State.TRYING_MOVED:
                self._state = State.RESTING_MOVED
            case State.TRYING_HURRIED:
                self._state = State.RESTING_HURRIED
            case State.REGISTERED_HURRIED if now < self._hurry_ends:
                self._state = State.RESTING_HURRIED
            case _:
                self._state = State.RESTING
        return []

    def _hurry(self, moved: bool, now: float) -> list[Action]:
        match self._state:
            case State.WAITING:
                return self._try()
            case State.TRYING | State.TRYING_HURRIED if moved:
                self._state = State.TRYING_MOVED
            case State.RESTING | State.RESTING_HURRIED if moved:
                self._state = State.RESTING_MOVED
            case State.TRYING:
                self._state = State.TRYING_HURRIED
            case State.REGISTERED | State.REGISTERED_HURRIED:
                self._hurry_ends = now + HURRY_HOLDS
                self._state = State.REGISTERED_HURRIED
            case State.RESTING:
                self._state = State.RESTING_HURRIED
            case _:
                pass  # It is in a hurry, or there is nothing to hurry.
        return []

    def _time_passed(self, now: float) -> list[Action]:
        match self._state:
            case State.RESTING_HURRIED if now >= self._rested:
                return self._try()
            case State.RESTING_MOVED if now >= self._soonest:
                return self._try()
            case State.RESTING | State.WAITING if now >= self._due:
                return self._try()
            case State.RESTING if now >= self._rested:
                self._state = State.WAITING
            case State.REGISTERED_HURRIED if now >= self._hurry_ends:
                self._state = State.REGISTERED
            case _:
                pass  # It has not come.
        return []

    def _try(self) -> list[Action]:
        self._state = State.TRYING
        return [Attempt()]
