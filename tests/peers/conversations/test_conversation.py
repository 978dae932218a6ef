"""Conversations between real peers: what a program sees, over ends of sessions and of programs."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from peers import (
    CallbackFailed,
    ConnectionClosed,
    Conversation,
    ConversationFull,
    Identity,
    MessageState,
    Mode,
    PathKind,
    Peer,
    PeerConfig,
    PeerOffline,
    PolicyError,
    Refused,
    Sent,
    Session,
    UsageError,
)
from peers.conversations import Preference, room
from peers.conversations import keeper as keeping
from peers.conversations.conversation import ConversationEnd
from peers.opening import Wish
from relay.server import RelayServer
from tests.support.rooms import rooms
from tests.support.sessions import MODES

PATIENCE = 120.0


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


async def test_its_mode_and_policy_go_before_the_configuration(
    alice: Peer, bob: Peer, stores: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the sessions that this side opens."""
    opening, opened = rooms(alice).opening, {}
    original = opening.open

    async def noting(wish: Wish, patience: float, *, wait: bool) -> Session:
        session = await original(wish, patience, wait=wait)
        opened[wish.service] = session.mode, session.path and session.path.kind
        return session

    async def answers(service: str) -> list[bytes]:
        async for chat in bob.conversations(service, store=stores[1]):
            return await take(chat, 1)
        return []

    monkeypatch.setattr(opening, "open", noting)
    answering = [asyncio.create_task(answers(service)) for service in ("sealed", "relayed")]
    async with asyncio.timeout(PATIENCE):
        while set(bob.figures().services) != {"sealed", "relayed"}:
            await asyncio.sleep(0.01)
    await bob.published()
    async with (
        alice.conversation(bob.guid, "sealed", store=stores[0], mode="central") as sealed,
        alice.conversation(
            bob.guid, "relayed", store=stores[0], mode=Mode.AUTO, policy="only relayed"
        ) as relayed,
    ):
        await sealed.send(b"one")
        await relayed.send(b"two")
        assert await asyncio.gather(*answering) == [[b"one"], [b"two"]]
    assert opened == {
        "sealed": (Mode.CENTRAL, PathKind.RELAYED),
        "relayed": (Mode.AUTO, PathKind.RELAYED),
    }
    with pytest.raises(ValueError, match="sideways"):
        alice.conversation(bob.guid, "chat", store=stores[0], mode="sideways")
    with pytest.raises(PolicyError):
        alice.conversation(bob.guid, "chat", store=stores[0], policy="only sideways")


async def test_what_is_written_with_a_message_may_know_its_id(
    alice: Peer, bob: Peer, stores: tuple[Path, Path]
) -> None:
    async with alice.conversation(bob.guid, "chat", store=stores[0]) as here:
        message_id = here.new_message_id()

        def remember(database: sqlite3.Connection) -> None:
            database.execute("CREATE TABLE mine (id)")
            database.execute("INSERT INTO mine VALUES (?)", (message_id,))

        assert await here.send(b"one", message_id=message_id, also=remember) == message_id
        assert [sent.id for sent in await here.outgoing()] == [message_id]
        with contextlib.closing(sqlite3.connect(stores[0])) as database:
            assert database.execute("SELECT id FROM mine").fetchall() == [(message_id,)]
        with pytest.raises(ValueError, match="was sent with the id"):
            await here.send(b"two", message_id=message_id)
        with pytest.raises(ValueError, match="message_id"):
            await here.send(b"two", message_id="my own")
        assert len(await here.outgoing()) == 1


@MODES
async def test_in_every_mode(relay: RelayServer, stores: tuple[Path, Path], mode: Mode) -> None:
    """Either side may dial, over whatever path."""
    config = PeerConfig(mode=mode)
    async with (
        Peer(Identity.generate(), relay.url, config=config) as alice,
        Peer(Identity.generate(), relay.url, config=config) as bob,
        alice.conversation(bob.guid, "chat", store=stores[0]) as here,
        bob.conversation(alice.guid, "chat", store=stores[1]) as there,
    ):
        await here.send(b"one")
        await there.send(b"other")
        assert (await take(there, 1), await take(here, 1)) == ([b"one"], [b"other"])


