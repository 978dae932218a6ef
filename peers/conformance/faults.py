"""What a check says of the party under test: that it breaks a rule, or that it could not be asked.

And how long a check waits for anything. Which rule it is about is the check's own.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

__all__ = [
    "PATIENCE",
    "QUIET",
    "Fault",
    "NotApplicable",
    "NotTried",
    "ended",
    "set_patience",
    "within",
]

PATIENCE = 8.0
"""Seconds for what the other party must do at once: a busy machine has time for it. A run may have
another one."""
_patience = ContextVar("patience", default=PATIENCE)
QUIET = 0.25
"""Seconds for which nothing may come where nothing is to come."""


class Fault(Exception):
    """The party under test does not do what a rule says."""


class NotTried(Exception):
    """The check could not be made: the adapter does not know a command."""


class NotApplicable(Exception):
    """The check is of something that this party has no part in, as direct paths of a page's."""


def set_patience(seconds: float) -> None:
    """Wait so long from now on, in this run, for what must come at once."""
    _patience.set(seconds)


@asynccontextmanager
async def within(what: str, seconds: float | None = None) -> AsyncIterator[None]:
    """Whatever is awaited inside must come in time; `what` names it.

    Raises:
        Fault: it does not.
    """
    limit = _patience.get() if seconds is None else seconds
    try:
        async with asyncio.timeout(limit):
            yield
    except TimeoutError:
        raise Fault(f"no {what} within {limit:g} s") from None


def ended(what: str) -> Fault:
    """Return the fault of a party that has ended a stream in place of saying something."""
    return Fault(f"the stream ended where {what} should have come")
