"""How long sessions without a path pause: a second, unless many search."""

import contextlib
from itertools import islice
from random import Random

import pytest

from peers.roaming.pauses import Pauses


def pauses_of(guid: str, *searching: str, told: bool = False, count: int = 12) -> list[float]:
    pauses = Pauses(lambda: 1.0)
    with contextlib.ExitStack() as stack:
        for one in searching:
            stack.enter_context(pauses.searching(one))
        return list(islice(pauses.series(guid, lambda: told), count))


def test_they_grow_to_a_second() -> None:
    assert pauses_of("a", "a", count=6) == [0.25, 0.5, 1.0, 1.0, 1.0, 1.0]


def test_they_are_at_random() -> None:
    random = Random(1)
    waits = list(islice(Pauses(random.random).series("a", lambda: False), 3, 100))
    assert 0.5 <= min(waits) < 0.6
    assert 0.9 < max(waits) <= 1.0


def test_who_will_be_told_need_not_ask() -> None:
    assert pauses_of("a", "a", told=True)[-3:] == [30.0, 30.0, 30.0]
    told = True
    series = Pauses(lambda: 1.0).series("a", lambda: told)
    assert list(islice(series, 10))[-1] == 30.0
    told = False
    assert next(series) == 1.0, "at once, when the sign will not come after all"


@pytest.mark.parametrize(
    ("searching", "longest"),
    [
        (["a"] * 16, 1.0),
        (["a"] * 64, 4.0),
        (["b"] * 100, 1.0),  # Another one's many do not make this one's wait long,
        ([str(number) for number in range(200)], 2.0),  # but for what is too much for all.
        (["a"] * 100_000, 30.0),
    ],
)
def test_many_that_search_pause_longer_each_share_for_itself(
    searching: list[str], longest: float
) -> None:
    assert pauses_of("a", *searching)[-1] == longest


def test_who_has_a_path_again_counts_no_more() -> None:
    pauses = Pauses(lambda: 1.0)
    series = pauses.series("a", lambda: False)
    with contextlib.suppress(KeyError), contextlib.ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(pauses.searching("a"))
        assert list(islice(series, 8))[-1] == 4.0
        raise KeyError
    assert next(series) == 1.0
