"""Which candidates a session has, in what order, and what its policy forbids."""

import asyncio

import pytest

from peers import PathFailed, PathKind, Peer
from relay.server import RelayServer
from tests.support.far import HOSTS, far, host_of
from tests.support.rooms import rooms


async def test_known_round_trips_are_used_the_next_time(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, 0.06, 0.0) as there:
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        assert host_of(session) == HOSTS[1]
        session.abort()
        before = there.proxies[HOSTS[0]].connections
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        assert host_of(session) == HOSTS[1]
        assert there.proxies[HOSTS[0]].connections == before, "the best is tried first, and alone"
        session.abort()


async def test_a_program_may_choose_for_itself(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, 0.0, 0.04, 0.0) as there:
        session = await bob.connect(
            there.peer.guid,
            "chat",
            mode="p2p",
            select=lambda candidates: [c for c in candidates if c.endpoint.host == HOSTS[1]],
        )
        assert host_of(session) == HOSTS[1]
        session.abort()
        with pytest.raises(PathFailed, match="no endpoint to dial"):
            await bob.connect(there.peer.guid, "chat", mode="p2p", select=lambda candidates: [])
        with pytest.raises(ValueError, match="select"):
            await bob.connect(there.peer.guid, "chat", select="slowest")


async def test_a_policy_is_kept_and_named(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, 0.0) as there:
        guid = there.peer.guid
        with pytest.raises(PathFailed, match="only ipv6"):
            await bob.connect(guid, "chat", mode="p2p", policy="only ipv6")
        with pytest.raises(PathFailed, match="not relayed"):
            await bob.connect(guid, "chat", mode="central", policy="not relayed")
        with pytest.raises(PathFailed, match="not interface lo"):
            await bob.connect(guid, "chat", mode="p2p", policy="not interface lo")
        session = await bob.connect(guid, "chat", mode="auto", policy="only relayed")
        listener = rooms(there.peer).services.listeners["chat"]
        await asyncio.wait_for(anext(listener), 5)
        await asyncio.sleep(0)
        assert session.path is not None
        assert session.path.kind is PathKind.RELAYED
        await session.close()
        session = await bob.connect(guid, "chat", mode="auto", policy="not relayed")
        assert session.path is not None
        assert session.path.kind is PathKind.DIRECT
        await session.close()
