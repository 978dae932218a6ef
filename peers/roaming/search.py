"""When a session that has no path tries for one, what it gives up, and when it rests.

PURE: what happens and when goes in, what is to be done comes out.

Rule 1: everything that decides this is here. Rule 2: this file does not know how a path is made:
a *round* is one attempt at everything that the mode allows, and somebody else carries it out.

A session moves when its path is dead (docs/protocol.md §10). Who knows that it has moved itself
tries at once; else the session's caller does, and the other side one stagger later. A round whose
hello has left is never called off while the session lives: the other side may have accepted it, and
then its path is the newer one. One whose hello has not left for a while does not hold up what has
become possible since: the next one begins beside it. What was told and leads nowhere takes some
seconds to say so.
"""

from collections.abc import Callable, Iterator
from enum import Enum
from typing import TypeAlias

__all__ = ["Action", "Input", "Search", "State"]


class State(Enum):
    """Where the search for one session's path is."""

    RESTING = "resting"
    """The session has a path, or waits for the other side to bring the first one."""
    OPENING = "opening"
    """The first round of a session that this side opens: there will be no second one."""
    OPENING_ASKED = "opening, asked"
    """It is under way, and the other side may have heard its hello."""
    WAITING = "waiting"
    """It has none; the next round begins at a deadline."""
    TRYING = "trying"
    """A round is under way."""
    TRYING_HURRIED = "trying, hurried"
    """A round is under way, and another one follows at once, or begins beside it at a deadline."""
    ASKED = "asked"
    """A round is under way, and the other side may have heard its hello."""
    ASKED_HURRIED = "asked, hurried"
    """Likewise, and another one follows at once."""
    OVER = "over"


class Input(Enum):
    """What happens to the session."""

    OPEN = "open"
    """This side wants the session's first path."""
    LOST_HERE = "lost here"
    """It has no path, and this side knows why, or is its caller: it tries first."""
    LOST = "lost"
    """It has no path."""
    HURRY = "hurry"
    """Something may have become possible: the other side asks, a relay is there again."""
    MOVED = "moved"
    """This host's addresses have changed: what is tried began in another network."""
    HELLO = "hello"
    """The hello of the round under way has left."""
    FAILED = "failed"
    """The round under way has found nothing."""
    TAKEN = "taken"
    """The session has a path, dialed by whichever side."""
    ENDED = "ended"
    """The session is over."""
    TIME = "time"
    """A deadline may have come."""


class Action(Enum):
    """What is to be done about it."""

    TRY = "try"
    """Begin a round. One that is under way goes on, and counts no more unless it finds a path."""
    CALL_OFF = "call off"
    """Cancel the round under way, if there still is one."""
    GIVE_UP = "give up"
    """End the session: it could not be opened."""


_BESIDE = 4
"""Staggers for a round to say its hello, before one that is hurried begins beside it."""

_Step: TypeAlias = "Callable[[Search, float], tuple[Action, ...]]"


class Search:
    """The search of one session, from its first path to its end.

    Give it what happens by `handle`, do what that returns, and give it `TIME` when `next_timeout`
    has come. `stagger` is in seconds; `waits` begins a new series of growing pauses, in seconds.
    """

    __slots__ = ("_began", "_deadline", "_make_waits", "_stagger", "_waits", "state")

    def __init__(self, stagger: float, waits: Callable[[], Iterator[float]]) -> None:
        self._stagger = stagger
        self._make_waits = waits
        self._waits = _no_waits()
        self._deadline: float | None = None
        self._began = 0.0
        """When the round under way did."""
        self.state = State.RESTING

    @property
    def is_searching(self) -> bool:
        """Whether the session waits for a path."""
        return self.state not in (State.RESTING, State.OVER)

    def next_timeout(self) -> float | None:
        """Return when `TIME` is due; None where nothing waits for it."""
        return self._deadline

    def handle(self, what: Input, now: float) -> tuple[Action, ...]:
        """Take what has happened; return what is to be done, in order."""
        return _TABLE[self.state][what](self, now)

    # -- the steps ------------------------------------------------------------------------------

    def _nothing(self, now: float) -> tuple[Action, ...]:
        return ()

    def _open(self, now: float) -> tuple[Action, ...]:
        self.state = State.OPENING
        return (Action.TRY,)

    def _give_up(self, now: float) -> tuple[Action, ...]:
        self._over()
        return (Action.GIVE_UP,)

    def _begin_at_once(self, now: float) -> tuple[Action, ...]:
        self._waits = self._make_waits()
        return self._try(now)

    def _begin_later(self, now: float) -> tuple[Action, ...]:
        self._waits = self._make_waits()
        return self._wait(now + self._stagger)

    def _on_time(self, now: float) -> tuple[Action, ...]:
        if self._deadline is not None and now < self._deadline:
            return ()
        return self._try(now)

    def _try(self, now: float) -> tuple[Action, ...]:
        self._deadline = None
        self._began = now
        self.state = State.TRYING
        return (Action.TRY,)

    def _wait(self, deadline: float) -> tuple[Action, ...]:
        self._deadline = deadline
        self.state = State.WAITING
        return ()

    def _hurry(self, now: float) -> tuple[Action, ...]:
        self.state = State.ASKED_HURRIED
        return ()

    def _hurry_beside(self, now: float) -> tuple[Action, ...]:
        self.state = State.TRYING_HURRIED
        self._deadline = self._began + _BESIDE * self._stagger
        return self._on_time(now)

    def _anew(self, now: float) -> tuple[Action, ...]:
        return (Action.CALL_OFF, *self._begin_at_once(now))

    def _hello(self, now: float) -> tuple[Action, ...]:
        self._deadline = None
        self.state = _HEARD[self.state]
        return ()

    def _failed(self, now: float) -> tuple[Action, ...]:
        return self._wait(now + next(self._waits))

    def _rest(self, now: float) -> tuple[Action, ...]:
        self._deadline = None
        self.state = State.RESTING
        return ()

    def _rest_without(self, now: float) -> tuple[Action, ...]:
        return (Action.CALL_OFF, *self._rest(now))

    def _end(self, now: float) -> tuple[Action, ...]:
        self._rest(now)
        self._over()
        return ()

    def _end_without(self, now: float) -> tuple[Action, ...]:
        return (Action.CALL_OFF, *self._end(now))

    def _over(self) -> None:
        self.state = State.OVER
        # They are its owner's, which goes now and not with the next collection.
        self._make_waits = _no_waits
        self._waits = _no_waits()


