"""Two stores and what carries messages between them, in every order of losses: sessions that are
cut, programs that are killed, stores that are lost or come back from an old copy. The sessions here
are in memory, and the loop is the only one who takes turns, so that each example is the same again.
"""

import asyncio
import json
import random
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peers.conversations import keeper as keeping
from peers.conversations import link as link_module
from peers.conversations import tables
from peers.conversations.keeper import INBOX, Keeper, load_keeper
from peers.conversations.link import Link, Links
from peers.conversations.numbers import Received, adopt
from protocol.conversation import (
    Acknowledged,
    Announced,
    Enclosed,
    Messages,
    Part,
    pack_frame,
    pack_item,
    read_frame,
)
from protocol.errors import SessionLost
from tests.support import scale


class Disk:
    """A database that answers at once: what was committed stays, whoever is killed."""

    def __init__(self, image: bytes | None = None) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        if image is None:
            self.connection.executescript(";".join(tables.MIGRATIONS))
        else:
            self.connection.deserialize(image)

    async def run(self, work: Callable[[sqlite3.Connection], Any], *, alone: bool = False) -> Any:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(self.connection)
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        await asyncio.sleep(0)  # Whoever is killed here has not heard of it.
        return result


class Wire:
    """One end of a session in memory."""

    def __init__(self) -> None:
        self.remote = "x" * 52
        self.came: deque[bytes] = deque()
        self.news = asyncio.Event()
        self.is_cut = False
        self.drops = b""
        """What holds this is lost on the way from here; nothing where it is empty."""
        self.other: Wire

    async def send(self, data: bytes) -> None:
        if self.is_cut:
            raise SessionLost("cut")
        if self.drops and self.drops in data:
            return
        self.other.came.append(data)
        self.other.news.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            if self.is_cut:
                raise SessionLost("cut")
            if self.came:
                yield self.came.popleft()
            else:
                self.news.clear()
                await self.news.wait()

    def abort(self, reason: str) -> None:
        for end in (self, self.other):
            end.is_cut = True
            end.news.set()


