"""The race among candidates, decided (design §6): what begins when, and which one is used.

Attempts begin one stagger apart, or as soon as one has failed (RFC 8305). The first to be proven is
used, unless another one is clearly better and proven within the patience. The machine is told what
happened and the time, in seconds of any clock that only grows, and says what is to be done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from peers.choice.candidate import MARGIN_SECONDS, MARGIN_SHARE, Candidate, clearly_better

__all__ = ["MAX_TRIED", "Discard", "End", "Race", "Start"]

_SPREAD = 0.004
"""Seconds between the starts of attempts whose round trips are compared: a handshake takes some
2 ms of computing, and one that waits for another's would look slower than it is."""
MAX_TRIED = 16
"""Candidates of one race."""


@dataclass(frozen=True, slots=True)
class Start:
    """Begin to prove the candidate with this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Discard:
    """The path to this candidate came too late: drop it."""

    number: int


@dataclass(frozen=True, slots=True)
class End:
    """The race is over: end the attempts that still run."""

    order: tuple[int, ...]
    """The candidates that were proven, the one to use first; empty where none was."""
    rule: str
    """Why the first is the first; empty where there is none."""


Action = Start | End


class _State(Enum):
    STARTING = "starting"
    """None is proven; candidates are begun one after the other."""
    WAITING = "waiting"
    """None is proven, and all have begun."""
    COMPARING = "comparing"
    """One is proven; those that may be better are begun, and have the patience."""
    OVER = "over"


class Race:
    """One race. Call `tick` to begin, at each `next_timeout`, and after all that has happened in
    one moment was told; each call returns what to do, in order. After `End` nothing is started any
    more, and what is proven is discarded."""

    def __init__(self, candidates: Sequence[Candidate], *, stagger: float, patience: float) -> None:
        self._candidates = tuple(candidates[:MAX_TRIED])
        self._stagger = stagger
        self._patience = patience
        self._state = _State.STARTING
        self._next = 0
        """The candidate that begins next."""
        self._next_start = float("-inf")
        self._last_start = 0.0
        self._end = 0.0
        """When the patience is over."""
        self._running: set[int] = set()
        self._proven: dict[int, float] = {}
        self._failed = 0

    def proven(self, number: int, round_trip: float, now: float) -> list[Discard]:
        """A candidate is proven: its handshake had this round trip. `tick` decides what follows, so
        that all that is proven in one moment is compared."""
        self._running.discard(number)
        if self._state is _State.OVER:
            return [Discard(number)]
        self._proven[number] = round_trip
        if self._state is not _State.COMPARING:
            self._state = _State.COMPARING
            self._last_start = self._next_start = now
            alone = len(self._candidates) == 1
            self._end = now if alone else now + self._patience
        return []

    def failed(self, number: int, now: float) -> None:
        """A candidate did not answer, or is somebody else. `tick` decides what follows."""
        self._running.discard(number)
        self._failed += 1
        if self._state is _State.STARTING:
            self._next_start = now

    def tick(self, now: float) -> list[Action]:
        """Begin, or go on: time has passed, or something has been told."""
        match self._state:
            case _State.STARTING if now >= self._next_start:
                return self._start_next(now)
            case _State.WAITING if not self._running:
                return self._over()
            case _State.COMPARING:
                return self._compare(now)
            case _:
                return []

    def next_timeout(self) -> float | None:
        """Return when `tick` is due; None where only an attempt can change anything."""
        match self._state:
            case _State.STARTING:
                return self._next_start
            case _State.COMPARING:
                return self._next_start if self._may_start() else self._last_moment()
            case _:
                return None

    # -- inside ---------------------------------------------------------------------------------

    def _start_next(self, now: float) -> list[Action]:
        if self._next < len(self._candidates):
            self._next_start = now + self._stagger
            return [self._start(now)]
        if self._running:
            self._state = _State.WAITING
            return []
        return self._over()

    def _start(self, now: float) -> Start:
        number = self._next
        self._next += 1
        self._running.add(number)
        self._last_start = now
        return Start(number)

    def _compare(self, now: float) -> list[Action]:
        """Let the others show that they are better, as long as they still can."""
        actions: list[Action] = []
        if now >= self._next_start and now < self._end and self._may_start():
            actions.append(self._start(now))
            self._next_start = now + _SPREAD
        if self._may_start() and now < self._end:
            return actions
        if self._running and now < self._last_moment():
            return actions
        return actions + self._over()

    def _may_start(self) -> bool:
        """Whether a candidate is left that can be better; those before it that cannot be are passed
        over for good."""
        if self._needed() <= 0:
            return False
        best = min(self._proven.values())
        while self._next < len(self._candidates):
            known = self._candidates[self._next].round_trip
            if known is None or clearly_better(known, best):
                return True
            self._next += 1
        return False

    def _needed(self) -> float:
        # What is clearly better has a round trip below this, and needs two: for TCP and for TLS.
        best = min(self._proven.values())
        return 2 * (best - max(MARGIN_SECONDS, MARGIN_SHARE * best))

    def _last_moment(self) -> float:
        return min(self._end, self._last_start + self._needed())

    def _over(self) -> list[Action]:
        self._state = _State.OVER
        return [self._decide()]

    def _decide(self) -> End:
        """Take the first in order, unless another is clearly better."""
        ordered = sorted(self._proven)
        if not ordered:
            return End((), "")
        trips = self._proven
        best = ordered[0]
        rule = "the only one that answered"
        if len(ordered) > 1:
            rule = "the first in order that answered"
        if self._patience:
            if len(self._candidates) > self._failed + 1:
                rule = "the least delay: no other showed itself clearly better in time"
            for other in ordered[1:]:
                if clearly_better(trips[other], trips[best]):
                    gain = (trips[best] - trips[other]) * 1e3
                    rule = f"better than {self._candidates[best].endpoint} by {gain:.1f} ms"
                    best = other
        rest = sorted((one for one in ordered if one != best), key=lambda one: trips[one])
        return End((best, *rest), rule)
