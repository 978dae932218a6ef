"""Two tabs of a browser, a relay behind a wire, and numbered messages over cuts of every kind: what
is said, what is cut, and what must have come of it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from peers import Session, SessionLost
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.js.pages import Tab, call, open_page, served
from tests.js.wire import LIES, Wire, wire
from tests.relay.dashboard.chromium import Page
from tests.support.processes import relay as relay_process

__all__ = [
    "CHROMIUM_ALONE",
    "KINDS",
    "Cut",
    "End",
    "PageEnd",
    "PeerEnd",
    "Relay",
    "Scene",
    "converse",
    "cut_of",
    "freeze",
    "meet",
    "scene",
]

LONG = 120.0
"""Seconds for what was said to arrive."""
Browser = Callable[[Path], AbstractAsyncContextManager[Tab]]
Cut = Callable[[], Awaitable[None]]


class Relay:
    """A relay behind two wires, one of them of the first page alone, that can be ended without a
    word and replaced."""

    def __init__(
        self, near: Wire, far: Wire, folder: Path, stack: contextlib.AsyncExitStack
    ) -> None:
        self.wire = near
        self.far = far
        self._folder = folder
        self._stack = stack
        self._process: contextlib.ExitStack | None = None

    async def replace(self) -> None:
        """Cut all that is attached, and let another relay, with another key, take its place."""
        relay = await self._stack.enter_async_context(RelayServer(RelayConfig(port=0)))
        self._lead(relay.url)

    async def kill(self) -> None:
        """Kill the process that it is, and run another one, with another key."""
        if self._process is None:
            self._process = self._stack.enter_context(contextlib.ExitStack())
        await asyncio.to_thread(self._process.close)
        url, process = await asyncio.to_thread(
            self._process.enter_context, relay_process(self._folder)
        )
        self._process.callback(process.kill)
        self._lead(url)

    def _lead(self, url: str) -> None:
        for one in (self.wire, self.far):
            one.target = _port(url)
            one.cut()


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


@dataclass
class Scene:
    """Two tabs, a relay for each of them to reach, and the page."""

    first: Tab
    second: Tab
    relay: Relay
    url: str


COMPLAINTS = (
    "WebSocket",
    "net::ERR",
    "status of 404",
    "establish a connection",
    "interrupted while",
    "Cross-Origin",
)
"""What a cut network makes a browser log is in order, and nothing else."""


@contextlib.asynccontextmanager
async def scene(folder: Path, open_browser: Browser) -> AsyncIterator[Scene]:
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer(RelayConfig(port=0)))
        near = await stack.enter_async_context(wire(_port(relay.url)))
        far = await stack.enter_async_context(wire(_port(relay.url)))
        url = await stack.enter_async_context(served())
        first = await stack.enter_async_context(open_browser(folder))
        second: Tab = await stack.enter_async_context(first.another())
        tabs: tuple[Tab, Tab] = (first, second)
        for page in tabs:
            await open_page(page, url)
        yield Scene(first, second, Relay(near, far, folder, stack), url)
        told = [one for page in tabs for one in page.complaints]
        assert all(any(word in one for word in COMPLAINTS) for one in told), told


async def meet(it: Scene, **options: object) -> None:
    """Open a session from the first page to the second."""
    guid = await call(it.second, "open", it.relay.far.url, options)
    await call(it.second, "listen", "chat")
    await call(it.first, "open", it.relay.wire.url, options)
    await call(it.first, "connect", guid, "chat")
    await it.second.until("driven.session !== null")


# -- who talks -------------------------------------------------------------------------------------


class End(Protocol):
    """One side of a conversation: says numbers from 1 on, as far as is allowed, and expects the
    same from the other side."""

    async def begin(self) -> None: ...

    async def allow(self, count: int) -> None: ...

    async def heard(self, count: int) -> None:
        """Wait until so many have come; fail where one of them was wrong."""

    async def close(self) -> None: ...

    async def over(self, count: int) -> None:
        """Wait for the end; fail where there were more, or less."""


@dataclass
class PageEnd:
    """A page's: an object of its script, with a session."""

    page: Tab
    name: str = "driven"

    async def begin(self) -> None:
        await call(self.page, "exchange", on=self.name)

    async def allow(self, count: int) -> None:
        await call(self.page, "allow", count, on=self.name)

    async def heard(self, count: int) -> None:
        one = self.name
        await self.page.until(f"{one}.got >= {count} || {one}.wrong || {one}.fault")
        assert await self.page.run(f"[{one}.wrong, {one}.fault]") == ["", ""]

    async def close(self) -> None:
        await call(self.page, "session.close", on=self.name)

    async def over(self, count: int) -> None:
        await self.page.until(f"{self.name}.isOver")
        told = ", ".join(f"{self.name}.{what}" for what in ("got", "sent", "wrong", "fault"))
        assert await self.page.run(f"[{told}]") == [count, count, "", ""]


