"""Waiting for one thing to become possible, or for work unless something else comes first."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["Waiters", "unless"]

_T = TypeVar("_T")


async def unless(
    event: asyncio.Event,
    make: Callable[[], Coroutine[Any, Any, _T]],
    *,
    keep: Callable[[], bool] = lambda: False,
    discard: Callable[[_T], None] = lambda result: None,
) -> _T | None:
    """Do the work and return its result; where the event is set before that, cancel it and return
    None, unless it says then that it must go on (`keep`). Each work has timeouts of its own. What
    cannot be returned, as the caller was cancelled in the same moment, is discarded."""
    loop = asyncio.get_running_loop()
    doing, changed = loop.create_task(make()), loop.create_task(event.wait())
    try:
        await asyncio.wait({doing, changed}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done() and keep():
            await asyncio.wait({doing})
    except BaseException:
        if doing.done() and not doing.cancelled() and doing.exception() is None:
            discard(doing.result())
        raise
    finally:
        for task in (doing, changed):
            task.cancel()
        await asyncio.gather(doing, changed, return_exceptions=True)
    return None if doing.cancelled() else doing.result()


class Waiters:
    """Any number of tasks; `wake` lets all of them look again."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: set[asyncio.Future[None]] | None = None
        """None where nobody waits: an empty set takes 0.2 KiB."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    async def wait(self) -> None:
        """Wait for `wake`. May be cancelled."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        waiting = self._waiting
        if waiting is None:
            waiting = self._waiting = set()
        waiting.add(waiter)
        try:
            await waiter
        finally:
            waiting.discard(waiter)
            if not waiting:
                self._waiting = None

    def wake(self) -> None:
        """Let all that wait go on."""
        for waiter in self._waiting or ():
            if not waiter.done():
                waiter.set_result(None)
