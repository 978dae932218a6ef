"""Tasks that wait for one thing to become possible."""

import asyncio

__all__ = ["Waiters"]


class Waiters:
    """Any number of tasks; `wake` lets all of them look again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self) -> None:
        """Wait for `wake`. May be cancelled."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)

    def wake(self) -> None:
        """Let all that wait go on."""
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
