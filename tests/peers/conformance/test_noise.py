"""The kit's own Noise: by vectors that others have published, and by those of docs/protocol.md."""

from typing import Any

import pytest

from peers.conformance.faults import Fault
from peers.conformance.noise import HEAD, LockFacts, NoiseHandshake, RecordCipher
from peers.conformance.vectors import load
from protocol.identity import Identity, public_key_of
from tests.support.noise_vectors import HASH, INITIATOR, MESSAGES, PROLOGUE, RESPONDER


def test_the_published_vectors() -> None:
    here = NoiseHandshake(PROLOGUE, secret=INITIATOR)
    there = NoiseHandshake(PROLOGUE, secret=RESPONDER)
    (first, first_sent), (second, second_sent), *rest = [
        (bytes.fromhex(plain), bytes.fromhex(sent)) for plain, sent in MESSAGES
    ]
    assert here.write_first(first) == first_sent
    assert there.read_first(first_sent) == first
    assert there.write_second(second) == second_sent
    assert here.read_second(second_sent) == second
    assert here.hash.hex() == there.hash.hex() == HASH
    ciphers, others = here.split(), there.split()
    for number, (plain, sent) in enumerate(rest):
        assert ciphers[number % 2].encrypt(plain) == sent
        assert others[number % 2].decrypt(sent) == plain


@pytest.mark.parametrize("vector", load()["locks"], ids=lambda vector: vector["rule"])
def test_the_locks_of_the_page(vector: dict[str, Any]) -> None:
    seeds = {one["guid"]: bytes.fromhex(one["seed"]) for one in load()["identities"]}

    def known(name: str) -> bytes:
        return bytes.fromhex(vector[name])

    facts = [
        LockFacts(
            Identity.from_seed(seeds[vector[own]]),
            public_key_of(vector[other]),
            known("session"),
            known("relay"),
            tuple(vector["offered"]),
            is_caller=own == "caller",
        )
        for own, other in (("caller", "callee"), ("callee", "caller"))
    ]
    assert [one.prologue for one in facts] == [known("prologue")] * 2
    caller, callee = (
        NoiseHandshake(known("prologue"), secret=known(name))
        for name in ("caller_ephemeral", "callee_ephemeral")
    )
    assert HEAD + caller.write_first() == known("first")
    callee.read_first(known("first")[len(HEAD) :])
    assert HEAD + callee.write_second() == known("second")
    caller.read_second(known("second")[len(HEAD) :])
    assert caller.hash == callee.hash == known("handshake_hash")
    by_caller, by_callee = caller.split()

    def record(cipher: RecordCipher, plain: bytes) -> bytes:
        sealed = cipher.encrypt(plain)
        return len(sealed).to_bytes(2, "big") + sealed

    context = b"roam-relay/1 lock\0"
    proof = facts[1].identity.sign(context, b"\x02", callee.hash)
    assert record(by_callee, proof) == known("callee_proof")
    proof = facts[0].identity.sign(context, b"\x01", caller.hash)
    assert record(by_caller, proof) == known("caller_proof")
    for one in vector["records"]:
        cipher = by_caller if one["by"] == "caller" else by_callee
        assert record(cipher, bytes.fromhex(one["plain"])) == bytes.fromhex(one["bytes"])


def test_a_key_of_zeros_and_what_does_not_open_are_faults() -> None:
    there = NoiseHandshake(PROLOGUE, secret=RESPONDER)
    there.read_first(bytes(32))
    with pytest.raises(Fault, match=r"R18\.11"):
        there.write_second()
    with pytest.raises(Fault, match="does not open"):
        RecordCipher(bytes(32)).decrypt(bytes(20))
