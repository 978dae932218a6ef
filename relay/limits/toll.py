"""What one connection pays for what it makes the relay do, in advance and a little more at a time
than the next step costs: asking for each by itself would cost as much as the step.
"""

from collections.abc import Callable

from relay.limits.causes import Cause

__all__ = ["Charge", "Toll"]

Charge = Callable[[Cause, float], float]
"""Charges a cause; returns 0, or the seconds to wait: then nothing was charged."""

_PURSE = 32.0
"""Units that are paid in advance: as much as a request, and a ticket that is checked, or a control
connection that begins. Who comes and goes at once has paid for little that he has not had."""


class Toll:
    """The toll of one connection."""

    __slots__ = ("_charge", "_purse", "cause")

    def __init__(self, charge: Charge, cause: Cause) -> None:
        self._charge = charge
        self._purse = 0.0
        self.cause = cause
        """Who pays: it may turn out to be somebody else, or to have a key."""

    def take(self, cost: float) -> float:
        """Pay for a step; return 0, or for how many seconds it has to wait: then nothing is
        paid."""
        left = self._purse - cost
        if left < 0:
            if wait := self._charge(self.cause, _PURSE - left):
                return wait
            left = _PURSE
        self._purse = left
        return 0.0

    def pass_on(self, cause: Cause, spent: float) -> float:
        """Somebody else turns out to be who pays, also for what was spent so far; return 0, or for
        how many seconds the next step has to wait, as he has nothing left. Who has paid so far gets
        it back."""
        paid, before = self._purse + spent, self.cause
        self.cause, self._purse = cause, 0.0
        wait = self._charge(cause, spent + _PURSE)
        if not wait:
            self._purse = _PURSE
        self._charge(before, -paid)
        return wait

    def give_back(self, cost: float) -> None:
        """A part of what was paid is charged elsewhere, or was no cost."""
        self._purse += cost
