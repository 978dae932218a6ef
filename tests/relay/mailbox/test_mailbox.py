"""The mailbox: what is stored, handed over and forgotten, through kills, full disks and floods."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar

import pytest

from protocol.errors import Code
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
from protocol.messages import Disclosure, Message
from protocol.prekeys import SignedPrekey
from relay.config import ConfigError, MailboxConfig
from relay.limits import cause_of
from relay.mailbox import LocalStore, Mailbox
from relay.mailbox.store import Tables
from relay.metrics import Metrics
from relay.tasks import Tasks
from tests.relay.fakes import FakeAttachment
from tests.support.full_disk import full_disk

M = TypeVar("M", bound=Message)
HOUR = 3600


class Post:
    """A mailbox, and a clock that the test sets."""

    def __init__(self, file: Path | None, config: MailboxConfig) -> None:
        self.now = 1_700_000_000.0
        self.ticks = 0.0
        self.metrics = Metrics()
        self.tasks = Tasks()
        self.store = LocalStore(
            config, str(file) if file is not None else None, lambda: self.now, self.tasks.spawn
        )
        self.mailbox = Mailbox(
            config,
            self.store,
            self.metrics,
            lambda: self.now,
            self.tasks.spawn,
        )

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        async with asyncio.timeout(60):
            while len(self.tasks):
                await self.tasks.wait()

    async def ask(
        self, peer: FakeAttachment, asked: MailboxUpdate | PrekeyRequest, kind: type[M]
    ) -> M:
        self.ticks += 1000.0
        self.mailbox.take(peer, asked, self.ticks)
        await self.settled()
        answer = peer.got.pop()
        assert isinstance(answer, kind)
        return answer

    async def leave(
        self, sender: FakeAttachment, recipient: FakeAttachment, name: int = 1, **changes: object
    ) -> LetterResponse:
        fields: dict[str, object] = {
            "request": name,
            "guid": recipient.guid,
            "service": "chat",
            "id": name.to_bytes(16, "big"),
            "sealed": b"sealed %d" % name,
            "lifetime": HOUR,
        }
        self.ticks += 1000.0
        self.mailbox.take(sender, LetterLeave(**(fields | changes)), self.ticks)  # type: ignore[arg-type]
        await self.settled()
        answer = next(one for one in sender.got if isinstance(one, LetterResponse))
        sender.got.remove(answer)
        return answer

    async def window(self, peer: FakeAttachment, letters: int) -> list[Letter]:
        self.mailbox.window(peer, LetterWindow(letters))
        await self.settled()
        return handed(peer)

    async def done(self, peer: FakeAttachment, *numbers: int) -> list[Letter]:
        self.mailbox.done(peer, LetterDone(numbers))
        await self.settled()
        return handed(peer)


def handed(peer: FakeAttachment) -> list[Letter]:
    letters = [one for one in peer.got if isinstance(one, Letter)]
    peer.got.clear()
    return letters


@asynccontextmanager
async def post(file: Path | None = None, **settings: float) -> AsyncIterator[Post]:
    one = Post(file, MailboxConfig(**settings))  # type: ignore[arg-type]
    try:
        await one.mailbox.open()
        yield one
    finally:
        await one.tasks.close()
        await one.mailbox.close()


def terms(accept: Disclosure = Disclosure.ANYONE, *listed: str, one_time: int = 0) -> MailboxUpdate:
    return MailboxUpdate(
        1,
        (LetterService("chat", accept, listed),),
        SignedPrekey(b"for all", bytes(64)),
        tuple(SignedPrekey(b"one %d" % number, bytes(64)) for number in range(one_time)),
    )


async def bob_in(
    there: Post, accept: Disclosure = Disclosure.ANYONE, *listed: str
) -> FakeAttachment:
    bob = FakeAttachment()
    assert (await there.ask(bob, terms(accept, *listed), MailboxState)).code is None
    return bob


async def test_letters_are_handed_over_in_order_and_forgotten_when_they_are_safe() -> None:
    async with post() as there:
        bob, alice = await bob_in(there), FakeAttachment()
        for name in (1, 2, 3):
            assert (await there.leave(alice, bob, name)).lifetime == HOUR
        there.now += 5
        first = await there.window(bob, 2)
        assert [(one.number, one.guid, one.sealed) for one in first] == [
            (1, alice.guid, b"sealed 1"),
            (2, alice.guid, b"sealed 2"),
        ]
        assert first[0].age == 5.0
        [third] = await there.done(bob, 1)
        assert third.number == 3
        assert await there.done(bob, 3, 2) == []
        assert there.mailbox.ledger.letters == 0
        # What comes now is handed over at once.
        await there.leave(alice, bob, 4)
        assert [one.number for one in handed(bob)] == [4]


async def test_what_is_not_done_comes_again_on_the_next_connection() -> None:
    async with post() as there:
        bob, alice = await bob_in(there), FakeAttachment()
        for name in (1, 2):
            await there.leave(alice, bob, name)
        assert len(await there.window(bob, 9)) == 2
        again = FakeAttachment(bob.guid)
        there.mailbox.lost(bob)
        assert [one.number for one in await there.window(again, 9)] == [1, 2]
        # A connection that is not the last one any more can do nothing.
        there.mailbox.done(bob, LetterDone((1, 2)))
        await there.done(again, 2)
        assert there.mailbox.ledger.letters == 1


async def test_nobody_acknowledges_another_one_s_letters() -> None:
    async with post() as there:
        bob, alice, eve = await bob_in(there), FakeAttachment(), await bob_in(there)
        await there.leave(alice, bob)
        await there.window(eve, 9)
        await there.done(eve, 1)
        assert [one.number for one in await there.window(bob, 1)] == [1]


async def test_a_window_bounds_what_is_on_its_way_and_so_do_bytes() -> None:
    async with post() as there:
        bob, alice = await bob_in(there, Disclosure.LISTED, "a" * 52), FakeAttachment("a" * 52)
        for name in range(1, 13):
            await there.leave(alice, bob, name, sealed=bytes(61_440))
        assert len(await there.window(bob, 1)) == 1
        assert len(await there.window(bob, 64)) == 4  # 262,144 bytes, and the one that reaches it.
        assert [one.number for one in await there.done(bob, 1)] == [6]
        assert await there.window(bob, 0) == []


async def test_a_window_that_is_said_without_end_is_one_look_at_a_time() -> None:
    async with post() as there:
        bob = await bob_in(there)
        for number in range(1000):
            there.mailbox.window(bob, LetterWindow(1 + number % 64))
            there.mailbox.done(bob, LetterDone((number + 1,)))
        assert len(there.store._jobs) == 1
        await there.settled()


async def test_the_same_letter_left_twice_is_one(tmp_path: Path) -> None:
    async with post(tmp_path / "mailbox.sqlite") as there:
        bob, alice = await bob_in(there), FakeAttachment()
        await there.leave(alice, bob)
    # Killed, or lost, between the store and the answer: the sender leaves it again.
    async with post(tmp_path / "mailbox.sqlite") as there:
        there.now += 600
        again = await there.leave(alice, bob, sealed=b"sealed anew")
        assert (again.code, again.lifetime) == (None, HOUR - 600)
        [one] = await there.window(bob, 9)
        assert one.sealed == b"sealed 1"
        assert there.metrics.letters["again"] == 1
        assert there.mailbox.ledger.letters == 1


async def test_who_may_leave_letters_is_the_recipient_s_word(tmp_path: Path) -> None:
    alice, eve = FakeAttachment(), FakeAttachment()
    async with post(tmp_path / "mailbox.sqlite") as there:
        bob = await bob_in(there, Disclosure.LISTED, alice.guid)
        nobody = FakeAttachment()
        for sender, recipient, service in (
            (eve, bob, "chat"),
            (alice, bob, "files"),
            (alice, nobody, "chat"),
        ):
            refused = await there.leave(sender, recipient, service=service)
            assert refused.code is Code.LETTER_REFUSED
            assert refused.retry_after is None
            asked = PrekeyRequest(1, recipient.guid, service)
            assert (await there.ask(sender, asked, PrekeyResponse)).code is refused.code
        assert (await there.leave(alice, bob)).code is None
    async with post(tmp_path / "mailbox.sqlite") as there:  # It holds over a restart.
        assert (await there.leave(eve, bob)).code is Code.LETTER_REFUSED
        assert (await there.leave(alice, bob, 2)).code is None
        await there.ask(bob, terms(Disclosure.NOBODY, alice.guid), MailboxState)
        assert (await there.leave(alice, bob, 3)).code is Code.LETTER_REFUSED
        await there.ask(bob, MailboxUpdate(1), MailboxState)
        assert (await there.leave(alice, bob, 3)).code is Code.LETTER_REFUSED
        state = await there.ask(bob, terms(), MailboxState)
        assert state.letters == 2
        assert (await there.leave(eve, bob, 3)).code is None
        assert [one.number for one in await there.window(bob, 9)] == [1, 2, 3]


async def test_a_prekey_for_one_letter_is_given_once_and_nobody_takes_them_all() -> None:
    async with post() as there:
        bob = FakeAttachment()
        state = await there.ask(bob, terms(one_time=30), MailboxState)
        assert state.one_time == 30
        more = await there.ask(bob, terms(one_time=32), MailboxState)
        assert more.one_time == 32  # Those that are there already are no more.
        asked, got = PrekeyRequest(1, bob.guid, "chat"), []
        eve = FakeAttachment()
        there.ticks = 0.0
        for _ in range(20):
            there.mailbox.take(eve, asked, 0.0)
            await there.settled()
            answer = eve.got.pop()
            assert isinstance(answer, PrekeyResponse)
            assert answer.prekey is not None
            got.append(answer.prekey.body)
        assert got[16:] == [b"for all"] * 4
        assert len(set(got[:16])) == 16
        alice = await there.ask(FakeAttachment(), asked, PrekeyResponse)
        assert alice.prekey is not None
        assert alice.prekey.body not in {*got, b"for all"}


async def test_what_has_expired_is_not_handed_over_and_makes_room() -> None:
    async with post(max_letters_per_peer=8) as there:
        bob, alice = await bob_in(there), FakeAttachment()
        await there.leave(alice, bob, 1, lifetime=60)
        assert (await there.leave(alice, bob, 2)).code is Code.MAILBOX_FULL
        there.now += 60
        assert await there.window(bob, 9) == []
        # Left again: the one before has expired, and this one is another.
        assert (await there.leave(alice, bob, 1)).lifetime == HOUR
        assert [one.number for one in handed(bob)] == [2]
        there.now += HOUR
        there.mailbox.sweep()
        await there.settled()
        assert there.mailbox.ledger.letters == 0
        assert there.metrics.letters["expired"] == 1


async def test_no_letter_is_kept_for_longer_than_the_relay_says() -> None:
    async with post(lifetime=90) as there:
        bob, alice = await bob_in(there), FakeAttachment()
        assert (await there.leave(alice, bob, lifetime=31_536_000)).lifetime == 90


async def test_a_stranger_fills_its_share_and_others_go_on() -> None:
    async with post(max_letters_per_peer=64) as there:
        friend = FakeAttachment()
        bob = await bob_in(there, Disclosure.ANYONE, friend.guid)
        strangers = [FakeAttachment() for _ in range(20)]
        codes = [
            (await there.leave(one, bob, name)).code for one in strangers for name in range(10)
        ]
        assert codes.count(None) == 16  # A quarter: they come from one network.
        assert set(codes) == {None, Code.MAILBOX_FULL}
        full = await there.leave(strangers[0], bob, 99)
        assert full.retry_after
        far = FakeAttachment()
        far.cause = cause_of("198.51.100.7", far.guid)
        assert (await there.leave(far, bob)).code is None
        answers = [await there.leave(friend, bob, name) for name in range(33)]
        assert [one.code for one in answers] == [None] * 32 + [Code.MAILBOX_FULL]


async def test_letters_a_second_have_a_bound_for_each_and_for_its_network() -> None:
    async with post(letters_per_second=1.0, letters_burst=2) as there:
        bob, alice = await bob_in(there), FakeAttachment()
        for name in range(4):
            there.mailbox.take(
                alice, LetterLeave(name, bob.guid, "chat", bytes(15) + bytes([name]), b"x", 60), 1e9
            )
        await there.settled()
        answers = {one.request: one for one in alice.got if isinstance(one, LetterResponse)}
        assert [answers[name].code for name in range(4)] == [None, None, *[Code.LIMIT_EXCEEDED] * 2]
        assert answers[3].retry_after == pytest.approx(1.0)


async def test_what_waits_for_the_store_has_a_bound_for_each() -> None:
    async with post() as there:
        bob, alice, eve = await bob_in(there), FakeAttachment(), FakeAttachment()
        eve.cause = cause_of("198.51.100.7", eve.guid)
        for sender, count in ((eve, 40), (alice, 1)):
            for name in range(count):
                there.mailbox.take(
                    sender,
                    LetterLeave(name, bob.guid, "chat", bytes(15) + bytes([name]), b"x", 60),
                    1e9,
                )
        await there.settled()
        codes = [one.code for one in eve.got if isinstance(one, LetterResponse)]
        assert codes.count(Code.LIMIT_EXCEEDED) == 24
        assert [one.code for one in alice.got if isinstance(one, LetterResponse)] == [None]


async def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    async with post(tmp_path / "mailbox.sqlite") as there:
        bob, alice = await bob_in(there), FakeAttachment()
        await there.leave(alice, bob, 1)
        before = there.mailbox.ledger.letters, there.mailbox.ledger.size
        with full_disk():
            refused = await there.leave(alice, bob, 2, sealed=bytes(60_000))
            reading = await there.window(bob, 9)
        assert refused.code is Code.MAILBOX_FULL
        assert "disk" in refused.reason
        assert refused.retry_after
        assert [one.number for one in reading] == [1]
        assert (there.mailbox.ledger.letters, there.mailbox.ledger.size) == before
        assert (await there.leave(alice, bob, 2)).code is None
        assert [one.number for one in handed(bob)] == [2]


async def test_an_acknowledgement_that_could_not_be_stored_is_done_later(tmp_path: Path) -> None:
    async with post(tmp_path / "mailbox.sqlite") as there:
        bob, alice = await bob_in(there), FakeAttachment()
        await there.leave(alice, bob, sealed=bytes(60_000))
        await there.window(bob, 9)
        with full_disk():
            await there.done(bob, 1)
        assert there.mailbox.ledger.letters == 1
        there.mailbox.sweep()
        await there.settled()
        assert there.mailbox.ledger.letters == 0


async def test_letters_that_could_not_be_read_are_handed_over_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alice, bob = FakeAttachment(), FakeAttachment()

    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    async with post() as one:
        await one.ask(bob, terms(), MailboxState)
        await one.leave(alice, bob)
        with monkeypatch.context() as patched:
            patched.setattr(Tables, "after", fails)
            assert await one.window(bob, 4) == []
        one.mailbox.sweep()
        await one.settled()
        assert [letter.sealed for letter in handed(bob)] == [b"sealed 1"]


async def test_what_is_counted_is_what_is_stored_after_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "mailbox.sqlite"
    async with post(file) as there:
        bob, alice = await bob_in(there), FakeAttachment()
        for name in range(5):
            await there.leave(alice, bob, name, sealed=bytes(100 * name))
        counts = there.mailbox.counts()
    async with post(file) as there:
        assert there.mailbox.counts() == counts == {"letters": 5, "bytes": 3560, "peers": 1}
        assert await there.mailbox.forget(bob.guid)
        assert not await there.mailbox.forget(bob.guid)
        assert there.mailbox.ledger.is_empty()
    assert b"for all" not in file.read_bytes()


async def test_what_nobody_has_said_again_for_long_is_forgotten() -> None:
    async with post() as there:
        bob, alice = await bob_in(there), FakeAttachment()
        await there.leave(alice, bob, lifetime=31_536_000)
        there.now += 29 * 86_400
        there.mailbox.sweep()
        there.now += 62 * 86_400
        there.mailbox.sweep()
        there.mailbox.sweep()
        await there.settled()
        assert there.mailbox.ledger.is_empty()


async def test_a_store_of_a_newer_version_or_none_at_all_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mailbox.sqlite"
    async with post(file):
        pass
    with sqlite3.connect(file) as tables:
        tables.execute("PRAGMA user_version = 99")
    tables.close()
    for damage, words in ((None, "newer version"), (b"no database at all" * 99, "mailbox")):
        if damage is not None:
            file.write_bytes(damage)
        with pytest.raises(ConfigError, match=words):
            async with post(file):
                pass


@pytest.mark.expected_errors("the mailbox failed at what a peer asked")
async def test_a_row_that_cannot_be_read_keeps_nobody_else_from_being_served(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mailbox.sqlite"
    async with post(file) as there:
        bob, carol = await bob_in(there), await bob_in(there)
    with closing(sqlite3.connect(file)) as tables, tables:
        tables.execute("UPDATE boxes SET services = x'c1' WHERE guid = ?", (bob.guid,))
    async with post(file) as there:
        alice = FakeAttachment()
        for request, recipient in enumerate((bob, carol, bob, carol)):
            left = LetterLeave(request, recipient.guid, "chat", bytes([request]) * 16, b"x", 60)
            there.mailbox.take(alice, left, 1.0)
        await there.settled()
        codes = {one.request: one.code for one in alice.got if isinstance(one, LetterResponse)}
        assert codes == {0: Code.INTERNAL, 1: None, 2: Code.INTERNAL, 3: None}
        alice.got.clear()
        assert there.mailbox.ledger.letters == 2
        assert (await there.ask(bob, terms(), MailboxState)).code is None
        assert (await there.leave(alice, bob, 9)).code is None


async def test_a_relay_that_goes_down_says_so() -> None:
    async with post() as there:
        bob, alice = await bob_in(there), FakeAttachment()
        await there.mailbox.close()
        answer = await there.leave(alice, bob)
        assert (answer.code, bool(answer.retry_after)) == (Code.INTERNAL, True)
