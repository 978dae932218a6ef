"""Conversations between peers that are never there at once: letters, with and beside sessions."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from peers import Conversation, Identity, MessageState, Peer, PeerConfig
from peers.mailbox import Mailbox
from protocol.errors import LetterRefused, MailboxFull
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.conversations.test_conversation import PATIENCE, reaches, take
from tests.support import processes, scale
from tests.support.ports import free_port
from tests.support.rooms import rooms

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
        async with opened(who, PeerConfig(relay=self.relay.url), self.store(who)) as chat:
            yield chat


@pytest.fixture
async def town(relay: RelayServer, tmp_path: Path) -> Town:
    one = Town(relay, tmp_path)
    assert relay.mailbox is not None
    for known, who in enumerate((ALICE, BOB)):
        async with one.there(who), asyncio.timeout(PATIENCE):
            while relay.mailbox.ledger.boxes <= known:  # Letters may be left from then on.
                await asyncio.sleep(0.01)
    return one


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


async def test_a_message_that_is_read_is_said_by_letter(town: Town) -> None:
    async with town.there(ALICE) as chat:
        (sent,) = await send(chat, 1, 1, MessageState.STORED)
    async with town.there(BOB) as chat:
        async for message in chat:
            await message.done(read=True)
            break
    async with town.there(ALICE) as chat:
        await reaches(chat, sent, MessageState.READ)


async def test_letters_and_then_a_session_keep_the_order(town: Town) -> None:
    async with town.there(ALICE) as chat:
        await send(chat, 0, 3, MessageState.STORED)
    async with town.there(BOB) as bob, town.there(ALICE) as alice:
        await send(alice, 3, 3, MessageState.DELIVERED)
        assert await take(bob, 6) == numbers(0, 6)
        assert await bob.disruptions() == ()
    async with town.there(ALICE) as chat:
        assert await chat.outgoing() == ()


async def test_a_session_and_then_letters_keep_the_order(town: Town) -> None:
    async with town.there(ALICE) as alice:
        async with town.there(BOB) as bob:
            await send(alice, 0, 3, MessageState.DELIVERED)
            assert await take(bob, 2) == numbers(0, 2)
        await send(alice, 3, 3, MessageState.STORED)
    async with town.there(BOB) as bob:
        assert await take(bob, 4) == numbers(2, 4)
        assert await bob.disruptions() == ()


@pytest.mark.nightly
async def test_a_message_as_large_as_may_be_fits_into_a_letter(town: Town) -> None:
    payload = bytes(57_344)
    async with town.there(ALICE) as chat:
        await reaches(chat, await chat.send(payload), MessageState.STORED)
    async with town.there(BOB) as chat:
        assert await take(chat, 1) == [payload]


async def test_what_expires_in_the_mailbox_is_said_by_the_other_side(town: Town) -> None:
    async with town.there(ALICE) as chat:
        brief = await chat.send(b"brief", expires=1.0)
        await reaches(chat, brief, MessageState.STORED)
        await send(chat, 1, 1, MessageState.STORED)
        # It lets time pass: the relay keeps no letter for less than a second.
        await asyncio.sleep(1.5)
    async with town.there(BOB) as bob, town.there(ALICE) as alice:
        await reaches(alice, brief, MessageState.EXPIRED)
        assert await take(bob, 1) == [b"1"]


@pytest.mark.nightly
@pytest.mark.parametrize("again", ["lost", "old"])
async def test_a_recipient_without_its_store_gets_what_is_not_delivered(
    town: Town, again: str
) -> None:
    async with town.there(ALICE) as chat:
        ids = await send(chat, 0, 2, MessageState.STORED)
    old = town.store(BOB).with_suffix(".old")
    with sqlite3.connect(town.store(BOB)) as db:
        db.execute("VACUUM INTO ?", (str(old),))
    db.close()
    async with town.there(BOB) as chat:
        assert await take(chat, 2) == numbers(0, 2)
    async with town.there(ALICE) as chat:
        await send(chat, 2, 2, MessageState.STORED)
        await reaches(chat, ids[-1], MessageState.DELIVERED)
    for end in ("", "-wal", "-shm"):
        Path(f"{town.store(BOB)}{end}").unlink(missing_ok=True)
    if again == "old":
        old.rename(town.store(BOB))
    async with town.there(BOB) as bob, town.there(ALICE) as alice:
        await send(alice, 4, 1, MessageState.DELIVERED)
        assert await take(bob, 3) == numbers(2, 3)
        async with asyncio.timeout(PATIENCE):
            while not (await bob.disruptions() and await alice.disruptions()):
                await asyncio.sleep(0.01)
        assert [one.kind for one in await bob.disruptions()] == ["lost"]


async def test_who_lost_its_store_gets_all_though_both_are_never_there_at_once(town: Town) -> None:
    async with town.there(ALICE) as chat:
        await send(chat, 0, 2, MessageState.STORED)
    for end in ("", "-wal", "-shm"):
        Path(f"{town.store(BOB)}{end}").unlink(missing_ok=True)
    async with town.there(BOB):  # What was sealed for the lost keys brings nothing.
        await waiting(town.relay, alice=0, bob=0)
    async with town.there(ALICE) as chat:
        await send(chat, 2, 1, MessageState.STORED)
    async with town.there(BOB):  # It misses two, and says so.
        await waiting(town.relay, alice=1, bob=0)
    async with town.there(ALICE):
        await waiting(town.relay, alice=0, bob=2)  # One for each time that she was there.
    async with town.there(BOB) as chat:
        assert await take(chat, 3) == numbers(0, 3)


async def waiting(relay: RelayServer, *, alice: int, bob: int) -> None:
    """Wait until so many letters wait for each."""
    ledger = relay.mailbox.ledger if relay.mailbox is not None else None
    assert ledger is not None
    async with asyncio.timeout(PATIENCE):
        while (ledger.waiting(ALICE.guid), ledger.waiting(BOB.guid)) != (alice, bob):
            await asyncio.sleep(0.01)


async def test_a_full_mailbox_is_named_and_tried_again(
    relay: RelayServer, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = {"is": True}
    put = Mailbox.put

    async def refuse(self: Mailbox, *words: Any, **named: Any) -> int:
        if full["is"]:
            raise MailboxFull("there is no room", retry_after=0.01)
        return await put(self, *words, **named)

    monkeypatch.setattr(Mailbox, "put", refuse)
    async with town.there(ALICE) as chat:
        sent = await chat.send(b"0")
        async with asyncio.timeout(PATIENCE):
            while chat.mailbox_error is None:
                await asyncio.sleep(0.01)
        assert isinstance(chat.mailbox_error, MailboxFull)
        assert (await chat.state(sent)).state is MessageState.QUEUED
        full["is"] = False
        await reaches(chat, sent, MessageState.STORED)
        assert chat.mailbox_error is None


async def test_what_is_no_letter_of_a_conversation_is_dropped(
    relay: RelayServer, town: Town
) -> None:
    async with Peer(ALICE, relay.url) as alice:
        for number, payload in enumerate((b"", b"\xff" * 99, b"\x94\x00\x00\xc0\x01")):
            await rooms(alice).mailbox.leave(
                BOB.guid, "chat", payload, message_id=bytes([number]) * 16, lifetime=60
            )
    async with town.there(BOB) as chat:
        await waiting(relay, alice=0, bob=0)
        assert await chat.disruptions() == ()


async def test_a_relay_that_is_killed_between_stored_and_fetched_keeps_the_letters(
    tmp_path: Path,
) -> None:
    port = str(free_port())
    flags = ("--state", str(tmp_path / "state"), "--port", port)
    config = PeerConfig(relay=f"http://127.0.0.1:{port}", wait_for_relay=True)

    def there(who: Identity) -> AbstractAsyncContextManager[Conversation]:
        return opened(who, config, tmp_path / f"{who.guid[:8]}.db")

    with processes.relay(tmp_path, *flags) as (_, relay):
        async with there(BOB), Peer(ALICE, config=config) as alice, asyncio.timeout(PATIENCE):
            while True:  # Until he has said that she may leave letters.
                try:
                    await rooms(alice).mailbox.prekey(BOB.guid, "chat")
                    break
                except LetterRefused:
                    await asyncio.sleep(0.01)
        async with there(ALICE) as chat:
            await send(chat, 0, 3, MessageState.STORED)
            relay.kill()
            relay.wait(PATIENCE)
    with processes.relay(tmp_path, *flags):
        async with there(BOB) as chat:
            assert await take(chat, 3) == numbers(0, 3)


@asynccontextmanager
async def opened(who: Identity, config: PeerConfig, store: Path) -> AsyncIterator[Conversation]:
    other = BOB if who is ALICE else ALICE
    async with (
        Peer(who, config=config) as peer,
        peer.conversation(other.guid, "chat", store=store) as chat,
    ):
        yield chat
