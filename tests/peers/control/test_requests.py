"""What waits for an answer: numbers that nobody shares, and nothing left behind."""

import asyncio
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.control.requests import Answers, Unanswered
from protocol.errors import RelayUnavailable


def answers(first: int = 0) -> Answers[str]:
    return Answers(asyncio.get_running_loop(), first)


async def test_an_answer_goes_to_who_waits_for_its_number() -> None:
    table = answers()
    with table.expect() as (one, first), table.expect() as (two, second):
        assert one != two
        table.answer(two, "two")
        table.answer(one, "one")
        assert (await first, await second) == ("one", "two")
    assert len(table) == 0


async def test_a_late_or_second_answer_is_for_nobody() -> None:
    table = answers()
    with table.expect() as (number, answer):
        table.answer(number, "first")
        table.answer(number, "second")
        table.fail(RelayUnavailable("too late"))
        assert await answer == "first"
    table.answer(number, "late")
    table.answer(12345, "never asked")
    assert len(table) == 0


@pytest.mark.parametrize(
    "way", ["error", "timeout", "cancelled", "failed", "failed unseen", "failed and cancelled"]
)
async def test_every_way_out_releases_the_number(way: str) -> None:
    table = answers()
    unseen: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))

    async def wait() -> None:
        with table.expect(3) as (_, answer):
            if way == "error":
                raise KeyError(way)
            if way == "failed unseen":
                table.fail(RelayUnavailable("gone"))
                return
            async with asyncio.timeout(0.01 if way == "timeout" else 5):
                await answer

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    if way == "cancelled":
        task.cancel()
    if way == "failed and cancelled":
        table.fail(RelayUnavailable("gone"))
        task.cancel()
    if way == "failed":
        table.fail(RelayUnavailable("gone"))
    await asyncio.wait({task})
    ended = asyncio.CancelledError if task.cancelled() else type(task.exception())
    assert (
        ended
        is {
            "error": KeyError,
            "timeout": TimeoutError,
            "cancelled": asyncio.CancelledError,
            "failed": RelayUnavailable,
            "failed unseen": type(None),
            "failed and cancelled": asyncio.CancelledError,
        }[way]
    )
    assert len(table) == 0
    del task
    gc.collect()
    assert unseen == []


async def test_a_number_that_waits_is_not_given_again_when_they_go_round() -> None:
    table = answers(first=1)
    table._next = 2**32 - 1
    with table.expect(1), table.expect(2), table.expect() as (last, _):
        assert last == 2**32 - 1
        with table.expect() as (number, _):
            assert number == 3
        with pytest.raises(ValueError, match="waits already"), table.expect(2):
            pass
        assert len(table) == 3


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=40))
def test_each_request_gets_one_answer_at_most(story: list[tuple[bool, int]]) -> None:
    unanswered = Unanswered()
    open_ = set()
    for arrives, number in story:
        if arrives:
            unanswered.arrived(number)
            open_.add(number)
        else:
            assert unanswered.take(number) is (number in open_)
            open_.discard(number)
        assert len(unanswered) == len(open_)


def test_of_too_many_the_oldest_is_forgotten() -> None:
    unanswered = Unanswered(limit=3)
    for number in (1, 2, 3, 1, 4):
        unanswered.arrived(number)
    assert [unanswered.take(number) for number in (1, 2, 3, 4)] == [True, False, True, True]
