"""Many small things, one after the other: others have their turns of the loop between them."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from relay.log import guarded
from relay.loop_time import LoopTime

__all__ = ["in_turns", "one_by_one"]

_T = TypeVar("_T")

_TURN = 0.002
"""Seconds for which the loop may be held at once."""


async def in_turns(loop: LoopTime, steps: Iterable[None]) -> None:
    """Take steps, a millisecond or two at a time, however many there are."""
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
