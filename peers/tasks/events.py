"""Events for whoever follows them: each reader has its own queue, with its own bound."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from peers.tasks.guard import check_loop, running_loop

__all__ = ["EventQueue"]

_T = TypeVar("_T")
_LIMIT = 64
"""Events that wait for one reader; beyond it the oldest is dropped."""


class EventQueue(Generic[_T]):
    """Events for any number of readers, each with its own bound."""

    __slots__ = ("_closed", "_readers")

    def __init__(self) -> None:
        self._readers: list[_Reader[_T]] = []
        self._closed = False

    def put(self, event: _T) -> None:
        """Give an event to every reader."""
        for reader in self._readers:
            reader.waiting.append(event)
            reader.wake.set()

    def close(self) -> None:
        """No more events follow: the readers end when they have read what waits."""
        self._closed = True
        for reader in self._readers:
            reader.wake.set()

    def subscribe(self, now: _T) -> AsyncIterator[_T]:
        """Return an iterator that begins with how it is now, so that nothing is missed between
        looking and listening."""
        reader = _Reader[_T](running_loop())
        reader.waiting.append(now)
        self._readers.append(reader)
        return self._read(reader)

    async def _read(self, reader: "_Reader[_T]") -> AsyncIterator[_T]:
        check_loop(reader.loop, "who follows these events")
        try:
            while True:
                while reader.waiting:
                    yield reader.waiting.popleft()
                if self._closed:
                    return
                reader.wake.clear()
                await reader.wake.wait()  # No timeout: when it comes is not ours to decide.
        finally:
            self._readers.remove(reader)


class _Reader(Generic[_T]):
    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop
        """Where it was made, and where it must be read; None where there was none."""
        self.waiting: deque[_T] = deque(maxlen=_LIMIT)
        self.wake = asyncio.Event()
