"""Letters between two peers that are never there at once, and letters that bring nothing."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from peers import Identity, LimitExceeded, Peer, Refused
from peers.mailbox import IncomingLetter, Mailbox, Spoiled
from protocol.errors import (
    ConnectionClosed,
    LetterRefused,
    MailboxFull,
    ProtocolViolation,
    Unsupported,
    UsageError,
)
from protocol.letters import MAX_LETTER_PAYLOAD, Fault, seal_letter
from protocol.mail import Letter, LetterLeave, LetterService
from protocol.messages import Disclosure
from protocol.prekeys import make_prekey
from relay.config import MailboxConfig, RelayConfig
from relay.server import RelayServer
from tests.peers.mailbox.stores import Database
from tests.support.rooms import rooms

ANYONE = (LetterService("chat", Disclosure.ANYONE),)
HOUR = 3600.0


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[RelayServer]:
    async with RelayServer(RelayConfig(port=0, state=str(tmp_path / "state"))) as server:
        yield server


@pytest.fixture
def store() -> Iterator[Database]:
    with closing(Database()) as database:
        yield database


@asynccontextmanager
async def peer(relay: RelayServer, identity: Identity | None = None) -> AsyncIterator[Mailbox]:
    async with Peer(identity or Identity.generate(), relay.url) as one:
        yield rooms(one).mailbox


async def published(relay: RelayServer, guid: str) -> None:
    """Wait until a peer's mailbox takes letters."""
    async with peer(relay) as probe, asyncio.timeout(60):
        while True:
            try:
                await probe.leave(guid, "chat", b"", message_id=bytes(16), lifetime=60)
                return
            except LetterRefused:
                await asyncio.sleep(0)


async def next_letter(mailbox: Mailbox) -> IncomingLetter | Spoiled:
    async with asyncio.timeout(60):
        async for letter in mailbox.letters():
            return letter
    raise AssertionError


async def next_real(mailbox: Mailbox) -> IncomingLetter:
    while True:
        letter = await next_letter(mailbox)
        assert isinstance(letter, IncomingLetter)
        if letter.payload:
            return letter
        await letter.done()


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


async def test_two_that_are_never_there_at_once_get_every_letter_in_order(
    relay: RelayServer, store: Database
) -> None:
    bob = Identity.generate()
    async with peer(relay, bob) as there:
        there.open(store, ANYONE)
        await published(relay, bob.guid)
    async with peer(relay) as alice:
        for number in range(1, 101):
            payload = b"letter %d" % number
            assert (
                await alice.leave(bob.guid, "chat", payload, message_id=name(number), lifetime=HOUR)
                == HOUR
            )
    got = []
    async with peer(relay, bob) as there:
        there.open(store, ANYONE)
        while len(got) < 100:
            letter = await next_real(there)
            got.append(letter.payload)
            await letter.done()
    assert got == [b"letter %d" % number for number in range(1, 101)]


async def test_it_comes_again_until_it_is_done_and_then_never(
    relay: RelayServer, store: Database
) -> None:
    bob = Identity.generate()
    async with peer(relay, bob) as there, peer(relay) as alice:
        there.open(store, ANYONE)
        await published(relay, bob.guid)
        await alice.leave(bob.guid, "chat", b"hello", message_id=name(1), lifetime=HOUR)
        first = await next_real(there)
        sender = first.sender
    async with peer(relay, bob) as there:
        there.open(store, ANYONE)
        again = await next_real(there)
        assert (again.payload, again.sender, again.id) == (b"hello", sender, name(1))
        # Safe, and the relay has not heard of it: as with a kill between both.
        await store.run(again.settle)
    async with peer(relay, bob) as there:
        there.open(store, ANYONE)
        assert relay.mailbox is not None
        async with asyncio.timeout(60):
            while relay.mailbox.ledger.letters:
                await asyncio.sleep(0)
        async with peer(relay) as carol:
            await carol.leave(bob.guid, "chat", b"more", message_id=name(1), lifetime=HOUR)
        assert (await next_real(there)).payload == b"more"  # And nothing between both.