class Side:
    """A program that is there, or not, and its store."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.keeper: Keeper | None = None
        self.links: Links
        self.tasks: list[asyncio.Task[None]] = []
        self.copy: bytes | None = None
        self.sent: list[bytes] = []
        self.since: list[bytes] = []
        """What was sent since the store was lost, or came back from a copy."""
        self.done: list[bytes] = []

    async def start(self) -> None:
        if self.keeper is None:
            self.keeper = await load_keeper(self.disk, "x" * 52, "chat")
            self.links = Links()

    async def kill(self) -> None:
        for link in [] if self.keeper is None else list(self.links.all):
            link.session.abort("killed")
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()
        self.keeper = None

    async def send(self, payload: bytes) -> None:
        await self.start()
        await self.keeper.add(payload, None, None)
        self.sent.append(payload)
        self.since.append(payload)

    async def read(self, count: int) -> None:
        await self.start()
        for waiting in await self.keeper.inbox(0, count):
            await self.keeper.done(waiting.position, None, None)
            self.done.append(waiting.payload)


class World:
    """Both of them."""

    def __init__(self) -> None:
        self.sides = (Side(), Side())
        self.count = 0

    async def connect(self) -> None:
        wires = Wire(), Wire()
        wires[0].other, wires[1].other = wires[1], wires[0]
        for number, (side, wire) in enumerate(zip(self.sides, wires, strict=True)):
            await side.start()
            link = Link(wire, side.keeper, side.links, opened_here=not number)
            side.tasks.append(asyncio.create_task(link.run()))

    async def cut(self) -> None:
        for side in self.sides:
            for link in [] if side.keeper is None else list(side.links.all):
                link.session.abort("cut")

    async def settle(self) -> None:
        """Let everything arrive that can."""
        await self.cut()
        await self.connect()
        for _ in range(400):
            await asyncio.sleep(0)
            is_over = not any(len(side.keeper.queue) for side in self.sides)
            for side in self.sides:
                await side.read(1_000)
            if is_over:
                return
        raise AssertionError("what was sent does not arrive")

    async def close(self) -> None:
        for side in self.sides:
            await side.kill()
            side.disk.connection.close()

    async def step(self, what: str, who: int, count: int) -> None:
        side = self.sides[who]
        match what:
            case "send":
                for _ in range(count):
                    self.count += 1
                    await side.send(b"%d" % self.count)
            case "connect":
                await self.connect()
                await self.step("turns", who, count)
            case "cut":
                await self.cut()
            case "kill":
                await side.kill()
            case "read":
                await side.read(count)
            case "turns":
                for _ in range(4 * count):
                    await asyncio.sleep(0)
            case "copy":
                side.copy = side.disk.connection.serialize()
            case "restore":
                await side.kill()
                side.disk.connection.close()
                side.disk = Disk(side.copy)
                side.since.clear()
            case "lose":
                await side.kill()
                side.disk.connection.close()
                side.disk = Disk()
                side.since.clear()


USUAL = ("send", "send", "connect", "connect", "turns", "cut", "kill", "read")
STORES = ("copy", "restore", "lose")


def plan_of(seed: int, *stores: str) -> list[tuple[str, int, int]]:
    """Return what happens, to whom, and how much of it; to stores only at side 0. From a seed: what
    hypothesis grows by itself is mostly too short to get anywhere."""
    chance = random.Random(seed)
    plan = []
    for _ in range(chance.randint(8, 30)):
        what = chance.choice((*USUAL, *stores))
        plan.append((what, 0 if what in STORES else chance.randrange(2), chance.randint(1, 12)))
    return plan


async def play(plan: list[tuple[str, int, int]]) -> World:
    world = World()
    try:
        for step in plan:
            await world.step(*step)
        await world.settle()
    finally:
        await world.close()
    return world


SEEDS = st.integers(0, 2**32)


@settings(max_examples=scale.of(15, 1_000))
@given(SEEDS)
def test_each_message_is_done_once_and_in_order(seed: int) -> None:
    one, other = asyncio.run(play(plan_of(seed))).sides
    assert other.done == one.sent
    assert one.done == other.sent


@settings(max_examples=scale.of(40, 2_000))
@given(SEEDS)
def test_nothing_comes_twice_whatever_happens_to_the_stores(seed: int) -> None:
    """What a store has lost is lost. What it has still arrives, once and in order, whatever its
    numbers were used for before."""
    lossy, whole = asyncio.run(play(plan_of(seed, *STORES))).sides
    assert set(whole.done) <= set(lossy.sent)
    assert len(set(whole.done)) == len(whole.done), "done twice"
    # An old copy may bring what is older than what came before it was put back.
    assert [payload for payload in whole.done if payload in lossy.since] == lossy.since
    # The other way round a message may come again that is in no store any more, and one may be
    # missing that was safe in the store before; nothing else.
    assert set(lossy.done) <= set(whole.sent)


VECTORS = json.loads((Path(__file__).parents[3] / "docs" / "protocol-vectors.json").read_text())


def data_of(vector: dict[str, Any]) -> bytes:
    data, repeat = bytes.fromhex(vector["bytes"]), vector.get("then_repeat")
    return data + bytes.fromhex(repeat["bytes"]) * repeat["times"] if repeat else data


async def meets(data: bytes) -> tuple[bool, list[Any]]:
    """Give a frame to one side, after a line was announced to it; return whether it has ended the
    session, and what it has said."""
    side, here, there = Side(), Wire(), Wire()
    here.other, there.other = there, here
    await side.start()
    carrying = asyncio.create_task(Link(here, side.keeper, side.links, opened_here=True).run())
    await there.send(pack_frame(Announced(bytes(range(16)), 1)))
    await there.send(data)
    for _ in range(40):
        await asyncio.sleep(0)
    carrying.cancel()
    await asyncio.gather(carrying, return_exceptions=True)
    side.disk.connection.close()
    return there.is_cut, [read_frame(said) for said in there.came]


@pytest.mark.parametrize(
    "vector", VECTORS["refused_conversation_frames"], ids=lambda one: one["what"].replace(" ", "-")
)
async def test_what_is_no_frame_ends_the_session(vector: dict[str, Any]) -> None:
    is_cut, _ = await meets(data_of(vector))
    assert is_cut


@pytest.mark.parametrize(
    "vector",
    VECTORS["passed_over_conversation_frames"],
    ids=lambda one: one["what"].replace(" ", "-"),
)
async def test_what_a_later_version_says_ends_nothing(vector: dict[str, Any]) -> None:
    is_cut, _ = await meets(data_of(vector))
    assert not is_cut


@pytest.mark.parametrize("vector", VECTORS["conversation_lines"], ids=lambda one: one["rule"])
def test_lines_are_answered_as_the_vectors_say(vector: dict[str, Any]) -> None:
    known = None if vector["known"] is None else Received(vector["known"])
    state, _ = adopt(vector["current"], known, Announced(b"l" * 16, vector["first"]))
    before = state.received if state.before is None else state.before
    assert [state.received, before] == vector["answer"]


async def test_what_still_comes_by_an_older_session_is_passed_over() -> None:
    """So that the answer to a line says for good what has not come."""
    side, wires = Side(), []
    await side.start()
    carrying = []
    for _ in range(2):
        here, there = Wire(), Wire()
        here.other, there.other = there, here
        wires.append(there)
        link = Link(here, side.keeper, side.links, opened_here=True)
        carrying.append(asyncio.create_task(link.run()))
        await there.send(pack_frame(Announced(b"l" * 16, 1)))
        for _ in range(20):
            await asyncio.sleep(0)
    nothing = pack_frame(Messages(b"l" * 16, 1, (pack_item(None),)))
    said = []
    for wire in wires:
        wire.came.clear()
        await wire.send(nothing)
        for _ in range(20):
            await asyncio.sleep(0)
        said.append([read_frame(data).received for data in wire.came])
    assert said == [[], [1]]
    for task in carrying:
        task.cancel()
    await asyncio.gather(*carrying, return_exceptions=True)
    side.disk.connection.close()


async def test_a_letter_of_before_does_not_cut_the_session_that_is_announced_meanwhile() -> None:
    """It was on its way to the store when the session's line came."""
    side, here, there = Side(), Wire(), Wire()
    here.other, there.other = there, here
    await side.start()
    run, links, cuts = side.disk.run, side.links, []

    def cut() -> None:
        cuts.append(links.source)
        links.source = None

    async def after_a_letter(work: Callable[[sqlite3.Connection], Any], **more: Any) -> Any:
        side.disk.run = run
        part = Part(b"k" * 16, 0, None, 1, (pack_item(None),))
        await side.keeper.bring(Enclosed(1, 0, None, part), lambda cursor: None, cut)
        return await run(work, **more)

    side.disk.run = after_a_letter
    link = Link(here, side.keeper, links, opened_here=True)
    carrying = asyncio.create_task(link.run())
    await there.send(pack_frame(Announced(b"l" * 16, 1, epoch=2)))
    await there.send(pack_frame(Messages(b"l" * 16, 1, (pack_item(None),))))
    for _ in range(40):
        await asyncio.sleep(0)
    assert [read_frame(data).received for data in there.came] == [0, 1]
    assert cuts == [None]
    carrying.cancel()
    await asyncio.gather(carrying, return_exceptions=True)
    side.disk.connection.close()


