"""When a flow comes back: every state by every event, and every order of events."""

import math
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.control.reconnect import (
    HURRY_HOLDS,
    RETURN_IDLE,
    RETURN_URGENT,
    SHORTEST_PAUSE,
    SOON,
    TRANSITIONS,
    Action,
    Attempt,
    AttemptFailed,
    AttemptSucceeded,
    Begin,
    ConnectionEnded,
    Event,
    Hurry,
    Reconnect,
    Release,
    Report,
    State,
    Stop,
    TimePassed,
)
from peers.control.refusal import PASSES, Judgement
from protocol.errors import Code, RelayUnavailable, WrongIdentity
from protocol.messages import Restarting

LOST = RelayUnavailable("hung up")
SILENT = RelayUnavailable("no answer", code=Code.HEARTBEAT_TIMEOUT)
LATE = RelayUnavailable("newer is known", code=Code.STALE_SEQUENCE)
ENDS = Judgement(final=True)
ERRORS = [LOST, LATE, WrongIdentity("a", "b", "the relay")]
JUDGEMENTS = [PASSES, ENDS, Judgement(retry_after=0.0), Judgement(retry_after=20.0)]
EVENTS: list[Event] = [
    Begin(),
    AttemptFailed(LOST),
    AttemptSucceeded(),
    ConnectionEnded(LOST),
    Hurry(),
    Hurry(moved=True),
    Stop(),
    TimePassed(),
]

# The table is written out a second time: what each event leads to with an error that is not final.
# The time of `TimePassed` is the one that was asked for.
EXPECTED = """
         Begin  AttemptFailed AttemptSucceeded ConnectionEnded Hurry    Moved    Stop  TimePassed
idle     trying -             -                -               idle     idle     ended -
trying   -      resting       live             -               trying!  trying>  ended -
trying!  -      resting!      live!            -               trying!  trying>  ended -
trying>  -      resting>      live!            -               trying>  trying>  ended -
live     -      -             -                resting         live!    live!    ended -
live!    -      -             -                resting!        live!    live!    ended live
resting  -      -             -                -               resting! resting> ended waiting
resting! -      -             -                -               resting! resting> ended trying
resting> -      -             -                -               resting> resting> ended trying
waiting  -      -             -                -               trying   trying   ended trying
ended    -      -             -                -               ended    ended    ended -
"""


def state_of(word: str) -> State:
    for short, long in {"live": "registered", "!": ", hurried", ">": ", moved"}.items():
        word = word.replace(short, long)
    return State(word)


def name_of(event: Event) -> str:
    return "Moved" if event == Hurry(moved=True) else type(event).__name__


def expected() -> dict[tuple[State, str], State | None]:
    head, *rows = (line.split() for line in EXPECTED.strip().splitlines())
    return {
        (state_of(row[0]), name): None if word == "-" else state_of(word)
        for row in rows
        for name, word in zip(head, row[1:], strict=True)
    }


def half() -> float:
    return 0.5


def brought_to(state: State) -> Reconnect:
    """Return a machine in a state, at the time 0."""
    machine = Reconnect(half)
    ways: dict[State, list[Event]] = {
        State.IDLE: [],
        State.TRYING: [Begin()],
        State.TRYING_HURRIED: [Begin(), Hurry()],
        State.TRYING_MOVED: [Begin(), Hurry(moved=True)],
        State.REGISTERED: [Begin(), AttemptSucceeded()],
        State.REGISTERED_HURRIED: [Begin(), AttemptSucceeded(), Hurry()],
        State.RESTING: [Begin(), AttemptSucceeded(), ConnectionEnded(LOST)],
        State.RESTING_HURRIED: [Begin(), AttemptSucceeded(), ConnectionEnded(LOST), Hurry()],
        State.RESTING_MOVED: [
            Begin(),
            AttemptSucceeded(),
            ConnectionEnded(LOST),
            Hurry(moved=True),
        ],
        State.WAITING: [Begin(), AttemptSucceeded(), ConnectionEnded(LOST)],
        State.ENDED: [Stop()],
    }
    for event in ways[state]:
        machine.receive(event, -SHORTEST_PAUSE)
    if state is State.WAITING:
        machine.receive(TimePassed(), 0.0)
    assert machine.state is state
    return machine


