"""Many small things, one after the other: how long others wait meanwhile."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise

from relay.loop_time import LoopTime
from relay.turns import in_turns


async def test_others_have_their_turn_after_half_a_millisecond() -> None:
    """It was two: what others had sent meanwhile came on top of it in the same turn of the loop."""
    now, done, seen = 0.0, 0, [0]

    def steps() -> Iterator[None]:
        nonlocal now, done
        for _ in range(100):
            now += 0.0002
            done += 1
            yield

    async def other() -> None:
        while True:
            seen.append(done)
            await asyncio.sleep(0)

    watching = asyncio.create_task(other())
    await in_turns(LoopTime(clock=lambda: now, cpu=lambda: now), steps())
    watching.cancel()
    seen.append(done)
    assert done == 100
    assert max(after - before for before, after in pairwise(seen)) <= 3
