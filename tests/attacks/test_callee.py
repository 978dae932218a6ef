"""What strangers make a callee hold: sessions that they ask for and never come to, sessions that
nobody reads, connections to the relay.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from peers import Identity, Listener, Mode, Peer, PeerConfig, Session
from peers.roaming import sessions as module
from protocol.errors import Code, RoamRelayError
from protocol.messages import ServiceResponse
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.attacks.honest import EVIL, ask
from tests.relay.client import registered
from tests.support.rooms import rooms


@pytest.fixture
async def relay() -> AsyncIterator[RelayServer]:
    async with RelayServer(RelayConfig(port=0)) as server:
        yield server


async def talks(peer: Peer, guid: str, mode: Mode) -> None:
    """An honest peer opens a session, says something, and closes it."""
    async with await peer.connect(guid, "chat", mode=mode, timeout=20) as session:
        await session.send(b"hello")
        assert await session.receive() == b"hello"


async def echo(listener: Listener) -> None:
    """Serve whoever speaks; one that only holds a session is left alone."""

    async def serve(session: Session) -> None:
        try:
            async for message in session:
                await session.send(message)
        except RoamRelayError:
            pass

    async with asyncio.TaskGroup() as tasks:
        async for session in listener:
            tasks.create_task(serve(session))


@pytest.mark.parametrize("keys", [1, 40])
async def test_who_asks_and_does_not_come_silences_nobody(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch, keys: int
) -> None:
    monkeypatch.setattr(module, "_MAX_ANNOUNCED", 16)
    monkeypatch.setattr(module, "_MAX_ANNOUNCED_EACH", 8)
    async with (
        Peer(Identity.generate(), relay=relay.url) as callee,
        Peer(Identity.generate(), relay=relay.url) as honest,
        AsyncExitStack() as stack,
    ):
        serving = asyncio.create_task(echo(callee.listen("chat")))
        await callee.published()
        for _ in range(keys):
            evil = await stack.enter_async_context(registered(relay.url, source=EVIL))
            for _ in range(40 // keys):
                evil.send(ask(callee.guid, Mode.COMBINED, timeout=60.0))
                await evil.expect(ServiceResponse)
        for mode in (Mode.COMBINED, Mode.CENTRAL):
            await talks(honest, callee.guid, mode)
        serving.cancel()


async def test_a_caller_makes_a_callee_dial_the_relay_so_often_at_once(relay: RelayServer) -> None:
    async with (
        Peer(Identity.generate(), relay=relay.url) as callee,
        Peer(Identity.generate(), relay=relay.url) as honest,
        registered(relay.url, source=EVIL) as evil,
    ):
        serving = asyncio.create_task(echo(callee.listen("chat")))
        await callee.published()
        before = len(os.listdir("/proc/self/fd"))
        codes = []
        for _ in range(100):
            evil.send(ask(callee.guid, Mode.CENTRAL, timeout=60.0))
            codes.append((await evil.expect(ServiceResponse)).code)
        assert codes.count(None) <= 64
        assert set(codes[64:]) == {Code.LIMIT_EXCEEDED}
        assert len(os.listdir("/proc/self/fd")) - before <= 2 * 64, "both ends are ours"
        await talks(honest, callee.guid, Mode.CENTRAL)
        serving.cancel()


async def test_one_peer_does_not_open_sessions_without_end(relay: RelayServer) -> None:
    config = PeerConfig(relay=relay.url, sessions_per_peer=3)
    async with (
        Peer(Identity.generate(), config=config) as callee,
        Peer(Identity.generate(), relay=relay.url) as evil,
        Peer(Identity.generate(), relay=relay.url) as honest,
    ):
        serving = asyncio.create_task(echo(callee.listen("chat")))
        await callee.published()
        opened = [await evil.connect(callee.guid, "chat", mode=Mode.P2P) for _ in range(3)]
        for mode in (Mode.P2P, Mode.COMBINED, Mode.CENTRAL):
            with pytest.raises(RoamRelayError) as caught:
                await evil.connect(callee.guid, "chat", mode=mode)
            assert caught.value.code is Code.LIMIT_EXCEEDED
        await talks(honest, callee.guid, Mode.P2P)
        opened[0].abort()
        async with asyncio.timeout(60):
            while len(rooms(callee).sessions.live) > 2:
                await asyncio.sleep(0.01)
        await talks(evil, callee.guid, Mode.P2P)
        serving.cancel()


async def test_sessions_that_nobody_reads_hold_so_much(relay: RelayServer) -> None:
    config = PeerConfig(relay=relay.url, held_per_peer=1 << 20)
    async with (
        Peer(Identity.generate(), config=config) as callee,
        Peer(Identity.generate(), relay=relay.url) as evil,
    ):
        listener = callee.listen("chat")
        await callee.published()
        sent = 0

        async def fill(session: Session) -> None:
            nonlocal sent
            while True:
                await session.send(bytes(65_000))
                sent += 65_000

        async with AsyncExitStack() as stack:
            filling = []
            for _ in range(4):
                session = await evil.connect(callee.guid, "chat", mode=Mode.P2P)
                stack.callback(session.abort)
                filling.append(asyncio.create_task(fill(session)))
            windows = [one.window for one in rooms(callee).sessions.live]
            assert sum(windows) <= 1 << 20
            # Until nobody can send any more.
            async with asyncio.timeout(60):
                last = -1
                while last != sent:
                    last = sent
                    await asyncio.sleep(0.1)
            assert sent <= (1 << 20) + 4 * 65_000
            for task in filling:
                task.cancel()
        del listener
