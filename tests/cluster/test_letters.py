"""The letters of a cluster: left at any node, kept once, handed over in order wherever their
recipient comes; bounds of all nodes together; and what fails, is said, and heals by itself.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from nats.aio.client import Client as NatsClient
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy
from nats.js.errors import NotFoundError

from peers import Conversation, MessageState, Peer
from protocol.errors import Code
from protocol.identity import Identity
from protocol.mail import (
    Letter,
    LetterDone,
    LetterLeave,
    LetterResponse,
    LetterService,
    LetterWindow,
    MailboxState,
    MailboxUpdate,
    PrekeyRequest,
    PrekeyResponse,
)
from protocol.messages import Disclosure
from protocol.prekeys import SignedPrekey
from relay import disk
from relay.cluster import ClusterStore
from relay.config import MailboxConfig
from relay.server import RelayServer
from tests.cluster.nats import TIMEOUT, NatsServer, joined, nats_server, node
from tests.cluster.test_operator import until
from tests.peers.conversations.test_conversation import reaches, take
from tests.relay.client import Client
from tests.relay.mailbox.test_on_sockets import PREKEY, leave, named, take_letters
from tests.relay.mailbox.test_waker import Endpoint
from tests.support import processes

JETSTREAM = "jetstream {{ store_dir: '{}', sync_interval: always }}"


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS that keeps letters, for all tests that do not stop it."""
    folder = tmp_path_factory.mktemp("post")
    with nats_server(folder, JETSTREAM.format(folder)) as server:
        yield server


async def ready(*relays: RelayServer) -> None:
    """Wait until each keeps letters."""
    async with asyncio.timeout(TIMEOUT):
        for relay in relays:
            assert relay.mailbox is not None
            store = relay.mailbox.store
            assert isinstance(store, ClusterStore)
            while not store.is_ready:
                await asyncio.sleep(0.01)


async def counted(relay: RelayServer, letters: int) -> None:
    """Wait until a node knows of so many letters."""
    mailbox = relay.mailbox
    assert mailbox is not None
    await until(lambda: mailbox.ledger.letters == letters)


@contextlib.asynccontextmanager
async def offices(
    nats: NatsServer, folder: Path, *names: str, **mailbox: object
) -> AsyncIterator[tuple[RelayServer, ...]]:
    """Run relays of one identity that keep letters together."""
    identity = Identity.generate()
    settings = MailboxConfig(**mailbox)  # type: ignore[arg-type]
    async with contextlib.AsyncExitStack() as stack:
        relays = [
            await stack.enter_async_context(
                RelayServer(
                    node(name, nats, folder.name, state=str(folder / name), mailbox=settings),
                    identity,
                )
            )
            for name in names
        ]
        await joined(*relays, nodes=len(names))
        await ready(*relays)
        yield tuple(relays)


async def put(sender: Client, letter: LetterLeave) -> LetterResponse:
    sender.send(letter)
    return await sender.expect(LetterResponse)


async def fetch(there: Client, count: int) -> list[int]:
    """Return the names of so many letters, and be done with them."""
    there.send(LetterWindow(64))
    names = []
    for _ in range(count):
        letter = await there.expect(Letter)
        names.append(int.from_bytes(letter.id, "big"))
        there.send(LetterDone((letter.number,)))
    return names


async def test_letters_left_at_any_node_are_kept_once_and_come_in_order(
    post: NatsServer, tmp_path: Path
) -> None:
    bob = Identity.generate()
    async with offices(post, tmp_path, "a", "b", "c") as (a, b, c):
        async with named(a.url, bob) as there:
            await take_letters(there)
        alice = Identity.generate()
        for names, relay in (((1, 2, 3), b), ((2, 3, 4, 5, 6), c), ((5, 6, 7, 8), a)):
            # Some once more, as if no answer had come: it is the same letter.
            async with named(relay.url, alice) as sender:
                for name in names:
                    assert (await put(sender, leave(there, name, 1000 * name))).code is None
            for one in (a, b, c):
                await counted(one, names[-1])
        assert [one.metrics.letters["again"] for one in (a, b, c)] == [2, 0, 2]
        for relay in (a, b, c):
            await counted(relay, 8)
        # It comes to one node, is done with half of them, and goes on at another one.
        async with named(b.url, bob) as there:
            assert await fetch(there, 3) == [1, 2, 3]
            await counted(c, 5)
        async with named(c.url, bob) as there:
            there.send(LetterWindow(1))
            letter = await there.expect(Letter)
            assert (letter.guid, letter.service) == (alice.guid, "chat")
            assert letter.sealed == bytes(4000)
            there.send(LetterDone((letter.number,)))
            assert await fetch(there, 4) == [5, 6, 7, 8]
        for relay in (a, b, c):
            await counted(relay, 0)
            assert relay.mailbox is not None
            assert relay.mailbox.ledger.boxes == 1


