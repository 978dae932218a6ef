"""Attempts that run side by side, of which each is over with a result or with an error of ours."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from protocol.errors import Code, PathFailed, RoamRelayError, WrongIdentity

__all__ = ["Attempts", "failure_of"]

_log = logging.getLogger("peers")
_T = TypeVar("_T")


class Attempts(Generic[_T]):
    """The attempts of one owner: `async with` ends those that are left, and what they have brought
    is discarded. An attempt that raises what is no `RoamRelayError` has failed, and the fault is
    logged once; nothing but a cancellation comes out of here."""

    def __init__(self, discard: Callable[[_T], object]) -> None:
        self._discard = discard
        self._running: dict[asyncio.Task[_T], int] = {}

    def __len__(self) -> int:
        return len(self._running)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        left, self._running = self._running, {}
        for task in left:
            task.cancel()
            task.add_done_callback(self._ended_late)
        if left:
            # No timeout: what was cancelled cleans up and ends, each step with its own.
            await asyncio.wait(left)

    def start(self, number: int, work: Coroutine[Any, Any, _T]) -> None:
        """Begin an attempt; `number` says which."""
        self._running[asyncio.get_running_loop().create_task(work)] = number

    async def over(self, timeout: float | None) -> list[tuple[int, _T | RoamRelayError]]:
        """Wait until at least one is over, or for `timeout` seconds (None: each has its own), and
        return those that are over with what came of them, by number. Results are the caller's."""
        if not self._running:
            await asyncio.sleep(timeout or 0)
            return []
        done, _ = await asyncio.wait(
            self._running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )
        ended = sorted((self._running.pop(task), task) for task in done)
        return [(number, _result_of(task)) for number, task in ended]

    def _ended_late(self, task: "asyncio.Task[_T]") -> None:
        result = None if task.cancelled() else _result_of(task)
        if result is not None and not isinstance(result, RoamRelayError):
            self._discard(result)


def _result_of(task: "asyncio.Task[_T]") -> _T | RoamRelayError:
    if task.cancelled():
        return RoamRelayError("an attempt was cancelled from inside", code=Code.INTERNAL)
    # Not raised here: it would hold this frame, and that the task, which holds the error.
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, RoamRelayError):
        return error
    if not isinstance(error, Exception):
        raise error
    _log.error("unexpected in an attempt: %r", error, exc_info=error)
    return RoamRelayError(f"unexpected: {error!r}", code=Code.INTERNAL)


def failure_of(errors: list[RoamRelayError]) -> RoamRelayError:
    """Return what is said where all attempts have failed: the error of a single one, or that
    another peer is everywhere, or what each said."""
    if len(errors) == 1 or (errors and all(isinstance(error, WrongIdentity) for error in errors)):
        return errors[0]
    return PathFailed("no endpoint could be reached", tuple(error.reason for error in errors))
