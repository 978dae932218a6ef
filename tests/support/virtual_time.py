"""An event loop whose clock jumps to the next timer: for code that waits and does no I/O.

What it runs depends on the order of timers alone, never on how busy the machine is.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run"]

_T = TypeVar("_T")


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    """Where nothing is ready, the wait is over at once and the clock has advanced."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready: list[Any] = super().select(0)
        if not ready and timeout is not None:
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; a wait without end that nothing will end hangs the test."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)
