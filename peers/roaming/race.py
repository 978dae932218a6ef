"""Choosing among candidates by trying them: the race of design §6.

Attempts start one stagger apart, or as soon as the one before has failed (RFC 8305). A candidate
is proven when TLS has shown the wanted peer's key there; nothing has been said to its application
by then, so that those which are not used leave no trace there. The first to be proven is used,
unless another one is clearly better and proven within the patience.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from peers.choice import MARGIN_SECONDS, MARGIN_SHARE, Candidate, clearly_better
from peers.path import Proven
from protocol.errors import PathFailed, RoamRelayError, WrongIdentity

__all__ = ["Choice", "choose"]

_SPREAD = 0.004
"""Seconds between the starts of attempts whose round trips are compared: a handshake takes some
2 ms of computing, and one that waits for another's would look slower than it is."""
MAX_TRIED = 16
"""Candidates of one race."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a race has found: the best first, and the rule that put it there."""

    proven: tuple[Proven, ...]
    failed: tuple[tuple[Candidate, RoamRelayError], ...]
    rule: str


async def choose(
    candidates: Sequence[Candidate],
    prove: Callable[[Candidate], Coroutine[Any, Any, Proven]],
    *,
    stagger: float,
    patience: float,
) -> Choice:
    """Race candidates; the caller uses one path of the result and aborts the others.

    `patience` is how long, in seconds, a better one may take after the first; it is not used up
    where no better one can come in that time: what is better needs two round trips to show it.

    Raises:
        WrongIdentity: the only thing that any candidate met was another peer.
        PathFailed: none was proven; lists what each said. A single candidate's own error is raised
            as it is.
    """
    candidates = candidates[:MAX_TRIED]
    race = _Race(prove)
    try:
        async with asyncio.TaskGroup() as tasks:
            for candidate in candidates:
                race.start(tasks, candidate)
                await race.wait(stagger)
                if race.proven:
                    break
            while not race.proven and race.running:
                await race.wait(None)  # Each attempt has a timeout of its own.
            if patience and race.proven and len(candidates) > 1:
                await _wait_for_better(race, tasks, candidates, patience)
            race.stop()
    except BaseException:
        race.discard()
        raise
    if not race.proven:
        raise _nothing(race.failed)
    return _decide(candidates, race, patience)


class _Race:
    def __init__(self, prove: Callable[[Candidate], Coroutine[Any, Any, Proven]]) -> None:
        self._prove = prove
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False
        self.proven: list[Proven] = []
        self.failed: list[tuple[Candidate, RoamRelayError]] = []

    @property
    def started(self) -> int:
        return len(self._tasks)

    @property
    def running(self) -> int:
        return len(self._tasks) - len(self.proven) - len(self.failed)

    def start(self, tasks: asyncio.TaskGroup, candidate: Candidate) -> None:
        self._tasks.append(tasks.create_task(self._attempt(candidate)))

    async def wait(self, seconds: float | None) -> None:
        """Wait until an attempt is over, or for so long."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def stop(self) -> None:
        self._over = True
        for task in self._tasks:
            task.cancel()

    def discard(self) -> None:
        for proven in self.proven:
            proven.path.abort()

    async def _attempt(self, candidate: Candidate) -> None:
        try:
            proven = await self._prove(candidate)
        except RoamRelayError as error:
            self.failed.append((candidate, error))
        else:
            if self._over:
                proven.path.abort()
            else:
                self.proven.append(proven)
        self._changed.set()


async def _wait_for_better(
    race: _Race, tasks: asyncio.TaskGroup, candidates: Sequence[Candidate], patience: float
) -> None:
    """Let the others show that they are better, as long as they still can."""
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    last_start = loop.time()

    def needed() -> float:
        # What is clearly better has a round trip below this, and needs two: for TCP and for TLS.
        best = min(proven.round_trip for proven in race.proven)
        return 2 * (best - max(MARGIN_SECONDS, MARGIN_SHARE * best))

    for candidate in candidates[race.started :]:
        known = candidate.round_trip
        best = min(proven.round_trip for proven in race.proven)
        if needed() <= 0 or loop.time() >= end:
            break
        if known is None or clearly_better(known, best):
            race.start(tasks, candidate)
            last_start = loop.time()
            await asyncio.sleep(_SPREAD)
    while race.running and (left := min(end, last_start + needed()) - loop.time()) > 0:
        await race.wait(left)


def _decide(candidates: Sequence[Candidate], race: _Race, patience: float) -> Choice:
    """Take the first in order, unless another is clearly better."""
    place = {candidate: number for number, candidate in enumerate(candidates)}
    ordered = sorted(race.proven, key=lambda proven: place[proven.candidate])
    best = ordered[0]
    rule = "the first in order that answered" if len(ordered) > 1 else "the only one that answered"
    if patience:
        if len(candidates) > len(race.failed) + 1:
            rule = "the least delay: no other showed itself clearly better in time"
        for other in ordered[1:]:
            if clearly_better(other.round_trip, best.round_trip):
                gain = (best.round_trip - other.round_trip) * 1e3
                rule = f"better than {best.candidate.endpoint} by {gain:.1f} ms"
                best = other
    rest = sorted((one for one in ordered if one is not best), key=lambda one: one.round_trip)
    return Choice((best, *rest), tuple(race.failed), rule)


def _nothing(failed: Sequence[tuple[Candidate, RoamRelayError]]) -> RoamRelayError:
    errors = [error for _, error in failed]
    if len(errors) == 1 or (errors and all(isinstance(error, WrongIdentity) for error in errors)):
        return errors[0]
    return PathFailed("no endpoint could be reached", tuple(error.reason for error in errors))
