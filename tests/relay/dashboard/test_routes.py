"""Who may see the dashboard, and how long it is told anything."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay.config import RelayConfig
from relay.dashboard.routes import page
from relay.dashboard.stream import MAX_VIEWERS
from relay.server import RelayServer
from tests.relay.dashboard.crowd import come, crowd, guid_of

TOKEN = "a-token-of-enough-characters"
BROWSER = {"Accept": "text/html,application/xhtml+xml"}


def token(folder: Path) -> str:
    file = folder / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    return str(file)


@contextlib.asynccontextmanager
async def getting(url: str, **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http,
        http.get(url, headers=headers) as answer,
    ):
        yield answer


async def next_event(answer: aiohttp.ClientResponse) -> tuple[str, Any]:
    async with asyncio.timeout(60):
        name = await answer.content.readuntil(b"\n")
        data = await answer.content.readuntil(b"\n\n")
    return name.decode().strip().removeprefix("event: "), json.loads(data.removeprefix(b"data: "))


async def test_the_page_is_for_an_operator_s_browser_and_others_are_told_what_this_is() -> None:
    async with RelayServer(RelayConfig(port=0)) as relay:
        async with getting(f"{relay.url}/", **BROWSER) as answer:
            assert answer.content_type == "text/html"
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert await answer.text() == page()[0]
        async with getting(f"{relay.url}/") as answer:
            assert answer.content_type == "text/plain"
        # Brought by a proxy: not of this host.
        brought = BROWSER | {"X-Forwarded-For": "203.0.113.9"}
        async with getting(f"{relay.url}/", **brought) as answer:
            assert answer.content_type == "text/plain"
        async with getting(f"{relay.url}/dashboard/events", **brought) as answer:
            assert answer.status == 403


def test_the_page_asks_nobody_else() -> None:
    text, _ = page()
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
    for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
        assert word not in text
    assert not re.search(r"\s(on\w+|style)=", text)


async def test_what_it_shows_is_for_whom_the_metrics_are_for(tmp_path: Path) -> None:
    async with RelayServer(RelayConfig(port=0, admin_token=token(tmp_path))) as relay:
        url = f"{relay.url}/dashboard/events"
        for wrong in ({}, {"Authorization": "Bearer wrong"}):
            async with getting(url, **wrong) as answer:
                assert answer.status == 401
        assert relay.metrics.asked is None, "nobody looks"
        # The page has nothing in it: it asks for the token.
        async with getting(f"{relay.url}/", **BROWSER) as answer:
            assert answer.content_type == "text/html"
        async with getting(url, Authorization=f"Bearer {TOKEN}") as answer:
            assert answer.status == 200
            assert answer.content_type == "text/event-stream"
            assert await next_event(answer) == ("start", {})


async def test_it_is_where_the_metrics_are_and_nowhere_else() -> None:
    async with RelayServer(RelayConfig(port=0, admin_host="127.0.0.1", admin_port=0)) as relay:
        (admin,) = relay.admin_urls
        async with getting(f"{relay.url}/", **BROWSER) as answer:
            assert answer.content_type == "text/plain"
        async with getting(f"{relay.url}/dashboard/events") as answer:
            assert answer.status == 404
        async with getting(f"{admin}/", **BROWSER) as answer:
            assert answer.content_type == "text/html"
        async with getting(f"{admin}/dashboard/events") as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 200), ("localhost:1", 200), ("[::1]:5", 200), ("rebound.example", 403)],
)
async def test_a_page_of_somebody_else_whose_name_leads_here_sees_nothing(
    host: str, status: int
) -> None:
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        getting(f"{relay.url}/dashboard/events", Host=host) as answer,
    ):
        assert answer.status == status


async def test_all_is_told_at_first_and_then_what_changes() -> None:
    async with RelayServer(RelayConfig(port=0)) as relay:
        flows = list(crowd(relay.registry, 600))
        async with getting(f"{relay.url}/dashboard/events") as answer:
            assert (await next_event(answer))[0] == "start"
            rows: dict[str, Any] = {}
            while (event := await next_event(answer))[0] == "rows":
                rows |= {row["id"]: row for row in event[1]}
            assert len(rows) == 600
            assert event[1]["now"]["present"] == 600
            assert event[1]["news"] == []
            relay.registry.remove(flows[0], 1.0, closed=True)
            come(relay.registry, guid_of(9_999), "198.51.100.1", "chat")
            news: list[Any] = []
            fresh: dict[str, Any] = {}
            while len(news) < 2:
                kind, said = await next_event(answer)
                if kind == "rows":
                    fresh |= {row["id"]: row for row in said}
                else:
                    news += said["news"]
            assert {one["kind"] for one in news} == {"came", "left"}
            assert list(fresh) == [guid_of(9_999)[:12]]
        # The page has gone: nothing is looked at any more.
        async with asyncio.timeout(60):
            while relay.metrics.asked is not None:
                await asyncio.sleep(0.01)
        for flow in flows[1:]:
            relay.registry.remove(flow, 1.0, closed=True)


async def test_so_many_may_look_and_the_end_of_the_relay_is_theirs() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with RelayServer(RelayConfig(port=0)) as relay:
            url = f"{relay.url}/dashboard/events"
            told = [await stack.enter_async_context(getting(url)) for _ in range(MAX_VIEWERS)]
            for one in told:
                assert (await next_event(one))[0] == "start"
            async with getting(url) as answer:
                assert answer.status == 429
                assert "Retry-After" in answer.headers
            async with told.pop():
                pass  # It goes, and another one may come.
            async with asyncio.timeout(60):
                while True:
                    async with getting(url) as answer:
                        if answer.status == 200:
                            break
        for one in told:
            # Whole or cut off: it ends.
            async with asyncio.timeout(60):
                with contextlib.suppress(aiohttp.ClientPayloadError):
                    await one.content.read()
