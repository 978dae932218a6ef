"""The search for a session's next path, walked state by input: no loop, no clock, no sleep."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.roaming.search import Action, Input, Search, State

STAGGER = 0.25
TRY, CALL_OFF, GIVE_UP = (Action.TRY,), (Action.CALL_OFF,), (Action.GIVE_UP,)


def waits() -> Iterator[float]:
    wait = 1.0
    while True:
        yield wait
        wait *= 2


def search(*inputs: Input) -> Search:
    """Return a search to which this has happened, all at time 0."""
    made = Search(STAGGER, waits)
    for what in inputs:
        made.handle(what, 0.0)
    return made


REACHED = {
    State.RESTING: (),
    State.OPENING: (Input.OPEN,),
    State.OPENING_ASKED: (Input.OPEN, Input.HELLO),
    State.WAITING: (Input.LOST,),
    State.TRYING: (Input.LOST_HERE,),
    State.TRYING_HURRIED: (Input.LOST_HERE, Input.HURRY),
    State.ASKED: (Input.LOST_HERE, Input.HELLO),
    State.ASKED_HURRIED: (Input.LOST_HERE, Input.HELLO, Input.HURRY),
    State.OVER: (Input.ENDED,),
}
"""A way to each state."""

EXPECTED: dict[tuple[State, Input], tuple[State, tuple[Action, ...]]] = {
    (State.RESTING, Input.OPEN): (State.OPENING, TRY),
    (State.RESTING, Input.LOST_HERE): (State.TRYING, TRY),
    (State.RESTING, Input.LOST): (State.WAITING, ()),
    (State.RESTING, Input.ENDED): (State.OVER, ()),
    (State.OPENING, Input.HELLO): (State.OPENING_ASKED, ()),
    (State.OPENING, Input.FAILED): (State.OVER, GIVE_UP),
    (State.OPENING, Input.TAKEN): (State.RESTING, CALL_OFF),
    (State.OPENING, Input.ENDED): (State.OVER, CALL_OFF),
    (State.OPENING_ASKED, Input.FAILED): (State.OVER, GIVE_UP),
    # The hello that has left may be accepted over there: that round goes on to its end.
    (State.OPENING_ASKED, Input.TAKEN): (State.RESTING, ()),
    (State.OPENING_ASKED, Input.ENDED): (State.OVER, CALL_OFF),
    (State.WAITING, Input.LOST_HERE): (State.TRYING, TRY),
    (State.WAITING, Input.HURRY): (State.TRYING, TRY),
    (State.WAITING, Input.MOVED): (State.TRYING, TRY),
    (State.WAITING, Input.TAKEN): (State.RESTING, ()),
    (State.WAITING, Input.ENDED): (State.OVER, ()),
    (State.TRYING, Input.HURRY): (State.TRYING_HURRIED, ()),
    (State.TRYING, Input.MOVED): (State.TRYING, CALL_OFF + TRY),
    (State.TRYING, Input.HELLO): (State.ASKED, ()),
    (State.TRYING, Input.FAILED): (State.WAITING, ()),
    (State.TRYING, Input.TAKEN): (State.RESTING, CALL_OFF),
    (State.TRYING, Input.ENDED): (State.OVER, CALL_OFF),
    (State.TRYING_HURRIED, Input.MOVED): (State.TRYING, CALL_OFF + TRY),
    (State.TRYING_HURRIED, Input.HELLO): (State.ASKED_HURRIED, ()),
    (State.TRYING_HURRIED, Input.FAILED): (State.TRYING, TRY),
    (State.TRYING_HURRIED, Input.TAKEN): (State.RESTING, CALL_OFF),
    (State.TRYING_HURRIED, Input.ENDED): (State.OVER, CALL_OFF),
    (State.ASKED, Input.HURRY): (State.ASKED_HURRIED, ()),
    (State.ASKED, Input.MOVED): (State.ASKED_HURRIED, ()),
    (State.ASKED, Input.FAILED): (State.WAITING, ()),
    (State.ASKED, Input.TAKEN): (State.RESTING, ()),
    (State.ASKED, Input.ENDED): (State.OVER, CALL_OFF),
    (State.ASKED_HURRIED, Input.FAILED): (State.TRYING, TRY),
    (State.ASKED_HURRIED, Input.TAKEN): (State.RESTING, ()),
    (State.ASKED_HURRIED, Input.ENDED): (State.OVER, CALL_OFF),
}
"""What changes; whatever is not here changes nothing."""


@pytest.mark.parametrize("what", list(Input), ids=lambda what: what.name)
@pytest.mark.parametrize("state", list(State), ids=lambda state: state.name)
def test_every_input_in_every_state(state: State, what: Input) -> None:
    machine = search(*REACHED[state])
    assert machine.state is state
    # At time 0 no deadline has come yet.
    assert machine.handle(what, 0.0) == EXPECTED.get((state, what), (state, ()))[1]
    assert machine.state is EXPECTED.get((state, what), (state, ()))[0]


def test_who_does_not_know_why_waits_one_stagger() -> None:
    machine = search(Input.LOST)
    assert machine.next_timeout() == STAGGER
    assert machine.handle(Input.TIME, STAGGER - 0.01) == ()
    assert machine.handle(Input.TIME, STAGGER) == TRY
    assert machine.next_timeout() is None


def test_the_pauses_between_rounds_grow_until_something_happens() -> None:
    machine = search(Input.LOST_HERE)
    now = 0.0
    for pause in (1.0, 2.0, 4.0):
        assert machine.handle(Input.FAILED, now) == ()
        assert machine.next_timeout() == now + pause
        now += pause
        assert machine.handle(Input.TIME, now) == TRY
    machine.handle(Input.FAILED, now)
    assert machine.handle(Input.HURRY, now) == TRY
    machine.handle(Input.FAILED, now)
    assert machine.next_timeout() == now + 1.0, "after a hurry they begin anew"


def test_a_round_that_says_no_hello_does_not_hold_up_what_has_become_possible() -> None:
    machine = search(Input.LOST_HERE, Input.HURRY)
    assert machine.next_timeout() == 4 * STAGGER
    assert machine.handle(Input.TIME, 4 * STAGGER - 0.01) == ()
    assert machine.handle(Input.TIME, 4 * STAGGER) == TRY, "beside the first one"
    assert machine.state is State.TRYING
    # The second one has its time too.
    assert machine.handle(Input.HURRY, 1.5) == ()
    assert machine.next_timeout() == 8 * STAGGER
    late = search(Input.LOST_HERE)
    assert late.handle(Input.HURRY, 2.0) == TRY


def test_a_round_that_has_said_its_hello_is_waited_for() -> None:
    machine = search(Input.LOST_HERE, Input.HURRY, Input.HELLO)
    assert machine.next_timeout() is None
    assert machine.handle(Input.TIME, 10.0) == ()


@pytest.mark.parametrize("what", [Input.HURRY, Input.MOVED])
def test_what_happens_while_the_hello_is_out_makes_the_next_round_come_at_once(what: Input) -> None:
    machine = search(Input.LOST_HERE, Input.HELLO, what)
    assert machine.state is State.ASKED_HURRIED
    assert machine.handle(Input.FAILED, 0.0) == TRY
    assert machine.handle(Input.FAILED, 0.0) == (), "once"


def test_a_late_round_changes_nothing() -> None:
    machine = search(Input.LOST_HERE, Input.HELLO, Input.TAKEN)
    assert machine.handle(Input.FAILED, 1.0) == ()
    assert machine.state is State.RESTING


RUNNING = {state for state in State if "OPENING" in state.name or "TRYING" in state.name}
ASKED = {state for state in State if "ASKED" in state.name}


class Model:
    """What the search's user sees: rounds that begin and end."""

    def __init__(self) -> None:
        self.search = Search(STAGGER, waits)
        self.now = 0.0
        self.running = False
        self.late = 0
        """Rounds that go on although they are not waited for any more."""
        self.began = 0.0
        self.opened = False

    def give(self, what: Input) -> None:
        asked = self.search.state in ASKED
        silent = self.search.state in (State.TRYING, State.TRYING_HURRIED)
        actions = self.search.handle(what, self.now)
        if what is Input.FAILED and self.running:
            self.running = False
        if what is Input.TAKEN and self.running and asked:
            self.running, self.late = False, self.late + 1
        for action in actions:
            match action:
                case Action.TRY:
                    if self.running:
                        assert silent, "a second round beside one whose hello has left"
                        assert what in (Input.HURRY, Input.TIME)
                        assert self.now >= self.began + 4 * STAGGER - 1e-6, "and not at once"
                        self.late += 1
                    self.began = self.now
                    self.running = True
                case Action.CALL_OFF:
                    assert not asked or what is Input.ENDED, "a hello that has left is called off"
                    self.running = False
                case Action.GIVE_UP:
                    assert self.opened, "only who opens gives up"
                    self.running = False