def _no_waits() -> Iterator[float]:
    return iter(())


_HEARD = {
    State.OPENING: State.OPENING_ASKED,
    State.TRYING: State.ASKED,
    State.TRYING_HURRIED: State.ASKED_HURRIED,
}
"""What a state becomes when its round's hello leaves."""

_TABLE: dict[State, dict[Input, _Step]] = {
    State.RESTING: {
        Input.OPEN: Search._open,
        Input.LOST_HERE: Search._begin_at_once,
        Input.LOST: Search._begin_later,
        Input.HURRY: Search._nothing,
        Input.MOVED: Search._nothing,
        # A round that went on after the other side's path was taken may still end.
        Input.HELLO: Search._nothing,
        Input.FAILED: Search._nothing,
        Input.TAKEN: Search._nothing,
        Input.ENDED: Search._end,
        Input.TIME: Search._nothing,
    },
    State.OPENING: {
        Input.OPEN: Search._nothing,
        Input.LOST_HERE: Search._nothing,
        Input.LOST: Search._nothing,
        Input.HURRY: Search._nothing,
        Input.MOVED: Search._nothing,
        Input.HELLO: Search._hello,
        Input.FAILED: Search._give_up,
        Input.TAKEN: Search._rest_without,
        Input.ENDED: Search._end_without,
        Input.TIME: Search._nothing,
    },
    State.OPENING_ASKED: {
        Input.OPEN: Search._nothing,
        Input.LOST_HERE: Search._nothing,
        Input.LOST: Search._nothing,
        Input.HURRY: Search._nothing,
        Input.MOVED: Search._nothing,
        Input.HELLO: Search._nothing,
        Input.FAILED: Search._give_up,
        Input.TAKEN: Search._rest,
        Input.ENDED: Search._end_without,
        Input.TIME: Search._nothing,
    },
    State.WAITING: {
        Input.OPEN: Search._nothing,
        Input.LOST_HERE: Search._begin_at_once,
        Input.LOST: Search._nothing,
        Input.HURRY: Search._begin_at_once,
        Input.MOVED: Search._begin_at_once,
        Input.HELLO: Search._nothing,
        Input.FAILED: Search._nothing,
        Input.TAKEN: Search._rest,
        Input.ENDED: Search._end,
        Input.TIME: Search._on_time,
    },
    State.TRYING: {
        Input.OPEN: Search._nothing,
        Input.LOST_HERE: Search._nothing,
        Input.LOST: Search._nothing,
        Input.HURRY: Search._hurry_beside,
        Input.MOVED: Search._anew,
        Input.HELLO: Search._hello,
        Input.FAILED: Search._failed,
        Input.TAKEN: Search._rest_without,
        Input.ENDED: Search._end_without,
        Input.TIME: Search._nothing,
    },
    State.ASKED: {
        Input.OPEN: Search._nothing,
        Input.LOST_HERE: Search._nothing,
        Input.LOST: Search._nothing,
        Input.HURRY: Search._hurry,
        Input.MOVED: Search._hurry,
        Input.HELLO: Search._nothing,
        Input.FAILED: Search._failed,
        Input.TAKEN: Search._rest,
        Input.ENDED: Search._end_without,
        Input.TIME: Search._nothing,
    },
    State.TRYING_HURRIED: {
        Input.OPEN: Search._nothing,
        Input.LOST_HERE: Search._nothing,
        Input.LOST: Search._nothing,
        Input.HURRY: Search._nothing,
        Input.MOVED: Search._anew,
        Input.HELLO: Search._hello,
        Input.FAILED: Search._begin_at_once,
        Input.TAKEN: Search._rest_without,
        Input.ENDED: Search._end_without,
        Input.TIME: Search._on_time,
    },
    State.ASKED_HURRIED: {
        Input.OPEN: Search._nothing,
        Input.LOST_HERE: Search._nothing,
        Input.LOST: Search._nothing,
        Input.HURRY: Search._nothing,
        Input.MOVED: Search._nothing,
        Input.HELLO: Search._nothing,
        Input.FAILED: Search._begin_at_once,
        Input.TAKEN: Search._rest,
        Input.ENDED: Search._end_without,
        Input.TIME: Search._nothing,
    },
    State.OVER: dict.fromkeys(Input, Search._nothing),
}
