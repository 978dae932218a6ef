"""Tasks in the background: each has an owner, and none can end it.

What a task did not expect is logged once, with its traceback, and ends the one thing that the task
was for: never its owner, nor what else the owner does.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Spawn", "Tasks"]

_log = logging.getLogger("peers")

_END = 10.0
"""Seconds that a task may take to clean up when it was cancelled; each step has less. One that runs
the program's own code may swallow the cancellation."""

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None] | None"]
"""Gives a coroutine a task with an owner; None where the owner is closed."""


class Tasks:
    """The background tasks of one owner. `close` ends them all; nothing is spawned after it."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._running)

    def spawn(
        self,
        work: Coroutine[Any, Any, None],
        ends: Callable[[Exception], object] | None = None,
    ) -> "asyncio.Task[None] | None":
        """Run the work in a task; return None, and do not run it, where all is closed.

        `ends` gets what the work did not expect, to end the session or the flow that it was for;
        it must not raise.
        """
        if self._closed:
            work.close()
            return None
        task = asyncio.get_running_loop().create_task(self._guarded(work, ends))
        self._running.add(task)
        task.add_done_callback(lambda task: self._ended(task, work))
        return task

    async def close(self) -> None:
        """Cancel every task, and return when all have ended.

        The caller may be cancelled: the tasks end all the same, and nothing is spawned any more.
        """
        self._closed = True
        tasks = self._running - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            _, stubborn = await asyncio.wait(tasks, timeout=_END)
            for task in stubborn:
                _log.warning("a task does not end although it was cancelled: %r", task)

    def _ended(self, task: "asyncio.Task[None]", work: Coroutine[Any, Any, None]) -> None:
        self._running.discard(task)
        work.close()  # One that was cancelled before it began has never run.

    async def _guarded(
        self, work: Coroutine[Any, Any, None], ends: Callable[[Exception], object] | None
    ) -> None:
        try:
            await work
        except Exception as error:
            _log.error("unexpected in the background: %r", error, exc_info=error)
            if ends is not None:
                ends(error)
