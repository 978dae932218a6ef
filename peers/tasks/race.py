"""Trying several things, of which one is enough (RFC 8305)."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from protocol.errors import PathFailed, RoamRelayError, WrongIdentity

__all__ = ["race"]

_T = TypeVar("_T")


async def race(
    attempts: Sequence[Callable[[], Coroutine[Any, Any, _T]]],
    *,
    stagger: float,
    discard: Callable[[_T], None],
) -> _T:
    """Return the result of the first attempt that succeeds; cancel and `discard` the others.

    Raises:
        WrongIdentity: the only thing that any attempt met was another peer.
        PathFailed: none succeeded; lists what each said. A single attempt's own error is raised
            as it is.
    """
    errors: list[RoamRelayError] = []
    won: list[_T] = []
    changed = asyncio.Event()

    async def attempt(make: Callable[[], Coroutine[Any, Any, _T]]) -> None:
        try:
            result = await make()
        except RoamRelayError as error:
            errors.append(error)
        else:
            if won:
                discard(result)
            else:
                won.append(result)
        changed.set()

    try:
        async with asyncio.TaskGroup() as tasks:
            running: list[asyncio.Task[None]] = []
            for make in attempts:
                changed.clear()
                running.append(tasks.create_task(attempt(make)))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(stagger):
                        await changed.wait()
                if won:
                    break
            while not won and len(errors) < len(running):
                changed.clear()
                await changed.wait()  # Each attempt has a timeout of its own.
            for task in running:
                task.cancel()
    except BaseException:
        for result in won:
            discard(result)
        raise
    if won:
        return won[0]
    if len(errors) == 1 or (errors and all(isinstance(error, WrongIdentity) for error in errors)):
        raise errors[0]
    raise PathFailed("no endpoint could be reached", tuple(error.reason for error in errors))
