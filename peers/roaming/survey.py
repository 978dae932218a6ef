"""What `peer locate` shows: every endpoint of a service tried once, and which one a session would
take."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from peers.choice import Candidate, clearly_better
from peers.config import log
from peers.location import Located
from peers.path import Proven
from protocol.endpoint import Entry, order
from protocol.errors import RoamRelayError

__all__ = ["Surveyed", "survey"]


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One endpoint and what was met there."""

    entry: Entry
    """The endpoint, as the peer has told it."""
    round_trip: float | None
    """Seconds; None where the peer was not met."""
    reason: str
    """Why it would be chosen, or why not."""
    chosen: bool
    """Whether a session would take it."""
    age: float | None
    """Seconds since the entry was made, as far as its number tells the time; else None."""


async def survey(
    located: Located, prove: Callable[[Candidate], Coroutine[Any, Any, Proven]], timeout: float
) -> tuple[Surveyed, ...]:
    """Try all endpoints at once, say nothing there, and return them in their order."""

    async def one(entry: Entry) -> float | str:
        try:
            async with asyncio.timeout(timeout):
                proven = await prove(Candidate(entry.endpoint))
        except RoamRelayError as error:
            return error.reason
        except TimeoutError:
            return f"no answer within {timeout:g} s"
        except Exception as error:
            log.exception("unexpected in a survey", endpoint=str(entry.endpoint))
            return f"unexpected: {error!r}"
        proven.path.abort()
        return proven.round_trip

    dialable = order(located.entries)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(entry)) for entry in dialable]
    results = [(entry, task.result()) for entry, task in zip(dialable, running, strict=True)]
    best: tuple[Entry, float] | None = None
    for entry, result in results:
        if isinstance(result, float) and (best is None or clearly_better(result, best[1])):
            best = entry, result
    return tuple(
        Surveyed(
            entry,
            result if isinstance(result, float) else None,
            result
            if isinstance(result, str)
            else "the least delay, or the latest within the margin"
            if best is not None and entry is best[0]
            else "later in order, and not clearly better",
            best is not None and entry is best[0],
            _age_of(entry),
        )
        for entry, result in results
    )


def _age_of(entry: Entry) -> float | None:
    age = time.time() - entry.seq / 1000
    return age if 0 <= age < 10 * 365 * 86_400 else None
