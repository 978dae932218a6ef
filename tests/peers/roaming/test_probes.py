"""Probes for a better path: the session moves to what stays better, and to nothing else."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

from peers import Identity, Peer, PeerConfig, Session
from relay.server import RelayServer
from tests.support.far import HOSTS, far, fixed, host_of
from tests.support.rooms import rooms


@contextlib.asynccontextmanager
async def probing(relay: RelayServer) -> AsyncIterator[Peer]:
    config = PeerConfig(relay=relay.url, probe_interval=0.1)
    async with Peer(Identity.generate(), config=config) as peer:
        yield peer


async def moved_to(session: Session, host: str) -> None:
    async with asyncio.timeout(20):
        async for event in session.events():
            assert event.path is not None, "never without a path"
            if event.path.remote.startswith(host + ":"):
                return


async def test_a_session_moves_to_what_stays_better(relay: RelayServer) -> None:
    async with far(relay, 0.0, 0.2) as there, probing(relay) as bob:
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        callee = await asyncio.wait_for(anext(rooms(there.peer).services.listeners["chat"]), 5)
        assert host_of(session) == HOSTS[0]
        there.proxies[HOSTS[0]].delay = fixed(0.25)
        there.proxies[HOSTS[1]].delay = fixed(0.0)
        await moved_to(session, HOSTS[1])
        assert "in 5 probes running" in session.explain().rule
        await session.send(b"after")
        assert await asyncio.wait_for(callee.receive(), 5) == b"after"
        await session.close()


async def test_delays_that_jitter_move_nothing(relay: RelayServer) -> None:
    draw = random.Random(4)

    def jitter() -> float:
        return 0.01 + draw.random() * 0.01

    async with far(relay, 0.0, 0.0) as there, probing(relay) as bob:
        for proxy in there.proxies.values():
            proxy.delay = jitter
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        at = host_of(session)
        rounds = 0
        while rounds < 20:
            await asyncio.sleep(0.05)
            rounds = sum(event.what == "proven" for event in session.explain().events) // 2
        assert host_of(session) == at, str(session.explain())
        await session.close()


async def test_a_pinned_session_stays(relay: RelayServer) -> None:
    async with far(relay, 0.0, 0.03) as there, probing(relay) as bob:
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        other = await bob.connect(there.peer.guid, "chat", mode="p2p")
        session.pin()
        there.proxies[HOSTS[0]].delay = fixed(0.25)
        there.proxies[HOSTS[1]].delay = fixed(0.0)
        await moved_to(other, HOSTS[1])
        assert host_of(session) == HOSTS[0]
        assert "pinned" in str(session.explain())
        for one in (session, other):
            await one.close()
