"""What a peer dials only once its relay has met the key there: with a relay that can say so, and
with one that cannot."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from peers import Identity, Peer, PeerConfig
from peers.config import PathKind
from protocol.errors import PathFailed, RoamRelayError
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.attacks.dialing import LONG, Victims, served, until, victims

WELL_KNOWN = (10080, 6566, 5061, 4190, 3659, 1719, 8500, 9042, 10250)
"""Ports that browsers refuse, or that are some database's: whichever is free."""


@contextlib.asynccontextmanager
async def at_a_well_known_port(relay: RelayServer) -> AsyncIterator[Peer]:
    """Open a peer at one of them that is free, and offer `chat` there."""
    for port in WELL_KNOWN:
        config = PeerConfig(listen_hosts=("127.0.0.1",), listen_port=port)
        peer = Peer(Identity.generate(), relay.url, config=config)
        try:
            await peer.start()
        except PathFailed:
            continue
        try:
            async with served(peer):
                yield peer
        finally:
            await peer.close()
        return
    raise AssertionError("all of them are taken")


@contextlib.asynccontextmanager
async def victim_at_a_well_known_port() -> AsyncIterator[Victims]:
    """Listen at one of them that is free."""
    for port in WELL_KNOWN:
        with contextlib.suppress(OSError):
            async with victims("127.0.0.1", port=port) as there:
                yield there
                return
    raise AssertionError("all of them are taken")


async def test_a_peer_at_a_well_known_port_is_met_first_and_dialed_then() -> None:
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        at_a_well_known_port(relay) as server,
        Peer(Identity.generate(), relay.url) as caller,
    ):
        session = await caller.connect(server.guid, "chat", mode="p2p")
        assert session.path is not None
        assert session.path.kind is PathKind.DIRECT
        assert caller.dialing.asked == {"met": 1}
        assert relay.metrics.proofs["proven"] == 1
        # Where it was met there are neither pauses nor questions.
        await caller.connect(server.guid, "chat", mode="p2p")
        assert caller.dialing.asked == {"met": 1}


async def test_nor_is_anybody_else_dialed_there() -> None:
    """The port is the peer's own word; what is there is another program."""
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer(RelayConfig(port=0)))
        there = await stack.enter_async_context(victim_at_a_well_known_port())
        config = PeerConfig(listen_hosts=("127.0.70.1",), listen_port=there.port)
        server = Peer(Identity.generate(), relay.url, config=config)
        await stack.enter_async_context(server)
        await stack.enter_async_context(served(server))
        caller = await stack.enter_async_context(Peer(Identity.generate(), relay.url))
        with pytest.raises(RoamRelayError, match="nor has the relay met it there"):
            await caller.connect(server.guid, "chat", mode="p2p", policy="only ipv4")
        assert caller.dialing.asked == {"not met": 1}
        assert caller.dialing.dialed.get("first path", 0) == 0
        assert there.count <= 1, "the relay's one probe"


async def test_a_relay_that_does_not_know_the_question_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.control.reception.RELAY_FEATURES", ())
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        at_a_well_known_port(relay) as server,
        Peer(Identity.generate(), relay.url) as caller,
    ):
        with pytest.raises(RoamRelayError, match="well-known"):
            await caller.connect(server.guid, "chat", mode="p2p")
        assert caller.dialing.asked == {}
        async with asyncio.timeout(LONG):
            await until(lambda: caller.dialing.refused == {"the relay's": 1})