async def test_what_is_left_again_when_it_was_done_is_a_replay(
    relay: RelayServer, store: Database
) -> None:
    async with Peer(Identity.generate(), relay.url) as bob, peer(relay) as alice:
        there = rooms(bob).mailbox
        there.open(store, ANYONE)
        await published(relay, bob.guid)
        await alice.leave(bob.guid, "chat", b"hello", message_id=name(1), lifetime=HOUR)
        await (await next_real(there)).done()
        assert relay.mailbox is not None
        async with asyncio.timeout(60):
            while relay.mailbox.ledger.letters:
                await asyncio.sleep(0)
        # Its sender has not heard that it was stored: or somebody has kept it.
        await alice.leave(bob.guid, "chat", b"hello", message_id=name(1), lifetime=HOUR)
        replayed = await next_letter(there)
        assert isinstance(replayed, Spoiled)
        assert replayed.fault is Fault.REPLAYED


async def test_a_letter_and_what_it_brings_are_one_transaction(
    relay: RelayServer, store: Database
) -> None:
    bob = Identity.generate()
    async with peer(relay, bob) as there, peer(relay) as alice:
        there.open(store, ANYONE)
        await published(relay, bob.guid)
        await alice.leave(bob.guid, "chat", b"hello", message_id=name(1), lifetime=HOUR)
        letter = await next_real(there)
        store.connection.execute("CREATE TABLE inbox (payload BLOB)")

        def keep(tables: sqlite3.Connection) -> None:
            tables.execute("INSERT INTO inbox VALUES (?)", (letter.payload,))
            letter.settle(tables)

        await store.run(keep)
        letter.forget()
        assert relay.mailbox is not None
        async with asyncio.timeout(60):
            while relay.mailbox.ledger.letters:
                await asyncio.sleep(0)


async def test_a_store_that_fails_for_a_while_loses_nothing_and_changes_no_order(
    relay: RelayServer, store: Database
) -> None:
    bob = Identity.generate()
    async with peer(relay, bob) as there, peer(relay) as alice:
        there.open(store, ANYONE)
        await published(relay, bob.guid)
        await (await next_letter(there)).done()  # type: ignore[union-attr]
        store.fails = True
        for number in (1, 2, 3):
            await alice.leave(bob.guid, "chat", b"x", message_id=name(number), lifetime=HOUR)
        async with asyncio.timeout(60):
            while not store.failures:
                await asyncio.sleep(0)
        store.fails = False
        for number in (1, 2, 3):
            letter = await next_real(there)
            assert letter.id == name(number)
            await letter.done()


async def test_who_may_not_leave_letters_is_told(relay: RelayServer, store: Database) -> None:
    async with peer(relay) as bob, peer(relay) as alice, peer(relay) as eve:
        guids = {one: one._identity.guid for one in (bob, alice, eve)}
        bob.open(store, (LetterService("chat", Disclosure.LISTED, (guids[alice],)),))
        async with asyncio.timeout(60):
            while True:
                try:
                    await alice.leave(guids[bob], "chat", b"x", message_id=name(1), lifetime=60)
                    break
                except LetterRefused:
                    await asyncio.sleep(0)
        for service in ("chat", "files"):
            with pytest.raises(Refused):
                await eve.leave(guids[bob], service, b"x", message_id=name(1), lifetime=60)
        is_refused = False
        bob.open(store, ())
        async with asyncio.timeout(60):
            while not is_refused:
                try:
                    await alice.leave(guids[bob], "chat", b"x", message_id=name(1), lifetime=60)
                except LetterRefused:
                    is_refused = True


async def test_a_full_mailbox_is_told_at_once(tmp_path: Path, store: Database) -> None:
    config = RelayConfig(
        port=0, state=str(tmp_path / "state"), mailbox=MailboxConfig(max_letters_per_peer=8)
    )
    bob = Identity.generate()
    async with RelayServer(config) as relay:
        async with peer(relay, bob) as there:
            there.open(store, ANYONE)
            await published(relay, bob.guid)
        async with peer(relay) as alice:
            await alice.leave(bob.guid, "chat", b"x", message_id=name(1), lifetime=60)
            with pytest.raises(MailboxFull) as full:
                await alice.leave(bob.guid, "chat", b"x", message_id=name(2), lifetime=60)
            assert full.value.retry_after > 0


