"""The first of several: on a clock that jumps, whatever the attempts do."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.tasks import race
from protocol.errors import Code, PathFailed, RoamRelayError, WrongIdentity
from tests.support.virtual_time import run

Attempt = Callable[[], Coroutine[Any, Any, str]]


class Attempts:
    """Attempts that take seconds and then have a result, or raise; notes what becomes of them."""

    def __init__(self, *fates: tuple[float, str | BaseException]) -> None:
        self.fates = fates
        self.started: list[tuple[int, float]] = []
        self.made: list[str] = []
        self.discarded: list[str] = []

    def attempt(self, number: int) -> Attempt:
        async def attempt() -> str:
            seconds, fate = self.fates[number]
            self.started.append((number, asyncio.get_running_loop().time()))
            await asyncio.sleep(seconds)
            if isinstance(fate, BaseException):
                raise fate
            self.made.append(fate)
            return fate

        return attempt

    async def race(self, stagger: float = 0.25) -> str:
        return await race(
            [self.attempt(number) for number in range(len(self.fates))],
            stagger=stagger,
            discard=self.discarded.append,
        )


def failed(reason: str = "no") -> RoamRelayError:
    return PathFailed(reason)


def test_the_next_begins_after_the_stagger_or_when_one_has_failed() -> None:
    attempts = Attempts((0.1, failed()), (1.0, failed()), (0.05, "won"))
    assert run(attempts.race()) == "won"
    assert attempts.started == [(0, 0.0), (1, pytest.approx(0.1)), (2, pytest.approx(0.35))]


def test_without_a_stagger_all_begin_at_once() -> None:
    attempts = Attempts((3.0, "late"), (1.0, "won"), (2.0, "late"))
    assert run(attempts.race(stagger=0)) == "won"
    assert [when for _, when in attempts.started] == [0.0, 0.0, 0.0]
    assert not attempts.discarded


def test_what_is_won_in_the_same_moment_is_discarded() -> None:
    attempts = Attempts((1.0, "one"), (1.0, "two"), (1.0, "three"))
    assert run(attempts.race(stagger=0)) == "one"
    assert attempts.discarded == ["two", "three"]


def test_all_failed_tells_what_each_said_and_one_alone_its_own() -> None:
    with pytest.raises(PathFailed, match=r"one.*two"):
        run(Attempts((0.1, failed("one")), (0.1, failed("two"))).race())
    with pytest.raises(RoamRelayError, match=r"^only$") as alone:
        run(Attempts((0.1, RoamRelayError("only", code=Code.INTERNAL))).race())
    assert type(alone.value) is RoamRelayError
    with pytest.raises(WrongIdentity):
        run(Attempts(*[(0.1, WrongIdentity("a", "b", "there"))] * 2).race())
    with pytest.raises(PathFailed, match="no endpoint"):
        run(Attempts().race())


@pytest.mark.expected_errors("unexpected in an attempt")
def test_what_nobody_expected_is_one_logged_fault_and_a_failed_attempt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR, "peers"):
        assert run(Attempts((0.1, KeyError("who")), (0.1, "won")).race()) == "won"
    assert [record.exc_info is not None for record in caplog.records] == [True]
    caplog.clear()
    with pytest.raises(RoamRelayError, match="KeyError") as alone:
        run(Attempts((0.1, KeyError("who"))).race())
    assert alone.value.code is Code.INTERNAL
    with pytest.raises(PathFailed, match=r"no.*KeyError"):
        run(Attempts((0.1, failed()), (0.1, KeyError("who"))).race())


def test_an_attempt_that_is_cancelled_from_inside_has_failed() -> None:
    assert run(Attempts((0.1, asyncio.CancelledError()), (0.1, "won")).race()) == "won"


def test_a_result_that_comes_with_a_cancellation_is_discarded() -> None:
    async def scene() -> list[str]:
        discarded: list[str] = []

        async def work() -> str:
            outer.cancel()  # In the very turn in which it is done.
            return "made"

        async def wait() -> None:
            await race([work], stagger=0.25, discard=discarded.append)

        outer = asyncio.create_task(wait())
        with pytest.raises(asyncio.CancelledError):
            await outer
        return discarded

    assert run(scene()) == ["made"]


def test_a_loser_that_succeeds_all_the_same_is_discarded() -> None:
    async def scene() -> list[str]:
        discarded: list[str] = []

        async def stubborn() -> str:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                await asyncio.sleep(1)
            return "stubborn"

        async def quick() -> str:
            await asyncio.sleep(0.1)
            return "quick"

        assert await race([stubborn, quick], stagger=0, discard=discarded.append) == "quick"
        return discarded

    assert run(scene()) == ["stubborn"]


@given(
    fates=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.1, 0.25, 0.3, 1.0]),
            st.sampled_from(["made", "failed", "fault"]),
        ),
        max_size=5,
    ),
    stagger=st.sampled_from([0.0, 0.1, 0.25]),
    cancelled=st.none() | st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.35, 1.0]),
)
@pytest.mark.expected_errors("unexpected in an attempt")
def test_everything_that_was_made_is_returned_or_discarded_once(
    fates: list[tuple[float, str]], stagger: float, cancelled: float | None
) -> None:
    kinds = {"failed": failed(), "fault": KeyError("who")}
    attempts = Attempts(
        *((seconds, kinds.get(kind, f"{number}")) for number, (seconds, kind) in enumerate(fates))
    )

    async def scene() -> list[str]:
        try:
            async with asyncio.timeout(cancelled):
                return [await attempts.race(stagger)]
        except (RoamRelayError, TimeoutError):
            return []

    returned = run(scene())
    assert sorted(returned + attempts.discarded) == sorted(attempts.made)
