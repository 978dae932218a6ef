"""Which GUIDs outlive the relay, how many, and for how long."""

import asyncio
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from protocol.messages import LocationRecord, ServiceRecord
from relay.config import ConfigError
from relay.presence import Keeping, KnownPeers, Registry
from relay.presence import known as module
from tests.relay.fakes import FakeAttachment

DAY = 86_400.0


class World:
    """A relay's registry and what it keeps, at a time that the test says."""

    def __init__(self, folder: Path, most: int = 100) -> None:
        self.wall = 1_000_000_000.0
        self.file = folder / "known.sqlite"
        self._keeping = Keeping(str(self.file), most, DAY)

    def known(self) -> KnownPeers:
        return KnownPeers(self._keeping, lambda: self.wall)

    async def started(self) -> tuple[KnownPeers, Registry]:
        """The relay, anew, and what it knows."""
        known = self.known()
        registry = Registry(grace=30.0, remember=DAY, max_offline=1000)
        await known.open()
        await known.load(registry, lambda: 0.0)
        return known, registry


def one(number: int, host: str = "192.0.2.1") -> FakeAttachment:
    flow = FakeAttachment(f"{number:052d}")
    flow.observed_host = host
    return flow


def come(known: KnownPeers, flow: FakeAttachment, disclose: str = "anyone") -> None:
    registry = Registry(grace=30.0, remember=DAY, max_offline=10)
    services = (ServiceRecord("chat", (), disclose),)  # type: ignore[arg-type]
    registry.register(flow, LocationRecord(1, services), 0.0)
    peer = registry.get(flow.guid)
    assert peer is not None
    known.came(peer)


async def test_who_was_here_is_known_after_the_next_start(tmp_path: Path) -> None:
    world = World(tmp_path)
    known, _ = await world.started()
    come(known, one(1))
    come(known, one(2), "nobody")
    known.went(one(3).guid, "192.0.2.1", 10.0, shown=True)
    await known.write()
    # The relay is killed while it is alive for an hour more, and starts a minute after.
    world.wall += 3600.0
    await known.write()
    world.wall += 60.0
    again, registry = await world.started()
    gone = [registry.gone(one(number).guid) for number in range(1, 5)]
    assert [found is not None for found in gone] == [True, True, True, False]
    seen = [round(found.last_seen(0.0)) for found in gone if found is not None]
    assert seen == [60, 60, 3670], "who was here was seen until the relay ended"
    assert [found.shown for found in gone if found is not None] == [True, False, True]
    await again.close()
    await known.close()


async def test_an_end_loses_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    known, _ = await world.started()
    for number in range(50):
        come(known, one(number))
    await known.close()
    known, registry = await world.started()
    assert all(registry.gone(one(number).guid) for number in range(50))
    await known.close()


async def test_who_was_not_seen_for_long_is_forgotten(tmp_path: Path) -> None:
    world = World(tmp_path)
    known, _ = await world.started()
    known.went(one(1).guid, "192.0.2.1", 0.0, shown=True)
    await known.write()
    world.wall += DAY / 2
    known.went(one(2).guid, "192.0.2.1", 0.0, shown=True)
    await known.close()
    world.wall += DAY / 2 + 1
    known, registry = await world.started()
    assert [registry.gone(one(number).guid) is None for number in (1, 2)] == [True, False]
    await known.close()


async def test_a_flood_of_fresh_keys_takes_no_place_of_others(tmp_path: Path) -> None:
    """A site that has as many networks as it likes, and one network that has as many keys."""
    world = World(tmp_path, most=100)
    known, _ = await world.started()
    quiet = [one(number, f"198.51.{number}.1") for number in range(10)]
    for flow in quiet:
        come(known, flow)
    await known.write()
    for number in range(1000, 1500):
        world.wall += 1.0
        come(known, one(number, f"2001:db8:0:{number:x}::1"))
        come(known, one(number + 1000, "203.0.113.9"))
        if number % 50 == 0:
            await known.write()
    await known.close()
    known, registry = await world.started()
    assert all(registry.gone(flow.guid) for flow in quiet)
    left = Counter(number // 1000 for number in range(3000) if registry.gone(one(number).guid))
    assert left[0] + left[1] + left[2] <= 100
    assert min(left[1], left[2]) >= 40, "of those who flood each keeps its newest"
    assert registry.gone(one(1499).guid) is not None
    await known.close()
    assert world.file.stat().st_size < 100_000


async def test_a_store_that_fails_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_WAITING", 5)
    world = World(tmp_path)
    known, _ = await world.started()
    other = sqlite3.connect(world.file)
    other.execute("ALTER TABLE known RENAME TO taken")
    other.commit()
    for number in range(8):
        come(known, one(number))
        await known.write()
    assert caplog.text.count("who is known is not stored") == 1
    other.execute("ALTER TABLE taken RENAME TO known")
    other.commit()
    other.close()
    await known.close()
    known, registry = await world.started()
    left = [number for number in range(8) if registry.gone(one(number).guid)]
    assert left == [3, 4, 5, 6, 7], "what waits is bounded, and the oldest gives way"
    await known.close()


async def test_without_a_state_folder_nothing_is_kept(tmp_path: Path) -> None:
    known = KnownPeers(Keeping(None, 10, DAY), lambda: 0.0)
    await known.open()
    come(known, one(1))
    await known.write()
    registry = Registry(grace=30.0, remember=DAY, max_offline=10)
    await known.load(registry, lambda: 0.0)
    await known.close()
    assert len(registry) == 0


async def test_what_a_newer_version_has_written_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    known, _ = await world.started()
    await known.close()
    with sqlite3.connect(world.file) as tables:
        tables.execute("PRAGMA user_version = 99")
    tables.close()
    known = world.known()
    with pytest.raises(ConfigError, match=r"newer version"):
        await known.open()
    await known.close()


async def test_whoever_is_read_leaves_others_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 10)
    world = World(tmp_path, most=1000)
    known, _ = await world.started()
    for number in range(95):
        come(known, one(number))
    await known.close()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    known, registry = await world.started()
    counting.cancel()
    assert len(registry) == 95
    assert turns >= 10
    await known.close()
