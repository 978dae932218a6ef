"""The library inside other programs: one that ends while its contact is dead, a web application."""

import ast
import asyncio
import collections
import contextlib
import inspect
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
    SessionRequest,
    SessionSettings,
    blocking,
)
from relay.server import RelayServer
from tests.support.faults import mute
from tests.support.sessions import pair

SOON = 60.0
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


# -- the other programs of docs/programs.md, and README's --------------------------------------


async def ran(block: str, names: dict[str, Any]) -> None:
    """Run a block that may await, as in a coroutine or a notebook's cell."""
    code = compile(block, "a page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)
    if inspect.isawaitable(result):
        await result


@contextlib.asynccontextmanager
async def running(block: str, names: dict[str, Any]) -> AsyncIterator[asyncio.Task[None]]:
    """Run a block that has no end while inside; what ends it early is raised."""
    task = asyncio.create_task(ran(block, names))
    try:
        yield task
    finally:
        if task.done():
            task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def answers(session: Session) -> None:
    async for message in session:
        await session.send(message)


async def test_the_program_of_the_readme(
    relay: RelayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (PAGE.parents[1] / "README.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    first, found, second = block.replace("http://127.0.0.1:8440", relay.url).partition(
        "async with Peer(bob_identity"
    )
    printed: list[tuple[Any, ...]] = []
    async with asyncio.timeout(SOON), running(first, {}):
        guid = Identity.load_or_create("alice.key").guid
        names = {
            "Peer": Peer,
            "Mode": Mode,
            "bob_identity": Identity.generate(),
            "alice_guid": guid,
            "print": lambda *words: printed.append(words),
        }
        async with Peer(Identity.generate(), relay.url) as waits:
            await (await waits.connect(guid, "chat", wait=True)).close()
        await ran(found + second, names)
    assert names["reply"] == b"hello"
    assert printed[0][0] is Mode.COMBINED


async def test_a_thread_and_a_script_say_what_is_shown(
    relay: RelayServer, alice: Peer, bob: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with asyncio.timeout(SOON):
        serving = asyncio.create_task(alice.serve("chat", answers))
        await alice.published()
        async with await bob.connect(alice.guid, "chat") as session:
            names = {
                "asyncio": asyncio,
                "session": session,
                "loop": asyncio.get_running_loop(),
            }
            await asyncio.to_thread(exec, shown("run_coroutine_threadsafe"), names)
            assert await session.receive() == b"from a thread"
        printed: list[bytes] = []
        script = shown("session.receive(timeout=5)").replace("http://127.0.0.1:8440", relay.url)
        await asyncio.to_thread(exec, script, {"guid": alice.guid, "print": printed.append})
        assert printed == [b"hello"]
        serving.cancel()


async def test_the_lines_of_a_web_application_open_and_close_its_peer(relay: RelayServer) -> None:
    app = web.Application()
    names: dict[str, Any] = {
        "PEER": web.AppKey("peer", Peer),
        "Peer": Peer,
        "identity": Identity.generate(),
        "url": relay.url,
        "app": app,
    }
    await ran(shown("on_shutdown.append(close_peer)"), names)
    runner = web.AppRunner(app)
    await runner.setup()
    assert app[names["PEER"]].status.is_registered
    await runner.cleanup()
    assert app[names["PEER"]].status.state == "closed"


async def test_what_is_shown_of_serving_and_of_who_gets_a_session(alice: Peer, bob: Peer) -> None:
    names: dict[str, Any] = {"alice": alice, "bob": bob, "friends": [bob.guid]}
    async with (
        asyncio.timeout(SOON),
        running(shown("max_sessions=100"), names),
        await bob.connect(alice.guid, "chat", wait=True) as session,
    ):
        await session.send(b"hello")
        assert await session.receive() == b"hello"
    block = shown("metadata=b").replace('"chat"', '"rooms"')
    names |= {"SessionRequest": SessionRequest, "rooms": {b"room 8"}, "members": {bob.guid}}
    define, _, calls = block.partition("\nlistener")
    await ran(define, names)
    names["rooms"] = {b"room 7"}
    listen, _, connect = f"listener{calls}".partition("\n")
    await ran(listen, names)
    async with asyncio.timeout(SOON):
        await alice.published()
        await ran(connect, names)
        assert (await anext(names["listener"])).metadata == b"room 7"
        await names["session"].close()


async def test_what_is_shown_of_the_link_of_figures_and_of_who_is_there(
    alice: Peer, bob: Peer
) -> None:
    here = asyncio.Event()
    rows: list[tuple[Any, ...]] = []

    def seen(guid: str, *when: float) -> None:
        assert guid == alice.guid
        here.set()

    names: dict[str, Any] = {
        "peer": bob,
        "guid": alice.guid,
        "settings": SimpleNamespace(relay_guid=None),
        "show": lambda *words: rows.append(words),
        "show_here": seen,
        "show_away": seen,
        "show_grey": seen,
    }
    async with (
        asyncio.timeout(SOON),
        running(shown("settings.relay_guid"), names) as following,
        running(shown("presence.state"), names),
    ):
        await here.wait()
        serving = asyncio.create_task(alice.serve("chat", answers))
        async with await bob.connect(alice.guid, "chat", wait=True):
            await ran(shown("session.figures()"), names)
        assert [row[:2] for row in rows] == [(alice.guid, "chat")]
        assert not following.done()
        serving.cancel()


async def test_what_is_shown_for_a_contact_that_was_restarted(alice: Peer, bob: Peer) -> None:
    """Its messages come again with the error, and go first into the next session."""
    heard: list[bytes] = []

    async def hears(session: Session) -> None:
        async for message in session:
            heard.append(message)
            if len(heard) == 1:
                session.abort("as if it were restarted")

    async def talk(session: Session) -> None:
        if not heard:
            await session.send(b"one")
            await session.receive()
        await session.acknowledged()

    serving = asyncio.create_task(alice.serve("chat", hears))
    names: dict[str, Any] = {
        "collections": collections,
        "SessionLost": SessionLost,
        "peer": bob,
        "guid": alice.guid,
        "talk": talk,
    }
    block = shown("backlog.extendleft").replace("        return\n", "        break\n")
    async with asyncio.timeout(SOON):
        await ran(block.replace("            return\n", "            break\n"), names)
    assert heard[0] == b"one"
    serving.cancel()


RUN = (
    *("run_coroutine_threadsafe", "session.receive(timeout=5)", "FastAPI(lifespan=lifespan)"),
    *("threading.Thread(target=serve", "resume_window=36_000.0", "on_shutdown.append(close_peer)"),
    *("max_sessions=100", "metadata=b", "settings.relay_guid", "session.figures()"),
    *("presence.state", "backlog.extendleft"),
)
"""Words of each block that is run above."""


def test_every_block_of_the_page_is_run_above() -> None:
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        assert any(words in block for words in RUN), block
