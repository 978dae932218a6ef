"""Every state and every input: the table is written out a second time, the other way round."""

from itertools import product

import pytest

from protocol.session.states import TRANSITIONS, Input, State

EXPECTED = """
              finish-here   finish-there  close-here    close-there   closed-there  lose
open          local         remote        closing       answering     -             lost
local         local         closing       closing       answering     -             lost
remote        closing       remote        closing       answering     -             lost
closing       closing       closing       closing       answering     acknowledged  lost
answering     answering     answering     answering     answering     closed        lost
acknowledged  acknowledged  acknowledged  acknowledged  closed        acknowledged  lost
closed        closed        closed        closed        closed        closed        closed
lost          lost          lost          lost          lost          lost          lost
"""
HALVES = {"local": State.HALF_CLOSED_LOCAL, "remote": State.HALF_CLOSED_REMOTE}


def expected() -> dict[tuple[State, Input], State | None]:
    head, *rows = [line.split() for line in EXPECTED.strip().splitlines()]
    words = HALVES | {state.value: state for state in State} | {"-": None}
    return {
        (state, Input(cause.replace("-", " "))): words[word]
        for name, *cells in rows
        for cause, word in zip(head, cells, strict=True)
        if (state := words[name]) is not None
    }


@pytest.mark.parametrize(("state", "cause"), list(product(State, Input)))
def test_every_state_and_input(state: State, cause: Input) -> None:
    assert TRANSITIONS[state].get(cause) is expected()[state, cause]


@pytest.mark.parametrize(("state", "cause"), list(product(State, Input)))
def test_an_input_that_is_repeated_changes_nothing(state: State, cause: Input) -> None:
    after = TRANSITIONS[state].get(cause)
    if after is not None:
        assert TRANSITIONS[after][cause] is after


def test_every_session_can_end_and_an_ended_one_stays_so() -> None:
    for state in State:
        assert TRANSITIONS[state][Input.LOSE] in (State.LOST, State.CLOSED)
    for state in (State.CLOSED, State.LOST):
        assert set(TRANSITIONS[state].values()) == {state}
