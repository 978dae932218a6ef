"""When a connection is doubted."""

import pytest

from peers.control.doubt import Signs, answer_due, doubted_at, pong_due

HEARTBEAT, IDLE = 15.0, 2.0


def signs(
    heard: float = 0.0,
    acknowledged: float | None = None,
    pinged: float | None = None,
    round_trip: float = 0.0,
    on_the_way: float = 0.0,
) -> Signs:
    return Signs(heard, acknowledged, pinged, round_trip, on_the_way)


@pytest.mark.parametrize(
    ("known", "at"),
    [
        (signs(), 19.0),
        (signs(pinged=15.0), 19.0),
        (signs(acknowledged=0.0), 3.25),
        (signs(acknowledged=9.0), 12.25),
        (signs(acknowledged=14.0, pinged=15.0), 17.25),
        # Who acknowledges may pass nothing on, as a proxy does.
        (signs(acknowledged=17.0, pinged=15.0), 19.0),
        (signs(acknowledged=0.0, round_trip=0.6, on_the_way=0.6), 3.8),
        (signs(acknowledged=10.0, pinged=0.0, round_trip=7.0, on_the_way=7.0), 21.0),
        # A relay that was busy says nothing of the way to it.
        (signs(acknowledged=0.0, round_trip=7.0, on_the_way=0.1), 3.25),
    ],
)
def test_it_is_doubted_when_a_sign_of_life_is_overdue(known: Signs, at: float) -> None:
    assert doubted_at(known, HEARTBEAT, IDLE) == pytest.approx(at)


def test_what_is_known_to_take_long_has_three_round_trips() -> None:
    assert answer_due(2.0, 0.1) == 2.0
    assert answer_due(2.0, 6.0) == 18.0
    assert pong_due(15.0, 0.0) == 12.0
    assert pong_due(5.0, 0.0) == 5.0
    assert pong_due(15.0, 7.0) == 21.0
