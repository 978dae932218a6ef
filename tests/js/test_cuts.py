"""Numbered messages over cuts of every kind, in Chromium and in Firefox: two pages, a page that
calls a peer of this library, and one that is called by it, all at once.
"""

from pathlib import Path
from typing import Any

import pytest

from peers import Identity, Mode, Peer
from tests.js.firefox import firefox
from tests.js.pages import call
from tests.js.scene import (
    CHROMIUM_ALONE,
    KINDS,
    End,
    PageEnd,
    PeerEnd,
    Scene,
    converse,
    cut_of,
    meet,
    scene,
)
from tests.relay.dashboard.chromium import browser

BROWSERS: dict[str, Any] = {"chromium": browser, "firefox": firefox}
RUNS = [
    *(("chromium", kind) for kind in (*KINDS, *CHROMIUM_ALONE)),
    *(("firefox", kind) for kind in KINDS),
]


async def talk_all(it: Scene, total: int, kinds: list[str]) -> None:
    """Let the first page talk with the second, and both of them with a peer."""
    async with Peer(Identity.generate(), it.relay.far.url) as peer:
        await meet(it)
        for page in (it.first, it.second):
            await page.run("void (window.other = more())")
        listener = peer.listen("chat")
        await peer.published()
        await call(it.first, "connect", peer.guid, "chat", on="other")
        called = await anext(listener)
        await call(it.second, "listen", "other", on="other")
        guid = await it.second.run("driven.peer.guid")
        calling = await peer.connect(guid, "other", mode=Mode.AUTO, wait=True)
        await it.second.until("other.session !== null")
        talks: list[tuple[End, End]] = [
            (PageEnd(it.first), PageEnd(it.second)),
            (PageEnd(it.first, "other"), PeerEnd(called)),
            (PeerEnd(calling), PageEnd(it.second, "other")),
        ]
        await converse(talks, total, [cut_of(it, kind) for kind in kinds])


async def test_firefox(tmp_path: Path) -> None:
    async with scene(tmp_path, firefox) as it:
        await talk_all(it, 300, ["plane", "control"])


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "kind"), RUNS)
async def test_at_length(tmp_path: Path, name: str, kind: str) -> None:
    async with scene(tmp_path, BROWSERS[name]) as it:
        await talk_all(it, 10_000, [kind] * 10)
