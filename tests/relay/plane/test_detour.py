"""Legs that are led to another node: their places, which are taken before anybody is dialed."""

import asyncio
import ssl
from typing import Any, cast

import pytest

from protocol.errors import Code
from relay.limits import cause_of
from relay.metrics import Metrics
from relay.plane.detour import Detours, Wanted
from relay.plane.limits import DetourLimits
from relay.plane.tickets import TicketRefused

PATIENCE = 60.0
HOST = "198.51.100.7"


class Elsewhere:
    """Every plane is at another node."""

    def node_of(self, ticket: str) -> tuple[str, ...]:
        return ("http://127.0.0.1:1",)

    def name_of(self, ticket: str) -> str:
        return ""

    def origin(self, ticket: str, host: str) -> str:
        return "proof"


def detours(most: int) -> Detours:
    limits = DetourLimits(most, PATIENCE, PATIENCE)
    return Detours(Elsewhere(), limits, Metrics(), cast(Any, None))


def wanted(host: str) -> Wanted:
    return Wanted("ticket", "a" * 52, "signature", b"", host, cause_of(host))


async def test_who_is_not_answered_yet_has_a_place_and_gives_it_back() -> None:
    asked = asyncio.Semaphore(0)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.release()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    those = detours(4)
    async with asyncio.timeout(PATIENCE):
        waiting = [asyncio.create_task(those.open(url, wanted(HOST))) for _ in range(8)]
        # Half of all are one network's; who is refused is told at once.
        refused = [task for task in waiting if task.done()]
        while len(refused) < 4:
            await asyncio.sleep(0)
            refused = [task for task in waiting if task.done()]
        for task in refused:
            error = task.exception()
            assert isinstance(error, TicketRefused)
            assert error.code is Code.LIMIT_EXCEEDED
        assert 0 < len(those) <= 4
        await asked.acquire()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert len(those) == 0
    server.close()
    await server.wait_closed()


async def test_a_node_that_refuses_or_is_not_there_leaves_no_place_taken() -> None:
    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuses, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    those = detours(4)
    for _ in range(12):
        with pytest.raises(TicketRefused):
            await those.open(f"http://127.0.0.1:{port}", wanted(HOST))
    server.close()
    await server.wait_closed()
    for _ in range(12):
        with pytest.raises(TicketRefused) as refused:
            await those.open(f"http://127.0.0.1:{port}", wanted(HOST))
        assert refused.value.code is Code.CLUSTER_UNAVAILABLE
    assert len(those) == 0


async def test_all_authorities_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = ssl.create_default_context

    def create() -> ssl.SSLContext:
        made.append(asyncio._get_running_loop())
        return real()

    monkeypatch.setattr(ssl, "create_default_context", create)
    those = detours(4)
    for _ in range(3):
        with pytest.raises(TicketRefused):
            await those.open("https://127.0.0.1:1", wanted(HOST))
    assert made == [None], "and not on the loop"
