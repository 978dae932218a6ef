"""Letters: what is sealed opens there alone, says who wrote it, and has one of a few sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Code, ProtocolViolation
from protocol.identity import Identity
from protocol.letters import (
    MAX_LETTER,
    MAX_LETTER_PAYLOAD,
    SIZES,
    Fault,
    LetterFault,
    open_letter,
    read_head,
    seal_letter,
)
from protocol.prekeys import Prekey, make_prekey

ALICE, BOB, EVE = (Identity.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
HALF = bytes(range(32))
PREKEY = make_prekey(7, HALF, one_time=False)
ID = b"i" * 16


def sealed(payload: bytes = b"hello", prekey: Prekey = PREKEY) -> bytes:
    return seal_letter(ALICE, BOB.guid, prekey, ("chat", ID, payload))


def fault_of(letter: bytes, recipient: str = BOB.guid, half: bytes = HALF) -> Fault:
    with pytest.raises(LetterFault) as error:
        open_letter(recipient, letter, half)
    return error.value.fault


@given(st.binary(max_size=2000) | st.integers(0, MAX_LETTER_PAYLOAD).map(bytes))
def test_what_is_sealed_opens_and_has_one_of_a_few_sizes(payload: bytes) -> None:
    letter = sealed(payload)
    assert len(letter) in SIZES
    opened = open_letter(BOB.guid, letter, HALF)
    assert (opened.sender, opened.service) == (ALICE.guid, "chat")
    assert (opened.id, opened.payload) == (ID, payload)


def test_the_longest_payload_fits_and_no_longer_one() -> None:
    assert len(sealed(bytes(MAX_LETTER_PAYLOAD))) == MAX_LETTER
    with pytest.raises(ProtocolViolation) as error:
        sealed(bytes(MAX_LETTER_PAYLOAD + 1))
    assert error.value.code is Code.MESSAGE_TOO_LARGE


def test_neither_sender_nor_service_nor_payload_stands_outside() -> None:
    letter = sealed(b"a payload to be found")
    for inside in (ALICE.public_key, ALICE.guid.encode(), b"chat", ID, b"a payload"):
        assert inside not in letter
    assert sealed() != sealed()


def test_it_opens_for_its_recipient_and_by_its_prekey_alone() -> None:
    assert fault_of(sealed(), EVE.guid) is Fault.UNOPENED
    assert fault_of(sealed(), half=bytes(32)) is Fault.UNOPENED
    for number, size in enumerate((0, 1, 9, 10, 11, 511, 513, MAX_LETTER + 1)):
        assert fault_of(bytes([0, 1]) + bytes(size)) in (Fault.MALFORMED, Fault.UNOPENED), number


@given(st.integers(10, 511), st.integers(1, 255))
def test_whatever_is_changed_it_does_not_open(at: int, change: int) -> None:
    letter = bytearray(sealed())
    letter[at] ^= change
    assert fault_of(bytes(letter)) is Fault.UNOPENED


def test_a_head_says_for_which_prekey_it_is() -> None:
    head = read_head(sealed(prekey=make_prekey(2**63 - 1, HALF, one_time=True)))
    assert head.number == 2**63 - 1
    with pytest.raises(LetterFault):
        read_head(b"\0\1")


@pytest.mark.parametrize(
    "prekey", [Prekey(2, 7, PREKEY.public, False), Prekey(1, 7, b"short", False), PREKEY]
)
def test_what_cannot_be_sealed_for_is_refused(prekey: Prekey) -> None:
    if prekey is PREKEY:
        zero = Prekey(1, 7, bytes(32), False)  # Makes every shared secret zero.
        prekey = zero
    with pytest.raises(ProtocolViolation, match="prekey"):
        sealed(prekey=prekey)
