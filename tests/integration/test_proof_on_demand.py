"""What a peer dials only once its relay has met the key there: with a relay that can say so, and
with one that cannot."""

import asyncio
import contextlib
import socket

import pytest

from peers import Identity, Peer, PeerConfig
from peers.config import PathKind
from protocol.errors import RoamRelayError
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.attacks.dialing import LONG, served, until, victims

WELL_KNOWN = (10080, 6566, 5061, 4190, 3659, 1719, 8500, 9042, 10250)
"""Ports that browsers refuse, or that are some database's: whichever is free."""


def free_port(host: str) -> int:
    for port in WELL_KNOWN:
        with contextlib.suppress(OSError), socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((host, port))
            return port
    raise AssertionError("all of them are taken")


async def test_a_peer_at_a_well_known_port_is_met_first_and_dialed_then() -> None:
    config = PeerConfig(listen_hosts=("127.0.0.1",), listen_port=free_port("127.0.0.1"))
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        Peer(Identity.generate(), relay.url, config=config) as server,
        Peer(Identity.generate(), relay.url) as caller,
        served(server),
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
    port = free_port("127.0.0.1")
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer(RelayConfig(port=0)))
        there = await stack.enter_async_context(victims("127.0.0.1", port=port))
        config = PeerConfig(listen_hosts=("127.0.70.1",), listen_port=port)
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
    monkeypatch.setattr("relay.control.handshake.CONTROL_FEATURES", ())
    config = PeerConfig(listen_hosts=("127.0.0.1",), listen_port=free_port("127.0.0.1"))
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        Peer(Identity.generate(), relay.url, config=config) as server,
        Peer(Identity.generate(), relay.url) as caller,
        served(server),
    ):
        with pytest.raises(RoamRelayError, match="well-known"):
            await caller.connect(server.guid, "chat", mode="p2p")
        assert caller.dialing.asked == {}
        async with asyncio.timeout(LONG):
            await until(lambda: caller.dialing.refused == {"the relay's": 1})
