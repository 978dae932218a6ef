"""Choosing among candidates by trying them: what the machine decides (peers.choice) is done here.

A candidate is proven when TLS has shown the wanted peer's key there; nothing has been said to its
application by then, so that those which are not used leave no trace there.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from peers.choice import Candidate, End, Race, Start
from peers.path import Proven
from peers.tasks import Attempts, failure_of
from protocol.errors import RoamRelayError

__all__ = ["Choice", "choose"]


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
    loop = asyncio.get_running_loop()
    race = Race(candidates, stagger=stagger, patience=patience)
    proven: dict[int, Proven] = {}
    failed: list[tuple[Candidate, RoamRelayError]] = []
    end: End | None = None
    try:
        async with Attempts[Proven](lambda late: late.path.abort()) as attempts:
            while end is None:
                for action in race.tick(loop.time()):
                    match action:
                        case Start(number):
                            attempts.start(number, prove(candidates[number]))
                        case End():
                            end = action
                if end is None:
                    due = race.next_timeout()
                    wait = None if due is None else max(0.0, due - loop.time())
                    for number, result in await attempts.over(wait):
                        if isinstance(result, RoamRelayError):
                            failed.append((candidates[number], result))
                            race.failed(number, loop.time())
                        else:
                            proven[number] = result
                            race.proven(number, result.round_trip, loop.time())
    except BaseException:
        for one in proven.values():
            one.path.abort()
        raise
    if not end.order:
        raise failure_of([error for _, error in failed])
    return Choice(tuple(proven[number] for number in end.order), tuple(failed), end.rule)
