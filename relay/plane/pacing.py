"""Who moves bytes through planes waits here for its turn, where bytes a second have a limit.

Whose turn it is and how many bytes may move is decided in relay/limits/pace.py; here are the clock
and the timer.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from relay.limits import Cause, Pace, PaceRates
from relay.log import guarded
from relay.metrics import Metrics

__all__ = ["Paced", "Pacer", "Paces"]

_AT_ONCE = 32
"""Turns that are given in one turn of the loop: others have theirs between them."""


class Paced(Protocol):
    """What moves bytes one way."""

    def take_turn(self, granted: int) -> None:
        """It may move so many bytes now; it gives back what it does not."""


class Pacer:
    """The pacer of one relay. `clock` is any that only grows, in seconds."""

    def __init__(self, rates: PaceRates, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._pace: Pace[Paced] = Pace(rates)
        self._metrics = metrics
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        """When it does, by `clock`."""
        self.is_on = self._pace.is_on
        """Whether anybody has to ask: this is looked at with every piece that moves."""

    def allow(self, rates: PaceRates) -> None:
        """Other limits from now on, for who waits too."""
        self._pace.allow(rates, self._clock())
        self.is_on = self._pace.is_on
        self._set_timer()

    def ask(self, item: Paced, cause: Cause) -> int:
        """Return how many bytes may move now; 0 where `take_turn` is called later, unless it leaves
        before. Not while it waits already."""
        granted = self._pace.ask(item, cause, self._clock())
        if not granted:
            self._metrics.limited["bytes"] += 1
            self._set_timer()
        return granted

    def give_back(self, cause: Cause, size: int) -> None:
        """Some of what was given was not moved."""
        if size:
            self._pace.give_back(cause, size)

    def charge(self, cause: Cause, size: int) -> float:
        """Charge bytes of messages that have come; return for how many seconds no more are to be
        read."""
        wait = self._pace.charge(cause, size, self._clock())
        if wait:
            self._metrics.limited["bytes"] += 1
        return wait

    def leave(self, item: Paced) -> None:
        """It does not wait any more, if it did."""
        self._pace.leave(item)
        self._set_timer()

    async def pass_on(self, cause: Cause, size: int) -> None:
        """Wait until so many bytes may move. No timeout: how long that is, is the limit's to say;
        the bytes are held meanwhile, and no others are read."""
        turn = _Turn()
        try:
            while size > 0:
                granted = self.ask(turn, cause) or await turn.wait()
                self.give_back(cause, max(0, granted - size))
                size -= granted
        finally:
            turn.close(self, cause)

    def _set_timer(self) -> None:
        due = self._pace.next_timeout(self._clock())
        if self._timer is not None:
            if due is not None and self._due <= due:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            # A millisecond at least, as loops count them: no turn is so short.
            delay = max(0.001, due - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._give_turns)
            self._due = due

    def _give_turns(self) -> None:
        self._timer = None
        for _ in range(_AT_ONCE):
            found = self._pace.next(self._clock())
            if found is None:
                break
            item, granted = found
            with guarded("moving bytes through a plane"):
                item.take_turn(granted)
        self._set_timer()
        self.is_on = self._pace.is_on


@dataclass(frozen=True, slots=True)
class Paces:
    """Who sends on either leg of a plane, and where that waits."""

    pacer: Pacer
    causes: tuple[Cause, Cause]


class _Turn:
    """One piece that is copied and waits."""

    def __init__(self) -> None:
        self._granted: asyncio.Future[int] | None = None

    def take_turn(self, granted: int) -> None:
        if self._granted is not None and not self._granted.done():
            self._granted.set_result(granted)

    async def wait(self) -> int:
        self._granted = asyncio.get_running_loop().create_future()
        granted = await self._granted
        self._granted = None
        return granted

    def close(self, pacer: Pacer, cause: Cause) -> None:
        """It waits no more; what it was given and has not heard of goes back."""
        pacer.leave(self)
        if self._granted is not None and self._granted.done() and not self._granted.cancelled():
            pacer.give_back(cause, self._granted.result())
