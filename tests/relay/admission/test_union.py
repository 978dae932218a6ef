"""What nodes have said of who is admitted, and what a node has besides, in the hand."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.identity import Identity
from protocol.invitation import Invitation, Token
from relay.admission.bans import Ban
from relay.admission.records import (
    BanSaid,
    Epoch,
    Forgotten,
    Free,
    InvitationSaid,
    MemberSaid,
    Record,
    RevokedSaid,
    Unreadable,
    ban_said,
    key_of,
    member_said,
    read,
    use_key,
    write,
)
from relay.admission.rows import Copy, InvitationRow, MemberRow
from relay.admission.union import More, Union

ALICE, BOB = (Identity.generate().guid for _ in range(2))
NET = "192.0.2.0/24"
ID = "0123456789abcdef"


def name(text: str) -> str:
    return text.encode().hex()


def member(guid: str, invitation: str = "", since: float = 10.0, **said: float) -> MemberRow:
    return MemberRow(guid, invitation, since, None, "", 0.0, said.get("revoked"))


def copy(*rows: Ban | MemberRow | InvitationRow) -> Copy:
    return Copy(
        [row for row in rows if isinstance(row, Ban)],
        [row for row in rows if isinstance(row, MemberRow)],
        [row for row in rows if isinstance(row, InvitationRow)],
        {},
    )


def heard(*records: Record) -> Union:
    union = Union(name)
    for number, record in enumerate(records, 1):
        is_use = isinstance(record, MemberSaid) and record.invitation
        key = union.free_use(ID) if is_use else key_of(record, name)
        union.hear(key, number, record)
    return union


def more(union: Union, *rows: Ban | MemberRow | InvitationRow) -> list[Record]:
    return [record for _, record in union.more(copy(*rows), 5.0, More.ALL)]


def test_of_two_bans_the_longer_one_holds() -> None:
    for there, own, is_more in (
        (None, None, False),
        (100.0, None, True),
        (None, 100.0, False),
        (100.0, 200.0, True),
        (200.0, 100.0, False),
    ):
        union = heard(ban_said(Ban(NET, 1.0, there)))
        assert bool(more(union, Ban(NET, 2.0, own))) is is_more
    assert not more(heard(), Ban(NET, 1.0, 4.0)), "it is over"
    assert more(heard(), Ban(NET, 1.0, 6.0))


def test_of_the_list_the_later_word_holds() -> None:
    on, off = member(ALICE, since=10.0), member(ALICE, since=10.0, revoked=20.0)
    again = member(ALICE, since=30.0)
    for there, own, is_more in (
        (on, off, True),
        (off, on, False),
        (off, again, True),
        (again, off, False),
        (on, again, False),
    ):
        assert bool(more(heard(member_said(there)), own)) is is_more
    assert more(heard(), on)


def test_a_use_is_counted_once_and_stays_taken_back() -> None:
    union = heard(member_said(member(ALICE, ID)))
    assert not more(union, member(ALICE, ID, since=1.0))
    (found,) = union.more(copy(member(ALICE, ID, revoked=3.0)), 5.0, More.ALL)
    assert found[0] == use_key(ID, 0)
    ((key, record),) = union.more(copy(member(BOB, ID)), 5.0, More.ALL)
    assert (key, record) == ("", member_said(member(BOB, ID)))


def test_what_strangers_wrote_over_is_put_back_and_nothing_else() -> None:
    union = heard()
    ban, other = Ban(NET, 1.0), Ban(ALICE, 1.0)
    union.hear_foreign(f"ban.{name(NET)}", 7)
    found = union.more(copy(ban, other, member(BOB, ID)), 5.0, More.FOREIGN)
    assert found == [(f"ban.{name(NET)}", ban_said(ban))]
    union.hear_foreign(use_key(ID, 0), 8)
    assert len(union.more(copy(member(BOB, ID)), 5.0, More.FOREIGN)) == 1
    assert (union.revision, union.revision_of(use_key(ID, 0))) == (8, 8)
    # Of what is known here the last word of a node holds.
    union = heard(ban_said(ban))
    union.hear_foreign(f"ban.{name(NET)}", 9)
    assert union.get(f"ban.{name(NET)}") == ban_said(ban)


def test_what_strangers_took_away_is_put_back_and_what_nodes_did_is_not() -> None:
    union = heard(Epoch("one"), ban_said(Ban(NET, 1.0, 50.0)))
    union.hear(f"ban.{name(ALICE)}", 3, None)
    rows = copy(Ban(NET, 1.0), Ban(ALICE, 1.0), Ban(BOB, 1.0))
    assert union.more(rows, 5.0, More.LOST) == [(f"ban.{name(BOB)}", ban_said(Ban(BOB, 1.0)))]


def test_uses_are_numbered_without_holes() -> None:
    union = heard(*(member_said(member(Identity.generate().guid, ID)) for _ in range(3)))
    assert union.free_use(ID) == use_key(ID, 3)
    union.hear(use_key(ID, 1), 9, Free())
    assert union.free_use(ID) == use_key(ID, 1)
    assert len(union.come_by(ID)) == 2
    union.hear(use_key(ID, 1), 10, None)
    assert union.free_use(ID) == use_key(ID, 1)


def test_a_copy_says_all_that_was_heard() -> None:
    ban, listed, used = Ban(NET, 1.0, None, "why"), member(ALICE), member(BOB, ID, revoked=12.0)
    seen = InvitationSaid(ID, "note", 99.0, 3)
    union = heard(
        Epoch("one"),
        ban_said(ban),
        member_said(listed),
        member_said(used),
        seen,
        RevokedSaid(ID, 4.0),
        Forgotten(ALICE, b"x"),
    )
    made = union.copy({"bucket": "one"})
    assert (union.epoch, made.bans, made.members) == ("one", [ban], [listed, used])
    assert made.invitations == [InvitationRow(ID, "note", 99.0, 3, 4.0)]
    assert not more(union, ban, listed, used, *made.invitations)
    assert union.of(BOB) == [(use_key(ID, 0), member_said(used))]
    shown: Invitation = Token.make(Identity.generate(), os.urandom(32), expires=99).invitation
    assert union.uses(shown, BOB).used == 0
    union.drop_old(50.0)
    assert union.copy({}).bans == [ban]
    union.hear(f"ban.{name(NET)}", 90, BanSaid(NET, 1.0, 40.0, ""))
    union.drop_old(50.0)
    assert not union.copy({}).bans


def test_what_is_under_a_key_of_something_else_says_nothing() -> None:
    ban = write(ban_said(Ban(NET, 1.0)))
    assert read(f"ban.{name(NET)}", ban, name) == ban_said(Ban(NET, 1.0))
    used = write(member_said(member(ALICE, ID)))
    assert isinstance(read(use_key(ID, 12), used, name), MemberSaid)
    assert isinstance(read(use_key(ID, 12), write(Free()), name), Free)
    for key, value in (
        (f"ban.{name(ALICE)}", ban),
        ("epoch", ban),
        (use_key(ID, 1), ban),
        (f"use.{ID}.x", used),
        (f"use.{ID}", used),
        (use_key("f" * 16, 1), used),
        (f"listed.{name(ALICE)}", used),
        (f"listed.{name(ALICE)}", write(Free())),
        (f"ban.{name('nobody')}", write(BanSaid("nobody", 1.0, None, ""))),
        (f"ban.{name('192.0.2.1/24')}", write(BanSaid("192.0.2.1/24", 1.0, None, ""))),
        ("x", b"\x81\xa4kind\xa4none"),
    ):
        with pytest.raises(Unreadable):
            read(key, value, name)


@given(st.text(max_size=40), st.binary(max_size=80))
def test_whatever_is_there_is_read_or_not(key: str, value: bytes) -> None:
    try:
        read(key, value, name)
    except Unreadable:
        return
