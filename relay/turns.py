"""Many small things, one after the other: others have their turns of the loop between them."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from relay.log import guarded
from relay.loop_time import LoopTime

__all__ = ["in_turns", "one_by_one"]

_T = TypeVar("_T")

_TURN = 0.0005
"""Seconds for which the loop may be held at once. What has come meanwhile is served in the same
turn of the loop: with 5,000 peers, of which 64 talk, 2 ms here made 4.3 of it at p99.9, and this
makes 2.0 to 2.4."""


async def in_turns(loop: LoopTime, steps: Iterable[None]) -> None:
    """Take steps, half a millisecond at a time, however many there are."""
    began = loop.clock()
    for _ in steps:
        if loop.clock() - began >= _TURN:
            loop.served("beat", "", began)
            await asyncio.sleep(0)
            began = loop.clock()
    loop.served("beat", "", began)


def one_by_one(what: str, step: Callable[[_T], None], items: Iterable[_T]) -> Iterator[None]:
    """Do something with each; what fails there keeps no other from its turn."""
    for item in items:
        with guarded(what):
            step(item)
        yield
