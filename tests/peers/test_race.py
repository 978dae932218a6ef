"""The race among candidates, on a clock that jumps: exact, however busy the machine is."""

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.choice.candidate import Candidate
from peers.path.open import Proven
from peers.roaming.race import Choice, choose
from protocol.endpoint import Endpoint
from protocol.errors import PathFailed, WrongIdentity
from tests.support.virtual_time import run


class FakePath:
    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Race:
    """Candidates with given round trips in milliseconds; None answers nothing, 0 fails at once."""

    def __init__(self, *trips: float | None, known: dict[int, float] | None = None) -> None:
        self.trips = trips
        known = known or {}
        self.candidates = [
            Candidate(Endpoint(f"192.0.2.{number + 1}", 9), round_trip=known.get(number))
            for number in range(len(trips))
        ]
        self.tried: list[int] = []
        self.took = 0.0

    async def _prove(self, candidate: Candidate) -> Proven:
        number = self.candidates.index(candidate)
        self.tried.append(number)
        trip = self.trips[number]
        if trip is None:
            await asyncio.sleep(10)
            raise PathFailed("no answer")
        if not trip:
            raise PathFailed("refused")
        await asyncio.sleep(2 * trip / 1e3)  # For TCP and for TLS.
        return Proven(candidate, cast(Any, FakePath()), trip / 1e3)

    def run(self, patience: float = 0.2) -> Choice:
        async def race() -> Choice:
            loop = asyncio.get_running_loop()
            began = loop.time()
            try:
                return await choose(self.candidates, self._prove, stagger=0.25, patience=patience)
            finally:
                self.took = (loop.time() - began) * 1e3

        return run(race())

    def winner(self, patience: float = 0.2) -> int:
        return self.candidates.index(self.run(patience).proven[0].candidate)


@pytest.mark.parametrize("best", range(8))
def test_ten_milliseconds_are_seen_among_eight(best: int) -> None:
    trips = [40.0] * 8
    trips[best] = 30.0
    race = Race(*trips)
    assert race.winner() == best
    assert race.took <= 2 * 40 + 4 * 8 + 80


@given(
    trips=st.lists(st.floats(5, 90), min_size=1, max_size=8),
)
def test_the_winner_is_never_clearly_worse_than_another_that_was_in_time(
    trips: list[float],
) -> None:
    race = Race(*trips)
    choice = race.run()
    won = choice.proven[0].round_trip * 1e3
    assert all(won - other.round_trip * 1e3 < max(5.001, 0.1001 * won) for other in choice.proven)
    if len(trips) == 1:
        assert race.took == pytest.approx(2 * trips[0])


def test_what_is_not_clearly_better_changes_nothing() -> None:
    assert Race(30, 26, 29).winner() == 0
    assert Race(30, 26, 24).winner() == 2


def test_nothing_is_waited_for_that_cannot_be_better() -> None:
    race = Race(4, 1, 1)
    assert race.winner() == 0
    assert race.tried == [0]
    assert race.took == pytest.approx(8)


def test_a_candidate_that_is_known_to_be_slow_is_not_tried() -> None:
    race = Race(30, 5, 5, known={1: 0.2, 2: 0.01})
    assert race.winner() == 2
    assert race.tried == [0, 2]


def test_without_patience_the_first_is_taken() -> None:
    race = Race(40, 10)
    assert race.winner(patience=0.0) == 0
    assert race.tried == [0]


def test_a_silent_one_costs_one_stagger_and_a_dead_one_nothing() -> None:
    race = Race(None, 20)
    assert race.winner() == 1
    assert race.took <= 250 + 2 * 40
    race = Race(0, 20)
    assert race.winner() == 1
    assert race.took <= 2 * 40


def test_patience_has_an_end() -> None:
    race = Race(400, 150, 390)
    assert race.winner() == 1
    slow = Race(1000, None)
    assert slow.winner() == 0
    assert slow.took <= 2000 + 200


def test_all_failed_tells_what_each_said() -> None:
    with pytest.raises(PathFailed, match=r"no answer.*refused|refused.*no answer"):
        Race(None, 0).run()


def test_losers_are_returned_to_be_aborted_and_an_interrupted_race_aborts_them() -> None:
    choice = Race(40, 30, 20).run()
    assert len(choice.proven) > 1

    async def interrupted() -> list[Proven]:
        made: list[Proven] = []
        race = Race(20, None, None)

        async def prove(candidate: Candidate) -> Proven:
            proven = await race._prove(candidate)
            made.append(proven)
            return proven

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await choose(race.candidates, prove, stagger=0.25, patience=10.0)
        return made

    (left,) = run(interrupted())
    assert cast(Any, left.path).aborted


def test_another_peer_everywhere_is_a_wrong_identity() -> None:
    async def race() -> Choice:
        async def prove(candidate: Candidate) -> Proven:
            raise WrongIdentity("a", "b", str(candidate))

        return await choose(Race(1, 1).candidates, prove, stagger=0.25, patience=0.2)

    with pytest.raises(WrongIdentity):
        run(race())
