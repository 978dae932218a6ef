"""Sessions between peers at two nodes, in every mode."""

import asyncio

import pytest

from peers import Identity, Mode, PathKind, Peer
from tests.cluster.nats import NatsServer, cluster, known


@pytest.mark.parametrize("mode", list(Mode))
async def test_a_session_between_two_nodes(nats: NatsServer, mode: Mode) -> None:
    async with (
        cluster(nats, "a", "b") as (a, b),
        Peer(Identity.generate(), a.url) as alice,
        Peer(Identity.generate(), b.url) as bob,
    ):
        listener = alice.listen("chat")
        await alice.published()
        await known(alice.guid, "a", b)
        session = await bob.connect(alice.guid, "chat", mode=mode)
        there = await asyncio.wait_for(anext(listener), 60)
        await session.send(b"hello")
        assert await there.receive() == b"hello"
        await there.send(b"hello yourself")
        assert await session.receive() == b"hello yourself"
        assert session.path is not None
        if mode is Mode.CENTRAL:
            assert session.path.kind is PathKind.RELAYED
            assert (a.metrics.planes_opened, b.metrics.planes_opened) == (1, 0)
        await session.close()
