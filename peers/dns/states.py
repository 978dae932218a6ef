"""The states of a registration and what moves it from one to the next: a table to check by eye.

Rule 1: every change of state is in `TRANSITIONS`; what is not in it is a violation.
Rule 2: `superseded` and `gone` are for good: nothing leads out of them.
Rule 3: this file does not know what is sent in any state; registration.py beside it does.
"""

from enum import Enum

__all__ = ["TRANSITIONS", "Input", "State"]


class State(Enum):
    """What a registration is."""

    UNKNOWN = "unknown"
    """It has not begun."""
    LOOKING = "looking"
    """The server is asked what the zone holds."""
    UPDATING = "updating"
    """An update is under way: the zone may hold it or what it follows."""
    HELD = "held"
    """The zone holds what was said last."""
    FAILED = "failed"
    """The zone does not hold it, or nobody knows; it is tried again after a pause."""
    SUPERSEDED = "superseded"
    """Another instance has registered later: for good."""
    CHECKING = "checking"
    """To be taken back: the server is asked what the zone holds."""
    WITHDRAWING = "withdrawing"
    """The update that takes the records back is under way."""
    GONE = "gone"
    """Over: nothing is sent any more."""


class Input(Enum):
    """What moves a registration from state to state."""

    BEGIN = "begin"
    CHANGED = "changed"
    DUE = "due"
    FOUND = "found"
    OTHERS = "others"
    """Another instance's later record was found."""
    TAKEN = "taken"
    CONFLICT = "conflict"
    FAIL = "fail"
    WITHDRAW = "withdraw"
    END = "end"


TRANSITIONS: dict[State, dict[Input, State]] = {
    State.UNKNOWN: {
        Input.BEGIN: State.LOOKING,
        Input.CHANGED: State.UNKNOWN,
        Input.END: State.GONE,
    },
    State.LOOKING: {
        Input.CHANGED: State.LOOKING,
        Input.FOUND: State.UPDATING,
        Input.OTHERS: State.SUPERSEDED,
        Input.FAIL: State.FAILED,
        Input.WITHDRAW: State.CHECKING,
        Input.END: State.GONE,
    },
    State.UPDATING: {
        Input.CHANGED: State.LOOKING,
        Input.TAKEN: State.HELD,
        Input.CONFLICT: State.LOOKING,
        Input.FAIL: State.FAILED,
        Input.WITHDRAW: State.CHECKING,
        Input.END: State.GONE,
    },
    State.HELD: {
        Input.CHANGED: State.UPDATING,
        Input.DUE: State.UPDATING,
        Input.WITHDRAW: State.WITHDRAWING,
        Input.END: State.GONE,
    },
    State.FAILED: {
        Input.CHANGED: State.LOOKING,
        Input.DUE: State.LOOKING,
        Input.WITHDRAW: State.CHECKING,
        Input.END: State.GONE,
    },
    State.SUPERSEDED: {
        Input.CHANGED: State.SUPERSEDED,
        Input.WITHDRAW: State.SUPERSEDED,
        Input.END: State.SUPERSEDED,
    },
    State.CHECKING: {
        Input.CHANGED: State.CHECKING,
        Input.DUE: State.GONE,
        Input.FOUND: State.WITHDRAWING,
        Input.OTHERS: State.GONE,
        Input.FAIL: State.GONE,
        Input.WITHDRAW: State.CHECKING,
        Input.END: State.GONE,
    },
    State.WITHDRAWING: {
        Input.CHANGED: State.WITHDRAWING,
        Input.DUE: State.GONE,
        Input.TAKEN: State.GONE,
        Input.CONFLICT: State.GONE,
        Input.FAIL: State.GONE,
        Input.WITHDRAW: State.WITHDRAWING,
        Input.END: State.GONE,
    },
    State.GONE: {
        Input.BEGIN: State.GONE,
        Input.CHANGED: State.GONE,
        Input.WITHDRAW: State.GONE,
        Input.END: State.GONE,
    },
}
