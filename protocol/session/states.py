"""The states of a session and what moves it from one to the next: a table to check by eye.

Rule 1: every change of state is in `TRANSITIONS`; what is not in it is a violation.
Rule 2: an input that is repeated, as after a resume, changes nothing.
Rule 3: this file does not know which side of the session it is on.
"""

from enum import Enum

__all__ = ["TRANSITIONS", "Input", "State"]


class State(Enum):
    """What a session is."""

    OPEN = "open"
    CLOSING = "closing"
    """We said that we close; the other side has not answered."""
    ANSWERING = "answering"
    """Both said so, and all of the other side's messages are here; ours may not be there."""
    ACKNOWLEDGED = "acknowledged"
    """All of ours arrived; the other side's close is still to come."""
    CLOSED = "closed"
    LOST = "lost"


class Input(Enum):
    """What moves a session from state to state."""

    CLOSE_HERE = "close here"
    CLOSE_THERE = "close there"
    CLOSED_THERE = "closed there"
    LOSE = "lose"


TRANSITIONS: dict[State, dict[Input, State]] = {
    State.OPEN: {
        Input.CLOSE_HERE: State.CLOSING,
        Input.CLOSE_THERE: State.ANSWERING,
        Input.LOSE: State.LOST,
    },
    State.CLOSING: {
        Input.CLOSE_HERE: State.CLOSING,
        Input.CLOSE_THERE: State.ANSWERING,
        Input.CLOSED_THERE: State.ACKNOWLEDGED,
        Input.LOSE: State.LOST,
    },
    State.ANSWERING: {
        Input.CLOSE_HERE: State.ANSWERING,
        Input.CLOSE_THERE: State.ANSWERING,
        Input.CLOSED_THERE: State.CLOSED,
        Input.LOSE: State.LOST,
    },
    State.ACKNOWLEDGED: {
        Input.CLOSE_HERE: State.ACKNOWLEDGED,
        Input.CLOSE_THERE: State.CLOSED,
        Input.CLOSED_THERE: State.ACKNOWLEDGED,
        Input.LOSE: State.LOST,
    },
    State.CLOSED: dict.fromkeys(Input, State.CLOSED),
    State.LOST: dict.fromkeys(Input, State.LOST),
}
