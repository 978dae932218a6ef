"""Buckets and counts: who may now, who must wait, and places that are given back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.limits import Counts, Rates, Windows, cause_of


def test_a_bucket_is_full_at_first_and_fills_again() -> None:
    rates = Rates(2.0, 3)
    assert [rates.take("a", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert rates.take("b", 0.0) == 0.0, "each key has its own"
    assert rates.take("a", 0.25) == pytest.approx(0.25)
    assert rates.take("a", 0.5) == 0.0
    assert [rates.take("a", 100.0) for _ in range(4)][-1] > 0, "never more than full"


def test_what_costs_more_than_there_is_is_begun_and_owed() -> None:
    rates = Rates(2.0, 3)
    assert rates.take("a", 0.0, 10.0) == 0.0
    assert rates.take("a", 0.0) == pytest.approx(4.0)
    rates.charge("a", 0.0, 2.0)
    assert rates.take("a", 0.0) == pytest.approx(5.0)
    assert rates.take("a", 5.0) == 0.0
    rates.charge("new", 0.0, 3.0)
    assert rates.take("new", 0.0) > 0


def test_what_is_remembered_has_a_bound() -> None:
    rates = Rates(1.0, 1, max_keys=2)
    for key in ("a", "b", "a", "c"):
        rates.take(key, 0.0)
    assert rates.take("a", 0.0) > 0
    assert rates.take("b", 0.0) == 0.0, "the longest unused is forgotten"


def test_who_is_full_again_is_forgotten_as_others_come() -> None:
    """So that what is remembered follows who is here, and not everybody who ever was."""
    rates = Rates(1.0, 5)
    for number in range(1000):
        rates.take(f"early {number}", 0.0, 3.0)
    assert len(rates) == 1000
    rates.take("busy", 1.0, 5.0)
    rates.take("first to come", 2.9)
    assert len(rates) == 1002, "nobody is full yet"
    for number in range(600):
        rates.take(f"late {number}", 3.5)
    assert len(rates) == 602
    assert rates.take("busy", 3.5, 5.0) == 0.0
    assert rates.take("busy", 3.5) == pytest.approx(3.5), "who owes is remembered"


def test_a_place_is_held_until_its_block_ends() -> None:
    counts = Counts(per_key=2, in_all=3)
    first, second = counts.take("a"), counts.take("a")
    assert first is not None
    assert second is not None
    with first:
        with second:
            assert counts.take("a") is None
            assert counts.total == 2
        assert counts.total == 1
    assert counts.total == 0


def test_a_place_is_given_back_whatever_raises() -> None:
    counts = Counts(per_key=1, in_all=1)

    def fail() -> None:
        place = counts.take("a")
        assert place is not None
        with place:
            raise ValueError("whatever")

    with pytest.raises(ValueError, match="whatever"):
        fail()
    assert counts.total == 0


def test_a_place_that_was_handed_over_is_released_by_its_owner_once() -> None:
    counts = Counts(per_key=1, in_all=1)
    place = counts.take("a")
    assert place is not None
    with place:
        place.hand_over()
    assert counts.total == 1
    assert counts.take("b") is None, "in all"
    place.release()
    place.release()
    assert counts.total == 0
    assert counts.take("a") is not None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=50))
def test_the_total_is_what_is_held(events: list[tuple[str, bool]]) -> None:
    counts = Counts(per_key=3, in_all=6)
    held = []
    for key, takes in events:
        if takes:
            of_key = sum(1 for other, _ in held if other == key)
            place = counts.take(key)
            assert (place is None) == (of_key >= 3 or len(held) >= 6)
            if place is not None:
                held.append((key, place))
        elif held:
            held.pop()[1].release()
        assert counts.total == len(held)


def test_a_window_has_so_many_for_a_wide_network_and_a_few_for_each_in_it() -> None:
    windows = Windows(20, 5.0)
    evil, good = cause_of("192.0.2.66", "evil"), cause_of("192.0.2.9", "good")
    far = cause_of("198.51.100.1", "far")
    waits = [windows.take("callee", evil, 10.0) for _ in range(22)]
    assert waits == [0.0] * 21 + [5.0], "one more, as every other one beside it has"
    assert windows.take("callee", good, 11.0) == 0.0
    assert windows.take("callee", good, 11.0) == pytest.approx(4.0)
    assert windows.take("other", evil, 11.0) == 0.0, "each that is asked by itself"
    assert windows.take("callee", far, 11.0) == 0.0, "and each wide network"
    more = [windows.take("callee", cause_of(f"192.0.2.{one}"), 12.0) for one in range(100, 130)]
    assert more.count(0.0) == 18, "twice as many in all"
    assert windows.take("callee", evil, 15.0) == 0.0, "and the next window"
