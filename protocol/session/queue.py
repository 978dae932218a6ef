"""Queues that take no room while nothing is in them.

An empty deque takes 0.75 KiB, and a session has four, which are empty while it is quiet. So each
begins as `NOTHING`, which all sessions share; who puts something in takes `filled` before, and who
has been quiet for a while lets go of what is empty (`spared`).
"""

from collections import deque
from typing import Any, Never, TypeVar

__all__ = ["NOTHING", "filled", "spared"]

_T = TypeVar("_T")


class _Nothing(deque[Any]):
    """Empty, and stays so: what one session put in, all would find."""

    def append(self, value: Any) -> Never:
        raise RuntimeError("an append to the queue of nobody")

    appendleft = append
    extend = append
    extendleft = append


NOTHING: deque[Any] = _Nothing()


def filled(queue: deque[_T]) -> deque[_T]:
    """Return this queue, or one of the caller's own in place of `NOTHING`, to put something in."""
    return deque() if queue is NOTHING else queue


def spared(queue: deque[_T]) -> deque[_T]:
    """Return this queue, or `NOTHING` where it is empty."""
    return queue or NOTHING
