"""The library inside other programs: one that ends while its contact is dead, a web application."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from peers import Identity, Mode, Peer, PeerConfig, Session, SessionLost
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
