"""Work that is done unless something else comes first."""

import asyncio

import pytest

from peers.tasks.waiting import unless


async def test_the_result_is_returned_and_an_error_raised() -> None:
    event = asyncio.Event()

    async def work() -> int:
        return 7

    async def fails() -> int:
        raise ValueError("no")

    assert await unless(event, work) == 7
    with pytest.raises(ValueError, match="no"):
        await unless(event, fails)


async def test_the_event_cancels_the_work_unless_it_must_go_on() -> None:
    event = asyncio.Event()
    release = asyncio.Event()
    cancelled = []

    async def work() -> int:
        try:
            await release.wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return 7

    asyncio.get_running_loop().call_soon(event.set)
    assert await unless(event, work) is None
    assert cancelled == [True]
    going = asyncio.create_task(unless(event, work, keep=lambda: True))
    asyncio.get_running_loop().call_later(0.01, release.set)
    assert await going == 7


async def test_a_result_that_comes_with_a_cancellation_is_discarded() -> None:
    discarded: list[int] = []

    async def work() -> int:
        outer.cancel()  # In the very turn in which it is done.
        return 7

    async def wait() -> None:
        await unless(asyncio.Event(), work, discard=discarded.append)

    outer = asyncio.create_task(wait())
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert discarded == [7]
