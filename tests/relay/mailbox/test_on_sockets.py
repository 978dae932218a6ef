"""The mailbox of a running relay, told by clients that are not ours; and of one that is killed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.errors import Code
from protocol.features import MAILBOX
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
from protocol.messages import Disclosure, Error, Ping, Pong
from protocol.prekeys import SignedPrekey
from relay.config import MailboxConfig, RelayConfig
from relay.server import RelayServer
from tests.relay.client import Client, client
from tests.support import processes

PREKEY = SignedPrekey(b"for all", bytes(64))


@asynccontextmanager
async def named(url: str, identity: Identity | None = None) -> AsyncIterator[Client]:
    """Register, and name the feature."""
    async with client(url, identity) as one:
        await one.hello(features=(MAILBOX,))
        await one.register()
        yield one


def leave(recipient: Client, name: int, size: int = 512) -> LetterLeave:
    guid = recipient.identity.guid
    return LetterLeave(name, guid, "chat", name.to_bytes(16, "big"), bytes(size), 3600)


async def take_letters(one: Client, *listed: str) -> None:
    accept = Disclosure.LISTED if listed else Disclosure.ANYONE
    one.send(MailboxUpdate(1, (LetterService("chat", accept, listed),), PREKEY))
    assert (await one.expect(MailboxState)).code is None


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[RelayServer]:
    async with RelayServer(RelayConfig(port=0, state=str(tmp_path / "state"))) as server:
        yield server


async def test_a_letter_waits_for_who_is_away(relay: RelayServer) -> None:
    bob = Identity.generate()
    async with named(relay.url, bob) as there:
        await take_letters(there)
    async with named(relay.url) as alice:
        alice.send(PrekeyRequest(2, bob.guid, "chat"))
        assert (await alice.expect(PrekeyResponse)).prekey == PREKEY
        alice.send(leave(there, 3, 61_440))
        assert (await alice.expect(LetterResponse)).code is None
    async with named(relay.url, bob) as there:
        there.send(LetterWindow(1))
        letter = await there.expect(Letter)
        assert (letter.guid, letter.service) == (alice.identity.guid, "chat")
        assert letter.sealed == bytes(61_440)
        there.send(LetterDone((letter.number,)))
        async with asyncio.timeout(60):
            while relay.mailbox is not None and relay.mailbox.ledger.letters:
                await asyncio.sleep(0)


async def test_who_has_not_named_it_gets_no_answer_of_its_kind(relay: RelayServer) -> None:
    async with client(relay.url) as old, named(relay.url) as bob:
        challenge = await old.hello()
        assert MAILBOX in challenge.features
        await old.register()
        await take_letters(bob)
        for said in (MailboxUpdate(1), leave(bob, 1), LetterWindow(1), LetterDone((1,))):
            old.send(said)
            assert (await old.expect(Error)).code is Code.UNKNOWN_TYPE
        old.send(Ping(3))
        assert (await old.expect(Pong)).ping == 3


@pytest.mark.parametrize("has_folder", [False, True])
async def test_a_relay_without_a_mailbox_does_not_name_it(tmp_path: Path, has_folder: bool) -> None:
    state = str(tmp_path / "state") if has_folder else None
    config = RelayConfig(port=0, state=state, mailbox=MailboxConfig(enabled=not has_folder))
    async with RelayServer(config) as relay, client(relay.url) as one:
        assert MAILBOX not in (await one.hello(features=(MAILBOX,))).features
        await one.register()
        one.send(MailboxUpdate(1))
        assert (await one.expect(Error)).code is Code.UNKNOWN_TYPE


async def test_a_ping_never_waits_behind_more_letters_than_the_window_says(
    relay: RelayServer,
) -> None:
    async with named(relay.url) as bob, named(relay.url) as alice:
        await take_letters(bob, alice.identity.guid)
        for name in range(6):
            alice.send(leave(bob, name, 61_440))
            assert (await alice.expect(LetterResponse)).code is None
        bob.send(LetterWindow(1))
        await bob.expect(Letter)
        for number in range(1, 4):
            bob.send(Ping(number))
            assert (await bob.expect(Pong)).ping == number
        bob.send(LetterDone((1,)))
        assert (await bob.expect(Letter)).number == 2


async def test_a_killed_relay_has_kept_what_it_said_and_takes_the_same_letter_once(
    tmp_path: Path,
) -> None:
    state = str(tmp_path / "state")
    bob, alice = Identity.generate(), Identity.generate()
    said = []
    with processes.relay(tmp_path, "--state", state) as (url, process):
        async with named(url, bob) as there, named(url, alice) as sender:
            await take_letters(there, alice.guid)
            for name in range(1, 40):
                sender.send(leave(there, name))
            for _ in range(3):
                said.append((await sender.expect(LetterResponse)).request)
            process.kill()
            process.wait()
    with processes.relay(tmp_path, "--state", state) as (url, _):
        async with named(url, alice) as sender:
            # Which of the others were stored its sender does not know: it leaves them again.
            for name in range(1, 40):
                sender.send(leave(there, name))
                while (answer := await sender.expect(LetterResponse)).code is not None:
                    assert answer.code is Code.LIMIT_EXCEEDED
                    sender.send(leave(there, name))
        async with named(url, bob) as there:
            there.send(LetterWindow(64))
            letters = [await there.expect(Letter) for _ in range(39)]
    names = [int.from_bytes(letter.id, "big") for letter in letters]
    assert sorted(names) == list(range(1, 40))
    assert set(said) <= set(names)
    assert [letter.number for letter in letters] == sorted(letter.number for letter in letters)
