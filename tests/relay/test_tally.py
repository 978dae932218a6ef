"""What each peer has had: bounded, and nobody who has much is lost among many who have little."""

import random

import pytest

from relay.tally import KEPT, Column, Figures, Tally


def figures(column: Column, count: int) -> Figures:
    return Figures(**{"sent" if column == "bytes" else column: count})


def test_what_a_peer_has_had_is_added_up() -> None:
    tally = Tally()
    tally.add("alice", Figures(sent=5, received=7, planes=1))
    tally.add("alice", Figures(sent=1, requests=2, refusals=3))
    assert tally.of("alice") == Figures(6, 7, 1, 2, 3)
    assert tally.of("alice").bytes == 13
    assert tally.of("nobody") == Figures()
    assert not tally.of("nobody")


def test_who_has_most_comes_first() -> None:
    tally = Tally()
    for number in range(20):
        tally.add(f"peer {number}", Figures(sent=number, requests=100 - number))
    assert [guid for guid, _ in tally.most("bytes", 3)] == ["peer 19", "peer 18", "peer 17"]
    assert [guid for guid, _ in tally.most("requests", 2)] == ["peer 0", "peer 1"]
    assert len(list(tally.most("planes", 100))) == 20


@pytest.mark.parametrize("column", ["bytes", "planes", "requests", "refusals"])
def test_many_who_have_little_push_nobody_out_who_has_much(column: Column) -> None:
    tally, chance = Tally(), random.Random(1)
    large = [f"large {number}" for number in range(50)]
    for round_ in range(40):
        for guid in large:
            tally.add(guid, figures(column, 10))
        for number in range(500):
            # Each comes once or twice, under keys that cost nothing; some in other columns.
            other: Column = chance.choice(["bytes", "planes", "requests", "refusals"])
            tally.add(f"small {round_} {number}", figures(other, chance.randint(1, 15)))
        assert len(tally) <= 2 * 4 * KEPT
    found = dict(tally.most(column, 50))
    assert set(found) == set(large)
    assert all(getattr(one, column) == 400 for one in found.values())


def test_who_begins_among_many_others_still_gets_in() -> None:
    """A dictionary that drops the smallest would drop each newcomer again and again."""
    tally = Tally()
    for number in range(5_000):
        tally.add(f"old {number}", Figures(requests=40))
    for number in range(8_000):
        tally.add("new", Figures(requests=1))
        tally.add(f"other {number}", Figures(requests=1))
    ((guid, had),) = tally.most("requests", 1)
    assert guid == "new"
    assert had.requests <= 8_000, "never more than it had"
    assert had.requests > 6_000
