"""Letters and sessions in every order, with letters that are lost, come again, or expire, programs
that are killed, and stores that are lost or come back from an old copy; all in memory.
"""

import asyncio
import json
import os
import random
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peers.conversations import MessageState, letters
from peers.conversations import keeper as keeping
from peers.conversations.numbers import Received, fits
from protocol.conversation import Enclosed, Letter, Part, pack_item, read_enclosed
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


@settings(max_examples=scale.of(20, 4_000))
@given(SEEDS, st.booleans())
def test_each_message_is_done_once_and_in_order_or_has_expired(seed: int, by_letters: bool) -> None:
    town, expired = asyncio.run(play(plan_of(seed), by_letters=by_letters))
    one, other = town.sides
    assert other.done == [payload for payload in one.sent if payload not in expired[0]]
    assert one.done == [payload for payload in other.sent if payload not in expired[1]]


@settings(max_examples=scale.of(20, 4_000))
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


VECTORS = json.loads((Path(__file__).parents[3] / "docs" / "protocol-vectors.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["conversation_parts"], ids=lambda one: one["rule"])
def test_parts_are_taken_as_the_vectors_say(vector: dict[str, Any]) -> None:
    said = vector["part"]
    items = (pack_item(None),) * said["count"]
    follows = b"f" * 16 if said["follows"] else None
    part = Part(b"l" * 16, said["begins"], follows, said["first"], items)
    known, before = (
        None if vector[name] is None else Received(vector[name]) for name in ("known", "follows")
    )
    found = fits(known, before, vector["current"], part)
    assert (None if found is None else found[0].received) == vector["has"]


def enclosed(epoch: int, first: int, *payloads: bytes, fence: int = 0) -> Enclosed:
    items = tuple(pack_item(Letter(os.urandom(16), 1.0, payload)) for payload in payloads)
    return Enclosed(epoch, fence, None, Part(b"l" * 16, 0, None, first, items))


@asynccontextmanager
async def side() -> AsyncIterator[Side]:
    one = Side()
    await one.start()
    try:
        yield one
    finally:
        await one.kill()
        one.disk.connection.close()


async def brings(one: Side, letter: Enclosed) -> list[bytes]:
    """Return what is in the inbox after a letter."""
    await one.keeper.bring(letter, lambda db: None, lambda: None)
    return [waiting.payload for waiting in await one.keeper.inbox(0, 100)]


async def test_a_forged_number_brings_nothing_and_stops_nothing() -> None:
    async with side() as one:
        assert await brings(one, enclosed(0, 2**53 - 1, b"forged")) == []
        assert await brings(one, enclosed(0, 1, b"void by that")) == []
        assert await brings(one, enclosed(2, 1, b"one", b"two")) == [b"one", b"two"]
        assert await brings(one, enclosed(2, 1, b"replayed", b"replayed")) == [b"one", b"two"]
        huge = 2**53 - 1
        assert await brings(one, enclosed(huge, 3, b"three", fence=huge)) == [
            b"one",
            b"two",
            b"three",
        ]


async def test_what_a_letter_brings_and_that_it_was_taken_are_one_transaction() -> None:
    def fails(db: object) -> None:
        raise OSError("the disk")

    async with side() as one:
        with pytest.raises(OSError, match="the disk"):
            await one.keeper.bring(enclosed(0, 1, b"one"), fails, lambda: None)
        assert await brings(one, enclosed(0, 2, b"two")) == []
        assert await brings(one, enclosed(2, 1, b"one", b"two")) == [b"one", b"two"]


async def test_there_is_room_for_so_many_and_answers_wait_for_the_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "INBOX", 2)
    async with side() as one:
        assert await brings(one, enclosed(0, 1, b"1", b"2", b"3")) == [b"1", b"2", b"3"]
        assert (await one.keeper.next_letter(lambda: True, leaves=True))[0] is None
        assert await brings(one, enclosed(0, 4, b"4", b"5")) == [b"1", b"2", b"3"]
        await one.read(1)
        answer, _ = await one.keeper.next_letter(lambda: True, leaves=True)
        assert answer is not None
        said = read_enclosed(answer.payload)
        assert said.answer is not None
        assert (said.fence, said.answer.received) == (1, 3)


async def test_no_more_is_in_letters_than_the_other_side_may_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(letters, "AHEAD", 3)
    async with side() as one:
        for number in range(5):
            await one.send(b"%d" % number)
        last = 0
        while (leaving := (await one.keeper.next_letter(lambda: True, leaves=True))[0]) is not None:
            await one.keeper.has_left(leaving, 60.0)
            last = leaving.last
        assert last == 3