async def test_others_begin(alice: Peer, bob: Peer, stores: tuple[Path, Path]) -> None:
    begun = bob.conversations("chat", store=stores[1])
    taking = asyncio.ensure_future(anext(begun))
    async with alice.conversation(bob.guid, "chat", store=stores[0]) as here:
        await here.send(b"first")
        async with asyncio.timeout(PATIENCE):
            there = await taking
        assert (there.remote, there.service) == (alice.guid, "chat")
        assert await take(there, 1) == [b"first"]
        await there.send(b"answer")
        assert await take(here, 1) == [b"answer"]


async def test_a_message_comes_again_until_it_is_done(
    relay: RelayServer, alice: Peer, stores: tuple[Path, Path]
) -> None:
    """Over ends of the program; and what is done never comes again."""
    identity = Identity.generate()
    async with alice.conversation(identity.guid, "chat", store=stores[0]) as here:
        ids = [await here.send(b"%d" % number) for number in range(3)]
        assert [sent.id for sent in await here.outgoing()] == ids
        for found in ([b"0"], [b"0", b"1"], [b"1", b"2"]):
            async with (
                Peer(identity, relay.url) as bob,
                bob.conversation(alice.guid, "chat", store=stores[1]) as there,
            ):
                await reaches(here, ids[-1], MessageState.DELIVERED)
                seen = []
                async for message in there:
                    assert message.sender == alice.guid
                    seen.append(message)
                    if len(seen) == len(found):
                        break  # All but this one are done: the loop has gone on behind them.
                assert [message.payload for message in seen] == found
                assert [message.is_done for message in seen] == [True] * (len(seen) - 1) + [False]


async def test_what_waits_is_there_after_a_restart(
    relay: RelayServer, stores: tuple[Path, Path]
) -> None:
    here, there = Identity.generate(), Identity.generate()
    ids = []
    for count in range(3):
        async with (
            Peer(here, relay.url) as alice,
            alice.conversation(there.guid, "chat", store=stores[0]) as chat,
        ):
            assert [sent.id for sent in await chat.outgoing()] == ids
            ids.append(await chat.send(b"%d" % count))
            assert (await chat.outgoing())[-1].state is MessageState.QUEUED
    async with (
        Peer(here, relay.url) as alice,
        Peer(there, relay.url) as bob,
        alice.conversation(there.guid, "chat", store=stores[0]) as chat,
        bob.conversation(here.guid, "chat", store=stores[1]) as other,
    ):
        assert await take(other, 3) == [b"0", b"1", b"2"]
        for name in ids:
            await reaches(chat, name, MessageState.DELIVERED)
        assert await chat.disruptions() == await other.disruptions() == ()


async def test_receipts(alice: Peer, bob: Peer, stores: tuple[Path, Path]) -> None:
    async with (
        alice.conversation(bob.guid, "chat", store=stores[0]) as here,
        bob.conversation(alice.guid, "chat", store=stores[1]) as there,
    ):
        read, refused = await here.send(b"good"), await here.send(b"bad")
        async with asyncio.timeout(PATIENCE):
            async for message in there:
                if message.payload == b"bad":
                    await message.refuse("not that")
                    await message.refuse("twice is nothing")
                    break
                await message.done(read=True)
        assert (await reaches(here, read, MessageState.READ)).reason == ""
        assert (await reaches(here, refused, MessageState.REFUSED)).reason == "not that"


async def test_what_has_not_left_expires_and_can_be_taken_back(
    alice: Peer, stores: tuple[Path, Path]
) -> None:
    away = Identity.generate()
    async with alice.conversation(away.guid, "chat", store=stores[0]) as here:
        expiring = await here.send(b"late", expires=0.01)
        cancelled = await here.send(b"mistaken")
        kept = await here.send(b"kept")
        await reaches(here, expiring, MessageState.EXPIRED)
        assert await here.cancel(cancelled) is True
        assert await here.cancel(cancelled) is False
        assert (await here.state(cancelled)).state is MessageState.CANCELLED
        assert await here.state("0" * 32) is None
        assert [sent.id for sent in await here.outgoing()] == [kept]
        config = PeerConfig(relay=alice.config.relay)
        async with (
            Peer(away, config=config) as bob,
            bob.conversation(alice.guid, "chat", store=stores[1]) as there,
        ):
            assert await take(there, 1) == [b"kept"]
            await reaches(here, kept, MessageState.DELIVERED)
            assert await here.cancel(kept) is False
            assert await there.disruptions() == ()