async def test_a_letter_for_who_is_at_another_node_comes_at_once(
    post: NatsServer, tmp_path: Path
) -> None:
    async with (
        offices(post, tmp_path, "a", "b") as (a, b),
        named(a.url) as bob,
        named(b.url) as alice,
    ):
        await take_letters(bob)
        bob.send(LetterWindow(4))
        async with asyncio.timeout(TIMEOUT):
            while (await put(alice, leave(bob, 1))).code is not None:
                pass  # Its word has not come to that node yet.
        letter = await bob.expect(Letter)
        bob.send(LetterDone((letter.number,)))
        await counted(b, 0)
        # That node has heard it before this one has the answer that counts.
        await until(lambda: a.metrics.letters["done"] == 1)
        assert a.metrics.letters["handed"] == 1
        assert b.metrics.letters["stored"] == 1


async def test_who_may_leave_letters_and_what_they_are_sealed_for_is_shared(
    post: NatsServer, tmp_path: Path
) -> None:
    alice, carol, eve = (Identity.generate() for _ in range(3))
    async with offices(post, tmp_path, "a", "b") as (a, b):
        assert a.mailbox is not None
        assert b.mailbox is not None
        async with (
            named(a.url) as bob,
            named(b.url, alice) as friend,
            named(b.url, eve) as stranger,
        ):
            await take_letters(bob, alice.guid, carol.guid)
            async with asyncio.timeout(TIMEOUT):
                while not b.mailbox.ledger.boxes:
                    await asyncio.sleep(0.01)
            assert (await put(stranger, leave(bob, 1))).code is Code.LETTER_REFUSED
            assert (await put(friend, leave(bob, 1))).code is None
            stranger.send(PrekeyRequest(2, bob.identity.guid, "chat"))
            assert (await stranger.expect(PrekeyResponse)).code is Code.LETTER_REFUSED
            # Whoever names what is no GUID names nobody's subject.
            stranger.send(PrekeyRequest(3, "*." + "a" * 50, "chat"))
            assert (await stranger.expect(PrekeyResponse)).code is Code.LETTER_REFUSED
            # Of three prekeys for one letter each is given once, at whichever node.
            once = [SignedPrekey(b"one %d" % number, bytes(64)) for number in range(3)]
            services = (LetterService("chat", Disclosure.LISTED, (alice.guid, carol.guid)),)
            bob.send(MailboxUpdate(4, services, PREKEY, tuple(once)))
            assert (await bob.expect(MailboxState)).one_time == 3
            async with named(a.url, carol) as other:
                given = []
                for number in range(4):
                    for one in (friend, other):
                        one.send(PrekeyRequest(number, bob.identity.guid, "chat"))
                    for one in (friend, other):
                        answer = await one.expect(PrekeyResponse)
                        assert answer.prekey is not None
                        given.append(answer.prekey)
            assert sorted(one.body for one in given if one != PREKEY) == [
                b"one 0",
                b"one 1",
                b"one 2",
            ]
            bob.send(MailboxUpdate(5))
            assert (await bob.expect(MailboxState)).letters == 1
            async with asyncio.timeout(TIMEOUT):
                while (await put(friend, leave(bob, 2))).code is not Code.LETTER_REFUSED:
                    pass