def machine_holds(state: State) -> bool:
    """Whether an attempt is under way, or a connection there."""
    return state.name.startswith(("TRYING", "REGISTERED"))


@pytest.mark.parametrize(("state", "event"), list(product(State, EVENTS)))
def test_every_state_and_event(state: State, event: Event) -> None:
    machine = brought_to(state)
    after = expected()[state, name_of(event)]
    now = (machine.next_timeout() or 0.0) if isinstance(event, TimePassed) else 0.0
    if after is None:
        assert type(event) not in TRANSITIONS[state]
        with pytest.raises(RuntimeError, match=state.value):
            machine.receive(event, now)
        assert machine.state is state
        return
    actions = machine.receive(event, now)
    assert machine.state is after
    assert after in TRANSITIONS[state][type(event)]
    assert (Attempt() in actions) is (after is State.TRYING)
    assert (Release() in actions) is (after is State.ENDED and machine_holds(state))
    assert (Report(LOST, final=False) in actions) is isinstance(
        event, AttemptFailed | ConnectionEnded
    )


@pytest.mark.parametrize("state", [State.TRYING, State.REGISTERED])
def test_a_final_error_ends_it_and_is_told_as_such(state: State) -> None:
    machine = brought_to(state)
    event = (
        AttemptFailed(LOST, ENDS)
        if state is State.TRYING
        else ConnectionEnded(LOST, judgement=ENDS)
    )
    assert machine.receive(event, 0.0) == [Report(LOST, final=True)]
    assert machine.state is State.ENDED
    assert machine.next_timeout() is None


@pytest.mark.parametrize(
    ("event", "wait"),
    [
        (ConnectionEnded(LOST), RETURN_IDLE / 2),
        (ConnectionEnded(SILENT), 0.0),
        (ConnectionEnded(LOST, urgent=True), RETURN_URGENT / 2),
        (ConnectionEnded(LOST, forgotten=True), RETURN_URGENT / 2),
        (ConnectionEnded(LOST, Restarting(2.0, 3.0)), 3.5),
        (ConnectionEnded(LOST, Restarting(2.0, 3.0), urgent=True), 3.5),
        (ConnectionEnded(LOST, network_changed=True), 0.0),
        (ConnectionEnded(LOST, Restarting(2.0, 3.0), network_changed=True), 0.0),
        (ConnectionEnded(LOST, Restarting(31_536_000.0, 0.0)), 600.0),
        (ConnectionEnded(LOST, Restarting(1.0, 31_536_000.0)), 301.0),
        (ConnectionEnded(LATE), RETURN_IDLE / 2),
    ],
)
def test_how_long_it_waits_after_a_connection(event: ConnectionEnded, wait: float) -> None:
    assert waited(brought_to(State.REGISTERED), event) == pytest.approx(wait)


def test_failures_wait_ever_longer_up_to_half_a_minute() -> None:
    machine = brought_to(State.TRYING)
    waits = [waited(machine, AttemptFailed(LOST)) for _ in range(9)]
    assert waits == [0.75 * bound for bound in (0.5, 1, 2, 4, 8, 16, 30, 30, 30)]
    machine.receive(AttemptSucceeded(), 0.0)
    waited(machine, ConnectionEnded(LOST))
    assert waited(machine, AttemptFailed(LOST)) == 0.75 * 0.5


def test_while_somebody_waits_for_the_relay_no_failure_makes_a_pause_long() -> None:
    machine = brought_to(State.TRYING)
    for _ in range(9):
        waited(machine, AttemptFailed(LOST))
    waits = [waited(machine, AttemptFailed(LOST, urgent=True)) for _ in range(3)]
    assert waits == [0.75 * RETURN_URGENT] * 3
    assert waited(machine, AttemptFailed(LOST)) == 0.75 * 30
    told = Judgement(retry_after=100.0)
    assert waited(machine, AttemptFailed(LOST, told, urgent=True)) == 100 * (1 + 0.25 / 2)


def test_the_first_pauses_stay_short_while_somebody_waits() -> None:
    machine = brought_to(State.TRYING)
    waits = [waited(machine, AttemptFailed(LOST, urgent=True)) for _ in range(4)]
    assert waits == [0.75 * bound for bound in (0.5, 1, 1, 1)]


