"""What an offer says of a meeting, and when each side dials."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.endpoint import Endpoint
from protocol.meeting import MEETING_DELAY, Reflexive, begins_after, meeting_part, read_meeting
from protocol.offer import body_with


def test_what_is_offered_is_read() -> None:
    told = Reflexive("192.0.2.1", 4000, 0.05)
    assert read_meeting(body_with(meeting_part(told))) == told
    assert told.endpoint == Endpoint("192.0.2.1", 4000)
    assert Reflexive("nowhere", 4000).endpoint is None
    assert Reflexive("224.0.0.1", 4000).endpoint is None


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"another": 7},
        {"meeting": None},
        {"meeting": 7},
        {"meeting": {}},
        {"meeting": {"host": "192.0.2.1"}},
        {"meeting": {"host": "192.0.2.1", "port": 0}},
        {"meeting": {"host": "1" * 46, "port": 1}},
        {"meeting": {"host": "192.0.2.1", "port": 1, "round_trip": float("nan")}},
        {"meeting": {"host": "192.0.2.1", "port": 1, "round_trip": -1.0}},
        [],
    ],
)
def test_what_says_nothing_of_it_is_none(said: object) -> None:
    assert read_meeting(msgpack.packb(said)) is None


def test_keys_that_are_not_known_mean_nothing() -> None:
    body = {"meeting": {"host": "192.0.2.1", "port": 1, "new": [1]}, "lock": b"x"}
    assert read_meeting(msgpack.packb(body)) == Reflexive("192.0.2.1", 1)


@given(st.binary(max_size=300))
def test_whatever_comes_is_read_or_none(body: bytes) -> None:
    read_meeting(body)


def test_who_was_asked_dials_later_by_the_way_of_its_answer() -> None:
    assert begins_after(0.0, 0.0, asked=False) == MEETING_DELAY
    assert begins_after(0.1, 0.04, asked=False) == pytest.approx(MEETING_DELAY + 0.28)
    assert begins_after(0.1, 0.04, asked=True) == pytest.approx(MEETING_DELAY + 0.28 + 0.07)
    assert begins_after(0.0, 60.0, asked=True) == pytest.approx(MEETING_DELAY + 2.0 + 0.5)
