"""When a connection that is doubted is silent for too long."""

from relay.control.doubt import Doubt, Verdict


def test_who_waits_is_told_before_it_is_given_up() -> None:
    doubt = Doubt(100.0, 0.1)
    told = [doubt.judge(99.0, 100.0 + later) for later in (0.0, 5.9, 6.0, 6.1, 11.9, 12.0)]
    waiting = Verdict.WAITING
    assert told == [waiting, waiting, Verdict.UNANSWERED, waiting, waiting, Verdict.DEAD]


def test_anything_that_is_heard_ends_it() -> None:
    assert Doubt(100.0, 0.1).judge(100.0, 112.0) is Verdict.UNFOUNDED


def test_a_link_whose_round_trips_take_long_has_three_of_them() -> None:
    doubt = Doubt(100.0, 7.0)
    assert doubt.judge(99.0, 120.9) is Verdict.WAITING
    assert doubt.judge(99.0, 121.0) is Verdict.DEAD