async def test_a_sender_is_stopped_where_nobody_reads(
    alice: Peer, bob: Peer, stores: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "INBOX", 5)
    monkeypatch.setattr(keeping, "OUTBOX", 8)
    async with (
        alice.conversation(bob.guid, "chat", store=stores[0]) as here,
        bob.conversation(alice.guid, "chat", store=stores[1]) as there,
    ):
        sent = [await here.send(b"%d" % number) for number in range(5)]
        await reaches(here, sent[-1], MessageState.DELIVERED)
        for number in range(5, 13):
            await here.send(b"%d" % number)
        with pytest.raises(ConversationFull, match="8 messages wait"):
            await here.send(b"too many")
        # It goes on as soon as somebody reads, and the other direction never stopped.
        back = await there.send(b"back")
        await reaches(there, back, MessageState.DELIVERED)
        assert await take(there, 13) == [b"%d" % number for number in range(13)]
        await here.send(b"again")
        assert await take(there, 1) == [b"again"]


async def test_what_there_is_no_room_for_expires_and_can_be_taken_back(
    alice: Peer, bob: Peer, stores: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other side is there, and does not read: what waits here has not left."""
    monkeypatch.setattr(keeping, "INBOX", 3)
    async with (
        alice.conversation(bob.guid, "chat", store=stores[0]) as here,
        bob.conversation(alice.guid, "chat", store=stores[1]) as there,
    ):
        sent = [await here.send(b"%d" % number) for number in range(3)]
        await reaches(here, sent[-1], MessageState.DELIVERED)
        cancelled = await here.send(b"cancelled")
        expiring = await here.send(b"expired", expires=0.01)
        await reaches(here, expiring, MessageState.EXPIRED)
        assert await here.cancel(cancelled)
        last = await here.send(b"last")
        assert await take(there, 4) == [b"0", b"1", b"2", b"last"]
        await reaches(here, last, MessageState.DELIVERED)


async def test_the_program_writes_in_the_same_transaction(
    alice: Peer, bob: Peer, stores: tuple[Path, Path]
) -> None:
    """Into its own database, or into ours: both have happened, or neither."""
    own = sqlite3.connect(stores[1], check_same_thread=False)
    own.execute("CREATE TABLE seen (payload BLOB)")
    own.row_factory = sqlite3.Row
    own.execute("PRAGMA user_version = 7")

    def fails(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE IF NOT EXISTS seen (payload BLOB)")
        connection.execute("INSERT INTO seen VALUES ('never')")
        raise KeyError("mine")

    async with (
        alice.conversation(bob.guid, "chat", store=stores[0]) as here,
        bob.conversation(alice.guid, "chat", store=own) as there,
    ):
        with pytest.raises(CallbackFailed, match="also raised KeyError"):
            await here.send(b"no", also=fails)
        assert await here.outgoing() == ()
        await here.send(b"yes", also=lambda db: db.execute("CREATE TABLE mine (a)"))
        async with asyncio.timeout(PATIENCE):
            async for message in there:
                with pytest.raises(CallbackFailed):
                    await message.done(also=fails)
                assert not message.is_done
                payload = message.payload
                await message.done(
                    also=lambda db, payload=payload: db.execute(
                        "INSERT INTO seen VALUES (?)", (payload,)
                    )
                )
                break
    assert [row["payload"] for row in own.execute("SELECT payload FROM seen")] == [b"yes"]
    assert own.execute("PRAGMA user_version").fetchone()[0] == 7
    own.close()


async def test_a_plain_session_and_a_conversation_do_not_meet(
    alice: Peer, bob: Peer, stores: tuple[Path, Path]
) -> None:
    async with bob.conversation(alice.guid, "chat", store=stores[1]):
        await bob.published()
        with pytest.raises(Refused, match="is for conversations"):
            await alice.connect(bob.guid, "chat", mode="p2p")
        with pytest.raises(ValueError, match="offered already"):
            bob.listen("chat")
    async with alice.listen("plain") as listener:
        await alice.published()
        async with bob.conversation(alice.guid, "plain", store=stores[1]) as there:
            await there.send(b"waits")
            assert not there.is_connected
            plain = await bob.connect(alice.guid, "plain")
            # Of the two, the program gets the one that it can read.
            assert (await anext(listener)).id == plain.id


async def test_a_wrong_argument_is_refused_at_once(
    alice: Peer, bob: Peer, stores: tuple[Path, Path]
) -> None:
    async with (
        alice.conversation(bob.guid, "chat", store=stores[0]) as here,
        bob.conversation(alice.guid, "chat", store=stores[1]) as there,
    ):
        for wrong in ("text", None, 7, [b"a"], object()):
            with pytest.raises(TypeError, match="a message is bytes"):
                await here.send(wrong)
        with pytest.raises(ValueError, match="at most 57344 bytes"):
            await here.send(bytes(57_345))
        for wrong in (0, -1, float("nan"), float("inf"), "soon", True):
            with pytest.raises((TypeError, ValueError), match="expires"):
                await here.send(b"", expires=wrong)
        for wrong in (7, "db", []):
            with pytest.raises(TypeError, match="also"):
                await here.send(b"", also=wrong)
        for wrong in (None, 7, b"", "", "xyz", "00" * 15, "00" * 17):
            for call in (here.state, here.cancel):
                with pytest.raises(ValueError, match="message_id"):
                    await call(wrong)
            with pytest.raises(ValueError, match="message_id"):
                await anext(here.follow(wrong))
        assert await here.outgoing() == ()
        for payload in (bytes(57_344), bytearray(b"a"), memoryview(b"b"), b""):
            await here.send(payload)
        async with asyncio.timeout(PATIENCE):
            async for message in there:
                for wrong in (None, 1, "yes"):
                    with pytest.raises(TypeError, match="read"):
                        await message.done(read=wrong)
                with pytest.raises(TypeError, match="also"):
                    await message.done(also=7)
                with pytest.raises(TypeError, match="reason"):
                    await message.refuse(None)
                assert not message.is_done
                if not message.payload:
                    break


async def test_a_function_that_ends_the_transaction_is_told(
    alice: Peer, bob: Peer, stores: tuple[Path, Path]
) -> None:
    """It harms nobody else, and the store goes on."""

    async def waits(connection: sqlite3.Connection) -> None:
        raise AssertionError("nobody awaits it")

    async with alice.conversation(bob.guid, "chat", store=stores[0]) as here:
        for ends in (sqlite3.Connection.commit, lambda db: db.executescript("SELECT 1")):
            beside = asyncio.ensure_future(here.send(b"beside"))
            with pytest.raises(UsageError, match="has ended the transaction"):
                await here.send(b"x", also=ends)
            await beside
        with pytest.raises(CallbackFailed, match="a plain function"):
            await here.send(b"no", also=waits)
        await here.send(b"goes on")
        assert [sent.size for sent in await here.outgoing()].count(6) == 2


async def test_the_end_of_a_peer_ends_its_conversations(
    relay: RelayServer, alice: Peer, stores: tuple[Path, Path]
) -> None:
    """Whoever iterates comes to the end, whoever follows is told."""
    async with Peer(Identity.generate(), relay.url) as bob:
        begun = bob.conversations("other", store=stores[1])
        chat = await bob.conversation(alice.guid, "chat", store=stores[1]).open()
        name = await chat.send(b"waits")
        waiting = [asyncio.ensure_future(anext(one)) for one in (aiter(chat), begun)]
        for _ in range(20):
            await asyncio.sleep(0)
    for one in waiting:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(StopAsyncIteration):
                await one
    for call in (chat.send(b""), chat.state(name), chat.outgoing()):
        with pytest.raises(ConnectionClosed):
            await call
    await chat.close()


async def test_a_service_is_offered_as_long_as_it_is_needed(
    alice: Peer, bob: Peer, stores: tuple[Path, Path]
) -> None:
    async with bob.conversation(alice.guid, "chat", store=stores[1]):
        with pytest.raises(ValueError, match="offered already"):
            bob.listen("chat")
    bob.listen("chat").close()
    with pytest.raises(ValueError, match="two sides"):
        bob.conversation(bob.guid, "chat", store=stores[1])
    # Nothing was said in it: nothing is left of it.
    with sqlite3.connect(stores[1]) as db:
        assert db.execute("SELECT count(*) FROM roam_conversation").fetchone() == (0,)
    db.close()


async def test_whom_nobody_has_asked_for_begins_nothing(
    relay: RelayServer,
    alice: Peer,
    bob: Peer,
    stores: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor do more than a program takes: of those it need not even know."""
    monkeypatch.setattr(room, "_OFFERED", 2)
    begun = bob.conversations("chat", store=stores[1], allow=[alice.guid])
    taking = asyncio.ensure_future(anext(begun))
    async with Peer(Identity.generate(), relay.url) as stranger:
        async with stranger.conversation(bob.guid, "chat", store=tmp_path / "stranger.db") as chat:
            await chat.send(b"spam")
            async with alice.conversation(bob.guid, "chat", store=stores[0]) as here:
                await here.send(b"hello")
                async with asyncio.timeout(PATIENCE):
                    assert (await taking).remote == alice.guid
            assert not chat.is_connected
            assert len(await chat.outgoing()) == 1
        await begun.aclose()
        anyone = bob.conversations("open", store=stores[1])
        taking = asyncio.ensure_future(anext(anyone))
        ids = []
        async with contextlib.AsyncExitStack() as stack:
            for number in range(4):
                peer = await stack.enter_async_context(Peer(Identity.generate(), relay.url))
                chat = await stack.enter_async_context(
                    peer.conversation(bob.guid, "open", store=tmp_path / f"{number}.db")
                )
                ids.append((chat, await chat.send(b"hello")))
                if number < 3:  # One is taken, and two wait.
                    await reaches(*ids[-1], MessageState.DELIVERED)
            assert not ids[3][0].is_connected
            assert (await taking).is_connected
            assert [len(await one.outgoing()) for one, _ in ids] == [0, 0, 0, 1]
        await anyone.aclose()


async def test_one_at_a_time(alice: Peer, bob: Peer, stores: tuple[Path, Path]) -> None:
    chat = alice.conversation(bob.guid, "chat", store=stores[0])
    with pytest.raises(ConnectionClosed, match="not open"):
        await chat.send(b"early")
    async with chat:
        with pytest.raises(UsageError, match="open already"):
            await alice.conversation(bob.guid, "chat", store=stores[0]).open()
        with pytest.raises(UsageError, match="another one is in use"):
            alice.conversation(bob.guid, "more", store=stores[1])
        waiting = asyncio.ensure_future(anext(aiter(chat)))
        await asyncio.sleep(0)
        with pytest.raises(UsageError, match="two tasks"):
            await anext(aiter(chat))
        async with alice.conversation(bob.guid, "more", store=stores[0]):
            pass
    with pytest.raises(StopAsyncIteration):
        await waiting
    with pytest.raises(ConnectionClosed, match="opened once"):
        await chat.open()
    async with alice.conversation(bob.guid, "chat", store=stores[0]):
        pass


async def test_of_two_sessions_one_stays(alice: Peer, bob: Peer, stores: tuple[Path, Path]) -> None:
    """Both sides open one at once, and agree."""
    async with (
        alice.conversation(bob.guid, "chat", store=stores[0]) as here,
        bob.conversation(alice.guid, "chat", store=stores[1]) as there,
        asyncio.timeout(PATIENCE),
    ):
        assert isinstance(here, ConversationEnd)
        assert isinstance(there, ConversationEnd)
        await here.send(b"one")
        await there.send(b"other")
        assert (await take(there, 1), await take(here, 1)) == ([b"one"], [b"other"])
        while True:
            sessions = [{link.session.id for link in one.links.all} for one in (here, there)]
            if sessions[0] == sessions[1] and len(sessions[0]) == 1:
                break
            await asyncio.sleep(0)
        await here.send(b"still")
        assert await take(there, 1) == [b"still"]


async def test_of_many_conversations_a_few_ask_for_their_other_sides_at_once(
    alice: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversations = rooms(alice).conversations
    asked: list[str] = []
    now, most = 0, 0
    go_on = asyncio.Event()

    async def opener(guid: str, service: str, wanted: Preference, wait: bool) -> Session:
        nonlocal now, most
        asked.append(guid)
        if not wait:
            now += 1
            most = max(most, now)
        try:
            await go_on.wait()
        finally:
            now -= not wait
        raise PeerOffline("not there")

    monkeypatch.setattr(conversations, "_opener", opener)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2 * room._AT_ONCE + 3):
            chat = alice.conversation(Identity.generate().guid, "chat", store=tmp_path / "a.db")
            await (await stack.enter_async_context(chat)).send(b"waits")
        async with asyncio.timeout(PATIENCE):
            while len(asked) < room._AT_ONCE:
                await asyncio.sleep(0)
        go_on.set()
        async with asyncio.timeout(PATIENCE):
            while len(set(asked)) < 2 * room._AT_ONCE + 3:
                await asyncio.sleep(0)
    assert most == room._AT_ONCE
