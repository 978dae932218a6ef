"""The package in Debian's Chromium: page and page, page and peer, over cuts of every kind; asleep,
doubled, without storage, and from elsewhere.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from peers import Code, Identity, Mode, Peer, PeerConfig, RoamRelayError, Session
from protocol.lock import Lock
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.js.pages import call, open_page, served
from tests.js.wire import Wire, wire
from tests.relay.dashboard.chromium import Page, browser


class Relay:
    """A relay behind a wire, that can be ended without a word and replaced."""

    def __init__(self, way: Wire, stack: contextlib.AsyncExitStack) -> None:
        self.wire = way
        self._stack = stack

    async def replace(self) -> None:
        """Cut all that is attached, and let another relay, with another key, take its place."""
        relay = await self._stack.enter_async_context(RelayServer(RelayConfig(port=0)))
        self.wire.target = int(relay.url.rpartition(":")[2])
        self.wire.cut()


@dataclass
class Scene:
    """Two tabs, a relay for each of them to reach, and the page."""

    first: Page
    second: Page
    relay: Relay
    url: str


@contextlib.asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer(RelayConfig(port=0)))
        way = await stack.enter_async_context(wire(int(relay.url.rpartition(":")[2])))
        url = await stack.enter_async_context(served())
        first = await stack.enter_async_context(browser(folder))
        second = await stack.enter_async_context(first.another())
        for page in (first, second):
            await open_page(page, url)
        yield Scene(first, second, Relay(way, stack), url)
        # What a cut network makes a browser log is in order, and nothing else.
        told = [one for page in (first, second) for one in page.complaints]
        assert all(
            "WebSocket" in one or "net::ERR" in one or "status of 404" in one for one in told
        )


async def meet(it: Scene, **options: object) -> None:
    """Open a session from the first page to the second."""
    relay = it.relay.wire.url
    guid = await call(it.second, "open", relay, options)
    await call(it.second, "listen", "chat")
    await call(it.first, "open", relay, options)
    await call(it.first, "connect", guid, "chat")
    await it.second.until("driven.session !== null")


Cut = Callable[[], Awaitable[None]]


async def converse(it: Scene, total: int, cuts: list[Cut]) -> None:
    """Exchange numbered messages, with cuts between the first and the last of them."""
    pages = (it.first, it.second)
    for page in pages:
        await call(page, "exchange")
    step = total // (len(cuts) + 1)
    for number, cut in enumerate(cuts, start=1):
        for page in pages:
            await call(page, "allow", number * step)
        # Some have come and some are on their way.
        await it.first.until(f"driven.got >= {number * step - step // 2}")
        await cut()
    for page in pages:
        await call(page, "allow", total)
    for page in pages:
        await page.until(f"driven.got >= {total} || driven.wrong || driven.fault")
        told = await page.run("[driven.got, driven.sent, driven.wrong, driven.fault]")
        assert told == [total, total, "", ""]


async def exchange(session: Session, allowed: "asyncio.Queue[int]") -> None:
    """Say numbers, as many as are allowed, and expect the same from the other side; a 0 is the
    end."""

    async def hear() -> None:
        got = 0
        async for message in session:
            got += 1
            assert message == f"{got} ".encode()

    sent = 0
    async with asyncio.TaskGroup() as both:
        both.create_task(hear())
        while most := await allowed.get():
            for number in range(sent + 1, most + 1):
                await session.send(f"{number} ".encode())
            sent = most
        await session.close()


async def converse_with_peer(it: Scene, session: Session, total: int, cuts: list[Cut]) -> None:
    """Exchange numbered messages between the first page and a peer of this library."""
    allowed: asyncio.Queue[int] = asyncio.Queue()
    talking = asyncio.ensure_future(exchange(session, allowed))
    try:
        await call(it.first, "exchange")
        step = total // (len(cuts) + 1)
        for number, cut in enumerate(cuts, start=1):
            await call(it.first, "allow", number * step)
            allowed.put_nowait(number * step)
            await it.first.until(f"driven.got >= {number * step - step // 2}")
            await cut()
        await call(it.first, "allow", total)
        allowed.put_nowait(total)
        await it.first.until(f"driven.got >= {total} || driven.wrong || driven.fault")
        await it.first.until(f"driven.session.explain().acknowledged >= {total} || driven.fault")
        told = await it.first.run("[driven.got, driven.sent, driven.wrong, driven.fault]")
        assert told == [total, total, "", ""]
        allowed.put_nowait(0)
        async with asyncio.timeout(60):
            await talking
        assert session.figures().received == total
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)


async def offline(page: Page) -> None:
    """Take the network from a page, and give it back."""
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    await page.ask("Network.emulateNetworkConditions", offline=True, **conditions)
    await page.until("!navigator.onLine")
    await asyncio.sleep(0.2)  # Time is to pass without a network.
    await page.ask("Network.emulateNetworkConditions", offline=False, **conditions)


def cut_of(it: Scene, kind: str) -> Cut:
    async def reset() -> None:
        it.relay.wire.cut()

    async def silence() -> None:
        it.relay.wire.silence()
        await it.first.until("driven.session.path.path === null")
        it.relay.wire.sound()

    async def off_and_on() -> None:
        await offline(it.first)

    kinds: dict[str, Cut] = {
        "reset": reset,
        "relay": it.relay.replace,
        "offline": off_and_on,
        "silence": silence,
    }
    return kinds[kind]


async def test_page_and_page_over_cuts(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        await meet(it)
        await converse(it, 300, [cut_of(it, kind) for kind in ("reset", "offline", "relay")])
        said = await it.first.run("driven.session.explain()")
        assert (said["path"], said["lock"], said["state"]) == ("relayed", "noise", "open")
        await it.first.run("driven.session.close()")
        assert await it.second.run("driven.session.closed().then(() => 'clean')") == "clean"


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["reset", "relay", "offline", "silence"])
async def test_page_and_page_at_length(tmp_path: Path, kind: str) -> None:
    async with scene(tmp_path) as it:
        await meet(it)
        await converse(it, 10_000, [cut_of(it, kind)] * 10)


async def test_page_and_peer_over_cuts(tmp_path: Path) -> None:
    async with scene(tmp_path) as it, Peer(Identity.generate(), it.relay.wire.url) as peer:
        listener = peer.listen("chat")
        await peer.published()
        guid = await call(it.first, "open", it.relay.wire.url)
        # The page calls the peer,
        await call(it.first, "connect", peer.guid, "chat", {"mode": "central"})
        cuts = [cut_of(it, kind) for kind in ("reset", "offline", "relay")]
        await converse_with_peer(it, await anext(listener), 300, cuts)
        # and the peer calls the page.
        await call(it.first, "again")
        await call(it.first, "listen", "chat")
        session = await peer.connect(guid, "chat", mode=Mode.AUTO, wait=True)
        assert session.explain().lock == "noise"
        await it.first.until("driven.session !== null")
        cuts = [cut_of(it, kind) for kind in ("offline", "reset")]
        await converse_with_peer(it, session, 300, cuts)
        # A peer that takes nothing but TLS has no lock in common with a page, whoever calls.
        config = PeerConfig(locks=(Lock.TLS,))
        async with Peer(Identity.generate(), it.relay.wire.url, config=config) as strict:
            strict.listen("chat")
            await strict.published()
            connect = f"driven.failure(() => driven.peer.connect('{strict.guid}', 'chat'))"
            assert await it.first.run(connect) == "LockUnsupported lock_unsupported"
            with pytest.raises(RoamRelayError) as refused:
                await strict.connect(guid, "chat", mode=Mode.AUTO)
            assert refused.value.code is Code.LOCK_UNSUPPORTED


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["reset", "relay", "offline", "silence"])
async def test_page_and_peer_at_length(tmp_path: Path, kind: str) -> None:
    async with scene(tmp_path) as it, Peer(Identity.generate(), it.relay.wire.url) as peer:
        listener = peer.listen("chat")
        await peer.published()
        await call(it.first, "open", it.relay.wire.url)
        await call(it.first, "connect", peer.guid, "chat")
        await converse_with_peer(it, await anext(listener), 10_000, [cut_of(it, kind)] * 10)


async def test_a_page_and_its_browser(tmp_path: Path) -> None:
    """One browser for all of it: each begins with fresh pages."""
    async with scene(tmp_path) as it:
        for part in (
            one_key_in_two_tabs,
            a_key_that_cannot_be_kept,
            a_tab_that_was_frozen,
            origins,
        ):
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
    await meet(it, session={"silenceLimit": 0.4, "pingInterval": 0.1, "resumeWindow": 2})
    await call(it.first, "exchange")
    # For less than the resume window: the session goes on.
    await freeze(it, 1.0)
    await it.second.run("driven.session.send('1 ')")
    await it.first.until("driven.got === 1")
    # For longer: it is lost, and the page hears of it at once.
    woken = await freeze(it, 3.0)
    await it.first.until("driven.fault")
    assert await it.first.run("driven.faultAt") - woken < 1000
    assert (await it.first.run("driven.fault")).startswith("SessionLost")


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


async def freeze(it: Scene, seconds: float) -> float:
    """Freeze the first page for so long, its wire with it; return when it has woken, in
    milliseconds since 1970."""
    await it.first.ask("Page.setWebLifecycleState", state="frozen")
    it.relay.wire.cut()
    await asyncio.sleep(seconds)  # Time is to pass while it sleeps.
    woken = time.time() * 1000
    await it.first.ask("Page.setWebLifecycleState", state="active")
    return woken
