"""Noise_NN_25519_AESGCM_SHA256 by vectors that others have published, and what is none of it."""

import pytest

from protocol.errors import ProtocolViolation
from protocol.noise import Cipher, Handshake

# cacophony, vectors/cacophony.txt (https://github.com/haskell-cryptography/cacophony), the vector
# of this protocol name; the same stands in the tests of snow and of noiseprotocol.
PROLOGUE = bytes.fromhex("4a6f686e2047616c74")
INITIATOR = bytes.fromhex("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a")
RESPONDER = bytes.fromhex("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b")
HASH = "6301958d25cd7d1ffe6ad7d0ca2ad284b4e478d9acd9198f7750432d225043d0"
MESSAGES = [
    (
        "4c756477696720766f6e204d69736573",
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944"
        "4c756477696720766f6e204d69736573",
    ),
    (
        "4d757272617920526f746862617264",
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843"
        "934ff73eebb9d930ebf62b8e4db8133ca936872b5551efd7c9989c646d8cf0",
    ),
    ("462e20412e20486179656b", "8d372b94914e80018211a344b8b1c5a2869492a0db46990c0362f3"),
    ("4361726c204d656e676572", "e183b0abd55550f9955fb05476d988c6f27628d7bbde111c39ccbc"),
    (
        "4a65616e2d426170746973746520536179",
        "167293a79ad6a647114c4f4eb55bdf713a0d44ae48765c07fc4e57743100825021",
    ),
    (
        "457567656e2042f6686d20766f6e2042617765726b",
        "2b67a18ae246069c51687bee89141041d9d35a821f852975d169a4f80f75c735807a1fd157",
    ),
]


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
