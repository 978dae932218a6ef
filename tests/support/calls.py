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
        if event in ("call", "c_call") and not _is_fuzzer(frame, event, argument):
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


def _is_fuzzer(frame: FrameType, event: str, argument: Any) -> bool:
    """Whether a call is one that atheris has put into the code, to see which way it takes."""
    if event == "call":
        module = frame.f_globals.get("__name__")
    else:
        module = getattr(argument, "__module__", None)
    return isinstance(module, str) and module.startswith("atheris")
