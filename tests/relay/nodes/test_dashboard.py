"""The dashboard of several processes: read from relays that serve, over HTTP and in Chromium."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay.config import RelayConfig, Siblings
from relay.nodes.front import AdminFront
from relay.server import RelayServer
from tests.relay.dashboard.chromium import browser
from tests.relay.dashboard.crowd import HOSTILE, come, crowd, guid_of
from tests.relay.dashboard.test_routes import BROWSER, TOKEN, getting, next_event, token

EVENTS = "/dashboard/events"
_SIBLINGS = Siblings(book=None, nodes=2, secret=b"s" * 32)


class Pair:
    """Two relays as the processes of one."""

    def __init__(self, config: RelayConfig) -> None:
        self.config = config
        self.relays: dict[str, RelayServer] = {}
        self.more: dict[str, str] = {}
        """Where others are that stand for a process."""
        self.front = AdminFront(config, ("node-1", "node-2"), self.here)

    def here(self) -> dict[str, str]:
        return {name: one.admin_urls[0] for name, one in self.relays.items()} | self.more

    @contextlib.asynccontextmanager
    async def running(self, name: str) -> AsyncIterator[RelayServer]:
        async with RelayServer(self.config, siblings=_SIBLINGS) as relay:
            self.relays[name] = relay
            yield relay
            del self.relays[name]


@contextlib.asynccontextmanager
async def pair(**settings: Any) -> AsyncIterator[Pair]:
    both = Pair(RelayConfig(port=0, admin_host="127.0.0.1", admin_port=0, **settings))
    try:
        await both.front.open()
        yield both
    finally:
        await both.front.close()


class Looking:
    """Somebody who looks, and what he knows."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.rows: dict[str, dict[str, Any]] = {}
        self.news: list[tuple[str, str]] = []
        self.now: dict[str, Any] = {}

    async def until(self, **states: str) -> None:
        """Hear what is told until the nodes are so."""
        while True:
            kind, data = await next_event(self._answer)
            if kind == "rows":
                self.rows |= {row["key"]: row for row in data}
            elif kind == "change":
                for key in data["gone"]:
                    self.rows.pop(key, None)
                self.news += [(one["kind"], one["node"]) for one in data["news"]]
                self.now = data["now"]
                found = {one["name"].replace("-", "_"): one["state"] for one in self.now["nodes"]}
                if found == states:
                    return


async def test_all_are_shown_and_one_that_ends_harms_nothing() -> None:
    async with asyncio.timeout(120), pair() as both, contextlib.AsyncExitStack() as stack:
        one = await stack.enter_async_context(both.running("node-1"))
        ours = come(one.registry, guid_of(1), "203.0.113.1", "chat")
        async with both.running("node-2") as other:
            theirs = come(other.registry, guid_of(2), "203.0.113.1", "chat")
            answer = await stack.enter_async_context(getting(both.front.urls[0] + EVENTS))
            looking = Looking(answer)
            await looking.until(node_1="serves", node_2="serves")
            first, second = f"node-1/{guid_of(1)[:12]}", f"node-2/{guid_of(2)[:12]}"
            assert looking.rows.keys() == {first, second}
            assert looking.rows[first]["networks"] == looking.rows[second]["networks"], (
                "one network has one number, at whichever node"
            )
            assert looking.now["present"] == 2
            other.registry.remove(theirs, 1.0, closed=True)
        await looking.until(node_1="serves", node_2="away")
        assert ("node left", "node-2") in looking.news
        assert looking.rows.keys() == {first}
        # Started anew, as another process.
        await stack.enter_async_context(both.running("node-2"))
        await looking.until(node_1="serves", node_2="serves")
        assert ("node came", "node-2") in looking.news
        one.registry.remove(ours, 1.0, closed=True)


@contextlib.asynccontextmanager
async def hanging() -> AsyncIterator[tuple[str, list[asyncio.StreamWriter]]]:
    """Listen where nobody is answered; yield the address, and who has come."""
    came: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda reader, writer: came.append(writer), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", came
    for writer in came:
        writer.close()
    server.close()
    await server.wait_closed()


