"""Every state and every input: the table is written out a second time, the other way round."""

from itertools import product

import pytest

from peers.dns.states import TRANSITIONS, Input, State

FROM_OUTSIDE = """
             begin    changed      due       withdraw     end
unknown      looking  unknown      -         -            gone
looking      -        looking      -         checking     gone
updating     -        looking      -         checking     gone
held         -        updating     updating  withdrawing  gone
failed       -        looking      looking   checking     gone
superseded   -        superseded   -         superseded   superseded
checking     -        checking     gone      checking     gone
withdrawing  -        withdrawing  gone      withdrawing  gone
gone         gone     gone         -         gone         gone
"""
OF_AN_ANSWER = """
             found        others      taken  conflict  fail
looking      updating     superseded  -      -         failed
updating     -            -           held   looking   failed
checking     withdrawing  gone        -      -         gone
withdrawing  -            -           gone   gone      gone
"""


def expected() -> dict[tuple[State, Input], State]:
    table = {}
    for text in (FROM_OUTSIDE, OF_AN_ANSWER):
        header, *rows = [line.split() for line in text.strip().splitlines()]
        for state, *words in rows:
            for cause, word in zip(header, words, strict=True):
                if word != "-":
                    table[State(state), Input(cause)] = State(word)
    return table


@pytest.mark.parametrize(("state", "cause"), list(product(State, Input)))
def test_every_state_and_input(state: State, cause: Input) -> None:
    assert TRANSITIONS[state].get(cause) is expected().get((state, cause))


@pytest.mark.parametrize("state", list(State))
def test_whoever_closes_can_do_so_in_every_state_and_it_is_for_good(state: State) -> None:
    over = {State.SUPERSEDED, State.GONE}
    assert TRANSITIONS[state][Input.END] in over
    if state in over:
        assert set(TRANSITIONS[state].values()) == {state}


@pytest.mark.parametrize("state", list(State))
def test_a_change_never_fails_and_is_never_forgotten(state: State) -> None:
    after = TRANSITIONS[state][Input.CHANGED]
    assert after not in (State.HELD, State.FAILED), "nothing is settled that was not sent anew"
