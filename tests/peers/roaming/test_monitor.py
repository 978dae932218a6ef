"""The search for a better path, walked state by input: no loop, no clock, no sleep."""

import dataclasses
from collections.abc import Callable
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.choice import Candidate
from peers.config import PathKind
from peers.roaming.monitor import ROUNDS, Monitor, MonitorAction, MonitorState, Pace, Seen
from peers.session import Terms
from protocol.endpoint import Endpoint
from protocol.messages import Mode

PACE = Pace(stagger=0.25, probe_interval=30.0)
CALLER = Terms("a" * 52, "chat", Mode.AUTO, is_caller=True, discloses=True)
CALLEE = dataclasses.replace(CALLER, is_caller=False)
GO_DIRECT, PROBE = MonitorAction.GO_DIRECT, MonitorAction.PROBE


def test_a_relayed_session_in_auto_goes_direct_at_once_and_every_minute() -> None:
    monitor = Monitor(CALLER, PACE)
    monitor.path_taken(PathKind.RELAYED, 0.0)
    assert monitor.time(0.0) is GO_DIRECT
    assert monitor.time(0.0) is None, "one at a time"
    monitor.looked(1.0)
    assert monitor.next_timeout() == 61.0
    assert monitor.time(60.9) is None
    assert monitor.time(61.0) is GO_DIRECT


def test_the_callee_looks_a_little_later() -> None:
    monitor = Monitor(CALLEE, PACE)
    monitor.path_taken(PathKind.RELAYED, 0.0)
    assert monitor.next_timeout() == 1.0


@pytest.mark.parametrize(
    ("terms", "kind", "expected"),
    [
        (CALLER, PathKind.DIRECT, PROBE),
        (CALLEE, PathKind.DIRECT, None),
        (dataclasses.replace(CALLER, mode=Mode.P2P), PathKind.DIRECT, PROBE),
        (dataclasses.replace(CALLER, select="latest"), PathKind.DIRECT, None),
        (dataclasses.replace(CALLER, select=lambda candidates: candidates), PathKind.DIRECT, None),
        (dataclasses.replace(CALLER, discloses=False), PathKind.DIRECT, None),
        (dataclasses.replace(CALLER, mode=Mode.CENTRAL), PathKind.RELAYED, None),
        (dataclasses.replace(CALLER, discloses=False), PathKind.RELAYED, None),
        (CALLEE, PathKind.RELAYED, GO_DIRECT),
        # That one has fallen back.
        (dataclasses.replace(CALLEE, mode=Mode.COMBINED), PathKind.RELAYED, GO_DIRECT),
    ],
)
def test_who_looks_for_what(terms: Terms, kind: PathKind, expected: MonitorAction | None) -> None:
    monitor = Monitor(terms, PACE)
    monitor.path_taken(kind, 0.0)
    assert monitor.time(1000.0) is expected
    if expected is None:
        assert monitor.next_timeout() is None


def test_without_an_interval_nobody_probes() -> None:
    monitor = Monitor(CALLER, dataclasses.replace(PACE, probe_interval=0.0))
    monitor.path_taken(PathKind.DIRECT, 0.0)
    assert monitor.next_timeout() is None


def _probes(monitor: Monitor, began: float, ended: float, carried: int = 0) -> list[float]:
    """Return when there is a round, each over at once."""
    rounds = []
    while (due := monitor.next_timeout()) is not None and due <= ended:
        assert due >= began
        if monitor.time(due, carried) is PROBE:
            rounds.append(due)
            monitor.looked(due)
    return rounds


def test_a_session_that_carries_nothing_is_probed_ever_more_rarely() -> None:
    monitor = Monitor(CALLER, PACE)
    monitor.path_taken(PathKind.DIRECT, 0.0)
    rounds = _probes(monitor, 0.0, 4000.0)
    pauses = [after - before for before, after in pairwise(rounds)]
    # As many as a move needs come as ever.
    assert pauses[: ROUNDS + 1] == [30.0] * (ROUNDS + 1)
    assert pauses[ROUNDS + 1 : ROUNDS + 5] == [60.0, 120.0, 240.0, 480.0]
    assert set(pauses[ROUNDS + 4 :]) == {480.0}


def test_what_it_carries_and_each_change_is_looked_at_as_soon_as_ever() -> None:
    monitor = Monitor(CALLER, PACE)
    monitor.path_taken(PathKind.DIRECT, 0.0)
    last = _probes(monitor, 0.0, 4000.0)[-1]
    assert _probes(monitor, last, 4100.0, carried=1)[0] <= 4030.0
    quiet = _probes(monitor, 4000.0, 8000.0, carried=1)[-1]
    monitor.hurry(quiet + 1)
    assert monitor.time(quiet + 1, 1) is PROBE
    monitor.looked(quiet + 1)
    assert _probes(monitor, quiet, quiet + 31, carried=1) == [quiet + 31]