async def test_bounds_hold_for_all_nodes_together(post: NatsServer, tmp_path: Path) -> None:
    async with (
        offices(post, tmp_path, "a", "b", max_letters_per_peer=16) as (a, b),
        named(a.url) as bob,
        named(a.url) as alice,
        named(b.url) as carol,
        named(b.url) as dave,
    ):
        senders = (alice, carol, dave)
        await take_letters(bob, *(one.identity.guid for one in senders))
        assert b.mailbox is not None
        async with asyncio.timeout(TIMEOUT):
            while not b.mailbox.ledger.boxes:
                await asyncio.sleep(0.01)
        # One sender has half of them. Both nodes are asked at the same time.
        for name in range(1, 11):
            for one in senders:
                one.send(leave(bob, name))
        codes = [(await one.expect(LetterResponse)).code for _ in range(10) for one in senders]
        assert set(codes) == {None, Code.MAILBOX_FULL}
        stored = codes.count(None)
        assert 8 <= stored <= 16
        await counted(a, stored)
        await counted(b, stored)
        async with asyncio.timeout(TIMEOUT):
            name = 100
            while stored < 16:
                for one in senders:
                    name += 1
                    stored += (await put(one, leave(bob, name))).code is None
        await counted(a, 16)
        for one in senders:
            assert (await put(one, leave(bob, 200))).code is Code.MAILBOX_FULL


async def test_without_nats_it_is_said_and_it_heals(tmp_path: Path) -> None:
    with nats_server(tmp_path, JETSTREAM.format(tmp_path / "js")) as nats:
        async with (
            offices(nats, tmp_path, "a", "b") as (a, b),
            named(a.url) as bob,
            named(b.url) as alice,
        ):
            await take_letters(bob)
            assert b.mailbox is not None
            async with asyncio.timeout(TIMEOUT):
                while not b.mailbox.ledger.boxes:
                    await asyncio.sleep(0.01)
            assert (await put(alice, leave(bob, 1))).code is None
            nats.kill()
            answer = await put(alice, leave(bob, 2))
            assert answer.code is Code.CLUSTER_UNAVAILABLE
            assert answer.retry_after
            bob.send(LetterWindow(8))  # It is remembered until letters can be had.
            alice.send(PrekeyRequest(3, bob.identity.guid, "chat"))
            assert (await alice.expect(PrekeyResponse)).code is Code.CLUSTER_UNAVAILABLE
            bob.send(MailboxUpdate(4))
            assert (await bob.expect(MailboxState)).code is Code.CLUSTER_UNAVAILABLE
            nats.start()
            await ready(a, b)
            first = await bob.expect(Letter)
            assert int.from_bytes(first.id, "big") == 1
            assert (await put(alice, leave(bob, 2))).code is None
            assert int.from_bytes((await bob.expect(Letter)).id, "big") == 2


async def test_a_stream_without_room_is_said_and_takes_letters_when_there_is(
    tmp_path: Path,
) -> None:
    full = f"jetstream {{ store_dir: '{tmp_path / 'js'}', max_file_store: 400000 }}"
    with nats_server(tmp_path, full) as nats:
        async with (
            offices(nats, tmp_path, "a", "b") as (a, b),
            named(a.url) as bob,
            named(a.url) as alice,
        ):
            await take_letters(bob, alice.identity.guid)
            stored = 0
            while (answer := await put(alice, leave(bob, stored + 1, 61_440))).code is None:
                stored += 1
                assert stored < 10
            assert answer.code is Code.MAILBOX_FULL
            assert "cannot store" in answer.reason
            await counted(b, stored)
            assert await fetch(bob, stored) == list(range(1, stored + 1))
            await counted(a, 0)
            await counted(b, 0)
            assert (await put(alice, leave(bob, 50, 61_440))).code is None


