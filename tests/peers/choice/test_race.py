"""The race as a machine: no loop, no clock but a number."""

import heapq
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.choice.candidate import Candidate
from peers.choice.race import MAX_TRIED, Discard, End, Race, Start
from protocol.endpoint import Endpoint

STAGGER = 0.25


def candidates(count: int, known: dict[int, float] | None = None) -> list[Candidate]:
    return [
        Candidate(Endpoint(f"192.0.2.{number + 1}", 9), round_trip=(known or {}).get(number))
        for number in range(count)
    ]


class World:
    """Candidates with given round trips in milliseconds; None answers nothing for 10 s, 0 fails at
    once. It plays a race to its end and notes what was done when."""

    def __init__(
        self,
        *trips: float | None,
        known: dict[int, float] | None = None,
        patience: float = 0.2,
    ) -> None:
        self.trips = trips
        self.race = Race(candidates(len(trips), known), stagger=STAGGER, patience=patience)
        self.now = 0.0
        self.started: list[tuple[int, float]] = []
        self.end: End | None = None
        self._coming: list[tuple[float, int]] = []

    def run(self) -> "World":
        while self.end is None:
            for action in self.race.tick(self.now):
                match action:
                    case Start(number):
                        self.started.append((number, self.now))
                        trip = self.trips[number]
                        takes = 10.0 if trip is None else 2 * trip / 1e3  # For TCP and for TLS.
                        heapq.heappush(self._coming, (self.now + takes, number))
                    case End():
                        self.end = action
            if self.end is None:
                self._go_on()
        return self

    def _go_on(self) -> None:
        due = self.race.next_timeout()
        times = [when for when, _ in self._coming[:1]] + ([] if due is None else [due])
        assert times, "it waits for nothing"
        self.now = max(self.now, min(times))
        # What differs by less than a clock can tell is one moment.
        while self._coming and self._coming[0][0] <= self.now + 1e-9:
            _, number = heapq.heappop(self._coming)
            if trip := self.trips[number]:
                assert not self.race.proven(number, trip / 1e3, self.now)
            else:
                self.race.failed(number, self.now)

    @property
    def winner(self) -> int:
        assert self.end is not None
        return self.end.order[0]

    @property
    def took(self) -> float:
        """Milliseconds."""
        return self.now * 1e3

    @property
    def tried(self) -> list[int]:
        return [number for number, _ in self.started]


@pytest.mark.parametrize("best", range(8))
def test_ten_milliseconds_are_seen_among_eight(best: int) -> None:
    trips = [40.0] * 8
    trips[best] = 30.0
    world = World(*trips).run()
    assert world.winner == best
    assert world.took <= 2 * 40 + 4 * 8 + 80


@given(trips=st.lists(st.floats(5, 90), min_size=1, max_size=8))
def test_the_winner_is_never_clearly_worse_than_another_that_was_in_time(
    trips: list[float],
) -> None:
    world = World(*trips).run()
    assert world.end is not None
    won = trips[world.winner]
    assert all(won - trips[other] < max(5.001, 0.1001 * won) for other in world.end.order)
    if len(trips) == 1:
        assert world.took == pytest.approx(2 * trips[0])


def test_what_is_not_clearly_better_changes_nothing() -> None:
    assert World(30, 26, 29).run().winner == 0
    assert World(30, 26, 24).run().winner == 2


def test_nothing_is_waited_for_that_cannot_be_better() -> None:
    world = World(4, 1, 1).run()
    assert world.winner == 0
    assert world.tried == [0]
    assert world.took == pytest.approx(8)


def test_a_candidate_that_is_known_to_be_slow_is_not_tried() -> None:
    world = World(30, 5, 5, known={1: 0.2, 2: 0.01}).run()
    assert world.winner == 2
    assert world.tried == [0, 2]


def test_without_patience_the_first_is_taken() -> None:
    world = World(40, 10, patience=0.0).run()
    assert world.winner == 0
    assert world.tried == [0]
    assert world.end == End((0,), "the only one that answered")


def test_a_silent_one_costs_one_stagger_and_a_dead_one_nothing() -> None:
    world = World(None, 20).run()
    assert world.winner == 1
    assert world.started[1] == (1, STAGGER)
    assert world.took <= 250 + 2 * 40
    world = World(0, 20).run()
    assert world.winner == 1
    assert world.started[1] == (1, 0.0)
    assert world.took <= 2 * 40


