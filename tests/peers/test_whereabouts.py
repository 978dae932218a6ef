"""This host's addresses as they change, and who is told."""

import asyncio

import pytest

from peers import (
    Identity,
    Mode,
    Peer,
    PeerConfig,
    Phase,
    Provenance,
)
from protocol.errors import ProtocolViolation
from relay.server import RelayServer
from tests.support.addresses import Addresses, absent_addresses
from tests.support.far import host_of
from tests.support.faults import mute_flow
from tests.support.rooms import rooms
from tests.support.sessions import moving


async def test_nobody_begins_anew_where_an_address_is_leaving(relay: RelayServer) -> None:
    """The draft's Figure 1: CN1 stays on IP1, CN3 uses IP2."""
    hosts = ("127.0.61.1", "127.0.61.2")
    with absent_addresses():
        addresses = Addresses(hosts)
        config = PeerConfig(relay=relay.url, sources=hosts)
        async with (
            Peer(Identity.generate(), config=config, addresses=addresses) as node,
            Peer(Identity.generate(), relay.url) as cn1,
            Peer(Identity.generate(), relay.url) as cn3,
        ):
            listener = node.listen("chat")
            await node.published()
            old = await cn1.connect(node.guid, "chat", mode="combined")
            callee = await asyncio.wait_for(anext(listener), 5)
            assert host_of(old) == hosts[0]
            addresses.set(*hosts)
            node.leaving(hosts[0])
            await node.published()
            async with asyncio.timeout(10):
                while node.places != {
                    hosts[0]: (Provenance.INTERFACE, Phase.LEAVING),
                    hosts[1]: (Provenance.INTERFACE, Phase.PREFERRED),
                }:
                    await asyncio.sleep(0.01)
            await node.published()
            for mode in (Mode.P2P, Mode.COMBINED):
                new = await cn3.connect(node.guid, "chat", mode=mode)
                assert host_of(new) == hosts[1]
                new.abort()
            assert host_of(old) == hosts[0], "the old session is not disturbed"
            await old.send(b"still here")
            assert await callee.receive() == b"still here"
            with pytest.raises(ProtocolViolation):
                node.leaving("no address")
            node.leaving(hosts[0], False)
            assert node.places[hosts[0]][1] is Phase.PREFERRED
            await old.close()


async def test_flows_from_every_address_and_one_that_fails(relay: RelayServer) -> None:
    async with moving(relay, 21) as (alice, here, a), moving(relay, 22) as (bob, _, _):
        alice.listen("chat")
        here.set(*a)
        async with asyncio.timeout(10):
            while len(rooms(alice).registration.connections) < 3:
                await asyncio.sleep(0.01)
        sources = {connection.local_host for connection in rooms(alice).registration.connections}
        assert sources == set(a)
        primary = rooms(alice).registration.connections[0]
        # The primary flow goes silent: requests are still answered, over the next one.
        assert mute_flow(primary)
        session = await bob.connect(alice.guid, "chat", mode="combined", timeout=5)
        assert session.path is not None
        found = await alice.locate(alice.guid, "chat", timeout=5)
        assert found.entries
        await session.close()
