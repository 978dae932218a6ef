"""Offers: for whom they hold, and every way in which one does not."""

from collections.abc import Callable

import pytest

from protocol.errors import RoamRelayError
from protocol.identity import Identity
from protocol.offer import (
    MAX_BODY,
    MAX_OFFER,
    answer_offer,
    make_offer,
    open_answer,
    open_offer,
)

A, B, C = (Identity.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
SESSION, OTHER = b"s" * 16, b"t" * 16
ASKED = make_offer(A, B.guid, SESSION, b"asked")
ANSWERED = answer_offer(B, A.guid, SESSION, ASKED, b"answered")


def test_what_one_side_says_the_other_reads() -> None:
    assert open_offer(ASKED, A.guid, B.guid, SESSION) == b"asked"
    assert open_answer(ANSWERED, B.guid, A.guid, SESSION, ASKED) == b"answered"


@pytest.mark.parametrize("length", [0, MAX_BODY])
def test_the_shortest_and_the_longest(length: int) -> None:
    offer = make_offer(A, B.guid, SESSION, bytes(length))
    assert open_offer(offer, A.guid, B.guid, SESSION) == bytes(length)
    answer = answer_offer(B, A.guid, SESSION, offer, bytes(length))
    assert open_answer(answer, B.guid, A.guid, SESSION, offer) == bytes(length)
    assert len(offer) == len(answer) <= MAX_OFFER


def test_a_longer_one_is_not_made() -> None:
    with pytest.raises(ValueError, match="more than 1984"):
        make_offer(A, B.guid, SESSION, bytes(MAX_BODY + 1))
    with pytest.raises(ValueError, match="more than 1984"):
        answer_offer(B, A.guid, SESSION, ASKED, bytes(MAX_BODY + 1))


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda: open_offer(ASKED, C.guid, B.guid, SESSION), id="another's"),
        pytest.param(lambda: open_offer(ASKED, A.guid, C.guid, SESSION), id="for another"),
        pytest.param(lambda: open_offer(ASKED, A.guid, B.guid, OTHER), id="another session"),
        pytest.param(lambda: open_offer(ASKED + b"!", A.guid, B.guid, SESSION), id="longer"),
        pytest.param(lambda: open_offer(ASKED[:-1], A.guid, B.guid, SESSION), id="shorter"),
        pytest.param(lambda: open_offer(ASKED[:63], A.guid, B.guid, SESSION), id="no signature"),
        pytest.param(lambda: open_offer(b"", A.guid, B.guid, SESSION), id="nothing"),
        pytest.param(
            lambda: open_offer(bytes(MAX_OFFER + 1), A.guid, B.guid, SESSION), id="too long"
        ),
        pytest.param(lambda: open_offer(ANSWERED, B.guid, A.guid, SESSION), id="an answer's"),
        pytest.param(lambda: open_answer(ASKED, A.guid, B.guid, SESSION, ASKED), id="a request's"),
        pytest.param(
            lambda: open_answer(ANSWERED, B.guid, A.guid, SESSION, ASKED + b"!"),
            id="the answer to another",
        ),
        pytest.param(
            lambda: open_answer(ANSWERED, B.guid, A.guid, SESSION, b""), id="the answer to none"
        ),
        pytest.param(
            lambda: open_answer(ANSWERED, B.guid, A.guid, OTHER, ASKED),
            id="the answer in another session",
        ),
    ],
)
def test_what_was_not_made_for_this_is_none(read: Callable[[], bytes]) -> None:
    with pytest.raises(RoamRelayError):
        read()
