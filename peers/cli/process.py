"""A command as a process: its loop, the signals that end it, and its standard output's end."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["INTERRUPTED", "let_go_of_output", "run"]

INTERRUPTED = 128 + signal.SIGINT
_ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""The signals that end a command cleanly; its exit code is 128 and the signal's number."""
_HANGUP = getattr(signal, "SIGHUP", None)
"""Never hurries: a terminal that closes sends it twice, itself and by its shell."""


def run(work: Coroutine[Any, Any, int]) -> int:
    """Do work in a loop of its own and return its exit code, or that of the signal that has ended
    it."""
    if sys.platform == "win32":
        try:
            return asyncio.run(work)
        except KeyboardInterrupt:
            return INTERRUPTED
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ModuleNotFoundError):  # Then asyncio's own loop does, more slowly.
        from uvloop import new_event_loop

        factory = new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_until_signal(work))


async def _until_signal(work: Coroutine[Any, Any, int]) -> int:
    """Return the exit code of work; the first signal ends it cleanly, the second one at once."""
    loop = asyncio.get_running_loop()
    running = loop.create_task(work)
    came: list[int] = []

    def end(number: int) -> None:
        if not came:
            came.append(number)
            running.cancel()
        elif number != _HANGUP:
            os._exit(128 + number)

    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # As nohup does, and `&` in a script.
            loop.add_signal_handler(number, end, number)
    try:
        return await running
    except asyncio.CancelledError:
        if not came:
            raise
        return 128 + came[0]


def let_go_of_output() -> None:
    """What could not be printed is not tried again at the interpreter's end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
