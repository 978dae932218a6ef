"""What a program may follow of a session beside its messages: the paths under it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from peers.path import Path

__all__ = ["EventQueue", "PathChanged"]

_LIMIT = 64
"""Events that wait for one reader; beyond it the oldest is dropped."""


@dataclass(frozen=True, slots=True)
class PathChanged:
    """The session has taken another path, or has lost its path and looks for the next."""

    path: Path | None
    """The path from now on; None while there is none."""
    reason: str


class EventQueue:
    """Events for any number of readers, each with its own bound."""

    def __init__(self) -> None:
        self._readers: list[_Reader] = []
        self._closed = False

    def put(self, event: PathChanged) -> None:
        """Give an event to every reader."""
        for reader in self._readers:
            reader.waiting.append(event)
            reader.wake.set()

    def close(self) -> None:
        """No more events follow: the readers end when they have read what waits."""
        self._closed = True
        for reader in self._readers:
            reader.wake.set()

    def subscribe(self, now: PathChanged) -> AsyncIterator[PathChanged]:
        """Return an iterator that begins with how it is now, so that nothing is missed between
        looking and listening."""
        reader = _Reader()
        reader.waiting.append(now)
        self._readers.append(reader)
        return self._read(reader)

    async def _read(self, reader: "_Reader") -> AsyncIterator[PathChanged]:
        try:
            while True:
                while reader.waiting:
                    yield reader.waiting.popleft()
                if self._closed:
                    return
                reader.wake.clear()
                await reader.wake.wait()  # No timeout: when a path changes is not ours to decide.
        finally:
            self._readers.remove(reader)


class _Reader:
    def __init__(self) -> None:
        self.waiting: deque[PathChanged] = deque(maxlen=_LIMIT)
        self.wake = asyncio.Event()
