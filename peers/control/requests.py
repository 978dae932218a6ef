"""What waits for an answer on one connection, and what waits for ours.

A number is never given to two that wait at once, and each that waits is released on every way out.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Generic, TypeVar

from protocol.errors import RoamRelayError

__all__ = ["Answers", "Unanswered"]

_T = TypeVar("_T")

_NUMBERS = 2**32
"""A request's number is below it on the wire."""
_MAX_UNANSWERED = 4096
"""Requests of others that may wait for our answer; beyond it the oldest gets none from here: the
relay answers in our place when its time is over."""


class Answers(Generic[_T]):
    """The answers that are waited for, by number. Numbers begin at `first` and go round."""

    def __init__(self, loop: asyncio.AbstractEventLoop, first: int = 0) -> None:
        self._loop = loop
        self._first = self._next = first
        self._waiting: dict[int, asyncio.Future[_T]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @contextlib.contextmanager
    def expect(self, number: int | None = None) -> Iterator[tuple[int, asyncio.Future[_T]]]:
        """Wait for an answer inside: to this number, or to a free one. Gives number and future.

        Raises:
            ValueError: this number waits already.
        """
        number = self._free() if number is None else number
        if number in self._waiting:
            raise ValueError(f"number {number} waits already")
        answer = self._waiting[number] = self._loop.create_future()
        try:
            yield number, answer
        finally:
            del self._waiting[number]
            answer.cancel()

    def answer(self, number: int, answer: _T) -> None:
        """Give an answer to who waits for it. One that comes late is for nobody."""
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def fail(self, error: RoamRelayError) -> None:
        """Raise this in everybody that waits now."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # Who waited may have left in this very moment.

    def _free(self) -> int:
        while self._next in self._waiting:
            self._advance()
        number = self._next
        self._advance()
        return number

    def _advance(self) -> None:
        self._next = self._next + 1 if self._next + 1 < _NUMBERS else self._first


class Unanswered:
    """Requests from others that have no answer yet: each gets one."""

    def __init__(self, limit: int = _MAX_UNANSWERED) -> None:
        self._limit = limit
        self._numbers: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def arrived(self, number: int) -> None:
        """Note a request."""
        self._numbers.pop(number, None)
        self._numbers[number] = None
        if len(self._numbers) > self._limit:
            del self._numbers[next(iter(self._numbers))]

    def take(self, number: int) -> bool:
        """Return whether an answer may be sent now; the next one for this number may not."""
        if number not in self._numbers:
            return False
        del self._numbers[number]
        return True