def test_a_change_is_looked_at_at_once_or_after_the_look_that_is_under_way() -> None:
    monitor = Monitor(CALLER, PACE)
    monitor.path_taken(PathKind.DIRECT, 0.0)
    monitor.hurry(5.0)
    assert monitor.time(5.0) is PROBE
    monitor.hurry(6.0)
    monitor.looked(7.0)
    assert monitor.time(7.0) is PROBE
    monitor.looked(8.0)
    assert monitor.next_timeout() == 38.0, "once"


def test_what_the_other_side_tells_is_looked_at_at_once_and_then_once_a_second() -> None:
    monitor = Monitor(CALLER, PACE)
    monitor.path_taken(PathKind.RELAYED, 0.0)
    monitor.time(0.0)
    monitor.looked(0.1)
    monitor.told(20.0)
    looks = 0
    for step in range(1, 641):
        now = 20.0 + step / 64
        if monitor.time(now) is GO_DIRECT:
            looks += 1
            monitor.told(now)
            monitor.looked(now)
        monitor.told(now)
    assert looks == 10
    assert monitor.next_timeout() == 30.015625
    monitor.hurry(30.0)
    assert monitor.time(30.0) is GO_DIRECT, "this host's own word does not wait"


@pytest.mark.parametrize("kind", list(PathKind))
def test_a_pinned_session_is_left_where_it_is_and_looked_after_again_when_it_is_not(
    kind: PathKind,
) -> None:
    """Once, `pin()` and `pin(False)` left a relayed session in `auto` on the relay for ever."""
    monitor = Monitor(CALLER, PACE)
    monitor.path_taken(kind, 0.0)
    monitor.pin(True, 1.0)
    assert monitor.next_timeout() is None
    monitor.hurry(2.0)
    assert monitor.time(1000.0) is None
    monitor.pin(False, 1000.0)
    when = monitor.next_timeout()
    assert when is not None
    assert monitor.time(when) is (GO_DIRECT if kind is PathKind.RELAYED else PROBE)


def test_a_pin_ends_what_was_being_looked_for() -> None:
    monitor = Monitor(CALLER, PACE)
    monitor.path_taken(PathKind.RELAYED, 0.0)
    assert monitor.time(0.0) is GO_DIRECT
    monitor.pin(True, 0.5)
    monitor.looked(1.0)
    assert monitor.state is MonitorState.OFF


def test_a_session_that_falls_back_to_the_relay_looks_at_once() -> None:
    monitor = Monitor(CALLER, PACE)
    monitor.path_taken(PathKind.DIRECT, 0.0)
    monitor.path_lost()
    monitor.path_taken(PathKind.RELAYED, 3.0)
    assert monitor.time(3.0) is GO_DIRECT


def test_without_a_path_nothing_is_looked_for() -> None:
    monitor = Monitor(CALLER, PACE)
    monitor.path_taken(PathKind.DIRECT, 0.0)
    monitor.path_lost()
    assert monitor.time(30.0) is None
    assert monitor.state is MonitorState.OFF


INPUTS: dict[str, Callable[[Monitor], object]] = {
    "relayed": lambda monitor: monitor.path_taken(PathKind.RELAYED, 0.0),
    "direct": lambda monitor: monitor.path_taken(PathKind.DIRECT, 0.0),
    "lost": lambda monitor: monitor.path_lost(),
    "pin": lambda monitor: monitor.pin(True, 0.0),
    "hurry": lambda monitor: monitor.hurry(0.0),
    "told": lambda monitor: monitor.told(0.0),
    "time": lambda monitor: monitor.time(0.0),
    "looked": lambda monitor: monitor.looked(0.0),
}
REACHED = {
    MonitorState.OFF: (),
    MonitorState.WAITING: ("relayed",),
    MonitorState.LOOKING: ("relayed", "time"),
    MonitorState.LOOKING_HURRIED: ("relayed", "time", "hurry"),
    MonitorState.LOOKING_TOLD: ("relayed", "time", "told"),
}
"""A way to each state, all at time 0, for a relayed session in `auto`."""
EXPECTED = {
    (MonitorState.OFF, "relayed"): MonitorState.WAITING,
    (MonitorState.OFF, "direct"): MonitorState.WAITING,
    (MonitorState.WAITING, "pin"): MonitorState.OFF,
    (MonitorState.WAITING, "time"): MonitorState.LOOKING,
    (MonitorState.LOOKING, "relayed"): MonitorState.LOOKING_HURRIED,
    (MonitorState.LOOKING, "hurry"): MonitorState.LOOKING_HURRIED,
    (MonitorState.LOOKING, "told"): MonitorState.LOOKING_TOLD,
    (MonitorState.LOOKING_TOLD, "relayed"): MonitorState.LOOKING_HURRIED,
    (MonitorState.LOOKING_TOLD, "hurry"): MonitorState.LOOKING_HURRIED,
    (MonitorState.LOOKING_TOLD, "looked"): MonitorState.WAITING,
    (MonitorState.LOOKING, "looked"): MonitorState.WAITING,
    (MonitorState.LOOKING_HURRIED, "looked"): MonitorState.WAITING,
}
"""What changes; whatever is not here changes nothing."""


