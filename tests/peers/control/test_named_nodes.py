"""A peer goes to a node that its relay has named, as far as it is one."""

import asyncio

from peers import Identity, Peer
from peers.control.reconnect import RETURN_URGENT, ConnectionEnded
from protocol.messages import RelayNode
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.control.test_reconnect import LOST, State, brought_to, waited
from tests.support.rooms import rooms

TIMEOUT = 60.0


def name(relay: RelayServer, first: RelayServer, last: RelayServer) -> None:
    """Let a relay name others as its nodes, in an order that chance leaves as it is."""
    nodes = RelayNode(relay.url), RelayNode(first.url, 65_535), RelayNode(last.url, 0)
    relay._reception.nodes = lambda: nodes


async def registered_at(peer: Peer, relay: RelayServer) -> None:
    """Wait until a peer is registered there."""
    async with asyncio.timeout(TIMEOUT):
        async for status in peer.events():
            current = rooms(peer).registration.current
            at = "" if current is None else str(current.relay.address)
            if status.is_registered and at == relay.url:
                return


async def test_a_named_node_must_have_the_key_of_who_has_named_it() -> None:
    key, config = Identity.generate(), RelayConfig(port=0)
    async with (
        RelayServer(config, key) as relay,
        RelayServer(config) as stranger,
        RelayServer(config, key) as other,
        Peer(Identity.generate(), relay.url) as alice,
    ):
        name(relay, stranger, other)
        alice.listen("chat")  # Its record is confirmed anew, and the nodes are told with that.
        await alice.published()
        await relay.__aexit__(None, None, None)
        await registered_at(alice, other)
        assert stranger.metrics.connections, "it was tried"
        assert stranger.registry.get(alice.guid) is None


def test_who_knows_another_node_comes_back_soon() -> None:
    event = ConnectionEnded(LOST, forgotten=True)
    assert waited(brought_to(State.REGISTERED), event) == RETURN_URGENT / 2