@dataclass
class PeerEnd:
    """A peer's of this library."""

    session: Session
    _allowed: int = 0
    _got: int = 0
    _wrong: str = ""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _talking: asyncio.Future[None] | None = None

    async def begin(self) -> None:
        self._talking = asyncio.ensure_future(self._talk())

    async def _talk(self) -> None:
        async with asyncio.TaskGroup() as both:
            saying = both.create_task(self._say())
            async for message in self.session:
                async with self._changed:
                    self._got += 1
                    if message != f"{self._got} ".encode():
                        self._wrong = self._wrong or f"{message[:40]!r} as number {self._got}"
                    self._changed.notify_all()
            saying.cancel()

    async def _say(self) -> None:
        for number in range(1, 1 << 30):
            async with self._changed:
                await self._changed.wait_for(lambda: self._allowed >= number)  # noqa: B023
            await self.session.send(f"{number} ".encode())

    async def allow(self, count: int) -> None:
        async with self._changed:
            self._allowed = count
            self._changed.notify_all()

    async def heard(self, count: int) -> None:
        async with asyncio.timeout(LONG), self._changed:
            await self._changed.wait_for(lambda: self._got >= count or self._wrong)
        assert self._wrong == ""

    async def lost(self) -> None:
        """Wait for the end, which must be a loss."""
        assert self._talking is not None
        async with asyncio.timeout(LONG):
            (told,) = await asyncio.gather(self._talking, return_exceptions=True)
        assert isinstance(told, BaseExceptionGroup)
        assert told.subgroup(SessionLost) is not None

    async def close(self) -> None:
        await self.session.close()

    async def over(self, count: int) -> None:
        assert self._talking is not None
        async with asyncio.timeout(LONG):
            await self._talking
        assert (self._got, self._wrong) == (count, "")
        assert self.session.figures().received == count


async def converse(
    talks: Sequence[tuple[End, End]], total: int, cuts: Sequence[Cut], *, closes: bool = True
) -> None:
    """Exchange numbered messages, all at once, with cuts between the first and the last of them;
    then close. Nothing is lost, doubled or out of order."""
    ends = [end for talk in talks for end in talk]
    for end in ends:
        await end.begin()
    step = total // (len(cuts) + 1)
    for number, cut in enumerate(cuts, start=1):
        for end in ends:
            await end.allow(number * step)
        # Some have come and some are on their way.
        for end in ends:
            await end.heard(number * step - step // 2)
        await cut()
    for end in ends:
        await end.allow(total)
    for end in ends:
        await end.heard(total)
    for end, _ in talks if closes else ():
        await end.close()
    for end in ends if closes else ():
        await end.over(total)


# -- what is cut -----------------------------------------------------------------------------------

KINDS = ("reset", "plane", "control", "relay", "killed", "offline", "silence", "hidden", *LIES)
CHROMIUM_ALONE = ("frozen", "moved")
"""What only its debugging protocol can do."""


def cut_of(it: Scene, kind: str) -> Cut:
    """Return what cuts, and waits until the first page's session has felt it and goes on."""
    page, way = it.first, it.relay.wire

    def felt(work: Callable[[], Awaitable[object]]) -> Cut:
        async def cut() -> None:
            since = await page.run("Date.now()")
            await work()
            await page.until(f"driven.hasLost({since}) || driven.fault")

        return cut

    async def reset() -> None:
        way.cut()
        it.relay.far.cut()

    async def plane() -> None:
        assert way.cut(control=False) > 0

    async def control() -> None:
        known = await page.run("driven.statuses.length")
        assert way.cut(planes=False) > 0
        await page.until(f"driven.statuses.length >= {known} + 2")
        await page.until("driven.statuses.at(-1) === 'online'")

    async def offline() -> None:
        way.leave()  # Browsers let the sockets be that they have.
        await page.network(up=False)
        await page.until("!navigator.onLine")
        await page.until("driven.session.path.path === null")
        await page.network(up=True)

    async def silence() -> None:
        way.silence()
        await page.until("driven.session.path.path === null")
        way.sound()

    async def hidden() -> None:
        await it.second.show()
        await page.until("document.visibilityState === 'hidden'")
        way.cut()
        await page.until("driven.session.path.path !== null")
        await page.show()
        await page.until("document.visibilityState === 'visible'")

    async def frozen() -> None:
        assert isinstance(page, Page)
        await freeze(page, way, 1.0)

    async def moved() -> None:
        assert isinstance(page, Page)
        way.leave()
        await _change_connection(page)

    if kind in LIES:

        async def lie() -> None:
            way.lie(kind)

        return felt(lie)
    works: Mapping[str, Cut] = {
        "reset": felt(reset),
        "plane": felt(plane),
        "control": control,
        "relay": felt(it.relay.replace),
        "killed": felt(it.relay.kill),
        "offline": felt(offline),
        "silence": felt(silence),
        "hidden": felt(hidden),
        "frozen": felt(frozen),
        "moved": felt(moved),
    }
    return works[kind]


async def freeze(page: Page, way: Wire, seconds: float) -> None:
    """Freeze a page for so long, its connections cut meanwhile."""
    await page.ask("Page.setWebLifecycleState", state="frozen")
    way.cut()
    await asyncio.sleep(seconds)  # Time is to pass while it sleeps.
    await page.ask("Page.setWebLifecycleState", state="active")


async def _change_connection(page: Page) -> None:
    """Let the browser say that it is on another network: its round trip is another one."""
    words: dict[str, Any] = {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1}
    told = (
        "new Promise(done => navigator.connection.addEventListener('change', done, {once: true}))"
    )
    await page.run(f"void (window.changed = {told})")
    latency = 1 if await page.run("navigator.connection.rtt") else 0
    await page.ask("Network.emulateNetworkConditions", latency=latency, **words)
    await page.run("changed.then(() => true)")