@pytest.mark.parametrize(("state", "what"), list(product(MonitorState, INPUTS)))
def test_every_input_in_every_state(state: MonitorState, what: str) -> None:
    monitor = Monitor(CALLER, PACE)
    for before in REACHED[state]:
        INPUTS[before](monitor)
    assert monitor.state is state
    INPUTS[what](monitor)
    assert monitor.state is EXPECTED.get((state, what), state)
    if what == "looked" and monitor.state is MonitorState.WAITING and state is not monitor.state:
        later = {MonitorState.LOOKING_HURRIED: 0.0, MonitorState.LOOKING_TOLD: 1.0}
        assert monitor.next_timeout() == later.get(state, 60.0)


@given(
    caller=st.booleans(),
    steps=st.lists(
        st.tuples(
            st.sampled_from(
                ["relayed", "direct", "lost", "pin", "unpin", "hurry", "told", "time", "looked"]
            ),
            st.floats(0, 100),
        )
    ),
)
def test_one_look_at_a_time_and_an_end_to_every_wait(
    caller: bool, steps: list[tuple[str, float]]
) -> None:
    monitor = Monitor(CALLER if caller else CALLEE, PACE)
    now, looking, pinned, kind = 0.0, False, False, None
    for what, later in steps:
        now += later
        match what:
            case "relayed":
                kind = PathKind.RELAYED
                monitor.path_taken(kind, now)
            case "direct":
                kind = PathKind.DIRECT
                monitor.path_taken(kind, now)
            case "lost":
                kind = None
                monitor.path_lost()
            case "pin" | "unpin":
                pinned = what == "pin"
                monitor.pin(pinned, now)
            case "hurry":
                monitor.hurry(now)
            case "told":
                monitor.told(now)
            case "time":
                action = monitor.time(now)
                assert action is None or not looking
                looking = looking or action is not None
                if action is not None:
                    assert not pinned
                    assert action is (GO_DIRECT if kind is PathKind.RELAYED else PROBE)
            case "looked" if looking:
                looking = False
                monitor.looked(now)
        wanted = not pinned and (kind is PathKind.RELAYED or (kind is PathKind.DIRECT and caller))
        if wanted:
            when = monitor.next_timeout()
            assert looking or (when is not None and when <= now + 60.0)


def candidate(last: int) -> Candidate:
    return Candidate(Endpoint(f"192.0.2.{last}", 9), "10.0.0.1")


def test_a_candidate_is_better_after_enough_rounds_in_all_of_which_it_was() -> None:
    seen, path = Seen(), object()
    seen.on(path)
    for number in range(ROUNDS):
        assert seen.better() is None, f"after {number} rounds"
        seen.note(None, 0.100)
        seen.note(candidate(1), 0.050)
        seen.note(candidate(2), 0.020)
    best = seen.better()
    assert best is not None
    assert best.endpoint == candidate(2).endpoint
    seen.note(None, 0.100)
    seen.note(candidate(2), 0.099)  # One bad round is enough to doubt it.
    best = seen.better()
    assert best is not None
    assert best.endpoint == candidate(1).endpoint


def test_what_was_seen_counts_for_one_path_and_while_there_is_an_answer() -> None:
    seen = Seen()
    for path in (object(), object()):
        seen.on(path)
        assert seen.better() is None
        for _ in range(ROUNDS):
            seen.note(None, 0.1)
            seen.note(candidate(1), 0.01)
        assert seen.better() is not None
    seen.note(candidate(1), None)
    assert seen.better() is None
    seen.clear()
    assert seen.better() is None