def test_who_was_only_late_tries_again_at_once_but_not_twice_running() -> None:
    machine = brought_to(State.TRYING)
    waits = [waited(machine, AttemptFailed(LATE)) for _ in range(4)]
    assert waits == [0.0, 0.75 * 0.5, 0.0, 0.75 * 1.0]


@pytest.mark.parametrize("state", [State.TRYING, State.REGISTERED])
def test_who_was_told_when_to_come_back_waits_for_that_and_a_little_at_random(
    state: State,
) -> None:
    told = Judgement(retry_after=100.0)
    event = AttemptFailed(LOST, told) if state is State.TRYING else ended(told)
    assert waited(brought_to(state), event) == 100 * (1 + 0.25 / 2)


def test_what_was_told_makes_no_wait_shorter() -> None:
    assert (
        waited(brought_to(State.TRYING), AttemptFailed(LOST, Judgement(retry_after=0.0))) == 0.375
    )
    assert waited(brought_to(State.REGISTERED), ended(Judgement(retry_after=1.0))) == 2.5


@pytest.mark.parametrize("before", [False, True], ids=["afterwards", "before"])
def test_only_a_move_cuts_a_wait_short_that_was_told(before: bool) -> None:
    machine = brought_to(State.TRYING)
    refused = AttemptFailed(LOST, Judgement(retry_after=100.0))
    if before:
        machine.receive(Hurry(), 0.0)
    machine.receive(refused, 0.0)
    assert machine.receive(Hurry(), 1.0) == []
    assert machine.receive(TimePassed(), 1.0) == []
    assert machine.next_timeout() == 100 * (1 + 0.25 / 2)
    assert machine.receive(Hurry(moved=True), 2.0) == []
    assert machine.next_timeout() == SHORTEST_PAUSE
    assert machine.receive(TimePassed(), 2.0) == [Attempt()]
    # It counts for one wait; one that began while the attempt was under way, for the next.
    machine.receive(Hurry(moved=True), 2.5)
    machine.receive(Hurry(), 2.5)
    machine.receive(refused, 3.0)
    assert machine.receive(TimePassed(), 3.0 + SHORTEST_PAUSE) == [Attempt()]
    machine.receive(refused, 4.0)
    assert machine.receive(TimePassed(), 4.0 + SHORTEST_PAUSE) == []
    assert machine.state is State.RESTING


def test_who_waits_for_the_relay_cuts_a_wait_to_what_was_told() -> None:
    machine = brought_to(State.TRYING)
    for _ in range(6):
        waited(machine, AttemptFailed(LOST))
    machine.receive(AttemptFailed(LOST, Judgement(retry_after=2.0)), 0.0)
    machine.receive(Hurry(), 1.0)
    assert machine.next_timeout() == 2.25
    assert machine.receive(TimePassed(), 2.25) == [Attempt()]
    machine.receive(AttemptFailed(LOST, Judgement(retry_after=2.0)), 10.0)
    machine.receive(TimePassed(), 12.25)
    assert machine.state is State.WAITING
    assert machine.receive(Hurry(), 13.0) == [Attempt()]


def test_a_move_of_long_ago_cuts_nothing_short_that_is_told_later() -> None:
    machine = brought_to(State.REGISTERED)
    machine.receive(Hurry(moved=True), 0.0)
    assert waited(machine, ended(Judgement(retry_after=100.0))) > 100


def test_a_connection_that_a_move_has_ended_is_made_anew_at_once_whatever_was_told() -> None:
    moved = ended(Judgement(retry_after=100.0), network_changed=True)
    assert waited(brought_to(State.REGISTERED), moved) == 0.0


def ended(judgement: Judgement, *, network_changed: bool = False) -> ConnectionEnded:
    return ConnectionEnded(LOST, network_changed=network_changed, judgement=judgement)


def test_a_hurry_cuts_every_wait_but_the_shortest_pause() -> None:
    machine = brought_to(State.TRYING)
    machine.receive(AttemptFailed(LOST), 0.0)
    assert machine.receive(Hurry(), 0.01) == []
    assert machine.next_timeout() == SHORTEST_PAUSE
    assert machine.receive(TimePassed(), 0.04) == []
    assert machine.receive(TimePassed(), SHORTEST_PAUSE) == [Attempt()]
    # It counts for one wait.
    machine.receive(AttemptFailed(LOST), 1.0)
    machine.receive(TimePassed(), 1.0 + SHORTEST_PAUSE)
    assert machine.state is State.WAITING
    assert machine.receive(Hurry(), 1.1) == [Attempt()]


