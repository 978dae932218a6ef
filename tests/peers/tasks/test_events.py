"""What a program follows of a session's paths: each reader its own queue, with its own bound."""

import asyncio

from peers.session import PathChanged
from peers.tasks import EventQueue
from tests.support.fake_path import FakePath

NOW = PathChanged(None, "now")


def changed(number: int) -> PathChanged:
    return PathChanged(FakePath().path, str(number))


async def test_a_reader_begins_with_how_it_is_now_and_misses_nothing() -> None:
    queue = EventQueue[PathChanged]()
    events = queue.subscribe(NOW)
    queue.put(changed(1))
    assert await anext(events) is NOW, "what happens between the two is not lost"
    assert (await anext(events)).reason == "1"
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.put(changed(2))
    assert (await waiting).reason == "2"
    queue.close()
    assert [one async for one in events] == []


async def test_every_reader_gets_every_event_from_when_it_came() -> None:
    queue = EventQueue[PathChanged]()
    first = queue.subscribe(NOW)
    queue.put(changed(1))
    second = queue.subscribe(NOW)
    queue.put(changed(2))
    queue.close()
    assert [one.reason async for one in first] == ["now", "1", "2"]
    assert [one.reason async for one in second] == ["now", "2"]


async def test_a_slow_reader_loses_the_oldest_and_costs_the_others_nothing() -> None:
    queue = EventQueue[PathChanged]()
    slow, quick = queue.subscribe(NOW), queue.subscribe(NOW)
    seen = [(await anext(quick)).reason]
    for number in range(100):
        queue.put(changed(number))
        seen.append((await anext(quick)).reason)
    queue.close()
    assert seen == ["now", *map(str, range(100))]
    assert [one.reason async for one in slow] == [str(number) for number in range(36, 100)]


async def test_a_reader_that_goes_is_forgotten() -> None:
    queue = EventQueue[PathChanged]()
    gone, cancelled, stays = (queue.subscribe(NOW) for _ in range(3))
    for reader in (gone, cancelled, stays):
        await anext(reader)
    await gone.aclose()  # type: ignore[attr-defined]
    waiting = asyncio.ensure_future(anext(cancelled))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    queue.put(changed(1))
    assert [one async for one in gone] == []
    assert [one async for one in cancelled] == []
    assert (await anext(stays)).reason == "1"
    await stays.aclose()  # type: ignore[attr-defined]


async def test_when_all_is_over_who_comes_late_learns_how_it_ended() -> None:
    queue = EventQueue[PathChanged]()
    waiting = queue.subscribe(NOW)
    await anext(waiting)
    task = asyncio.ensure_future(anext(waiting, None))
    await asyncio.sleep(0)
    queue.close()
    assert await task is None
    assert [one async for one in queue.subscribe(NOW)] == [NOW]
