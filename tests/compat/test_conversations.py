"""Conversations over an old relay; and with a peer that knows none, to which nothing is said."""

import asyncio
import logging
from pathlib import Path

import pytest

from peers import Identity, Peer
from tests.compat.past import NEW, OLD
from tests.compat.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("relay", [OLD, NEW])
async def test_messages_wait_where_the_other_side_knows_no_conversations(
    world: World, tmp_path: Path, relay: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its program sees a session that ends, and no message."""
    url = world.relays[relay].url
    callee = await world.open(OLD, url, services={"talk": {}})
    with caplog.at_level(logging.DEBUG, "peers"):
        async with (
            Peer(Identity.generate(), url) as here,
            here.conversation(callee.guid, "talk", store=tmp_path / "here.db") as chat,
            asyncio.timeout(60),
        ):
            name = await chat.send(b"waits")
            while "keeps no conversation" not in caplog.text:
                await asyncio.sleep(0.01)
            assert [sent.id for sent in await chat.outgoing()] == [name]
            assert not chat.is_connected
    await callee("shut")


async def test_an_old_relay_brings_new_peers_together(world: World, tmp_path: Path) -> None:
    url = world.relays[OLD].url
    async with (
        Peer(Identity.generate(), url) as here,
        Peer(Identity.generate(), url) as there,
        here.conversation(there.guid, "talk", store=tmp_path / "here.db") as chat,
        there.conversation(here.guid, "talk", store=tmp_path / "there.db") as other,
        asyncio.timeout(60),
    ):
        await chat.send(b"hello")
        async for message in other:
            assert message.payload == b"hello"
            break