async def test_a_relay_without_a_mailbox_is_not_asked() -> None:
    async with RelayServer(RelayConfig(port=0)) as relay, peer(relay) as alice:
        with pytest.raises(Unsupported):
            await alice.leave("a" * 52, "chat", b"x", message_id=name(1), lifetime=60)
        assert relay.metrics.messages_in == 2


async def test_what_cannot_be_left_is_refused_here(relay: RelayServer, store: Database) -> None:
    bob = Identity.generate()
    async with peer(relay, bob) as there, peer(relay) as alice:
        there.open(store, ANYONE)
        await published(relay, bob.guid)
        long = bytes(MAX_LETTER_PAYLOAD + 1)
        with pytest.raises(ProtocolViolation, match="at most"):
            await alice.leave(bob.guid, "chat", long, message_id=name(1), lifetime=60)
        for changes in ({"message_id": b"short"}, {"lifetime": 0}, {"lifetime": float("nan")}):
            fields: dict[str, object] = {"message_id": name(1), "lifetime": 60, **changes}
            with pytest.raises(ValueError, match=r"message_id|lifetime"):
                await alice.leave(bob.guid, "chat", b"x", **fields)  # type: ignore[arg-type]
        with pytest.raises(UsageError):
            there.open(Database.__new__(Database), ANYONE)
        listed = tuple("a" * 52 for _ in range(256))
        many = [LetterService(f"s{one}", listed=listed) for one in range(16)]
        with pytest.raises(ValueError, match="too many"):
            there.open(store, many)


async def test_what_brings_nothing_is_named_and_done_with(
    relay: RelayServer, store: Database
) -> None:
    bob, eve = Identity.generate(), Identity.generate()
    async with peer(relay, bob) as there:
        there.open(store, ANYONE)
        await published(relay, bob.guid)
        async with Peer(eve, relay.url) as evil:
            connection = await rooms(evil).registration.connection(30)
            strange = make_prekey(7, bytes(range(32)), one_time=True)
            [(number, half)] = store.connection.execute(
                "SELECT number, half FROM roam_prekey WHERE NOT one_time"
            ).fetchall()
            ours = make_prekey(number, half, one_time=False)
            other = Identity.generate()

            def sealed(writer: Identity, letter: tuple[str, bytes, bytes]) -> bytes:
                return seal_letter(writer, bob.guid, ours, letter)

            wrong = {
                Fault.KEY_GONE: seal_letter(eve, bob.guid, strange, ("chat", name(1), b"x")),
                Fault.UNOPENED: sealed(eve, ("chat", name(2), b"x"))[:-1] + b"?",
                Fault.MALFORMED: b"\0\1" + bytes(99),
                Fault.UNSUPPORTED: b"\0\2" + bytes(510),
                Fault.FORGED: sealed(other, ("chat", name(5), b"x")),
            }
            for place, letter in enumerate(
                [
                    *wrong.values(),
                    sealed(eve, ("files", name(6), b"")),
                    sealed(eve, ("chat", name(0), b"")),
                ]
            ):
                left = LetterLeave(0, bob.guid, "chat", name(place + 1), letter, 60)
                answer = await connection.mail(left, 30)
                assert answer.code is None
        faults = []
        while len(faults) < len(wrong) + 2:
            one = await next_letter(there)
            if isinstance(one, Spoiled):
                faults.append(one.fault)
                assert one.claimed == eve.guid
            else:
                assert one.payload == b""
                await one.done()
        assert faults == [*wrong, Fault.FORGED, Fault.FORGED]
        assert relay.mailbox is not None
        async with asyncio.timeout(60):
            while relay.mailbox.ledger.letters:
                await asyncio.sleep(0)


