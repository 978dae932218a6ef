"""One peer's registration in a zone: what to ask, what to update, when to try again or to stop.

    unknown -> looking -> updating -> held            and updating again at every change
                  ^           |
                  +- conflict-+       failed: a pause, then looking again
    superseded: another instance has registered later. withdrawing: the records are taken back.

Pure: events and times in, actions out. The table is in states.py, what is told in events.py; what
carries it out is in keeper.py. Source: RFC 2136; the draft §4.1.

Rule 1: one question or one update is under way at a time. What changes meanwhile gives it up, as it
    may come from an address that is gone; after an update without an answer nobody knows what the
    zone holds, and that is asked again.
Rule 2: an update is sent under a number above that of every update before it, and above that of
    the record that it follows.
Rule 3: another instance's record under a number above all that this one may have put into the zone
    is a later registration: this one is over, as soon as the server's own signature says that the
    record is there, and this peer's key has signed what it names. Any other is followed, and
    replaced.
    So is what stands in the way.
Rule 4: what this instance may have put into the zone is taken back, whatever stands there now, but
    for another instance's.
"""

from collections.abc import Callable
from dataclasses import replace

from peers.dns.events import (
    NOTHING,
    Action,
    Answered,
    Begin,
    Changed,
    Confirm,
    Conflict,
    End,
    Event,
    Failed,
    Followed,
    Found,
    GiveUp,
    Look,
    NotRegistered,
    Refused,
    Registered,
    Remove,
    Taken,
    Update,
    Withdraw,
)
from peers.dns.states import TRANSITIONS, Input, State
from peers.tasks import backoff
from protocol.dns_records import ZoneRecord
from protocol.errors import NameServerUnavailable, RoamRelayError, Superseded, UpdateRefused

__all__ = ["Registration"]

_WITHDRAWAL = 3.0
"""Seconds for the records to be taken back when the peer closes."""
_TRIES = 3
"""Updates in a row that may find another record in the zone than they follow."""
_BUSY = frozenset({State.LOOKING, State.UPDATING, State.CHECKING, State.WITHDRAWING})
"""Where something is under way."""
_INTERRUPTS = frozenset({Input.CHANGED, Input.DUE, Input.WITHDRAW, Input.END})
"""What gives up what is under way; every other input but `BEGIN` comes of its answer."""
_BEGINNINGS = frozenset({Input.BEGIN, Input.CHANGED, Input.DUE})
_OVER = frozenset({State.SUPERSEDED, State.GONE})
_SETTLED = _OVER | {State.HELD, State.FAILED}


