"""When a deadline is judged that was met late."""

import pytest

from protocol.lateness import LATE, MOST_TURNS, TURN, Lateness


@pytest.mark.parametrize("late", [-1.0, 0.0, LATE - 0.001])
def test_who_is_in_time_judges(late: float) -> None:
    assert Lateness().turn(10.0, 10.0 + late) is None


@pytest.mark.parametrize("late", [LATE + 1e-9, 3600.0])
def test_who_is_late_reads_first_and_judges_then(late: float) -> None:
    lateness = Lateness()
    now = 10.0 + late
    assert lateness.turn(10.0, now) == TURN
    assert lateness.turn(now + TURN, now + TURN) is None


def test_a_loop_that_is_always_late_judges_too() -> None:
    lateness = Lateness()
    turns = [lateness.turn(number, number + 1.0) for number in range(2 * (MOST_TURNS + 1))]
    assert turns == 2 * ([TURN] * MOST_TURNS + [None])


def test_who_is_held_up_again_before_all_is_read_reads_again() -> None:
    lateness = Lateness()
    assert lateness.turn(0.0, 5.0) == TURN
    assert lateness.turn(5.0 + TURN, 20.0) == TURN
    assert lateness.turn(20.0 + TURN, 20.0 + TURN) is None
    assert [lateness.turn(30.0, 40.0) for _ in range(MOST_TURNS)] == [TURN] * MOST_TURNS
