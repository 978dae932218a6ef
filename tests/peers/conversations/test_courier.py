"""Conversations between peers that are never there at once: what goes by letter, beside sessions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from peers import Conversation, Identity, MessageState, Peer
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.conversations.test_conversation import PATIENCE, reaches, take
from tests.support import scale

ALICE, BOB = Identity.generate(), Identity.generate()


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[RelayServer]:
    async with RelayServer(RelayConfig(port=0, state=str(tmp_path / "state"))) as server:
        yield server


class Town:
    """Two peers with stores, of whom each is there when the test says so."""

    def __init__(self, relay: RelayServer, folder: Path) -> None:
        self.relay = relay
        self.folder = folder

    def store(self, who: Identity) -> Path:
        return self.folder / f"{who.guid[:8]}.db"

    @asynccontextmanager
    async def there(self, who: Identity) -> AsyncIterator[Conversation]:
        other = BOB if who is ALICE else ALICE
        async with (
            Peer(who, self.relay.url) as peer,
            peer.conversation(other.guid, "chat", store=self.store(who)) as chat,
        ):
            yield chat


@pytest.fixture
async def town(relay: RelayServer, tmp_path: Path) -> AsyncIterator[Town]:
    one = Town(relay, tmp_path)
    assert relay.mailbox is not None
    for known, who in enumerate((ALICE, BOB)):
        async with one.there(who), asyncio.timeout(PATIENCE):
            while relay.mailbox.ledger.boxes <= known:  # Letters may be left from then on.
                await asyncio.sleep(0.01)
    yield one


async def send(chat: Conversation, first: int, count: int, state: MessageState) -> list[str]:
    ids = [await chat.send(b"%d" % number) for number in range(first, first + count)]
    for one in ids:
        await reaches(chat, one, state)
    return ids


def numbers(first: int, count: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


async def test_two_that_are_never_there_at_once_talk(town: Town) -> None:
    rounds, count = scale.of(2, 10), scale.of(20, 100)
    ids: list[str] = []
    for turn in range(rounds):
        first = turn * count
        async with town.there(ALICE) as chat:
            if turn:
                assert await take(chat, count) == numbers(first - count, count)
                for one in ids:
                    await reaches(chat, one, MessageState.DELIVERED)
            ids = await send(chat, first, count, MessageState.STORED)
        async with town.there(BOB) as chat:
            assert await take(chat, count) == numbers(first, count)
            await send(chat, first, count, MessageState.STORED)
            assert await chat.disruptions() == ()
