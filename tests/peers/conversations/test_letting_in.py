"""Who is let in, and when: conversations that are opened, closed and begun by both sides at once,
by session and by letter; whom `allow` does not name, and who is blocked.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from peers import Conversation, Identity, MessageState, Peer
from peers.conversations import room
from peers.conversations.intake import Intake
from protocol.conversation import Enclosed, Letter, Part, pack_enclosed, pack_item
from protocol.errors import LetterRefused, Refused, StoreFull, UnknownService
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.conversations.test_conversation import PATIENCE, reaches, take
from tests.support.rooms import rooms

ALICE, BOB = Identity.generate(), Identity.generate()


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[RelayServer]:
    async with RelayServer(RelayConfig(port=0, state=str(tmp_path / "state"))) as server:
        yield server


def letter(*payloads: bytes) -> bytes:
    """Return the first letter of a line, with these messages in it."""
    items = tuple(pack_item(Letter(os.urandom(16), 1.0, payload)) for payload in payloads)
    return pack_enclosed(Enclosed(0, 0, None, Part(os.urandom(16), 0, None, 1, items)))


async def post(sender: Peer, payload: bytes) -> None:
    """Leave a letter for Bob: until his relay knows that he takes some."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(LetterRefused):
                await rooms(sender).mailbox.leave(
                    BOB.guid, "chat", payload, message_id=os.urandom(16), lifetime=600
                )
                return
            await asyncio.sleep(0.01)


async def fetched(relay: RelayServer) -> None:
    """Wait until no letter waits for Bob."""
    assert relay.mailbox is not None
    async with asyncio.timeout(PATIENCE):
        while relay.mailbox.ledger.waiting(BOB.guid):
            await asyncio.sleep(0.01)


