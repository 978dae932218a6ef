"""The relay's side of the handshake, without a connection."""

import os
from dataclasses import replace

import pytest

from protocol.codec import encode_location
from protocol.errors import Code, RoamRelayError
from protocol.features import SUCCESSION
from protocol.identity import (
    CONTEXT_CHALLENGE,
    CONTEXT_DNS_KEY,
    CONTEXT_REGISTER,
    Identity,
    verify,
)
from protocol.messages import DnsKeyRequest, Hello, Limits, LocationRecord, Register
from protocol.succession import link
from relay.control import handshake as handshakes
from relay.control.handshake import Claim, challenge, check_key_request, check_register
from relay.keys import Former, Keys

RELAY, ALICE, MALLORY = (Identity.generate() for _ in range(3))
NONCE = os.urandom(32)
KEYS = Keys(RELAY, (), lambda: 0.0)
RECORD = LocationRecord(1, ())


def hello(**changes: object) -> Hello:
    fields = {"guid": ALICE.guid, "instance": b"i" * 16, "nonce": b"n" * 32}
    return Hello(**(fields | changes))  # type: ignore[arg-type]


def claimed(**changes: object) -> Claim:
    return challenge(KEYS, Limits(), hello(**changes), NONCE)[0]


def register(who: Identity = ALICE, claim: Claim | None = None) -> Register:
    claim = claim or claimed()
    location = encode_location(RECORD)
    parts = (RELAY.public_key, claim.nonce, ALICE.public_key, claim.hello.instance, location)
    return Register(location, who.sign(CONTEXT_REGISTER, *parts))


def code_of(work: object, *arguments: object) -> Code | None:
    with pytest.raises(RoamRelayError) as caught:
        work(*arguments)  # type: ignore[operator]
    return caught.value.code


def test_the_relay_proves_itself_in_the_challenge() -> None:
    claim, answer = challenge(KEYS, Limits(), hello(), NONCE)
    assert (answer.guid, answer.nonce) == (RELAY.guid, NONCE)
    verify(RELAY.guid, answer.signature, CONTEXT_CHALLENGE, ALICE.public_key, b"n" * 32, NONCE)
    assert claim.key == ALICE.public_key


def test_of_what_a_peer_knows_only_what_both_have_named_is_kept() -> None:
    many = tuple(f"feature-{number}" for number in range(32))
    claim, answer = challenge(KEYS, Limits(), hello(features=many), NONCE)
    assert (claim.features, claim.hello.features) == (frozenset(), ())
    assert answer.features == handshakes.RELAY_FEATURES
    named = ("feature-7", "other")
    claim, answer = challenge(KEYS, Limits(), hello(features=many), NONCE, features=named)
    assert (claim.features, claim.hello.features) == ({"feature-7"}, ())
    assert answer.features == ("feature-7", "other")


def test_what_a_peer_signs_is_for_the_key_that_it_was_answered_under() -> None:
    kept = Former(MALLORY, link(MALLORY, RELAY), 1.0)
    keys = Keys(RELAY, (kept,), lambda: 0.0)
    wants = hello(relay=MALLORY.guid, features=(SUCCESSION,))
    claim, answer = challenge(keys, Limits(), wants, NONCE)
    assert (claim.relay, answer.guid) == (MALLORY.public_key, MALLORY.guid)
    assert answer.succession == (kept.link,)
    assert claim.hello.relay is None
    assert code_of(check_register, claim, register()) is Code.BAD_SIGNATURE


def test_hellos_that_are_none() -> None:
    limits = Limits()
    assert code_of(challenge, KEYS, limits, hello(version=9), NONCE) is Code.VERSION_UNSUPPORTED
    assert code_of(challenge, KEYS, limits, hello(guid="a" * 51 + "b"), NONCE) is Code.BAD_GUID


def test_a_register_is_for_this_relay_this_nonce_and_this_program() -> None:
    assert check_register(claimed(), register()) == RECORD
    for claim in (replace(claimed(), nonce=os.urandom(32)), claimed(instance=b"j" * 16)):
        assert code_of(check_register, claim, register()) is Code.BAD_SIGNATURE
    assert code_of(check_register, claimed(), register(MALLORY)) is Code.BAD_SIGNATURE
    other = replace(claimed(), relay=MALLORY.public_key)
    assert code_of(check_register, other, register()) is Code.BAD_SIGNATURE


def test_a_key_is_asked_for_by_its_peer() -> None:
    public = b"p" * 32
    for who, good in ((ALICE, True), (MALLORY, False)):
        signature = who.sign(CONTEXT_DNS_KEY, RELAY.public_key, public)
        request = DnsKeyRequest(1, public, signature)
        if good:
            check_key_request(claimed(), request)
        else:
            assert code_of(check_key_request, claimed(), request) is Code.BAD_SIGNATURE
