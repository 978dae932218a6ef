"""Background work that fails alone, and work that a cancellation does not leave half done."""

import asyncio

import pytest

from relay.tasks import Tasks, uninterrupted


class Broken(Exception):
    """Nobody expects this one."""


@pytest.mark.expected_errors("a task failed")
async def test_work_that_fails_is_logged_once_and_ends_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks, going_on = Tasks(), asyncio.Event()

    async def fail() -> None:
        raise Broken

    async def work() -> None:
        await going_on.wait()

    tasks.spawn(fail())
    tasks.spawn(work())
    while len(tasks) > 1:
        await asyncio.sleep(0)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [Broken]
    going_on.set()
    await tasks.wait()
    assert len(tasks) == 0


async def test_the_end_waits_for_what_it_cancels() -> None:
    tasks, steps = Tasks(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")

    tasks.spawn(work())
    await asyncio.sleep(0)
    await tasks.close()
    assert steps == ["cleaned up"]
    assert len(tasks) == 0


async def test_a_cancellation_waits_for_the_work(caplog: pytest.LogCaptureFixture) -> None:
    gate, done = asyncio.Event(), []

    async def work() -> str:
        await gate.wait()
        done.append(True)
        return "result"

    task = asyncio.create_task(uninterrupted(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done
    assert await uninterrupted(work()) == "result"


@pytest.mark.expected_errors("work failed")
async def test_an_error_is_the_caller_s_unless_it_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()
        raise Broken

    task = asyncio.create_task(uninterrupted(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [Broken]
    with pytest.raises(Broken):
        await uninterrupted(work())


async def test_after_the_end_nothing_begins() -> None:
    tasks, begun = Tasks(), []

    async def work() -> None:
        begun.append(True)

    await tasks.close()
    ended: list[str] = []
    tasks.spawn(work(), lambda: ended.append("not begun"))
    await asyncio.sleep(0)
    assert (len(tasks), begun, ended) == (0, [], ["not begun"])


async def test_what_is_cancelled_before_its_first_step_is_ended_too() -> None:
    """Its own `finally` is never come to: once a socket stayed open by that."""
    tasks, seen = Tasks(), []

    async def work() -> None:
        try:
            seen.append("begun")
        finally:
            seen.append("finally")

    tasks.spawn(work(), lambda: seen.append("ended"))
    await tasks.close()
    await asyncio.sleep(0)
    assert seen == ["ended"]