async def test_a_nats_that_keeps_nothing_is_said(
    nats: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = node("a", nats, "no-letters", state=str(tmp_path / "a"))
    async with RelayServer(config) as relay, named(relay.url) as bob:
        bob.send(MailboxUpdate(1))
        assert (await bob.expect(MailboxState)).code is Code.CLUSTER_UNAVAILABLE
        async with asyncio.timeout(TIMEOUT):
            while not any("not kept now" in one.getMessage() for one in caplog.records):
                await asyncio.sleep(0.01)


async def test_a_node_killed_before_it_has_answered_loses_nothing_and_doubles_nothing(
    post: NatsServer, tmp_path: Path
) -> None:
    key = tmp_path / "relay.key"
    identity = Identity.generate()
    disk.make(key, identity.to_pem())
    (tmp_path / "x.toml").write_text(
        f'identity = "{key}"\nstate = "{tmp_path / "x"}"\ndrain_timeout = 0.0\n'
        f'[cluster]\nnode = "x"\nservers = "{post.url}"\nprefix = "{tmp_path.name}"\n'
    )
    config = node("b", post, tmp_path.name, state=str(tmp_path / "b"))
    alice, said = Identity.generate(), []
    async with RelayServer(config, identity) as b, named(b.url) as bob:
        await ready(b)
        await take_letters(bob, alice.guid)
        with processes.relay(tmp_path, "--config", str(tmp_path / "x.toml")) as (url, process):
            async with named(url, alice) as sender, asyncio.timeout(TIMEOUT):
                while (await put(sender, leave(bob, 1))).code is not None:
                    pass  # That node has not read all that is there yet.
                for name in range(2, 40):
                    sender.send(leave(bob, name))
                for _ in range(3):
                    said.append((await sender.expect(LetterResponse)).request)
                process.kill()
                process.wait()
        async with named(b.url, alice) as sender:
            # Which of the others were stored its sender does not know: it leaves them again.
            for name in range(1, 40):
                assert (await put(sender, leave(bob, name))).code is None
        bob.send(LetterWindow(64))
        letters = [await bob.expect(Letter) for _ in range(39)]
        names = [int.from_bytes(letter.id, "big") for letter in letters]
        assert sorted(names) == list(range(1, 40))
        assert set(said) <= set(names)
        assert [one.number for one in letters] == sorted(one.number for one in letters)
        bob.send(LetterDone(tuple(one.number for one in letters)))
        await counted(b, 0)


async def test_who_has_mail_is_told_once_by_one_of_the_nodes(
    post: NatsServer, tmp_path: Path
) -> None:
    told = Endpoint()
    app = web.Application()
    app.router.add_post("/", told.answer)
    async with (
        TestServer(app) as server,
        offices(post, tmp_path, "a", "b", wake_url=str(server.make_url("/"))) as (a, b),
        named(a.url) as alice,
        named(b.url) as carol,
    ):
        for round_ in range(4):  # Whose turn it is goes by chance.
            async with named(a.url) as bob:
                await take_letters(bob)
            for one in (a, b):
                assert one.mailbox is not None
                async with asyncio.timeout(TIMEOUT):
                    while one.mailbox.ledger.boxes <= round_ or one.registry.get(bob.identity.guid):
                        await asyncio.sleep(0.01)
            for name in (1, 2):
                for sender in (alice, carol):
                    assert (await put(sender, leave(bob, name))).code is None
            assert await told.told() == {"guid": bob.identity.guid}
        # Each letter has been heard by both when all of them are counted.
        for one in (a, b):
            await counted(one, 16)
        await until(lambda: a.metrics.wakes["told"] + b.metrics.wakes["told"] == 4)
        assert told.asked.empty()


async def test_two_that_are_never_there_at_once_talk_from_node_to_node(
    post: NatsServer, tmp_path: Path
) -> None:
    alice, bob = Identity.generate(), Identity.generate()
    stores = {alice.guid: tmp_path / "alice.db", bob.guid: tmp_path / "bob.db"}

    @contextlib.asynccontextmanager
    async def there(who: Identity, at: RelayServer) -> AsyncIterator[Conversation]:
        other = bob.guid if who is alice else alice.guid
        async with (
            Peer(who, at.url) as peer,
            peer.conversation(other, "chat", store=stores[who.guid]) as chat,
        ):
            yield chat

    async with offices(post, tmp_path, "a", "b") as (a, b):
        for known, who in enumerate((alice, bob), 1):
            async with there(who, a):
                for one in (a, b):
                    assert one.mailbox is not None
                    async with asyncio.timeout(TIMEOUT):
                        while one.mailbox.ledger.boxes < known:
                            await asyncio.sleep(0.01)
        for round_ in range(2):
            async with there(alice, a) as chat:
                if round_:
                    assert await take(chat, 1) == [b"answer"]
                ids = [await chat.send(b"%d" % number) for number in range(3)]
                await reaches(chat, ids[-1], MessageState.STORED)
            async with there(bob, b) as chat:
                assert await take(chat, 3) == [b"0", b"1", b"2"]
                await reaches(chat, await chat.send(b"answer"), MessageState.STORED)


@pytest.mark.parametrize("name", ["flush", "request"])
async def test_a_node_ends_though_the_library_has_missed_that_it_was_told_to(
    post: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As `wait_for` of Python 3.11 does, where an answer comes at that instant."""
    real, reached = getattr(NatsClient, name), asyncio.Event()

    async def deaf(self: NatsClient, *given: Any, **named: Any) -> Any:
        if not reached.is_set():
            reached.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(TIMEOUT)
        return await real(self, *given, **named)

    monkeypatch.setattr(NatsClient, name, deaf)
    config = node("a", post, tmp_path.name, state=str(tmp_path / "a"))
    async with asyncio.timeout(TIMEOUT / 2):
        async with RelayServer(config):
            await reached.wait()


async def test_what_others_put_into_the_stream_counts_for_nothing(
    post: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> int:
        said = "what no relay of this cluster has said"
        return sum(said in one.getMessage() for one in caplog.records)

    async with offices(post, tmp_path, "a") as (a,), named(a.url) as bob, named(a.url) as alice:
        await take_letters(bob)
        assert (await put(alice, leave(bob, 1))).code is None
        stranger = await nats.connect(post.url)
        stream, base = stranger.jetstream(), f"{tmp_path.name}.1.mail.at"
        guid, other = bob.identity.guid, alice.identity.guid
        for subject in (f"letter.{guid}.{other}.{bytes(16).hex()}", f"box.{guid}", "what.ever"):
            for headers in ({}, {"Roam-Relay": "eHh4"}, {"Nats-Rollup": "sub"}):
                await stream.publish(f"{base}.{subject}", b"forged", headers=dict(headers))
        # A node that comes reads all of it, and is whole at the end.
        config = node("b", post, tmp_path.name, state=str(tmp_path / "b"))
        async with RelayServer(config, a.identity) as b:
            await ready(b)
            assert b.mailbox is not None
            assert (b.mailbox.ledger.letters, a.mailbox and a.mailbox.ledger.letters) == (1, 1)
        await stranger.close()
        assert await fetch(bob, 1) == [1]
        await until(lambda: told() >= 2)
        await counted(a, 0)
    assert told() == 2, "once a connection"


async def test_a_stream_that_was_lost_begins_anew(post: NatsServer, tmp_path: Path) -> None:
    async with offices(post, tmp_path, "a") as (a,), named(a.url) as bob, named(a.url) as alice:
        await take_letters(bob)
        bob.send(LetterWindow(8))
        for name in (1, 2, 3):
            assert (await put(alice, leave(bob, name))).code is None
            await bob.expect(Letter)
        operator = await nats.connect(post.url)
        await operator.jetstream().delete_stream(f"{tmp_path.name}_mail")
        await operator.close()
        # Its numbers begin again; who has a connection from before hears of what comes.
        async with asyncio.timeout(TIMEOUT):
            while True:
                bob.send(MailboxUpdate(1, (LetterService("chat", Disclosure.ANYONE),), PREKEY))
                if (await bob.expect(MailboxState)).code is None:
                    break
                await asyncio.sleep(0.05)
        assert (await put(alice, leave(bob, 1))).code is None
        assert int.from_bytes((await bob.expect(Letter)).id, "big") == 1


async def test_a_replica_that_is_behind_loses_no_letter(
    post: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = JetStreamContext.get_msg

    async def behind(self: JetStreamContext, *given: Any, **named: Any) -> Any:
        if named.get("seq") and named.get("direct") and not named.get("next"):
            raise NotFoundError(code=404)
        return await real(self, *given, **named)

    async with offices(post, tmp_path, "a") as (a,), named(a.url) as bob, named(a.url) as alice:
        await take_letters(bob)
        for name in (1, 2, 3):
            assert (await put(alice, leave(bob, name))).code is None
        monkeypatch.setattr(JetStreamContext, "get_msg", behind)
        assert await fetch(bob, 3) == [1, 2, 3]


async def test_what_an_operator_has_set_on_the_stream_stays(
    post: NatsServer, tmp_path: Path
) -> None:
    stream = f"{tmp_path.name}_mail"
    async with offices(post, tmp_path, "a"):
        operator = await nats.connect(post.url)
        there = (await operator.jetstream().stream_info(stream)).config
        changed = there.evolve(max_bytes=50_000_000, discard=DiscardPolicy.OLD)
        await operator.jetstream().update_stream(changed)
    async with offices(post, tmp_path, "b"):
        there = (await operator.jetstream().stream_info(stream)).config
        assert (there.max_bytes, there.discard) == (50_000_000, DiscardPolicy.NEW)
    await operator.close()


async def test_a_relay_ends_though_nats_does_not_answer(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        async with asyncio.timeout(TIMEOUT), RelayServer(node("a", server, "end")) as relay:
            await joined(relay, nodes=1)
            server.stand_still()
