"""A command as a process: its loop, the signals that end it, and its standard output's end."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

__all__ = ["INTERRUPTED", "Ended", "ended_by_signals", "let_go_of_output", "run"]

INTERRUPTED = 128 + signal.SIGINT
_ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""The signals that end a command cleanly; its exit code is 128 and the signal's number."""
_HANGUP = getattr(signal, "SIGHUP", None)
"""Never hurries: a terminal that closes sends it twice, itself and by its shell."""


class Ended(SystemExit):
    """A signal ends the command before it has a loop; the code is 128 and the signal's number."""


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let signals end what is done in this block without a word, with all closed that was opened.
    What is ignored stays so, and who has a loop has handlers of its own meanwhile."""

    def end(number: int, frame: object) -> None:
        raise Ended(128 + number)

    former: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                former[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


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
    running = _until_signal(work)
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(running)
    finally:
        # Where a signal came before they had begun.
        running.close()
        work.close()


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