async def test_letters_of_a_blocked_sender_are_done_with(
    relay: RelayServer, store: Database
) -> None:
    async with Peer(Identity.generate(), relay.url) as bob, peer(relay) as eve:
        there = rooms(bob).mailbox
        there.open(store, ANYONE)
        await published(relay, bob.guid)
        await (await next_letter(there)).done()  # type: ignore[union-attr]
        bob.block(eve._identity.guid)
        await eve.leave(bob.guid, "chat", b"x", message_id=name(1), lifetime=60)
        spoiled = await next_letter(there)
        assert isinstance(spoiled, Spoiled)
        assert (spoiled.fault, spoiled.claimed) == (Fault.BLOCKED, eve._identity.guid)


async def test_prekeys_of_a_store_that_was_lost_are_given_to_nobody(
    relay: RelayServer, store: Database
) -> None:
    bob = Identity.generate()
    with closing(Database()) as before:
        async with peer(relay, bob) as there:
            there.open(before, ANYONE)
            await published(relay, bob.guid)
            await (await next_letter(there)).done()  # type: ignore[union-attr]
    async with peer(relay, bob) as there, peer(relay) as alice:
        there.open(store, ANYONE)
        async with asyncio.timeout(60):
            while not store.connection.execute(
                "SELECT COUNT(*) FROM roam_prekey WHERE one_time"
            ).fetchone()[0]:
                await asyncio.sleep(0)
        async with asyncio.timeout(60):
            while True:
                try:
                    await alice.leave(bob.guid, "chat", b"x", message_id=name(1), lifetime=60)
                    break
                except LetterRefused:
                    await asyncio.sleep(0)
        letter = await next_real(there)
        assert letter.payload == b"x"


async def test_who_takes_letters_and_is_done_with_none_gets_few(
    relay: RelayServer, store: Database
) -> None:
    bob = Identity.generate()
    async with peer(relay, bob) as there, peer(relay) as alice:
        there.open(store, ANYONE)
        await published(relay, bob.guid)
        await (await next_letter(there)).done()  # type: ignore[union-attr]
        for number in range(1, 40):
            await alice.leave(bob.guid, "chat", b"x", message_id=name(number), lifetime=60)
        assert relay.mailbox is not None
        taken = [await next_real(there) for _ in range(1)]
        assert relay.metrics.letters["handed"] - relay.metrics.letters["done"] <= 16
        await taken[0].done()
        assert (await next_real(there)).id == name(2)


async def test_a_relay_that_sends_more_than_was_asked_for_fills_nothing(
    relay: RelayServer, store: Database
) -> None:
    async with Peer(Identity.generate(), relay.url) as one:
        there, connection = rooms(one).mailbox, rooms(one).registration.current
        assert connection is not None
        there.open(store, ANYONE)
        for number in range(1, 1000):
            there.arrived(connection, Letter(number, one.guid, "chat", name(number), bytes(512)))
        assert len(there._arrived) == 128


async def test_a_peer_that_is_closed_says_so_to_who_waits(relay: RelayServer) -> None:
    with closing(Database()) as store:
        async with peer(relay) as there:
            there.open(store, ANYONE)
            waiting = asyncio.ensure_future(next_letter(there))
            await asyncio.sleep(0)
        with pytest.raises(ConnectionClosed):
            await waiting
        with pytest.raises(ConnectionClosed):
            there.open(store, ANYONE)


async def test_too_many_letters_a_second_have_to_wait(tmp_path: Path, store: Database) -> None:
    config = RelayConfig(
        port=0,
        state=str(tmp_path / "state"),
        mailbox=MailboxConfig(letters_per_second=0.01, letters_burst=1),
    )
    bob = Identity.generate()
    async with RelayServer(config) as relay, peer(relay, bob) as there, peer(relay) as alice:
        there.open(store, ANYONE)
        await published(relay, bob.guid)
        await alice.leave(bob.guid, "chat", b"x", message_id=name(1), lifetime=60)
        with pytest.raises(LimitExceeded) as limit:
            await alice.leave(bob.guid, "chat", b"x", message_id=name(1), lifetime=60)
        assert limit.value.retry_after > 1
