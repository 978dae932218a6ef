"""How much something does, whatever the machine: function calls are counted, and no time is."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["TooManyCalls", "calls_of"]


class TooManyCalls(BaseException):
    """It was still at it. Nothing that catches errors catches this."""


def calls_of(work: Callable[[], object], most: int) -> int:
    """Return how many functions `work` has called, those of C among them.

    Raises:
        TooManyCalls: more than `most`; it was ended there.
    """
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        if event in ("call", "c_call"):
            calls += 1
            if calls > most:
                sys.setprofile(None)
                raise TooManyCalls(f"more than {most} calls")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls
