"""Where operators of several processes come: who may ask, how many, and for how long."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from relay.config import ConfigError, RelayConfig
from relay.nodes.front import AdminFront


def config_of(folder: Path, **changes: Any) -> RelayConfig:
    """Return a configuration with an address for operators, who have a token."""
    token = folder / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    return RelayConfig(admin_host="127.0.0.1", admin_port=0, admin_token=str(token), **changes)


@contextlib.asynccontextmanager
async def front(
    config: RelayConfig,
    nodes: Callable[[], Mapping[str, str]] = dict,
    names: Sequence[str] = ("node-1", "node-2"),
) -> AsyncIterator[AdminFront]:
    opened = AdminFront(config, names, nodes)
    try:
        async with asyncio.timeout(60):
            await opened.open()
            yield opened
    finally:
        await opened.close()


async def get(url: str, path: str = "/metrics", *lines: str) -> int:
    """Ask, and return the status."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write("\r\n".join((f"GET {path} HTTP/1.1", "Host: a", *lines, "", "")).encode())
    try:
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()
        await writer.wait_closed()


async def test_who_may_ask_is_decided_before_any_process_is_asked(tmp_path: Path) -> None:
    def nodes() -> dict[str, str]:
        asked.append(1)
        return {}

    asked: list[int] = []
    config = config_of(tmp_path)
    async with front(config, nodes) as opened:
        (url,) = opened.urls
        assert await get(url) == await get(url, "/metrics", "Authorization: Bearer guess") == 401
        assert not asked
        assert await get(url, "/metrics", "Authorization: Bearer 0123456789abcdef") == 200
        assert (await get(url, "/healthz"), await get(url, "/readyz")) == (200, 503)
        Path(config.admin_token or "").write_text("another-token-of-16")
        opened.reload(config)
        assert await get(url, "/metrics", "Authorization: Bearer 0123456789abcdef") == 401
        assert await get(url, "/metrics", "Authorization: Bearer another-token-of-16") == 200
        Path(config.admin_token or "").write_text("short")
        with pytest.raises(ConfigError, match="admin_token"):
            opened.reload(config)
        assert await get(url, "/metrics", "Authorization: Bearer another-token-of-16") == 200


async def test_without_a_token_metrics_are_for_this_host() -> None:
    async with front(RelayConfig(admin_host="127.0.0.1", admin_port=0)) as opened:
        (url,) = opened.urls
        assert await get(url) == 200
        assert await get(url, "/metrics", "X-Forwarded-For: 192.0.2.1") == 403


async def test_who_says_nothing_is_ended_and_there_are_not_too_many(tmp_path: Path) -> None:
    async with front(config_of(tmp_path, max_newcomers=2)) as opened:
        parts = urlsplit(opened.urls[0])
        async with contextlib.AsyncExitStack() as stack:
            came = []
            for _ in range(3):
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
                stack.callback(writer.close)
                came.append(reader)
            assert await came[0].read() == b"", "the oldest goes"
    async with front(config_of(tmp_path, handshake_timeout=0.05)) as opened:
        parts = urlsplit(opened.urls[0])
        for said in (b"", b"GET /metrics HTTP/1.1\r\nHost:"):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(said)
            await reader.read()
            writer.close()


async def test_so_many_are_served_at_once() -> None:
    connected: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    hangs = await asyncio.start_server(
        lambda reader, writer: connected.put_nowait(writer), "127.0.0.1", 0
    )
    url = f"http://127.0.0.1:{hangs.sockets[0].getsockname()[1]}"
    config = RelayConfig(admin_host="127.0.0.1", admin_port=0)
    async with front(config, lambda: {"node-1": url}) as opened:
        asking = [asyncio.create_task(get(opened.urls[0])) for _ in range(8)]
        writers = [await connected.get() for _ in asking]
        assert await get(opened.urls[0]) == 429
        for writer in writers:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            writer.close()
        assert await asyncio.gather(*asking) == [200] * 8
    hangs.close()
    await hangs.wait_closed()
