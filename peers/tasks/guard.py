"""Where the program's code and ours meet: what its functions raise is the program's error and not
our end, and what it calls must be called in the loop that it belongs to."""

import asyncio
import contextlib
from collections.abc import Iterator

from protocol.errors import CallbackFailed, RoamRelayError, UsageError

__all__ = ["calling", "check_loop", "running_loop"]


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread now, if there is one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def check_loop(loop: asyncio.AbstractEventLoop | None, what: str) -> None:
    """Refuse a call from another thread, or from another event loop, before it does anything. What
    belongs to no loop may be called from everywhere.

    Raises:
        UsageError: says what to do.
    """
    if loop is None or running_loop() is loop:
        return
    if loop.is_closed():
        raise UsageError(
            f"{what} belongs to an event loop that has ended: open a peer in each asyncio.run()"
        )
    raise UsageError(
        f"{what} belongs to another event loop, or thread: from there, call it by "
        "asyncio.run_coroutine_threadsafe(..., loop), or use peers.blocking (docs/programs.md)"
    )


@contextlib.contextmanager
def calling(what: str) -> Iterator[None]:
    """Turn whatever the program's own function raises inside into `CallbackFailed`, with the
    original as its cause; `what` names the function as the program knows it (`select`)."""
    try:
        yield
    except RoamRelayError:
        raise
    except Exception as error:
        raise CallbackFailed(f"{what} raised {type(error).__name__}: {error}") from error
