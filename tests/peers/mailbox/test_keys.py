"""Prekeys: rotated, kept as long as letters for them may come, and destroyed."""

import sqlite3
from collections.abc import Iterator

import pytest

from peers.mailbox import keys

DAY = 86_400.0
NOW = 1_700_000_000.0


@pytest.fixture
def tables() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.executescript(keys.MIGRATION)
    yield connection
    connection.close()


def test_the_one_for_all_is_replaced_each_week_and_opens_letters_a_month_longer(
    tables: sqlite3.Connection,
) -> None:
    assert keys.is_new(tables)
    first = keys.current(tables, NOW)
    assert not keys.is_new(tables)
    assert keys.current(tables, NOW + 6 * DAY) == first
    second = keys.current(tables, NOW + 7 * DAY)
    assert second[0] != first[0]
    assert keys.half_of(tables, first[0]) == first[1]
    for week in range(2, 6):
        keys.current(tables, NOW + 7 * week * DAY)
    assert keys.half_of(tables, first[0]) == first[1]
    keys.current(tables, NOW + 42 * DAY)
    assert keys.half_of(tables, first[0]) is None


@pytest.mark.parametrize("years", [-20, 20])
def test_a_clock_that_jumps_makes_another_key_and_keeps_no_old_one_for_ever(
    tables: sqlite3.Connection, years: int
) -> None:
    first = keys.current(tables, NOW)
    wrong = NOW + years * 365 * DAY
    assert keys.current(tables, wrong) != first
    assert keys.half_of(tables, first[0]) == first[1]
    for week in range(1, 7):
        keys.current(tables, NOW + 7 * week * DAY)
    (count,) = tables.execute("SELECT COUNT(*) FROM roam_prekey").fetchone()
    assert count <= 6


def test_one_that_is_for_one_letter_is_destroyed_when_that_is_safe(
    tables: sqlite3.Connection,
) -> None:
    first, second = keys.make_one_time(tables, NOW, 2)
    for_all = keys.current(tables, NOW)
    keys.settle(tables, ("alice", b"letter 1", 7), first[0], NOW)
    keys.settle(tables, ("alice", b"letter 2", 8), for_all[0], NOW)
    assert keys.half_of(tables, first[0]) is None
    assert keys.half_of(tables, second[0]) == second[1]
    assert keys.half_of(tables, for_all[0]) == for_all[1]
    assert keys.settled_place(tables, "alice", b"letter 1") == 7
    assert keys.settled_place(tables, "bob", b"letter 1") is None


def test_what_is_kept_has_a_bound(
    tables: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_MAX_ONE_TIME", 8)
    monkeypatch.setattr(keys, "_MAX_LETTERS", 8)
    made = [keys.make_one_time(tables, NOW + number, 4)[0] for number in range(5)]
    assert [keys.half_of(tables, number) is not None for number, _ in made] == [False] * 3 + [
        True
    ] * 2
    for number in range(20):
        keys.settle(tables, ("eve", bytes([number]), 1), 0, NOW + number)
    assert keys.settled_place(tables, "eve", bytes([11])) is None
    assert keys.settled_place(tables, "eve", bytes([12])) == 1