@pytest.mark.parametrize("came", [State.TRYING, State.REGISTERED])
def test_a_hurry_of_long_ago_counts_for_nothing(came: State) -> None:
    """Once, a relay that restarted had everybody back at once who had ever moved before."""
    machine = brought_to(came)
    machine.receive(Hurry(), 0.0)
    if came is State.TRYING:
        machine.receive(AttemptSucceeded(), 0.0)
    assert machine.next_timeout() == HURRY_HOLDS
    machine.receive(TimePassed(), HURRY_HOLDS)
    assert machine.next_timeout() is None
    machine.receive(ConnectionEnded(LOST, Restarting(2.0, 3.0)), 3600.0)
    machine.receive(TimePassed(), 3600.0 + SHORTEST_PAUSE)
    assert machine.next_timeout() == pytest.approx(3603.5)


@pytest.mark.parametrize(("ends", "wait"), [(-0.01, SHORTEST_PAUSE), (0.0, RETURN_IDLE / 2)])
def test_a_hurry_holds_for_what_ends_soon_however_late_the_timer_is(
    ends: float, wait: float
) -> None:
    machine = brought_to(State.REGISTERED)
    machine.receive(Hurry(), 0.0)
    machine.receive(Hurry(), 1.0)  # The last one counts.
    now = 1.0 + HURRY_HOLDS + ends
    actions = machine.receive(ConnectionEnded(LOST), now)
    began = now
    while Attempt() not in actions:
        now = due(machine)
        actions = machine.receive(TimePassed(), now)
    assert now - began == pytest.approx(wait)


@pytest.mark.parametrize("state", [State.TRYING, State.REGISTERED])
def test_a_hurry_before_the_wait_counts_for_the_next_one(state: State) -> None:
    machine = brought_to(state)
    machine.receive(Hurry(), 0.0)
    event = AttemptFailed(LOST) if state is State.TRYING else ConnectionEnded(LOST)
    assert waited(machine, event) == pytest.approx(SHORTEST_PAUSE)


def test_a_wait_below_the_shortest_pause_is_that() -> None:
    machine = Reconnect(lambda: 0.001)
    machine.receive(Begin(), 0.0)
    machine.receive(AttemptSucceeded(), 0.0)
    assert waited(machine, ConnectionEnded(LOST)) == SHORTEST_PAUSE


GROWS = [SHORTEST_PAUSE, 0.5, 1, 2, 4, 8, 15, 15, 15, 15, 15, 15]
STAYS_SHORT = [SHORTEST_PAUSE, *[0.5] * 11]


@pytest.mark.parametrize(
    ("event", "hurries", "pauses"),
    [
        (ConnectionEnded(LOST, Restarting(0.0, 0.0)), False, GROWS),
        (ConnectionEnded(LOST), False, GROWS),
        (ConnectionEnded(LOST, forgotten=True), False, GROWS),
        # Somebody waits for the relay: at the end of the connection, or soon after it.
        (ConnectionEnded(LOST, urgent=True), False, STAYS_SHORT),
        (ConnectionEnded(LOST, Restarting(0.0, 0.0), urgent=True), False, STAYS_SHORT),
        (ConnectionEnded(LOST, urgent=True), True, STAYS_SHORT),
        (ConnectionEnded(LOST), True, STAYS_SHORT),
    ],
)
def test_a_relay_that_sends_away_soon_again_and_again_is_left_alone(
    event: ConnectionEnded, hurries: bool, pauses: list[float]
) -> None:
    """Once, whoever waited for a relay that was killed thrice in a minute paused for 15 s."""
    machine, now, waits = Reconnect(lambda: 0.0), 0.0, []
    machine.receive(Begin(), now)
    for _ in range(12):
        machine.receive(AttemptSucceeded(), now)
        began = now
        actions = machine.receive(event, now)
        while Attempt() not in actions:
            actions = machine.receive(Hurry(), now) if hurries else []
            if Attempt() not in actions:
                now = due(machine)
                actions = machine.receive(TimePassed(), now)
        waits.append(now - began)
    assert waits == pytest.approx(pauses)
    # One that has lasted was worth it.
    machine.receive(AttemptSucceeded(), now)
    machine.receive(event, now + SOON)
    assert machine.next_timeout() == pytest.approx(now + SOON + SHORTEST_PAUSE)


