"""Letters of strangers: a flood costs its senders their shares, and nobody else anything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
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
from protocol.messages import Disclosure, Ping, Pong
from protocol.prekeys import SignedPrekey
from relay.config import MailboxConfig, RelayConfig
from relay.server import RelayServer
from tests.attacks.honest import EVIL
from tests.relay.client import Client, client

PREKEY = SignedPrekey(b"for all", bytes(64))
ROOM = 64


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[RelayServer]:
    config = RelayConfig(
        port=0, state=str(tmp_path / "state"), mailbox=MailboxConfig(max_letters_per_peer=ROOM)
    )
    async with RelayServer(config) as server:
        yield server


async def named(stack: AsyncExitStack, url: str, source: str | None = None) -> Client:
    one = await stack.enter_async_context(client(url, Identity.generate(), source))
    await one.hello(features=(MAILBOX,))
    await one.register()
    return one


def leave(recipient: Client, name: int, request: int = 1) -> LetterLeave:
    guid = recipient.identity.guid
    return LetterLeave(request, guid, "chat", name.to_bytes(16, "big"), bytes(512), 3600)


async def test_a_flood_from_one_place_leaves_room_for_everybody_else(relay: RelayServer) -> None:
    async with AsyncExitStack() as stack:
        bob, friend, passer_by = [await named(stack, relay.url) for _ in range(3)]
        listed = LetterService("chat", Disclosure.ANYONE, (friend.identity.guid,))
        bob.send(MailboxUpdate(1, (listed,), PREKEY))
        await bob.expect(MailboxState)
        evil = [await named(stack, relay.url, EVIL) for _ in range(8)]
        codes = []
        for one in evil:
            for name in range(12):
                one.send(leave(bob, name))
                codes.append((await one.expect(LetterResponse)).code)
        assert codes.count(None) == ROOM // 4
        for one, most in ((friend, ROOM // 2), (passer_by, ROOM // 8)):
            for name in range(most):
                one.send(leave(bob, name))
                assert (await one.expect(LetterResponse)).code is None, name
        bob.send(LetterWindow(64))
        letters = [await bob.expect(Letter) for _ in range(ROOM // 4 + ROOM // 2 + ROOM // 8)]
        bob.send(LetterDone(tuple(letter.number for letter in letters)))
        bob.send(Ping(1))
        await bob.expect(Pong)
        async with asyncio.timeout(60):
            while relay.mailbox is not None and relay.mailbox.ledger.letters:
                await asyncio.sleep(0)
        # All that was taken is given back.
        evil[0].send(leave(bob, 99))
        assert (await evil[0].expect(LetterResponse)).code is None


async def test_who_pours_letters_without_waiting_has_few_that_wait_for_the_disk(
    relay: RelayServer,
) -> None:
    async with AsyncExitStack() as stack:
        bob, alice = [await named(stack, relay.url) for _ in range(2)]
        bob.send(MailboxUpdate(1, (LetterService("chat", Disclosure.ANYONE),), PREKEY))
        await bob.expect(MailboxState)
        evil = await named(stack, relay.url, EVIL)
        evil.send_bytes(b"")
        for name in range(200):
            evil.send(leave(bob, name, name))
        alice.send(leave(bob, 1))
        assert (await alice.expect(LetterResponse)).code is None
        answers = [await evil.expect(LetterResponse) for _ in range(200)]
        assert {one.request for one in answers} == set(range(200))
        refused = {one.code for one in answers} - {None}
        assert refused <= {Code.LIMIT_EXCEEDED, Code.MAILBOX_FULL}
        assert sum(one.code is None for one in answers) == ROOM // 8


async def test_nobody_learns_who_has_a_mailbox_or_takes_its_prekeys(relay: RelayServer) -> None:
    async with AsyncExitStack() as stack:
        bob, alice = [await named(stack, relay.url) for _ in range(2)]
        service = LetterService("chat", Disclosure.LISTED, (alice.identity.guid,))
        once = tuple(SignedPrekey(b"one %d" % number, bytes(64)) for number in range(4))
        bob.send(MailboxUpdate(1, (service,), PREKEY, once))
        await bob.expect(MailboxState)
        evil = await named(stack, relay.url, EVIL)
        said = set()
        for guid in (bob.identity.guid, Identity.generate().guid):
            for asked in (PrekeyRequest(1, guid, "chat"), PrekeyRequest(1, guid, "files")):
                evil.send(asked)
                said.add(await evil.expect(PrekeyResponse))
        assert len(said) == 1
        assert {one.code for one in said} == {Code.LETTER_REFUSED}
        alice.send(PrekeyRequest(1, bob.identity.guid, "chat"))
        assert (await alice.expect(PrekeyResponse)).prekey == once[0]
