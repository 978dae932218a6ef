"""When an acknowledgement is overdue, and what a session says of that."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.session.events import HelpWanted
from protocol.session.overdue import Overdue
from tests.protocol.test_session import Pair


def test_the_estimator_is_that_of_rfc_6298() -> None:
    usual = Overdue()
    assert usual.timeout == 1.0
    usual.sample(0.4, 10.0)
    assert usual.timeout == pytest.approx(0.4 + 4 * 0.2)
    usual.sample(0.6, 11.0)
    variation = 0.75 * 0.2 + 0.25 * 0.2
    assert usual.timeout == pytest.approx(0.4 + 0.2 / 8 + 4 * variation)
    usual.begin()
    assert usual.timeout == 1.0


def test_many_samples_of_one_round_trip_count_once() -> None:
    usual = Overdue()
    usual.sample(0.4, 10.0)
    known = usual.timeout
    for number in range(30):
        usual.sample(0.4, 10.0 + number / 100)
    assert usual.timeout == known


@given(st.lists(st.floats(0, 1e4), max_size=50))
def test_it_stays_within_its_bounds(samples: list[float]) -> None:
    usual, now = Overdue(), 0.0
    for seconds in samples:
        now += 1e5
        usual.sample(seconds, now)
        assert 0.1 <= usual.timeout <= 60.0


class Waiting:
    """A session that is waiting for an acknowledgement, on a path of 50 ms."""

    def __init__(self, *, standby: bool = True) -> None:
        self.pair = Pair(revised=True)
        self.pair.run()
        self.a, self.b = self.pair.a, self.pair.b
        self.now = 100.0
        for _ in range(20):
            self.a.send(b"one")
            data = self.a.data_to_send(self.now)
            self.now += 0.05
            self.b.receive(data, self.now)
            self.a.receive(self.b.data_to_send(self.now), self.now)
        self.a.has_standby = standby
        self.a.send(b"two")
        self.data = self.a.data_to_send(self.now)


def test_help_is_wanted_once_of_each_time_without_progress() -> None:
    two = Waiting()
    due = two.a.wants_help_at
    assert due is not None
    assert 0.0999 <= due - two.now <= 0.15
    assert two.a.next_timeout() == due
    two.a.handle_timeout(due - 0.01)
    assert two.a.events() == []
    two.a.handle_timeout(due)
    [event] = two.a.events()
    assert isinstance(event, HelpWanted)
    assert two.a.wants_help_at is None
    two.a.handle_timeout(due + 0.5)
    assert two.a.events() == []
    two.b.receive(two.data, due + 0.6)
    two.a.receive(two.b.data_to_send(due + 0.6), due + 0.6)
    two.a.send(b"three")
    two.a.data_to_send(due + 0.7)
    assert two.a.wants_help_at is not None


def test_without_another_path_nothing_is_looked_at() -> None:
    two = Waiting(standby=False)
    assert two.a.wants_help_at is None
    two.a.handle_timeout(two.now + 1.0)
    assert two.a.events() == []


def test_where_nothing_is_on_its_way_nothing_is_overdue() -> None:
    two = Waiting()
    two.b.receive(two.data, two.now)
    two.a.receive(two.b.data_to_send(two.now), two.now)
    assert two.a.wants_help_at is None


def test_a_slow_path_that_goes_on_needs_no_help() -> None:
    """Three kilobytes a second, and fragments that grow: usual there."""
    pair, now = Pair(revised=True), 10.0
    pair.run()
    pair.a.has_standby = True
    pair.a.send(bytes(400_000))
    while pair.a.outstanding:
        data = pair.a.data_to_send(now)
        for begin in range(0, len(data), 1024):
            later = now + 0.3
            due = pair.a.wants_help_at
            assert due is None or due > later
            now = later
            pair.b.receive(data[begin : begin + 1024], now)
            pair.a.receive(pair.b.data_to_send(now), now)