async def test_what_was_passed_over_on_a_session_that_lives_is_announced_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The announcements of two sessions have crossed: the other side takes from another one."""
    monkeypatch.setattr(link_module, "_DOUBT", 0.01)
    side, here, there = Side(), Wire(), Wire()
    here.other, there.other = there, here
    await side.send(b"hello")
    carrying = asyncio.create_task(Link(here, side.keeper, side.links, opened_here=True).run())
    seen = []
    async with asyncio.timeout(60):
        async for data in there:
            frame = read_frame(data)
            seen.append(type(frame).__name__)
            if isinstance(frame, Announced):
                await there.send(pack_frame(Acknowledged(frame.line, 0, 1000, 0)))
            elif len(seen) == 6:  # Twice it was passed over.
                await there.send(pack_frame(Acknowledged(frame.line, 1, 1000, 1)))
                break
        while len(side.keeper.queue):
            await asyncio.sleep(0)
    assert seen == ["Announced", "Messages"] * 3
    carrying.cancel()
    await asyncio.gather(carrying, return_exceptions=True)
    side.disk.connection.close()


async def test_what_waits_for_the_store_is_not_taken_once_another_session_was_answered() -> None:
    """The disk was full when it came, and the other side has been told that it is not here."""
    side = Side()
    await side.start()
    frame = Messages(b"l" * 16, 1, (pack_item(None),))
    await side.keeper.adopt(Announced(b"l" * 16, 1), lambda: None)
    assert await side.keeper.take(frame, lambda: False) is None
    assert (await side.keeper.adopt(Announced(b"l" * 16, 1), lambda: None)).received == 0
    assert (await side.keeper.take(frame, lambda: True)).received == 1
    side.disk.connection.close()


@pytest.mark.parametrize("arrived", [False, True])
async def test_what_has_left_expires_by_the_other_sides_word(
    arrived: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be there, whatever the clock says; so it is asked, and only then said."""
    clock = [1_000.0]
    monkeypatch.setattr(keeping, "time", SimpleNamespace(time=lambda: clock[0]))
    world = World()
    here, there = world.sides
    await world.connect()
    for _ in range(20):
        await asyncio.sleep(0)
    # What leaves is lost on the way, or only what is answered.
    (link,) = there.links.all if arrived else here.links.all
    acknowledged = msgpack.packb(1) + msgpack.packb(INBOX - 1)
    link.session.drops = acknowledged if arrived else b"late"
    name = await here.keeper.add(b"late", clock[0] + 60, None)
    for _ in range(60):
        await asyncio.sleep(0)
    await world.cut()
    for _ in range(20):
        await asyncio.sleep(0)
    assert there.keeper.held == arrived
    clock[0] += 61
    await here.keeper.expire()
    assert (await here.keeper.entry(name)).state is tables.MessageState.QUEUED
    await world.settle()
    expected = tables.MessageState.DELIVERED if arrived else tables.MessageState.EXPIRED
    assert (await here.keeper.entry(name)).state is expected
    assert there.done == [b"late"] * arrived
    await world.close()