async def test_one_that_says_nothing_keeps_nobody_from_being_shown() -> None:
    async with (
        asyncio.timeout(120),
        hanging() as (url, came),
        pair() as both,
        both.running("node-1"),
    ):
        both.more["node-2"] = url
        async with getting(both.front.urls[0] + EVENTS) as answer:
            await Looking(answer).until(node_1="serves", node_2="silent")
        assert came


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 401 No\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nevent: change\ndata: {\n\n",
        pytest.param(b"nothing of HTTP\r\n\r\n", marks=pytest.mark.nightly),
        pytest.param(b"", marks=pytest.mark.nightly),
    ],
)
async def test_what_cannot_be_read_is_silent(answer: bytes) -> None:
    def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    async with asyncio.timeout(120), pair() as both, both.running("node-1"):
        both.more["node-2"] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with getting(both.front.urls[0] + EVENTS) as told:
            await Looking(told).until(node_1="serves", node_2="silent")
    server.close()
    await server.wait_closed()


async def test_who_may_look_is_as_at_one_process(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(120),
        pair(admin_token=token(tmp_path)) as both,
        both.running("node-1"),
        both.running("node-2"),
    ):
        (url,) = both.front.urls
        async with getting(url + EVENTS) as answer:
            assert answer.status == 401
        async with getting(url + EVENTS, Authorization="Bearer guess") as answer:
            assert answer.status == 401
        # The processes want the token as well.
        async with getting(url + EVENTS, Authorization=f"Bearer {TOKEN}") as answer:
            await Looking(answer).until(node_1="serves", node_2="serves")
        async with getting(url + "/", **BROWSER) as answer:
            assert answer.content_type == "text/html"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        async with getting(url + "/") as answer:
            assert answer.content_type == "text/plain"


async def test_without_a_token_it_is_for_this_host_by_its_own_names() -> None:
    async with pair() as both:
        (url,) = both.front.urls
        for headers in ({"X-Forwarded-For": "192.0.2.1"}, {"Host": "rebound.example"}):
            async with getting(url + EVENTS, **headers) as answer:
                assert answer.status == 403


async def test_eight_look_and_each_process_is_read_once() -> None:
    async with (
        asyncio.timeout(120),
        hanging() as (url, came),
        pair() as both,
        both.running("node-1") as one,
        contextlib.AsyncExitStack() as stack,
    ):
        both.more["node-2"] = url
        at = both.front.urls[0] + EVENTS
        for _ in range(8):
            answer = await stack.enter_async_context(getting(at))
            await Looking(answer).until(node_1="serves", node_2="silent")
        async with getting(at) as answer:
            assert answer.status == 429
        assert len(came) == 1
        await stack.aclose()
        # All have gone: no process looks at itself any more.
        while one.metrics.asked is not None:
            await asyncio.sleep(0.01)


@pytest.mark.nightly
async def test_metrics_are_of_those_that_answer() -> None:
    async with asyncio.timeout(120), hanging() as (url, came), pair() as both:
        async with both.running("node-1"):
            both.more["node-2"] = url
            async with getting(f"{both.front.urls[0]}/metrics") as answer:
                text = await answer.text()
        assert came
    assert 'node="node-1"' in text
    assert 'node="node-2"' not in text


async def test_the_page(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(120),
        pair() as both,
        both.running("node-1") as one,
        browser(tmp_path) as page,
    ):
        async with both.running("node-2") as other:
            flows = list(crowd(one.registry, 300))
            theirs = come(other.registry, guid_of(-1), "198.51.100.1", HOSTILE)
            await page.look(width=360, dark=True)
            await page.open(f"{both.front.urls[0]}/")
            await page.until("document.getElementById('found').textContent.startsWith('301 peers')")
            nodes = "[...document.querySelectorAll('#nodes tr')].map(one => one.innerText)"
            first, second = await page.run(nodes)
            assert (first.split()[:2], second.split()[:2]) == (["node-1", "300"], ["node-2", "1"])
            await page.run('by("by").value = "node"; by("by").dispatchEvent(new Event("change"))')
            shown = "[...document.querySelectorAll('#peers bdi')].map(one => one.textContent)"
            assert await page.run(shown) == ["node-1", "node-2"]
            await page.run("document.querySelectorAll('#peers button')[1].click()")
            assert await page.run("document.querySelectorAll('#peers tr').length") == 1
            assert HOSTILE[:63] + "…" in await page.run(shown)
            assert await page.run("document.title") == "Roam Relay"
            assert await page.run("document.documentElement.scrollWidth") <= 360
            other.registry.remove(theirs, 1.0, closed=True)
        await page.until("document.querySelector('#nodes .lost') !== null")
        assert "started anew" in await page.run(f"{nodes}[1]")
        assert "node node-2 left" in await page.run("by('news').innerText")
        assert page.complaints == []
        for flow in flows:
            one.registry.remove(flow, 1.0, closed=True)
