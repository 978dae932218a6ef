"""A tab that is frozen for real times: for four minutes, its session goes on; for longer than the
resume window of five, it is lost, and said within a second of waking. Nothing here is hurried.
"""

import asyncio
import time
from pathlib import Path

import pytest

from peers import Identity, Peer
from tests.js.pages import call
from tests.js.scene import End, PageEnd, PeerEnd, Scene, meet, scene
from tests.relay.dashboard.chromium import Page, browser

RESUME_WINDOW = 300
FOUR_MINUTES = 240
LONGER = RESUME_WINDOW + 10
WAITING = 1_000
"""Messages that are said while it sleeps."""


async def asleep(it: Scene, seconds: float) -> float:
    """Freeze the first page for so long; return when it has woken, in milliseconds since 1970."""
    assert isinstance(it.first, Page)
    await it.first.ask("Page.setWebLifecycleState", state="frozen")
    await asyncio.sleep(seconds)  # Time is to pass while it sleeps.
    woken = time.time() * 1000
    await it.first.ask("Page.setWebLifecycleState", state="active")
    return woken


async def begin(it: Scene, peer: Peer) -> tuple[list[PageEnd], PeerEnd]:
    """Let the first page talk with the second, and with a peer; each has heard one message."""
    await meet(it)
    listener = peer.listen("chat")
    await peer.published()
    await it.first.run("void (window.other = more())")
    await call(it.first, "connect", peer.guid, "chat", on="other")
    pages = [PageEnd(it.first), PageEnd(it.second), PageEnd(it.first, "other")]
    there = PeerEnd(await anext(listener))
    ends: tuple[End, ...] = (*pages, there)
    for end in ends:
        await end.begin()
        await end.allow(1)
    for end in ends:
        await end.heard(1)
    return pages, there


@pytest.mark.nightly
async def test_four_minutes(tmp_path: Path) -> None:
    async with (
        scene(tmp_path, browser) as it,
        Peer(Identity.generate(), it.relay.far.url) as peer,
    ):
        (near, far, other), there = await begin(it, peer)
        freezing = asyncio.ensure_future(asleep(it, FOUR_MINUTES))
        await it.second.until("driven.session.path.path === null")
        for end in (far, there):
            await end.allow(WAITING)
        woken = await freezing
        for end in (near, other):
            await end.allow(WAITING)
            await end.heard(WAITING)
        back = float(await it.first.run("Date.now()")) - woken
        for end in (far, there):
            await end.heard(WAITING)
        for end in (near, other):
            await end.close()
        for end in (near, far, other, there):
            await end.over(WAITING)
        print(f"all that waited was there {back / 1000:.2f} s after waking")


@pytest.mark.nightly
async def test_longer_than_the_resume_window(tmp_path: Path) -> None:
    async with (
        scene(tmp_path, browser) as it,
        Peer(Identity.generate(), it.relay.far.url) as peer,
    ):
        _, there = await begin(it, peer)
        woken = await asleep(it, LONGER)
        for name in ("driven", "other"):
            await it.first.until(f"{name}.fault")
            assert (await it.first.run(f"{name}.fault")).startswith("SessionLost")
            late = await it.first.run(f"{name}.faultAt") - woken
            assert 0 <= late < 1000
            print(f"told {late / 1000:.3f} s after waking")
        # The others knew it before.
        assert (await it.second.run("driven.fault")).startswith("SessionLost")
        await there.lost()
        # Nothing hinders the next one.
        await call(it.first, "again")
        guid = await it.second.run("driven.peer.guid")
        assert await call(it.first, "connect", guid, "chat") is True
