"""Background tasks: they have an owner, and cannot end it."""

import asyncio
import logging

import pytest

from peers.tasks import Tasks


@pytest.mark.expected_errors("nobody thought of it")
async def test_what_a_task_did_not_expect_ends_what_it_was_for_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = Tasks()
    ended: list[Exception] = []
    going_on = asyncio.Event()

    async def fails() -> None:
        raise KeyError("nobody thought of it")

    other = tasks.spawn(waits(going_on))
    with caplog.at_level(logging.ERROR, "peers"):
        failing = tasks.spawn(fails(), ended.append)
        assert failing is not None
        await failing
    assert [type(error) for error in ended] == [KeyError]
    assert [record.exc_info is not None for record in caplog.records] == [True]
    assert other is not None
    assert not other.done()
    going_on.set()
    await other
    await tasks.close()


async def test_closing_ends_every_task_and_lets_none_begin() -> None:
    tasks = Tasks()
    never = asyncio.Event()
    running = [tasks.spawn(waits(never)) for _ in range(3)]
    await tasks.close()
    assert len(tasks) == 0
    assert all(task is not None and task.cancelled() for task in running)
    assert tasks.spawn(waits(never)) is None


async def test_a_closing_that_is_cancelled_still_ends_every_task() -> None:
    tasks = Tasks()
    never, may_end = asyncio.Event(), asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await never.wait()
        finally:
            await may_end.wait()

    task = tasks.spawn(slow_to_end())
    assert task is not None
    await asyncio.sleep(0)
    closing = asyncio.create_task(tasks.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(tasks) == 0


async def test_a_task_may_close_its_own_owner() -> None:
    tasks = Tasks()
    task = tasks.spawn(tasks.close())
    assert task is not None
    await task
    assert len(tasks) == 0


async def waits(event: asyncio.Event) -> None:
    await event.wait()
