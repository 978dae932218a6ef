"""Chains of keys: what is followed, and every way in which one is not."""

import pytest

from protocol.errors import IdentityError, ProtocolViolation
from protocol.identity import Identity
from protocol.succession import (
    CONTEXT_SUCCEEDS,
    CONTEXT_SUCCESSION,
    LINK_BYTES,
    MAX_LINKS,
    follow,
    link,
)

KEYS = [Identity.from_seed(bytes([number]) * 32) for number in range(1, MAX_LINKS + 3)]
A, B, C, *_ = KEYS


def test_a_chain_is_followed_from_the_key_that_is_pinned() -> None:
    links = [link(A, B), link(B, C)]
    assert {len(one) for one in links} == {LINK_BYTES}
    assert follow(A.guid, links) == (B.guid, C.guid)
    assert follow(B.guid, links[1:]) == (C.guid,)
    assert follow(A.guid, []) == ()


def chain(many: int) -> list[bytes]:
    return [link(KEYS[at], KEYS[at + 1]) for at in range(many)]


def test_a_chain_has_a_bound() -> None:
    assert len(follow(A.guid, chain(MAX_LINKS))) == MAX_LINKS
    with pytest.raises(ProtocolViolation, match="more than 8"):
        follow(A.guid, chain(MAX_LINKS + 1))


def forged(first: Identity, second: Identity, *, named: Identity = C) -> bytes:
    """A link from A to a key, signed by others."""
    both = (A.public_key, named.public_key)
    signed = first.sign(CONTEXT_SUCCESSION, *both) + second.sign(CONTEXT_SUCCEEDS, *both)
    return named.public_key + signed


@pytest.mark.parametrize(
    "links",
    [
        pytest.param([forged(B, C)], id="not signed by the old key"),
        pytest.param([forged(A, B)], id="not signed by the new one: somebody else's is named"),
        pytest.param([link(B, C)], id="of another relay"),
        pytest.param([link(B, C), link(A, B)], id="out of order"),
        pytest.param([link(A, B), link(A, C)], id="a second one of the same key"),
        pytest.param([link(A, B)[:-1]], id="cut off"),
        pytest.param([link(A, B) + b"\0"], id="too long"),
        pytest.param([bytes(LINK_BYTES)], id="nothing"),
        pytest.param([link(A, A)], id="to itself"),
        pytest.param([link(A, B), link(B, A)], id="back to where it began"),
        pytest.param([link(A, B), link(B, C), link(C, B)], id="a loop"),
    ],
)
def test_what_does_not_hold_leads_nowhere(links: list[bytes]) -> None:
    with pytest.raises(ProtocolViolation):
        follow(A.guid, links)


def test_a_key_that_was_left_is_never_come_back_to() -> None:
    """Who has stolen it could sign nothing better."""
    with pytest.raises(ProtocolViolation, match="was left"):
        follow(B.guid, [link(B, A)], known=[A.guid])


def test_a_signature_for_one_side_is_none_for_the_other() -> None:
    both = (A.public_key, B.public_key)
    swapped = A.sign(CONTEXT_SUCCEEDS, *both) + B.sign(CONTEXT_SUCCESSION, *both)
    with pytest.raises(ProtocolViolation):
        follow(A.guid, [B.public_key + swapped])


def test_what_is_pinned_must_be_a_key() -> None:
    with pytest.raises(IdentityError):
        follow("nobody", [link(A, B)])
