"""How a relay that goes down sends its peers away: all at once, to come back spread; or, where
there are other nodes for them, one after the other, each to go there at once.
"""

import asyncio
from collections.abc import Sequence

from protocol.messages import Restarting
from relay.control import ControlConnection
from relay.loop_time import LoopTime
from relay.turns import in_turns, one_by_one

__all__ = ["send_away"]

_RATE = 500.0
"""Peers a second that come back to a relay, or go to the others."""
_LONGEST_SPREAD, _LONGEST = 60.0, 30.0
"""Seconds within which all come back, and have been sent to others, at the latest."""
_STEP = 0.1
"""Seconds between two steps in which peers are sent to others."""


async def send_away(
    connections: Sequence[ControlConnection], urls: tuple[str, ...], loop: LoopTime
) -> None:
    """Say `restarting` to each; `urls` are those of other nodes. Who was not told yet is served."""
    at_once = len(connections) or 1
    said = Restarting(0.5, min(_LONGEST_SPREAD, len(connections) / _RATE))
    if urls:
        at_once = max(int(_RATE * _STEP), int(len(connections) * _STEP / _LONGEST))
        said = Restarting(0.0, 0.0, urls)
    for start in range(0, len(connections), at_once):
        if start:
            await asyncio.sleep(_STEP)
        leaving = one_by_one(
            "sending a peer away",
            lambda one: one.restart(said),
            list(connections[start : start + at_once]),
        )
        await in_turns(loop, leaving)
