"""Each mode between real peers and a real relay, over both carriers and both IP versions."""

import asyncio

import pytest

from peers import Carrier, Identity, Mode, PathKind, Peer, PeerConfig
from relay.config import RelayConfig
from relay.server import RelayServer


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("carrier", list(Carrier))
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_messages_both_ways(mode: Mode, carrier: Carrier, host: str) -> None:
    config = PeerConfig(carrier=carrier)
    async with (
        RelayServer(RelayConfig(host=host, port=0)) as relay,
        Peer(Identity.generate(), relay.url, config=config) as alice,
        Peer(Identity.generate(), relay.url, config=config) as bob,
    ):
        listener = alice.listen("chat")
        await alice.published()
        session = await bob.connect(alice.guid, "chat", mode=mode)
        there = await anext(listener)
        await session.send(b"hello")
        assert await there.receive() == b"hello"
        await there.send(b"hello yourself")
        assert await session.receive() == b"hello yourself"
        assert there.remote == bob.guid
        assert session.remote == alice.guid
        assert session.path is not None
        assert there.path is not None
        if mode is Mode.AUTO:
            # Relayed at once, direct soon.
            async with asyncio.timeout(60):
                for end in (session, there):
                    async for event in end.events():
                        if event.path is not None and event.path.kind is PathKind.DIRECT:
                            break
        expected = PathKind.RELAYED if mode is Mode.CENTRAL else PathKind.DIRECT
        assert session.path.kind is there.path.kind is expected
        assert (relay.metrics.plane_bytes > 0) == (mode in (Mode.CENTRAL, Mode.AUTO))
        await session.close()
        assert [message async for message in there] == []
