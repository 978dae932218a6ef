"""What is kept of who is admitted, with a clock in the hand."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.identity import Identity
from protocol.invitation import Invitation, Token
from relay.admission import Book, Member, Outcome, Refusal
from relay.store import StoreFailed

OPERATOR = Identity.generate()
ALICE, BOB = Identity.generate().guid, Identity.generate().guid


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def book(file: Path | None, clock: Callable[[], float]) -> AsyncIterator[Book]:
    made = Book(str(file) if file else None, clock)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def invitation(expires: int = 2000, **said: object) -> Invitation:
    return Token.make(OPERATOR, os.urandom(32), expires=expires, **said).invitation  # type: ignore[arg-type]


async def test_an_invitation_lasts_from_the_first_coming(tmp_path: Path) -> None:
    clock, some = Clock(), invitation(lifetime=60)
    async with book(tmp_path / "book", clock) as kept:
        first = await kept.redeem(some, ALICE)
        assert isinstance(first, Member)
        assert first.expires == 1060.0
        clock.now = 1059.0
        assert await kept.redeem(some, ALICE) == first
        clock.now = 1060.0
        assert first.is_over(clock.now)
        over = await kept.redeem(some, ALICE)
        assert isinstance(over, Refusal)
        assert over.outcome is Outcome.EXPIRED
        assert over.retry_after
        # It has not become free for another one.
        used = await kept.redeem(some, BOB)
        assert isinstance(used, Refusal)
        assert used.outcome is Outcome.USED_UP
        await kept.redeem(invitation(), ALICE)
    async with book(tmp_path / "book", clock) as kept:
        member = kept.member(ALICE)
        assert member is not None
        assert member.expires is None


async def test_who_came_in_time_stays_when_the_invitation_expires(tmp_path: Path) -> None:
    clock, some = Clock(), invitation(expires=1010, uses=5)
    async with book(tmp_path / "book", clock) as kept:
        await kept.redeem(some, ALICE)
        clock.now = 1011.0
        assert isinstance(await kept.redeem(some, ALICE), Member)
        late = await kept.redeem(some, BOB)
        assert isinstance(late, Refusal)
        assert late.outcome is Outcome.EXPIRED


async def test_many_at_once_use_no_more_than_there_is() -> None:
    some = invitation(uses=3)
    async with book(None, Clock()) as kept:
        peers = [Identity.generate().guid for _ in range(12)]
        found = await asyncio.gather(*(kept.redeem(some, guid) for guid in peers))
        assert sum(isinstance(one, Member) for one in found) == 3
        (shown,) = await kept.invitations()
        assert (shown.uses, shown.used, shown.revoked) == (3, 3, None)


async def test_the_list_goes_before_an_invitation() -> None:
    clock = Clock()
    async with book(None, clock) as kept:
        await kept.redeem(invitation(lifetime=10), ALICE)
        await kept.allow(ALICE)
        await kept.redeem(invitation(lifetime=10), ALICE)
        assert kept.member(ALICE) == Member(ALICE, 1000.0)
        assert await kept.revoke_member(ALICE)
        assert kept.member(ALICE) is None
        assert not await kept.revoke_member(ALICE)


async def test_an_invitation_is_known_before_it_is_used() -> None:
    some = invitation(uses=4, note="for Bob")
    async with book(None, Clock()) as kept:
        await kept.announce(some)
        await kept.announce(some)
        (shown,) = await kept.invitations()
        assert (shown.id, shown.note, shown.used) == (some.id, "for Bob", 0)
        assert await kept.revoke_invitation(some.id, keep=False) == []
        await kept.announce(some)
        gone = await kept.redeem(some, ALICE)
        assert isinstance(gone, Refusal)
        assert gone.outcome is Outcome.REVOKED


async def test_bans_that_are_over_are_dropped(tmp_path: Path) -> None:
    clock = Clock()
    async with book(tmp_path / "book", clock) as kept:
        await kept.ban(ALICE, 1010.0, "")
        await kept.ban("192.0.2.0/24", None, "")
        clock.now = 1011.0
        await kept.drop_old()
        assert [ban.subject for ban in kept.bans] == ["192.0.2.0/24"]
    async with book(tmp_path / "book", clock) as kept:
        assert [ban.subject for ban in kept.bans] == ["192.0.2.0/24"]


async def test_what_is_not_stored_does_not_hold(tmp_path: Path) -> None:
    async with book(None, Clock()) as kept:
        pass
    with pytest.raises(StoreFailed):
        await kept.ban(ALICE, None, "")
    with pytest.raises(StoreFailed):
        await kept.redeem(invitation(), ALICE)
    assert len(kept.bans) == 0
    assert kept.member(ALICE) is None


async def test_what_another_process_stores_is_taken_over(tmp_path: Path) -> None:
    clock = Clock()
    async with book(tmp_path / "book", clock) as one, book(tmp_path / "book", clock) as other:
        assert not await other.refresh()
        await one.ban(ALICE, None, "")
        await one.allow(BOB)
        assert await other.refresh()
        assert [ban.subject for ban in other.bans] == [ALICE]
        assert other.member(BOB) == one.member(BOB)
        assert not await other.refresh()
        await one.lift(ALICE)
        await one.revoke_member(BOB)
        assert await other.refresh()
        assert len(other.bans) == 0
        assert other.member(BOB) is None
        # What it has stored itself is no news to it.
        await other.ban(BOB, None, "")
        assert not await other.refresh()
        assert await one.refresh()
