"""When a path by the relay follows the routes: the machine alone."""

from hypothesis import given
from hypothesis import strategies as st

from peers.roaming.follower import Follower, FollowerState


def relayed(now: float | None = None) -> Follower:
    one = Follower()
    one.wanted()
    if now is not None:
        one.changed(now)
    return one


def due(one: Follower) -> float:
    when = one.next_timeout()
    assert when is not None
    return when


def looks(one: Follower, *, strays: bool = False) -> list[float]:
    """Return when the routes are looked at until nothing waits any more."""
    times = []
    while (when := one.next_timeout()) is not None:
        times.append(when)
        assert not one.time(when, strays=strays)
    return times


def test_only_a_path_by_the_relay_follows() -> None:
    one = Follower()
    one.changed(1.0)
    assert (one.next_timeout(), one.time(9.0, strays=True)) == (None, False)
    one.wanted()
    assert one.next_timeout() is None, "the path is newer than the change"
    one.changed(10.0)
    assert due(one) == 10.0
    one.unwanted()
    assert (one.next_timeout(), one.time(20.0, strays=True)) == (None, False)


def test_a_route_that_comes_after_its_address_is_seen() -> None:
    assert looks(relayed(10.0)) == [10.0, 10.05, 10.2, 10.5, 11.0, 13.0]
    one = relayed(10.0)
    assert not one.time(10.0, strays=False)
    assert not one.time(10.04, strays=True), "not yet"
    assert one.time(10.05, strays=True)
    assert one.state is FollowerState.MOVING
    assert one.next_timeout() is None, "one at a time"


def test_looks_that_were_missed_are_one() -> None:
    one = relayed(10.0)
    assert not one.time(11.0, strays=False)
    assert looks(one) == [13.0]


def test_a_host_whose_routes_take_turns_moves_once_a_second() -> None:
    one = relayed(10.0)
    assert one.time(10.0, strays=True)
    one.changed(10.1)
    one.moved(10.2, failed=False)
    assert due(one) == 11.2
    one.changed(10.3)
    assert due(one) == 11.2
    assert one.time(11.2, strays=True)


def test_what_fails_is_tried_again_for_as_long_as_the_routes_lead_elsewhere() -> None:
    one, pauses = relayed(0.0), []
    for _ in range(9):
        now = due(one)
        assert one.time(now, strays=True)
        one.moved(now, failed=True)
        pauses.append(due(one) - now)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert not one.time(due(one), strays=False), "they lead here again"
    assert one.state is FollowerState.RESTING


def test_a_change_makes_it_hopeful_again() -> None:
    one = relayed(0.0)
    for _ in range(6):
        now = due(one)
        assert one.time(now, strays=True)
        one.moved(now, failed=True)
    one.changed(100.0)
    now = due(one)
    assert one.time(now, strays=True)
    one.moved(now, failed=True)
    assert due(one) == now + 1.0


def test_a_path_that_was_lost_while_another_was_made_is_not_asked_for_again() -> None:
    one = relayed(0.0)
    assert one.time(0.0, strays=True)
    one.unwanted()
    one.moved(1.0, failed=False)
    assert one.state is FollowerState.OFF


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["wanted", "unwanted", "changed", "time", "moved", "failed"]),
        st.floats(0.0, 5.0),
        st.booleans(),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_paths_are_a_second_apart(steps: list[tuple[str, float, bool]]) -> None:
    one, now, made, over = Follower(), 0.0, None, float("-inf")
    for what, passed, strays in steps:
        now += passed
        match what:
            case "wanted":
                one.wanted()
            case "unwanted":
                one.unwanted()
            case "changed":
                one.changed(now)
            case "time":
                if one.time(now, strays=strays):
                    assert strays
                    assert now >= over + 1.0
                    made = now
            case _:
                if one.state is FollowerState.MOVING:
                    over = now
                one.moved(now, failed=what == "failed")
        when = one.next_timeout()
        assert (when is not None) == (one.state is FollowerState.WATCHING)
        if made is not None and one.state is FollowerState.WATCHING:
            assert due(one) >= over