INPUTS = [what for what in Input if what is not Input.OPEN]


@given(
    opens=st.booleans(),
    steps=st.lists(st.tuples(st.sampled_from(INPUTS), st.floats(0, 10))),
)
def test_whatever_happens_in_whatever_order(opens: bool, steps: list[tuple[Input, float]]) -> None:
    """The path dies, addresses come and go, the other side asks, the relay goes and returns, the
    session closes: never two rounds but for one that says nothing, never a hello called off, never
    silent for ever."""
    model = Model()
    if opens:
        model.opened = True
        model.give(Input.OPEN)
    for what, later in steps:
        model.now += later
        if what in (Input.HELLO, Input.FAILED) and not model.running:
            continue  # Only a round that runs says hello or fails.
        model.give(what)
        machine = model.search
        assert model.running == (machine.state in RUNNING | ASKED)
        # Without a path something is under way, or has a time at which it will be.
        if machine.is_searching:
            assert model.running or machine.next_timeout() is not None
        if (when := machine.next_timeout()) is not None:
            assert machine.state in (State.WAITING, State.TRYING_HURRIED)
            assert when <= model.now + 2.0 ** len(steps)
    model.give(Input.ENDED)
    assert not model.running
    assert model.search.next_timeout() is None
    for what in Input:
        assert model.search.handle(what, model.now) == ()
