"""Letters for conversations that are not open, and while the store takes nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from peers import Identity, MessageState, Peer
from peers.conversations import intake, room
from protocol.errors import StoreFull
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.conversations.test_conversation import PATIENCE, reaches, take


@asynccontextmanager
async def keeping(folder: Path) -> AsyncIterator[RelayServer]:
    async with RelayServer(RelayConfig(port=0, state=str(folder / "state"))) as relay:
        yield relay


async def boxes(relay: RelayServer, count: int) -> None:
    """Wait until so many take letters."""
    assert relay.mailbox is not None
    async with asyncio.timeout(PATIENCE):
        while relay.mailbox.ledger.boxes < count:
            await asyncio.sleep(0.01)


async def test_what_comes_for_a_conversation_that_is_not_open_is_there_when_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, failures = Identity.generate(), Identity.generate(), 0
    real = room.load_keeper
    monkeypatch.setattr(intake, "_AGAIN", 0.01)

    async def load(database: Any, remote: str, service: str) -> Any:
        nonlocal failures
        if remote == alice.guid and failures < 2:
            failures += 1
            raise StoreFull("the disk is full")
        return await real(database, remote, service)

    async with keeping(tmp_path) as relay:
        async with (
            Peer(bob, relay.url) as peer,
            peer.conversation(alice.guid, "chat", store=tmp_path / "bob.db") as chat,
        ):
            await boxes(relay, 1)
            await chat.send(b"hello")  # So that it is not forgotten.
        async with (
            Peer(alice, relay.url) as peer,
            peer.conversation(bob.guid, "chat", store=tmp_path / "alice.db") as chat,
        ):
            await reaches(chat, await chat.send(b"back"), MessageState.STORED)
        monkeypatch.setattr(room, "load_keeper", load)
        other, assigned = Identity.generate().guid, relay.mailbox
        assert assigned is not None
        async with (
            Peer(bob, relay.url) as peer,
            peer.conversation(other, "chat", store=tmp_path / "bob.db"),
        ):
            async with asyncio.timeout(PATIENCE):
                while assigned.ledger.waiting(bob.guid):
                    await asyncio.sleep(0.01)
            assert failures == 2
            async with peer.conversation(alice.guid, "chat", store=tmp_path / "bob.db") as chat:
                assert await take(chat, 1) == [b"back"]


async def test_who_begins_by_a_letter_is_offered_to_who_asks_for_conversations(
    tmp_path: Path,
) -> None:
    alice, bob = Identity.generate(), Identity.generate()
    async with keeping(tmp_path) as relay:
        async with Peer(bob, relay.url) as peer:
            asking = asyncio.ensure_future(
                anext(peer.conversations("chat", store=tmp_path / "bob.db"))
            )
            await boxes(relay, 1)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        async with (
            Peer(alice, relay.url) as peer,
            peer.conversation(bob.guid, "chat", store=tmp_path / "alice.db") as chat,
        ):
            await reaches(chat, await chat.send(b"hello"), MessageState.STORED)
        async with Peer(bob, relay.url) as peer, asyncio.timeout(PATIENCE):
            async for chat in peer.conversations("chat", store=tmp_path / "bob.db"):
                assert chat.remote == alice.guid
                assert await take(chat, 1) == [b"hello"]
                break
