"""Noise_NN_25519_AESGCM_SHA256 by vectors that others have published, and what is none of it."""

import pytest

from protocol.errors import ProtocolViolation
from protocol.noise import Cipher, Handshake
from tests.support.noise_vectors import HASH, INITIATOR, MESSAGES, PROLOGUE, RESPONDER


def test_the_published_vectors() -> None:
    here, there = Handshake(PROLOGUE, INITIATOR), Handshake(PROLOGUE, RESPONDER)
    (first, first_sent), (second, second_sent), *rest = [
        (bytes.fromhex(plain), bytes.fromhex(sent)) for plain, sent in MESSAGES
    ]
    assert here.begin(first) == first_sent
    assert there.take(first_sent) == first
    assert there.answer(second) == second_sent
    assert here.finish(second_sent) == second
    assert here.hash.hex() == there.hash.hex() == HASH
    ciphers, others = here.split(), there.split()
    for number, (plain, sent) in enumerate(rest):
        assert ciphers[number % 2].seal(plain) == sent
        assert others[number % 2].open(sent) == plain


@pytest.mark.parametrize("prologue", [b"", PROLOGUE + b"!"])
def test_another_prologue_ends_it(prologue: bytes) -> None:
    here, there = Handshake(PROLOGUE, INITIATOR), Handshake(prologue, RESPONDER)
    there.take(here.begin())
    with pytest.raises(ProtocolViolation):
        here.finish(there.answer())


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31)], ids=["zero", "one"])
def test_a_key_of_small_order_makes_no_secret(key: bytes) -> None:
    there = Handshake(PROLOGUE, RESPONDER)
    there.take(key)
    with pytest.raises(ProtocolViolation):
        there.answer()


@pytest.mark.parametrize("length", [0, 31])
def test_what_is_too_short_is_no_message(length: int) -> None:
    with pytest.raises(ProtocolViolation):
        Handshake(PROLOGUE, RESPONDER).take(bytes(length))
    with pytest.raises(ProtocolViolation):
        Handshake(PROLOGUE, INITIATOR).finish(bytes(length))


def test_what_does_not_open_takes_no_number() -> None:
    here, there = Cipher(bytes(32)), Cipher(bytes(32))
    first, second = here.seal(b"first"), here.seal(b"second")
    for wrong in (second, first[:-1], b"", first[:15], bytes(len(first))):
        with pytest.raises(ProtocolViolation):
            there.open(wrong)
    assert (there.open(first), there.open(second)) == (b"first", b"second")


def test_a_key_is_followed_by_another_and_the_numbers_go_on() -> None:
    here, there, behind = Cipher(bytes(32)), Cipher(bytes(32)), Cipher(bytes(32))
    assert there.open(here.seal(b"a")) == b"a"
    here.renew()
    there.renew()
    behind.open(Cipher(bytes(32)).seal(b"a"))
    data = here.seal(b"b")
    with pytest.raises(ProtocolViolation):
        behind.open(data)
    assert (there.open(data), here.sealed, there.sealed) == (b"b", 2, 2)