def test_those_that_are_compared_begin_apart() -> None:
    started = World(40, 30, 30, 30).run().started
    assert [when for _, when in started] == pytest.approx([0.0, 0.08, 0.084, 0.088])


def test_patience_has_an_end() -> None:
    assert World(400, 150, 390).run().winner == 1
    slow = World(1000, None).run()
    assert slow.winner == 0
    assert slow.took <= 2000 + 200


def test_all_failed_is_an_end_without_a_winner() -> None:
    assert World(None, 0, 0).run().end == End((), "")
    assert World().run().end == End((), "")


def test_no_more_are_tried_than_the_bound() -> None:
    assert World(*[0.0] * 40).run().tried == list(range(MAX_TRIED))


@pytest.mark.parametrize(
    ("trips", "patience", "rule"),
    [
        ((40,), 0.2, "the only one that answered"),
        ((0, 40), 0.2, "the only one that answered"),
        ((40, 42), 0.2, "the least delay: no other showed itself clearly better in time"),
        ((40, 20), 0.2, "better than 192.0.2.1:9 by 20.0 ms"),
        ((None, 200), 0.0, "the only one that answered"),
    ],
)
def test_the_rule_in_words(trips: tuple[float | None, ...], patience: float, rule: str) -> None:
    end = World(*trips, patience=patience).run().end
    assert end is not None
    assert end.rule == rule


def test_what_is_proven_in_one_moment_is_compared_also_without_patience() -> None:
    race = Race(candidates(2), stagger=0.0, patience=0.0)
    assert race.tick(0.0) == [Start(0)]
    assert race.tick(0.0) == [Start(1)]
    race.proven(1, 0.010, 0.1)
    race.proven(0, 0.030, 0.1)
    assert race.tick(0.1) == [End((0, 1), "the first in order that answered")]


@given(
    count=st.integers(0, 6),
    known=st.dictionaries(st.integers(0, 5), st.sampled_from([0.004, 0.03, 0.2])),
    stagger=st.sampled_from([0.0, 0.01, 0.25]),
    patience=st.sampled_from([0.0, 0.05, 0.2]),
    data=st.data(),
)
def test_any_order_of_events_has_one_end_and_one_fate_for_each_path(
    count: int, known: dict[int, float], stagger: float, patience: float, data: st.DataObject
) -> None:
    race = Race(candidates(count, known), stagger=stagger, patience=patience)
    now = 0.0
    running: set[int] = set()
    fates: Counter[int] = Counter()
    proven: set[int] = set()
    end: End | None = None

    def tick() -> None:
        nonlocal end
        for action in race.tick(now):
            assert end is None, "nothing is done after the end"
            match action:
                case Start(number):
                    assert number not in running | proven
                    running.add(number)
                case End(order):
                    end = action
                    fates.update(order)

    tick()
    for _ in range(40):
        if not running and end is not None:
            break
        due = race.next_timeout()
        assert end is not None or running or due is not None, "it waits for nothing"
        # Several things may happen in one moment.
        for number in sorted(running):
            what = data.draw(st.sampled_from(["nothing", "nothing", "proven", "failed"]))
            if what == "nothing":
                continue
            running.discard(number)
            if what == "failed":
                race.failed(number, now)
                continue
            proven.add(number)
            late = race.proven(number, data.draw(st.sampled_from([0.004, 0.03, 0.2])), now)
            assert late == ([] if end is None else [Discard(number)])
            fates.update(action.number for action in late if isinstance(action, Discard))
        tick()
        due = race.next_timeout()
        assert end is None or due is None
        step = data.draw(st.sampled_from([0.0, 0.001, 0.3]))
        now = due if due is not None and data.draw(st.booleans()) else now + step
        tick()
    for number in sorted(running):
        # Those that still run fail, as they have timeouts of their own; then it must be over.
        race.failed(number, now)
    running.clear()
    for _ in range(40):
        if end is not None:
            break
        now = max(now, race.next_timeout() or now)
        tick()
        for number in sorted(running):
            race.failed(number, now)
        running.clear()
    assert end is not None
    assert fates == Counter(proven)
    assert bool(end.rule) == bool(end.order)
