"""Conversations between real peers: what a program sees, over ends of sessions and of programs."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peers import (
    CallbackFailed,
    ConnectionClosed,
    Conversation,
    ConversationFull,
    Identity,
    Message,
    MessageState,
    Peer,
    PeerConfig,
    Refused,
    Sent,
    SessionSettings,
    UsageError,
)
from peers.conversations import keeper as keeping
from relay.server import RelayServer

PATIENCE = 30.0


async def take(chat: Conversation, count: int) -> list[bytes]:
    """Return the next messages, done."""
    found = []
    async with asyncio.timeout(PATIENCE):
        async for message in chat:
            found.append(message.payload)
            if len(found) == count:
                await message.done()
                break
    return found


async def reaches(chat: Conversation, message_id: str, state: MessageState) -> Sent:
    """Wait until a message stands so."""
    async with asyncio.timeout(PATIENCE):
        async for sent in chat.follow(message_id):
            if sent.state is state:
                return sent
    raise AssertionError(f"it never was {state}")


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "alice.db", tmp_path / "bob.db"


async def test_messages_go_both_ways(alice: Peer, bob: Peer, stores: tuple[Path, Path]) -> None:
    async with (
        alice.conversation(bob.guid, "chat", store=stores[0]) as here,
        bob.conversation(alice.guid, "chat", store=stores[1]) as there,
    ):
        ids = [await here.send(b"%d" % number) for number in range(20)]
        back = await there.send(b"back")
        assert await take(there, 20) == [b"%d" % number for number in range(20)]
        assert await take(here, 1) == [b"back"]
        await reaches(here, ids[-1], MessageState.DELIVERED)
        await reaches(there, back, MessageState.DELIVERED)
        assert await here.outgoing() == ()
        assert await here.disruptions() == await there.disruptions() == ()
