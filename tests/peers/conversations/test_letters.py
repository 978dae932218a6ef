"""Letters and sessions in every order, with letters that are lost, come again, or expire, programs
that are killed, and stores that are lost or come back from an old copy; all in memory.
"""

import asyncio
import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from peers.conversations import MessageState
from peers.conversations import keeper as keeping
from protocol.conversation import read_enclosed
from tests.peers.conversations.test_link import STORES, Side, World
from tests.support import scale

USUAL = ("send", "send", "brief", "post", "post", "fetch", "fetch", "connect", "turns", "cut")
FAULTS = ("kill", "read", "wait", "lost", "again", "unheard")


class Town(World):
    """Both of them, and a relay that keeps letters."""

    def __init__(self, clock: SimpleNamespace) -> None:
        super().__init__()
        self.clock = clock
        self.mail: tuple[deque[tuple[bytes, float]], ...] = deque(), deque()
        """What waits for each, and until when."""
        self.came: tuple[list[bytes], ...] = [], []
        self.ids: tuple[dict[bytes, bytes], ...] = {}, {}

    async def post(self, who: int, count: int, *, is_heard: bool = True) -> None:
        """Leave letters, where there is no session; `is_heard`: the relay's answers come."""
        side = self.sides[who]
        await side.start()
        for _ in range(count):
            leaving, _ = await side.keeper.next_letter(
                lambda: side.links.newest is None, leaves=True
            )
            if leaving is None:
                return
            until = self.clock.now + leaving.lifetime
            self.mail[1 - who].append((leaving.payload, until))
            if not is_heard:
                return
            await side.keeper.has_left(leaving, leaving.lifetime)
            if leaving.question:
                return

    async def fetch(self, who: int, count: int) -> None:
        for _ in range(count):
            while self.mail[who] and self.mail[who][0][1] < self.clock.now:
                self.mail[who].popleft()
            if not self.mail[who]:
                return
            payload, _ = self.mail[who].popleft()
            self.came[who].append(payload)
            await self.bring(who, payload)

    async def bring(self, who: int, payload: bytes) -> None:
        side = self.sides[who]
        await side.start()

        def cut() -> None:
            side.links.source = None

        await side.keeper.bring(read_enclosed(payload), lambda db: None, cut)

    async def step(self, what: str, who: int, count: int) -> None:
        side = self.sides[who]
        match what:
            case "brief":
                await side.start()
                self.count += 1
                payload = b"%d" % self.count
                name = await side.keeper.add(payload, self.clock.now + 10.0 * count, None)
                side.sent.append(payload)
                side.since.append(payload)
                self.ids[who][payload] = name
            case "wait":
                self.clock.now += 10.0 * count
                await side.start()
                await side.keeper.expire()
            case "post":
                await self.post(who, count)
            case "unheard":
                await self.post(who, count, is_heard=False)
                await side.kill()
            case "fetch":
                await self.fetch(who, count)
            case "lost":
                for _ in range(min(count, len(self.mail[who]))):
                    self.mail[who].popleft()
            case "again":
                if self.came[who]:
                    await self.bring(who, self.came[who][-count % len(self.came[who])])
            case _:
                await super().step(what, who, count)

    async def settle_by_letters(self) -> None:
        """Let everything arrive that can, never both there at once."""
        for side in self.sides:
            await side.kill()
        for _ in range(60):
            if not any([await self.waits(side) for side in self.sides]):
                return
            for who, side in enumerate(self.sides):
                await self.fetch(who, 10_000)
                await side.read(10_000)
                await self.post(who, 10_000)
                await side.kill()
            self.clock.now += 86_400.0
        raise AssertionError("what was sent does not arrive")

    async def waits(self, side: Side) -> bool:
        await side.start()
        return len(side.keeper.queue) > 0

    async def expired(self, who: int) -> set[bytes]:
        side = self.sides[who]
        await side.start()
        found = set()
        for payload, name in self.ids[who].items():
            entry = await side.keeper.entry(name)
            if entry is not None and entry.state is MessageState.EXPIRED:
                found.add(payload)
        return found


@contextmanager
def clock() -> Iterator[SimpleNamespace]:
    """The day's clock of the stores."""
    one = SimpleNamespace(now=1_764_000_000.0)
    real, keeping.time = keeping.time, SimpleNamespace(time=lambda: one.now)
    try:
        yield one
    finally:
        keeping.time = real


def plan_of(seed: int, *more: str) -> list[tuple[str, int, int]]:
    chance = random.Random(seed)
    plan = []
    for _ in range(chance.randint(8, 40)):
        what = chance.choice((*USUAL, *FAULTS, *more))
        plan.append((what, 0 if what in STORES else chance.randrange(2), chance.randint(1, 6)))
    return plan


async def play(
    plan: list[tuple[str, int, int]], *, by_letters: bool
) -> tuple[Town, list[set[bytes]]]:
    with clock() as now:
        town = Town(now)
        try:
            for step in plan:
                await town.step(*step)
            if by_letters:
                await town.settle_by_letters()
            await town.settle()
            expired = [await town.expired(who) for who in (0, 1)]
        finally:
            await town.close()
    return town, expired


SEEDS = st.integers(0, 2**32)


@settings(max_examples=scale.of(40, 4_000))
@given(SEEDS, st.booleans())
def test_each_message_is_done_once_and_in_order_or_has_expired(seed: int, by_letters: bool) -> None:
    town, expired = asyncio.run(play(plan_of(seed), by_letters=by_letters))
    one, other = town.sides
    assert other.done == [payload for payload in one.sent if payload not in expired[0]]
    assert one.done == [payload for payload in other.sent if payload not in expired[1]]


@settings(max_examples=scale.of(40, 4_000))
@given(SEEDS)
def test_nothing_comes_twice_whatever_happens_to_a_store(seed: int) -> None:
    town, _ = asyncio.run(play(plan_of(seed, *STORES, *STORES), by_letters=False))
    lossy, whole = town.sides
    assert set(whole.done) <= set(lossy.sent)
    assert len(set(whole.done)) == len(whole.done), "done twice"
    expired = set(town.ids[0])  # Of which some have.
    assert [one for one in whole.done if one in lossy.since and one not in expired] == [
        one for one in lossy.since if one not in expired
    ]
    assert set(lossy.done) <= set(whole.sent)
