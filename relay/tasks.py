"""Tasks that belong to somebody, and work that a cancellation may not leave half done."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from relay.log import guarded, log

__all__ = ["Spawn", "Tasks", "closing", "uninterrupted"]

_T = TypeVar("_T")

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None], Callable[[], None]], None]
"""Starts work, and calls the other function when it is over, or was never begun."""


class Tasks:
    """Work in the background. What nobody expected of one is logged, once, and ends it alone."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def spawn(
        self, work: Coroutine[Any, Any, None], ended: Callable[[], None] | None = None
    ) -> None:
        """Start work that is cancelled at the latest by `close`; after that, do nothing. `ended` is
        called when it is over in any way: work that is cancelled before its first step, or not
        started any more, never comes to its own `finally`."""
        if self._closed:
            work.close()
            if ended is not None:
                ended()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        if ended is not None:
            task.add_done_callback(lambda _: ended())

    def __len__(self) -> int:
        return len(self._tasks)

    async def wait(self) -> None:
        """Wait until all work has ended by itself."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Cancel all work and wait until it has ended. None is started any more."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task failed", exc_info=error)


async def uninterrupted(work: Coroutine[Any, Any, _T]) -> _T:
    """Do work to its end. Who is cancelled meanwhile learns it then: a socket that is half open, or
    half closed, has no owner.

    The work must end by itself, and soon: nobody can stop it.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as caught:
            cancelled = caught
    if cancelled is not None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("work failed while it was cancelled", exc_info=error)
        raise cancelled
    return task.result()


@contextlib.asynccontextmanager
async def closing(what: str, close: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Close something at the end; what fails there keeps nothing else from being closed."""
    try:
        yield
    finally:
        with guarded(f"closing {what}"):
            await close()
