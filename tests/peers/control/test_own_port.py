"""A peer's control connections leave from the port at which it listens, as far as that can be."""

import asyncio

import pytest

from peers import Identity, Peer, PeerConfig
from peers.config import CarrierKind
from peers.control import ControlConnection
from protocol.endpoint import Endpoint
from protocol.errors import Code
from relay.server import RelayServer
from tests.support.rooms import rooms


async def next_after(peer: Peer, last: ControlConnection) -> ControlConnection:
    async with asyncio.timeout(60):
        while (current := rooms(peer).registration.current) is None or current is last:
            await asyncio.sleep(0.01)
    return current


@pytest.mark.parametrize("carrier", [*CarrierKind, None])
async def test_the_relay_sees_the_listening_port_and_again_after_it_has_ended_the_connection(
    relay: RelayServer, carrier: CarrierKind | None
) -> None:
    config = PeerConfig(relay=relay.url, carrier=carrier)
    async with Peer(Identity.generate(), config=config) as peer:
        port = rooms(peer).direct.port
        first = await rooms(peer).registration.connection(20)
        assert first.observed == Endpoint("127.0.0.1", port)
        assert first.local_port == port
        there = relay.registry.get(peer.guid)
        assert there is not None
        for flow in list(there.flows.values()):
            flow.end(Code.INTERNAL, "ended by the test")
        again = await next_after(peer, first)
        # Of a WebSocket nothing says how it has ended: the next one leaves from any port.
        assert (again.local_port == port) is (carrier is not CarrierKind.WEBSOCKET)
