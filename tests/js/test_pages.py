"""The package in Debian's Chromium: page and page, page and peer, over cuts; asleep, doubled,
without storage, and from elsewhere. What is cut at length, and in Firefox, is in test_cuts.py.
"""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from peers import Code, Identity, Mode, Peer, PeerConfig, RoamRelayError
from protocol.lock import Lock
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.js.firefox import firefox
from tests.js.pages import call, open_page
from tests.js.scene import PageEnd, PeerEnd, Scene, converse, cut_of, freeze, meet, scene
from tests.relay.dashboard.chromium import Page, browser
from tests.support.scale import NIGHTLY


async def test_page_and_page_over_cuts(tmp_path: Path) -> None:
    async with scene(tmp_path, browser) as it:
        await meet(it)
        cuts = [cut_of(it, kind) for kind in ("control", "offline", "relay")]
        talk = (PageEnd(it.first), PageEnd(it.second))
        await converse([talk], 300, cuts, closes=False)
        said = await it.first.run("driven.session.explain()")
        assert (said["path"], said["lock"], said["state"]) == ("relayed", "noise", "open")
        await it.first.run("driven.session.close()")
        assert await it.second.run("driven.session.closed().then(() => 'clean')") == "clean"


async def test_page_and_peer_over_cuts(tmp_path: Path) -> None:
    async with (
        scene(tmp_path, browser) as it,
        Peer(Identity.generate(), it.relay.far.url) as peer,
    ):
        relay = it.relay.wire.url
        listener = peer.listen("chat")
        await peer.published()
        guid = await call(it.first, "open", relay)
        # The page calls the peer,
        await call(it.first, "connect", peer.guid, "chat", {"mode": "central"})
        cuts = [cut_of(it, kind) for kind in ("reset", "relay")]
        await converse([(PageEnd(it.first), PeerEnd(await anext(listener)))], 300, cuts)
        # and the peer calls the page.
        await call(it.first, "again")
        await call(it.first, "listen", "chat")
        session = await peer.connect(guid, "chat", mode=Mode.AUTO, wait=True)
        assert session.explain().lock == "noise"
        await it.first.until("driven.session !== null")
        cuts = [cut_of(it, kind) for kind in ("swapped", "reset")]
        await converse([(PeerEnd(session), PageEnd(it.first))], 300, cuts)
        # A peer that takes nothing but TLS has no lock in common with a page, whoever calls.
        config = PeerConfig(locks=(Lock.TLS,))
        async with Peer(Identity.generate(), it.relay.far.url, config=config) as strict:
            strict.listen("chat")
            await strict.published()
            connect = f"driven.failure(() => driven.peer.connect('{strict.guid}', 'chat'))"
            assert await it.first.run(connect) == "LockUnsupported lock_unsupported"
            with pytest.raises(RoamRelayError) as refused:
                await strict.connect(guid, "chat", mode=Mode.AUTO)
            assert refused.value.code is Code.LOCK_UNSUPPORTED


async def test_a_page_and_its_browser(tmp_path: Path) -> None:
    """One browser for all of it: each begins with fresh pages."""
    async with scene(tmp_path, browser) as it:
        # What takes seconds waits for the night; there Firefox has it too.
        parts = (
            one for one in EVERYWHERE if NIGHTLY or one is not a_large_message_and_a_slow_reader
        )
        for part in (*parts, a_tab_that_was_frozen):
            await afresh(it, part)


@pytest.mark.nightly
async def test_a_page_and_firefox(tmp_path: Path) -> None:
    async with scene(tmp_path, firefox) as it:
        for part in EVERYWHERE:
            await afresh(it, part)


async def afresh(it: Scene, part: Callable[[Scene], Awaitable[None]]) -> None:
    """Play a part on fresh pages."""
    for page in (it.first, it.second):
        await page.open("about:blank")
        await open_page(page, it.url)
    await part(it)


async def one_key_in_two_tabs(it: Scene) -> None:
    relay = it.relay.wire.url
    older = await call(it.first, "open", relay, {"key": "mine"})
    await it.second.run("(real => { Date.now = () => real() - 3_600_000; })(Date.now)")
    newer = await call(it.second, "open", relay, {"key": "mine"})
    # The key is kept for both, and no script reads it.
    assert older == newer
    # The newer one stays, its clock an hour behind; the older is told, and does not fight.
    await it.first.until("driven.statuses.at(-1) === 'over'")
    assert await it.first.run("driven.peer.status.error.name") == "Superseded"
    connect = f"driven.failure(() => driven.peer.connect('{'a' * 52}', 'chat'))"
    assert await it.first.run(connect) == "Superseded superseded"
    assert await it.second.run("driven.statuses.join()") == "online"