class Registration:
    """The registration of one instance of a peer.

    Give `handle` what happens and `handle_timeout` the time, when `next_timeout` has come; do what
    they return, in order. `random` returns numbers from 0 to 1.
    """

    def __init__(self, instance: str, *, refresh: float, random: Callable[[], float]) -> None:
        self.instance = instance
        self.state = State.UNKNOWN
        self.failure: RoamRelayError | None = None
        """Why the zone does not hold what it should."""
        self._refresh = refresh
        self._random = random
        self._waits = backoff(random)
        self._due: float | None = None
        self._attempt = 0
        self._conflicts = 0
        self._followed = NOTHING
        """What the zone holds: known from an answer until the next update is sent."""
        self._sent = ZoneRecord(0, ())
        """The update that was sent last."""
        self._highest = 0
        """The highest number that the zone may hold of this instance; 0: it holds none."""
        self._highest_before = 0

    @property
    def is_settled(self) -> bool:
        """Whether what was said last is in the zone, or has failed to get there."""
        return self.state in _SETTLED

    @property
    def is_over(self) -> bool:
        """Whether nothing will be sent any more."""
        return self.state in _OVER

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` is to be called; None: not before something happens."""
        return self._due

    def handle_timeout(self, now: float) -> list[Action]:
        """Do what is due."""
        if self._due is None or now < self._due:
            return []
        return self._move(Input.DUE, now)

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take note of what has happened."""
        match event:
            case Answered() if event.attempt != self._attempt or self.state not in _BUSY:
                return []
            case Begin():
                return self._move(Input.BEGIN, now)
            case Changed():
                return self._move(Input.CHANGED, now)
            case Withdraw():
                # Where this instance has put nothing, there is nothing to take back.
                return self._move(Input.WITHDRAW if self._highest else Input.END, now)
            case End():
                return self._move(Input.END, now)
            case Found():
                return self._found(event, now)
            case Taken():
                return self._taken(now)
            case Conflict():
                return self._conflict(event.said, now)
            case Refused():
                self._highest = self._highest_before
                return self._fail(event.error, now)
            case Failed():
                return self._fail(event.error, now)

    def sending(self, attempt: int, record: ZoneRecord) -> bool:
        """Note that the update of an attempt is sent, as this record. False: it must not be, as
        something else was begun.

        Raises:
            ValueError: its number is not above those before it.
        """
        if attempt != self._attempt or self.state is not State.UPDATING:
            return False
        if record.seq <= self._above:
            raise ValueError(f"the record {record.seq} is not above {self._above}")
        self._sent = record
        # Until there is an answer, the zone may hold either.
        self._highest_before, self._highest = self._highest, record.seq
        return True

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _above(self) -> int:
        return max(self._sent.seq, self._followed.record.seq)

    def _found(self, found: Found, now: float) -> list[Action]:
        followed = self._followed = found.followed
        if not found.confirmed and (self._is_anothers(followed.record) or followed.obstacle):
            self._attempt += 1
            return [Confirm(self._attempt, self._highest)]
        if self._is_anothers(followed.record) and found.proven:
            error = Superseded("another instance with this key has registered")
            return self._fail(error, now, Input.OTHERS)
        if self.state is State.CHECKING:
            if not followed.text:
                # The record that names the others is not there; they may be.
                record = ZoneRecord(0, self._sent.services)
                self._followed = replace(followed, record=record)
        elif followed.obstacle:
            return self._fail(UpdateRefused(followed.obstacle), now)
        return self._move(Input.FOUND, now)

    def _is_anothers(self, record: ZoneRecord) -> bool:
        """Whether another instance has registered after this one."""
        return 0 < self._highest < record.seq and record.instance != self.instance

    def _taken(self, now: float) -> list[Action]:
        actions = self._move(Input.TAKEN, now)
        if self.state is State.HELD:
            self._followed = Followed.of(self._sent)
            self.failure = None
            self._waits = backoff(self._random)
            actions.append(Registered(self._sent))
        return actions

    def _conflict(self, said: str, now: float) -> list[Action]:
        self._highest = self._highest_before
        self._conflicts += 1
        if self._conflicts == _TRIES:
            return self._fail(NameServerUnavailable(f"{said} {_TRIES} times"), now)
        return self._move(Input.CONFLICT, now)

    def _fail(self, error: RoamRelayError, now: float, cause: Input = Input.FAIL) -> list[Action]:
        actions = self._move(cause, now)
        if self.state is not State.GONE:
            self.failure = error
            actions.append(NotRegistered(error))
        return actions

    def _move(self, cause: Input, now: float) -> list[Action]:
        before, self.state = self.state, TRANSITIONS[self.state][cause]
        if self.state is before and self.state is not State.LOOKING:
            return []
        if cause in _BEGINNINGS:
            self._conflicts = 0
        if self.state in _BUSY:
            self._attempt += 1
        self._due = self._next_due(before, now)
        actions: list[Action] = []
        if before in _BUSY and cause in _INTERRUPTS:
            actions.append(GiveUp())
        match self.state:
            case State.LOOKING | State.CHECKING:
                actions.append(Look(self._attempt))
            case State.UPDATING:
                actions.append(Update(self._attempt, self._followed, self._above))
            case State.WITHDRAWING:
                actions.append(Remove(self._attempt, self._followed))
            case _:
                pass  # Nothing is under way there.
        return actions

    def _next_due(self, before: State, now: float) -> float | None:
        match self.state:
            case State.HELD:
                return now + self._refresh
            case State.FAILED:
                return now + next(self._waits)
            case State.WITHDRAWING if before is State.CHECKING:
                return self._due
            case State.CHECKING | State.WITHDRAWING:
                return now + _WITHDRAWAL
            case _:
                return None
