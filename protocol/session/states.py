"""The states of a session and what moves it from one to the next: a table to check by eye.

Rule 1: every change of state is in `TRANSITIONS`; what is not in it is a violation.
Rule 2: an input that is repeated, as after a resume, changes nothing.
Rule 3: this file does not know which side of the session it is on.
"""

from enum import Enum

__all__ = ["ESTABLISHED", "TRANSITIONS", "WRITABLE", "Input", "State"]


class State(Enum):
    """What a session is."""

    OPEN = "open"
    """Both sides send and receive."""
    HALF_CLOSED_LOCAL = "half-closed (local)"
    """We have ended our direction; the other side goes on."""
    HALF_CLOSED_REMOTE = "half-closed (remote)"
    """The other side has ended its direction; we go on."""
    CLOSING = "closing"
    """We said that we close; the other side has not answered."""
    ANSWERING = "answering"
    """Both said so, and all of the other side's messages are here; ours may not be there."""
    ACKNOWLEDGED = "acknowledged"
    """All of ours arrived; the other side's close is still to come."""
    CLOSED = "closed"
    """Both sides agree that all has arrived."""
    LOST = "lost"
    """It has ended without that."""


class Input(Enum):
    """What moves a session from state to state."""

    FINISH_HERE = "finish here"
    FINISH_THERE = "finish there"
    CLOSE_HERE = "close here"
    CLOSE_THERE = "close there"
    CLOSED_THERE = "closed there"
    LOSE = "lose"


WRITABLE = frozenset({State.OPEN, State.HALF_CLOSED_REMOTE})
"""Where this side may send messages."""
ESTABLISHED = WRITABLE | {State.HALF_CLOSED_LOCAL}
"""Where nobody closes. Who leaves these says `close`."""

TRANSITIONS: dict[State, dict[Input, State]] = {
    State.OPEN: {
        Input.FINISH_HERE: State.HALF_CLOSED_LOCAL,
        Input.FINISH_THERE: State.HALF_CLOSED_REMOTE,
        Input.CLOSE_HERE: State.CLOSING,
        Input.CLOSE_THERE: State.ANSWERING,
        Input.LOSE: State.LOST,
    },
    State.HALF_CLOSED_LOCAL: {
        Input.FINISH_HERE: State.HALF_CLOSED_LOCAL,
        Input.FINISH_THERE: State.CLOSING,
        Input.CLOSE_HERE: State.CLOSING,
        Input.CLOSE_THERE: State.ANSWERING,
        Input.LOSE: State.LOST,
    },
    State.HALF_CLOSED_REMOTE: {
        Input.FINISH_HERE: State.CLOSING,
        Input.FINISH_THERE: State.HALF_CLOSED_REMOTE,
        Input.CLOSE_HERE: State.CLOSING,
        Input.CLOSE_THERE: State.ANSWERING,
        Input.LOSE: State.LOST,
    },
    State.CLOSING: {
        Input.FINISH_HERE: State.CLOSING,
        Input.FINISH_THERE: State.CLOSING,
        Input.CLOSE_HERE: State.CLOSING,
        Input.CLOSE_THERE: State.ANSWERING,
        Input.CLOSED_THERE: State.ACKNOWLEDGED,
        Input.LOSE: State.LOST,
    },
    State.ANSWERING: {
        Input.FINISH_HERE: State.ANSWERING,
        Input.FINISH_THERE: State.ANSWERING,
        Input.CLOSE_HERE: State.ANSWERING,
        Input.CLOSE_THERE: State.ANSWERING,
        Input.CLOSED_THERE: State.CLOSED,
        Input.LOSE: State.LOST,
    },
    State.ACKNOWLEDGED: {
        Input.FINISH_HERE: State.ACKNOWLEDGED,
        Input.FINISH_THERE: State.ACKNOWLEDGED,
        Input.CLOSE_HERE: State.ACKNOWLEDGED,
        Input.CLOSE_THERE: State.CLOSED,
        Input.CLOSED_THERE: State.ACKNOWLEDGED,
        Input.LOSE: State.LOST,
    },
    State.CLOSED: dict.fromkeys(Input, State.CLOSED),
    State.LOST: dict.fromkeys(Input, State.LOST),
}