async def a_key_that_cannot_be_kept(it: Scene) -> None:
    refuse = "indexedDB.constructor.prototype.open = () => { throw new Error('denied'); }"
    await it.first.run(refuse)
    await call(it.first, "open", it.relay.wire.url, {"key": "mine"})
    assert "denied" in await it.first.run("driven.storageFailure")
    assert await it.first.run("driven.peer.status.state") == "online"
    await call(it.second, "open", it.relay.wire.url, {"key": "mine"})
    assert await it.second.run("driven.storageFailure") is None


async def a_tab_that_was_frozen(it: Scene) -> None:
    assert isinstance(it.first, Page)
    await meet(it, session={"silenceLimit": 0.4, "pingInterval": 0.1, "resumeWindow": 2})
    await call(it.first, "exchange")
    # For less than the resume window: the session goes on.
    await freeze(it.first, it.relay.wire, 1.0)
    await it.second.run("driven.session.send('1 ')")
    await it.first.until("driven.got === 1")
    # For longer: it is lost, and the page hears of it at once.
    await freeze(it.first, it.relay.wire, 3.0)
    woken = time.time() * 1000
    await it.first.until("driven.fault")
    assert await it.first.run("driven.faultAt") - woken < 1000
    assert (await it.first.run("driven.fault")).startswith("SessionLost")


LARGE = """
(async () => {
  const part = crypto.getRandomValues(new Uint8Array(65_536));
  const whole = new Uint8Array(1 << 20).map((_, place) => part[place & 65_535] ^ (place >> 16));
  window.sum = String(new Uint8Array(await crypto.subtle.digest("SHA-256", whole)));
  await driven.session.send(whole);
  return sum;
})()
"""
SUM = """
(async () => {
  const whole = await driven.session.receive();
  return String(new Uint8Array(await crypto.subtle.digest("SHA-256", whole)));
})()
"""
FAST = """
void (async () => {
  window.taken = 0;
  for (; taken < 64; taken++) await driven.session.send(new Uint8Array(16_384));
})()
"""
SLOW = """
(async () => {
  let sum = 0;
  for (let one = 0; one < 64; one++) sum += (await driven.session.receive()).length;
  return sum;
})()
"""


async def a_large_message_and_a_slow_reader(it: Scene) -> None:
    # The whole mebibyte arrives, though its path is cut with it on the way; one byte more is
    # refused.
    await meet(it, session={"window": 1 << 21})
    sent = await it.first.run(LARGE)
    it.relay.wire.cut()
    assert await it.second.run(SUM) == sent
    more = "driven.session.send(new Uint8Array((1 << 20) + 1)).catch(error => error.name)"
    assert await it.first.run(more) == "RangeError"
    # Who takes nothing stops the sender at its window: 128 KiB here, of 1 MiB.
    for page in (it.first, it.second):
        await open_page(page, it.url)
    await meet(it, session={"window": 1 << 17})
    await it.first.run(FAST)
    await it.second.until("driven.session.explain().received >= 7")
    # As many pings as make sure that all that may come has come.
    for _ in range(5):
        await it.first.run("new Promise(done => setTimeout(done, 20))")
    assert await it.first.run("taken") <= 9
    assert await it.second.run(SLOW) == 64 * 16_384
    await it.first.until("taken === 64")


async def origins(it: Scene) -> None:
    elsewhere = it.url.replace("127.0.0.1", "localhost")
    async with RelayServer(RelayConfig(port=0)) as relay:
        await open_page(it.first, elsewhere)
        attach = f"driven.failure(() => driven.open('{relay.url}'))"
        assert await it.first.run(attach) == "RelayUnavailable refused"
    named = RelayConfig(port=0, page_origins=(elsewhere.rstrip("/"),))
    async with RelayServer(named) as relay:
        guid = await call(it.first, "open", relay.url)
        await call(it.first, "listen", "chat")
        look = f"driven.peer.lookup('{guid}', 'chat').then(one => one.state)"
        await it.first.until(f"{look}.catch(() => null)")
        assert await it.first.run(look) == "online"
        missing = f"driven.failure(() => driven.peer.lookup('{guid}', 'other'))"
        assert await it.first.run(missing) == "UnknownService unknown_service"


EVERYWHERE = (
    one_key_in_two_tabs,
    a_key_that_cannot_be_kept,
    a_large_message_and_a_slow_reader,
    origins,
)
"""What is the same in every browser."""
