"""The race among candidates with its tasks, on a clock that jumps. What is decided in it is tested
in tests/peers/choice/test_race.py."""

import asyncio
import logging
from typing import Any, cast

import pytest

from peers.choice.candidate import Candidate
from peers.path.open import Proven
from peers.roaming.race import Choice, choose
from protocol.endpoint import Endpoint
from protocol.errors import Code, PathFailed, WrongIdentity
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

    async def prove(self, candidate: Candidate) -> Proven:
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
                return await choose(self.candidates, self.prove, stagger=0.25, patience=patience)
            finally:
                self.took = (loop.time() - began) * 1e3

        return run(race())

    def winner(self, patience: float = 0.2) -> int:
        return self.candidates.index(self.run(patience).proven[0].candidate)


def test_what_the_machine_decides_is_done() -> None:
    race = Race(None, 40, 0, 30)
    choice = race.run()
    assert [race.candidates.index(one.candidate) for one in choice.proven] == [3, 1]
    assert choice.rule == "better than 192.0.2.2:9 by 10.0 ms"
    assert [(race.candidates.index(one), error.reason) for one, error in choice.failed] == [
        (2, "refused")
    ]
    assert race.took == pytest.approx(250 + 2 * 40 + 4 + 2 * 30)


def test_without_patience_the_first_is_taken() -> None:
    race = Race(40, 10)
    assert race.winner(patience=0.0) == 0
    assert race.tried == [0]


@pytest.mark.expected_errors("unexpected in an attempt")
def test_what_nobody_expected_is_one_logged_fault_and_a_failed_candidate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene() -> Choice:
        race = Race(20, 20)

        async def prove(candidate: Candidate) -> Proven:
            if candidate is race.candidates[0]:
                raise KeyError("who")
            return await race.prove(candidate)

        return await choose(race.candidates, prove, stagger=0.25, patience=0.2)

    with caplog.at_level(logging.ERROR, "peers"):
        choice = run(scene())
    assert len(choice.proven) == 1
    assert [error.code for _, error in choice.failed] == [Code.INTERNAL]
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_a_path_that_comes_after_the_end_is_aborted() -> None:
    """Its proof does not stop for a cancellation, and brings a path that nobody wants."""

    async def scene() -> list[Proven]:
        race = Race(20, 20)
        made: list[Proven] = []

        async def prove(candidate: Candidate) -> Proven:
            if candidate is race.candidates[0]:
                try:
                    await asyncio.sleep(10)
                except asyncio.CancelledError:
                    made.append(Proven(candidate, cast(Any, FakePath()), 0.02))
                    return made[0]
            return await race.prove(candidate)

        await choose(race.candidates, prove, stagger=0.01, patience=0.0)
        return made

    (late,) = run(scene())
    assert cast(Any, late.path).aborted


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
            proven = await race.prove(candidate)
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