def test_those_that_were_sent_away_in_one_moment_do_not_come_back_in_one() -> None:
    randoms = [Random(seed) for seed in range(50)]
    for urgent, bound in ((True, RETURN_URGENT), (False, 15.0 * 1.25)):
        waits = []
        for random in randoms:
            machine = Reconnect(random.random)
            machine.receive(Begin(), 0.0)
            for _ in range(10):
                machine.receive(AttemptSucceeded(), 0.0)
                wait = waited(machine, ConnectionEnded(LOST, urgent=urgent))
            waits.append(wait)
        assert bound / 2 <= min(waits) < max(waits) <= bound
        assert len(set(waits)) == len(waits)


def test_time_that_has_not_come_changes_nothing() -> None:
    machine = brought_to(State.WAITING)
    due = machine.next_timeout()
    assert due is not None
    assert machine.receive(TimePassed(), due - 0.001) == []
    assert machine.next_timeout() == due


def waited(machine: Reconnect, event: Event) -> float:
    """Let it happen at the time 0; return how long it takes until the next attempt begins."""
    actions, now = machine.receive(event, 0.0), 0.0
    while Attempt() not in actions:
        now = due(machine)
        actions = machine.receive(TimePassed(), now)
    return now


def due(machine: Reconnect) -> float:
    at = machine.next_timeout()
    assert at is not None
    return at


# -- every order of events ----------------------------------------------------------------------

restarts = st.none() | st.builds(Restarting, st.floats(0, 100), st.floats(0, 100))
causes = st.one_of(
    st.builds(AttemptFailed, st.sampled_from(ERRORS), st.sampled_from(JUDGEMENTS), st.booleans()),
    st.just(AttemptSucceeded()),
    st.builds(
        ConnectionEnded,
        st.sampled_from(ERRORS),
        restarts,
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.sampled_from(JUDGEMENTS),
    ),
    st.builds(Hurry, st.booleans()),
    st.just(Stop()),
    st.just(TimePassed()),
)


@given(
    st.lists(st.tuples(causes, st.floats(0, 40)), max_size=60),
    st.randoms(use_true_random=False),
)
def test_any_order_of_events_keeps_the_rules(
    story: list[tuple[Event, float]], random: Random
) -> None:
    machine = Reconnect(random.random)
    now, since, bound = 0.0, 0.0, 0.0
    holds = True
    assert machine.receive(Begin(), now) == [Attempt()]
    for event, passes in story:
        now += passes
        if type(event) not in TRANSITIONS[machine.state]:
            continue
        before = machine.state
        actions = machine.receive(event, now)
        assert machine.state in TRANSITIONS[before][type(event)]
        # Never two attempts, or an attempt beside a connection.
        if isinstance(event, AttemptFailed | ConnectionEnded):
            assert holds
            holds = False
            since, bound = now, longest(event)
        if Release() in actions:
            assert holds
            holds = False
        if Attempt() in actions:
            assert not holds
            assert actions.count(Attempt()) == 1
            holds = True
        check(machine, actions, event, since, bound)


def longest(event: Event) -> float:
    match event:
        case AttemptFailed():
            return 30.0
        case ConnectionEnded(_, Restarting(delay=delay, spread=spread)):
            return max(delay + spread, 25.0)
        case _:
            return max(RETURN_IDLE, 25.0)


def check(
    machine: Reconnect, actions: list[Action], event: Event, since: float, bound: float
) -> None:
    at = machine.next_timeout()
    match machine.state:
        case State.RESTING | State.RESTING_HURRIED | State.RESTING_MOVED | State.WAITING:
            # It comes back, and in time.
            assert at is not None
            assert at <= since + bound + 1e-6
        case State.REGISTERED_HURRIED:
            assert at is not None
        case State.ENDED:
            assert at is None
            assert Attempt() not in actions
        case _:
            assert at is None
    for action in actions:
        if isinstance(action, Report):
            assert action.final is (machine.state is State.ENDED)
            assert isinstance(event, AttemptFailed | ConnectionEnded)
            assert action.final is event.judgement.final
    assert at is None or math.isfinite(at)
