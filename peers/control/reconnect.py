"""When one flow comes back: events and the time in, actions out. Nothing is done here.

Rule 1: what may follow what is in `TRANSITIONS`; an event that a state does not know is our own
mistake, and raises.
Rule 2: there is one attempt at a time.
Rule 3: a flow ends when it is told to, or on an error that is judged final
(`peers.control.refusal`); else it tries again within a bound.
Rule 4: whoever hurries still leaves the relay `SHORTEST_PAUSE` between two attempts.
Rule 5: who was told when to come back waits for that, however many wait for the relay; but a host
that has moved tries at once, as the refusal may have been of where it was.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias, assert_never

from peers.control.refusal import PASSES, Judgement
from peers.tasks import backoff
from protocol.errors import Code, RoamRelayError
from protocol.messages import Restarting

__all__ = [
    "RETURN_IDLE",
    "RETURN_URGENT",
    "SHORTEST_PAUSE",
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

RETURN_IDLE, RETURN_URGENT = 5.0, 1.5
"""Seconds within which a flow comes back, at random, after its relay has gone without a word: many
peers lose it in the same moment. It is urgent where somebody waits for the relay."""
SHORTEST_PAUSE = 0.05
"""Seconds that nobody cuts short."""
_FIRST_WAIT = 0.5
"""The bound in seconds of the first wait after an attempt that failed; the next ones grow."""
_SPREAD = 0.25
"""The part of a wait that the relay has asked for which is added at random."""


class State(Enum):
    """What a flow does."""

    IDLE = "idle"
    """It has not begun."""
    TRYING = "trying"
    """An attempt is under way."""
    REGISTERED = "registered"
    RESTING = "resting"
    """The part of a wait that who waits for the relay does not cut short."""
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
        Hurry: frozenset({State.TRYING}),
        Stop: frozenset({State.ENDED}),
    },
    State.REGISTERED: {
        ConnectionEnded: frozenset({State.TRYING, State.RESTING, State.ENDED}),
        Hurry: frozenset({State.REGISTERED}),
        Stop: frozenset({State.ENDED}),
    },
    State.RESTING: {
        TimePassed: frozenset({State.RESTING, State.WAITING, State.TRYING}),
        Hurry: frozenset({State.RESTING}),
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


class _Haste(Enum):
    """Why a wait is cut short."""

    NONE = "none"
    AWAITED = "awaited"
    """Somebody waits for the relay."""
    MOVED = "moved"
    """This host has, since the attempt began."""


class Reconnect:
    """The return of one flow. `random` gives numbers from 0 to 1."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._state = State.IDLE
        self._haste = _Haste.NONE
        self._was_late = False
        self._waits: Iterator[float] = iter(())
        self._failures = 0
        self._soonest = self._rested = self._due = 0.0
        """Of the wait of now: when a host that has moved tries, when whoever waits for the relay
        does, and when it is over."""

    @property
    def state(self) -> State:
        """What the flow does now."""
        return self._state

    def next_timeout(self) -> float | None:
        """Return when to say `TimePassed`; None while nothing depends on the time."""
        match self._state:
            case State.RESTING:
                return self._soonest if self._haste is _Haste.MOVED else self._rested
            case State.WAITING:
                return self._due
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
                return self._go(State.TRYING)
            case AttemptSucceeded():
                self._failures = 0
                self._was_late = False
                return self._go(State.REGISTERED)
            case AttemptFailed(error, judgement) | ConnectionEnded(error, judgement=judgement):
                if judgement.final:
                    return [*self._go(State.ENDED), Report(error, final=True)]
                wait = (
                    self._after_failure(error)
                    if isinstance(event, AttemptFailed)
                    else self._after_end(event)
                )
                told = judgement.retry_after or 0.0
                if isinstance(event, ConnectionEnded) and event.network_changed:
                    told = 0.0
                # Those who were told the same do not come back in one moment.
                told *= 1 + _SPREAD * self._random()
                return [Report(error, final=False), *self._pause(wait, told, now)]
            case Hurry(moved):
                if moved and self._state is not State.REGISTERED:
                    self._haste = _Haste.MOVED
                elif self._haste is _Haste.NONE:
                    self._haste = _Haste.AWAITED
                return self._try_again() if self._state is State.WAITING else []
            case Stop():
                held = self._state in (State.TRYING, State.REGISTERED)
                return [*self._go(State.ENDED), *([Release()] if held else [])]
            case TimePassed():
                return self._time_passed(now)
            case _:
                assert_never(event)

    def _after_failure(self, error: RoamRelayError) -> float:
        # Another flow was faster with a newer record: then this one's was only late, and the next
        # is not.
        self._was_late = error.code is Code.STALE_SEQUENCE and not self._was_late
        if self._was_late:
            return 0.0
        if not self._failures:
            self._waits = backoff(self._random, first=_FIRST_WAIT)
        self._failures += 1
        return next(self._waits)

    def _after_end(self, event: ConnectionEnded) -> float:
        if event.network_changed:
            return 0.0
        if event.restarting is not None:
            return event.restarting.delay + event.restarting.spread * self._random()
        return self._random() * (RETURN_URGENT if event.urgent else RETURN_IDLE)

    def _pause(self, wait: float, told: float, now: float) -> list[Action]:
        wait = max(wait, told)
        if not wait:
            return self._try_again()
        self._soonest = now + min(wait, SHORTEST_PAUSE)
        self._rested = max(self._soonest, now + told)
        self._due = now + wait
        return self._go(State.RESTING)

    def _time_passed(self, now: float) -> list[Action]:
        if now >= self._due:
            return self._try_again()
        if self._state is State.RESTING:
            hurries = self._haste is not _Haste.NONE
            if now >= self._rested:
                return self._try_again() if hurries else self._go(State.WAITING)
            if self._haste is _Haste.MOVED and now >= self._soonest:
                return self._try_again()
        return []

    def _try_again(self) -> list[Action]:
        self._haste = _Haste.NONE
        return self._go(State.TRYING)

    def _go(self, state: State) -> list[Action]:
        self._state = state
        return [Attempt()] if state is State.TRYING else []
