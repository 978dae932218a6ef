"""Tokens of invitations, and what of them a relay believes."""

import os
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.identity import Identity
from protocol.invitation import MAX_PRESENTED, BadInvitation, Token, opened

OPERATOR, OTHER, RELAY, PEER = (Identity.generate() for _ in range(4))
NONCE = bytes(32)


def token(operator: Identity = OPERATOR, **said: Any) -> Token:
    return Token.make(operator, os.urandom(32), **{"expires": 2_000_000_000} | said)


def check(presented: bytes, guid: str = PEER.guid, nonce: bytes = NONCE) -> None:
    opened(presented, (OTHER.public_key, OPERATOR.public_key), RELAY.public_key, nonce, guid)


def test_a_token_is_pasted_and_presented() -> None:
    made = token(uses=3, lifetime=60, requests_per_second=5.0, modes=("p2p",), note="for Bob")
    text = made.text
    assert len(text) < 260
    assert text.isascii()
    read = Token.parse(f"  {text[:70]}\r\n {text[70:]}\n")
    assert read.invitation == made.invitation
    shown = read.present(RELAY.guid, NONCE, PEER.guid)
    assert len(shown) <= MAX_PRESENTED
    found = opened(shown, (OPERATOR.public_key,), RELAY.public_key, NONCE, PEER.guid)
    assert (found.uses, found.lifetime, found.note, found.modes) == (3, 60, "for Bob", ("p2p",))
    assert found.id == made.invitation.id


def test_a_token_is_shown_nowhere_by_itself() -> None:
    made = token()
    for shown in (repr(made), str(made), f"{made}", repr([made])):
        assert made.text[8:20] not in shown
        assert made.invitation.id in shown


def test_the_longest_note_fits() -> None:
    made = token(note="ü" * 64, modes=("p2p", "central", "combined", "auto"))
    assert len(made.present(RELAY.guid, NONCE, PEER.guid)) <= MAX_PRESENTED
    assert Token.parse(made.text).invitation.note == "ü" * 64


def test_what_is_presented_admits_nobody_else() -> None:
    shown = token().present(RELAY.guid, NONCE, PEER.guid)
    check(shown)
    for changed in (
        lambda: check(shown, guid=OTHER.guid),
        lambda: check(shown, nonce=bytes([1]) * 32),
        lambda: check(token().present(OTHER.guid, NONCE, PEER.guid)),
    ):
        with pytest.raises(BadInvitation, match="by another peer"):
            changed()


def test_only_operators_of_the_relay_are_believed() -> None:
    with pytest.raises(BadInvitation, match="not from an operator"):
        check(token(Identity.generate()).present(RELAY.guid, NONCE, PEER.guid))
    # The name of a believed operator above a signature of somebody else's.
    forged = Token.make(OPERATOR, bytes(32), expires=1)
    mine = msgspec.structs.replace(forged.invitation, uses=1000)
    statement = msgspec.msgpack.encode(mine)
    shown = forged.present(RELAY.guid, NONCE, PEER.guid)[:128] + statement
    with pytest.raises(BadInvitation, match="not signed by an operator"):
        check(shown)


def test_every_changed_byte_is_noticed() -> None:
    shown = token().present(RELAY.guid, NONCE, PEER.guid)
    for place in range(len(shown)):
        changed = bytearray(shown)
        changed[place] ^= 1
        with pytest.raises(BadInvitation):
            check(bytes(changed))
        with pytest.raises(BadInvitation):
            check(shown[:place])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "begins with"),
        ("hello", "begins with"),
        ("rr1-", "not whole"),
        ("rr1-AAAA!", "a character"),
        ("rr1-" + "A" * 300, "not whole"),
        ("rr1-" + "A" * 4000, "too long"),
        ("rr1-ä" + "A" * 300, "a character"),
    ],
)
def test_what_is_no_token(text: str, says: str) -> None:
    with pytest.raises(BadInvitation, match=says):
        Token.parse(text)


def test_a_part_of_a_token_is_none() -> None:
    text = token().text
    for length in range(4, len(text)):
        with pytest.raises(BadInvitation):
            Token.parse(text[:length])


@given(st.binary(max_size=300))
def test_whatever_is_presented_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(BadInvitation):
        check(data)


@given(st.text(max_size=300))
def test_whatever_is_pasted_is_refused_in_words(text: str) -> None:
    with pytest.raises(BadInvitation):
        Token.parse(f"rr1-{text}")
