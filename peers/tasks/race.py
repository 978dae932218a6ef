"""Trying several things, of which one is enough (RFC 8305)."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from peers.tasks.attempts import Attempts, failure_of
from protocol.errors import RoamRelayError

__all__ = ["race"]

_T = TypeVar("_T")


async def race(
    attempts: Sequence[Callable[[], Coroutine[Any, Any, _T]]],
    *,
    stagger: float,
    discard: Callable[[_T], None],
) -> _T:
    """Return the result of the first attempt that succeeds; cancel and `discard` the others. The
    next one begins `stagger` seconds after the last, or as soon as any has failed.

    Raises:
        WrongIdentity: the only thing that any attempt met was another peer.
        PathFailed: none succeeded; lists what each said. A single attempt's own error is raised
            as it is.
    """
    errors: list[RoamRelayError] = []
    won: list[_T] = []
    left = list(enumerate(attempts))
    try:
        async with Attempts(discard) as running:
            while not won and (left or running):
                if left:
                    number, make = left.pop(0)
                    running.start(number, make())
                for _, result in await running.over(stagger if left else None):
                    if isinstance(result, RoamRelayError):
                        errors.append(result)
                    else:
                        won.append(result)
    except BaseException:
        for result in won:
            discard(result)
        raise
    for result in won[1:]:
        discard(result)
    if won:
        return won[0]
    raise failure_of(errors)
