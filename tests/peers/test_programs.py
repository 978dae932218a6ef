"""The library inside other programs: one that ends while its contact is dead, a web application."""

import asyncio
import contextlib
import queue
import re
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from peers import (
    ConnectionClosed,
    Identity,
    Mode,
    Peer,
    PeerConfig,
    Session,
    SessionLost,
    SessionSettings,
    blocking,
)
from relay.server import RelayServer
from tests.support.faults import mute
from tests.support.sessions import pair

SOON = 20.0
"""Seconds, on a busy machine: what is not bounded takes 66 or 300."""


@contextlib.asynccontextmanager
async def dead(session: Session) -> AsyncIterator[None]:
    """The other side of a session is there, and says nothing any more."""
    assert mute(session)
    yield


@pytest.mark.parametrize("mode", [Mode.P2P, Mode.CENTRAL])
async def test_a_peer_leaves_although_its_contact_is_dead(
    relay: RelayServer, alice: Peer, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[BaseException] = []

    async def waits(session: Session) -> None:
        try:
            await session.receive()
        except SessionLost as error:
            told.append(error)

    async with asyncio.timeout(SOON):
        config = PeerConfig(close_timeout=0.5)
        async with Peer(Identity.generate(), relay.url, config=config) as bob:
            here, there = await pair(alice, bob, mode)
            async with dead(here):
                await here.send(b"never acknowledged")
                waiting = asyncio.create_task(waits(here))
                await asyncio.sleep(0)
                left = asyncio.get_running_loop().time()
        took = asyncio.get_running_loop().time() - left
        await waiting
    assert took >= bob.config.close_timeout, "it was tried as long as is said"
    (error,) = told
    assert isinstance(error, SessionLost)
    assert error.unacknowledged == 1
    assert "not closed cleanly" in caplog.text
    assert "1 messages were not acknowledged" in caplog.text
    there.abort()


async def test_a_peer_s_close_may_be_told_its_time(relay: RelayServer, alice: Peer) -> None:
    bob = await Peer(Identity.generate(), relay.url).start()
    here, there = await pair(alice, bob, Mode.P2P)
    async with dead(here), asyncio.timeout(SOON):
        await here.send(b"never acknowledged")
        await bob.close(timeout=0.05)
    with pytest.raises(SessionLost, match=r"within 0.05 s"):
        await here.receive()
    there.abort()


async def test_a_web_application_stops_although_its_contact_is_dead(
    relay: RelayServer, alice: Peer
) -> None:
    """Its handlers wait for the contact, one as it asks and one as it closes; the peer is closed
    `on_shutdown`, before the handlers are waited for."""
    listener = alice.listen("chat")
    await alice.published()
    peers = web.AppKey("peers", Peer)
    ended: list[str] = []
    waiting = asyncio.Queue[None]()

    async def open_peer(app: web.Application) -> None:
        app[peers] = await Peer(Identity.generate(), relay.url).start()

    async def close_peer(app: web.Application) -> None:
        await app[peers].close()

    async def ask(request: web.Request) -> web.Response:
        try:
            async with await request.app[peers].connect(alice.guid, "chat", mode="p2p") as session:
                assert mute(session)
                await session.send(b"never acknowledged")
                waiting.put_nowait(None)
                if request.path == "/ask":
                    await session.receive()
        except SessionLost as error:
            ended.append(f"{request.path}, {error.unacknowledged}")
            return web.Response(status=502, text=error.reason)
        return web.Response(text="answered")

    app = web.Application()
    app.on_startup.append(open_peer)
    app.on_shutdown.append(close_peer)
    app.router.add_get("/ask", ask)
    app.router.add_get("/tell", ask)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]

    async def visit(client: aiohttp.ClientSession, path: str) -> int:
        async with client.get(f"http://{host}:{port}{path}") as answer:
            return answer.status

    async with asyncio.timeout(SOON), aiohttp.ClientSession() as client:
        visits = [asyncio.create_task(visit(client, path)) for path in ("/ask", "/tell")]
        for _ in visits:
            await waiting.get()
        await runner.cleanup()
        assert [await one for one in visits] == [502, 502]
    assert sorted(ended) == ["/ask, 1", "/tell, 1"]
    listener.close()


# -- what docs/programs.md shows for a program that is there already ---------------------------

PAGE = Path(__file__).parents[2] / "docs" / "programs.md"


def shown(containing: str) -> str:
    """Return the block of the page that has these words."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (block,) = [block for block in blocks if containing in block]
    return str(block)


async def test_an_application_s_lifespan_opens_and_closes_a_peer(relay: RelayServer) -> None:
    class FastAPI:
        def __init__(self, lifespan: Any) -> None:
            self.lifespan = lifespan
            self.state = SimpleNamespace()

    names: dict[str, Any] = {
        "contextlib": contextlib,
        "Peer": Peer,
        "FastAPI": FastAPI,
        "identity": Identity.generate(),
        "url": relay.url,
    }
    exec(shown("FastAPI(lifespan=lifespan)"), names)
    app = names["app"]
    async with app.lifespan(app):
        assert app.state.peer.status.is_registered
    assert app.state.peer.status.state == "closed"


async def test_threads_beside_a_program_end_with_its_peer(relay: RelayServer, bob: Peer) -> None:
    heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
    loop, identity = asyncio.get_running_loop(), Identity.generate()

    async def calls() -> None:
        session = await bob.connect(identity.guid, "chat", wait=True)
        await session.send(b"hello")

    def mainloop() -> None:
        asyncio.run_coroutine_threadsafe(calls(), loop).result(SOON)
        assert heard.get(timeout=SOON) == (bob.guid, b"hello")

    names: dict[str, Any] = {
        "contextlib": contextlib,
        "threading": threading,
        "blocking": blocking,
        "ConnectionClosed": ConnectionClosed,
        "SessionLost": SessionLost,
        "identity": identity,
        "url": relay.url,
        "mainloop": mainloop,
        "show": lambda *words: heard.put(words),
    }
    before = set(threading.enumerate())
    await asyncio.to_thread(exec, shown("threading.Thread(target=serve"), names)
    ours = set(threading.enumerate()) - before
    for thread in ours:
        if not thread.name.startswith("asyncio_"):
            await asyncio.to_thread(thread.join, SOON)
            assert not thread.is_alive(), thread


async def test_what_is_shown_for_a_phone_is_a_configuration(relay: RelayServer) -> None:
    names: dict[str, Any] = {
        "PeerConfig": PeerConfig,
        "Mode": Mode,
        "SessionSettings": SessionSettings,
        "url": relay.url,
    }
    exec(shown("resume_window=36_000.0"), names)
    async with Peer(Identity.generate(), config=names["config"]) as peer:
        assert peer.status.is_registered