class Gate:
    """Holds up the first that comes to it, until it is opened."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, *given: Any, **named: Any) -> Any:
        if not self.reached.is_set():
            self.reached.set()
            await self.opened.wait()
        return await self._real(*given, **named)


async def rest(chat: Conversation) -> list[bytes]:
    """Return what waits to be read behind one more message, which is sent for that."""
    async with asyncio.timeout(PATIENCE):
        async for message in chat:
            return [message.payload]
    return []


async def test_a_letter_for_a_conversation_that_is_being_closed_is_kept(
    relay: RelayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Peer(BOB, relay.url) as bob, Peer(ALICE, relay.url) as alice:
        chat = await bob.conversation(ALICE.guid, "chat", store=tmp_path / "bob.db").open()
        await post(alice, letter(b"before"))
        await fetched(relay)
        gate = Gate(room.Conversations._flush)

        async def flush(*given: Any) -> Any:
            return await gate(*given)

        monkeypatch.setattr(room.Conversations, "_flush", flush)
        closing = asyncio.create_task(chat.close())
        await gate.reached.wait()
        await post(alice, letter(b"meanwhile"))
        await fetched(relay)
        assert not closing.done()
        gate.opened.set()
        await closing
        async with bob.conversation(ALICE.guid, "chat", store=tmp_path / "bob.db") as chat:
            assert await take(chat, 2) == [b"before", b"meanwhile"]
            await post(alice, letter(b"behind"))
            assert await rest(chat) == [b"behind"], "and none of them came twice"


async def test_a_session_that_comes_while_the_conversation_is_opened_is_its_own(
    relay: RelayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Peer(BOB, relay.url) as bob, Peer(ALICE, relay.url) as alice:
        begun = bob.conversations("chat", store=tmp_path / "bob.db")
        asking = asyncio.ensure_future(anext(begun))
        # The program opens it itself, and Alice comes before that is done.
        gate = Gate(room.load_keeper)
        monkeypatch.setattr(room, "load_keeper", gate)
        chat = bob.conversation(ALICE.guid, "chat", store=tmp_path / "bob.db")
        opening = asyncio.create_task(chat.open())
        await gate.reached.wait()
        async with alice.conversation(BOB.guid, "chat", store=tmp_path / "alice.db") as there:
            sent = await there.send(b"hello")
            async with asyncio.timeout(PATIENCE):
                while not there.is_connected:
                    await asyncio.sleep(0.01)
            gate.opened.set()
            await opening
            assert await take(chat, 1) == [b"hello"]
            await reaches(there, sent, MessageState.DELIVERED)
            assert not asking.done(), "it is offered to nobody besides"
        await chat.close()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_a_session_that_comes_while_the_conversation_is_closed_begins_it_anew(
    relay: RelayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Peer(BOB, relay.url) as bob, Peer(ALICE, relay.url) as alice:
        chat = await bob.conversation(ALICE.guid, "chat", store=tmp_path / "bob.db").open()
        await chat.send(b"so that it is not forgotten")
        gate = Gate(room.Conversations._flush)

        async def flush(*given: Any) -> Any:
            return await gate(*given)

        monkeypatch.setattr(room.Conversations, "_flush", flush)
        closing = asyncio.create_task(chat.close())
        await gate.reached.wait()
        async with alice.conversation(BOB.guid, "chat", store=tmp_path / "alice.db") as there:
            sent = await there.send(b"hello")
            async with asyncio.timeout(PATIENCE):
                while there.session_error is None and there.mailbox_error is None:
                    await asyncio.sleep(0.01)
            assert not closing.done()
            gate.opened.set()
            await closing
            async with bob.conversation(ALICE.guid, "chat", store=tmp_path / "bob.db") as chat:
                assert await take(chat, 1) == [b"hello"]
                await reaches(there, sent, MessageState.DELIVERED)


async def test_a_session_and_a_letter_of_a_new_peer_at_one_instant_are_one_conversation(
    relay: RelayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Peer(BOB, relay.url) as bob, Peer(ALICE, relay.url) as alice:
        gate = Gate(room.load_keeper)
        monkeypatch.setattr(room, "load_keeper", gate)
        begun = bob.conversations("chat", store=tmp_path / "bob.db")
        asking = asyncio.ensure_future(anext(begun))
        await post(alice, letter(b"by letter"))
        await gate.reached.wait()
        async with alice.conversation(BOB.guid, "chat", store=tmp_path / "alice.db") as there:
            await there.send(b"by session")
            gate.opened.set()
            async with asyncio.timeout(PATIENCE):
                chat = await asking
            assert chat.remote == ALICE.guid
            assert sorted(await take(chat, 2)) == [b"by letter", b"by session"]
            asking = asyncio.ensure_future(anext(begun))
            await there.send(b"once more")
            assert await take(chat, 1) == [b"once more"]
            assert not asking.done()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await chat.close()


@pytest.mark.parametrize("where", ["the conversation", "the mailbox"])
async def test_what_fails_while_a_conversation_is_opened_leaves_nothing_of_it(
    relay: RelayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async def fails(*given: Any) -> Any:
        raise StoreFull("the disk is full") if where == "the conversation" else OSError("the disk")

    async with Peer(BOB, relay.url) as bob, Peer(ALICE, relay.url) as alice:
        with monkeypatch.context() as patch:
            if where == "the conversation":
                patch.setattr(room, "load_keeper", fails)
            else:
                patch.setattr(Intake, "publish", fails)
            chat = bob.conversation(ALICE.guid, "chat", store=tmp_path / "bob.db")
            with pytest.raises(StoreFull if where == "the conversation" else OSError):
                await chat.open()
            await chat.close()
            assert rooms(bob).conversations.open == ()
            assert "chat" not in rooms(bob).services.listeners
        async with bob.conversation(ALICE.guid, "chat", store=tmp_path / "bob.db") as chat:
            await post(alice, letter(b"hello"))
            assert await take(chat, 1) == [b"hello"]


@pytest.mark.parametrize("by_letter", [False, True])
async def test_whom_allow_does_not_name_is_told_and_brings_nothing(
    relay: RelayServer, tmp_path: Path, by_letter: bool
) -> None:
    carol = Identity.generate()
    async with contextlib.AsyncExitStack() as stack:
        bob = await stack.enter_async_context(Peer(BOB, relay.url))
        begun = bob.conversations("chat", store=tmp_path / "bob.db", allow=[carol.guid])
        asking = asyncio.ensure_future(anext(begun))
        friend = await stack.enter_async_context(Peer(carol, relay.url))
        await post(friend, letter(b"hello"))
        async with asyncio.timeout(PATIENCE):
            assert (await asking).remote == carol.guid
        if by_letter:
            await begun.aclose()
            await bob.close()
        async with (
            Peer(ALICE, relay.url) as alice,
            alice.conversation(BOB.guid, "chat", store=tmp_path / "alice.db") as chat,
        ):
            sent = await chat.send(b"let me in")
            async with asyncio.timeout(PATIENCE):
                while chat.mailbox_error is None or chat.session_error is None:
                    await asyncio.sleep(0.01)
            assert isinstance(chat.mailbox_error, LetterRefused)
            assert (await chat.state(sent)).state is MessageState.QUEUED
            if not by_letter:
                assert isinstance(chat.session_error, Refused)
                assert "not for this peer" in chat.session_error.reason
            # It is heard as soon as it is named.
            await begun.aclose()
            if by_letter:
                bob = await stack.enter_async_context(Peer(BOB, relay.url))
            async with bob.conversation(ALICE.guid, "chat", store=tmp_path / "bob.db") as there:
                assert await take(there, 1) == [b"let me in"]
                await fetched(relay)  # It may have come by letter, and by a session besides.


async def test_who_is_blocked_brings_nothing_by_session_or_by_letter(
    relay: RelayServer, tmp_path: Path
) -> None:
    async with Peer(BOB, relay.url) as bob, Peer(ALICE, relay.url) as alice:
        bob.block(ALICE.guid)
        async with bob.conversation(ALICE.guid, "chat", store=tmp_path / "bob.db") as chat:
            await post(alice, letter(b"by letter"))  # Its relay knows nothing of that.
            await fetched(relay)
            async with alice.conversation(BOB.guid, "chat", store=tmp_path / "alice.db") as there:
                sent = await there.send(b"hello")
                # It goes into a letter, as there is no session; and that brings nothing.
                await reaches(there, sent, MessageState.STORED)
                assert isinstance(there.session_error, UnknownService)
                await fetched(relay)
                assert not chat.is_connected
                bob.block(ALICE.guid, False)
                assert await take(chat, 1) == [b"hello"]
                await reaches(there, sent, MessageState.DELIVERED)


async def test_strangers_by_letter_have_a_bound_that_is_given_back(
    relay: RelayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_OFFERED", 2)
    store, other = tmp_path / "bob.db", Identity.generate().guid
    async with contextlib.AsyncExitStack() as stack:
        strangers = [
            await stack.enter_async_context(Peer(Identity.generate(), relay.url)) for _ in range(6)
        ]

        async def write(number: int, payload: bytes | None = None) -> None:
            said = letter(b"%d" % number) if payload is None else payload
            await post(strangers[number], said)
            await fetched(relay)

        def known() -> set[int]:
            """Return whose conversations are in the store."""
            with contextlib.closing(sqlite3.connect(store)) as db:
                found = {guid for (guid,) in db.execute("SELECT remote FROM roam_conversation")}
            return {number for number, one in enumerate(strangers) if one.guid in found}

        async def ask(bob: Peer) -> None:
            """Ask for conversations of anyone, and no more."""
            begun = bob.conversations("chat", store=store)
            asking = asyncio.ensure_future(anext(begun))
            await write(0)
            async with asyncio.timeout(PATIENCE):
                chat = await asking
            while chat.remote != strangers[0].guid:
                await chat.close()
                chat = await anext(begun)
            assert await take(chat, 1) == [b"0"]
            await chat.close()
            await begun.aclose()

        async with (
            Peer(BOB, relay.url) as bob,
            bob.conversation(other, "chat", store=store) as held,
        ):
            await held.send(b"waits")
            await ask(bob)
            # What is no letter of a conversation, or is settled with nothing, takes no place.
            await write(1, b"")
            await write(2, b"\xff" * 99)
            await write(3, pack_enclosed(Enclosed(0, 0, None, None)))
            assert known() == {0}
            for number in (1, 2, 3):
                await write(number)
            assert known() == {0, 1, 2}
            async with bob.conversation(strangers[1].guid, "chat", store=store) as chat:
                await write(4)
                assert known() == {0, 1, 2, 4}, "who is taken leaves its place"
                assert await take(chat, 1) == [b"1"]
            await write(5)
            assert known() == {0, 1, 2, 4}
        # The next program has what the last one has left.
        async with (
            Peer(BOB, relay.url) as bob,
            bob.conversation(other, "chat", store=store),
        ):
            await ask(bob)
            await write(5)
            assert known() == {0, 1, 2, 4}
