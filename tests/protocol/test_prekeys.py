"""Prekeys: signed by their peer, and nothing else is taken for one."""

import msgpack
import pytest

from protocol.errors import Code, ProtocolViolation
from protocol.identity import Identity
from protocol.prekeys import (
    CONTEXT_PREKEY,
    SUITE_X25519,
    SignedPrekey,
    make_prekey,
    open_prekey,
    sign_prekey,
)

ALICE, BOB = (Identity.from_seed(bytes([number]) * 32) for number in (1, 2))
HALF = bytes(range(32))


def test_a_signed_one_is_its_signer_s_and_nobody_else_s() -> None:
    prekey = make_prekey(7, HALF, one_time=True)
    signed = sign_prekey(ALICE, prekey)
    assert open_prekey(ALICE.guid, signed) == prekey
    with pytest.raises(ProtocolViolation) as error:
        open_prekey(BOB.guid, signed)
    assert error.value.code is Code.BAD_SIGNATURE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgpack.packb({"suite": 1}),
        msgpack.packb([1, 7, bytes(32)]),
        msgpack.packb([1, -1, bytes(32), True]),
        msgpack.packb([1, 7, "x" * 32, True]),
        msgpack.packb([2**16, 7, bytes(32), True]),
        b"\x91" * 2000,
    ],
)
def test_what_is_signed_and_is_none_is_a_violation(body: bytes) -> None:
    signature = ALICE.sign(CONTEXT_PREKEY, ALICE.public_key, body)
    with pytest.raises(ProtocolViolation, match="prekey"):
        open_prekey(ALICE.guid, SignedPrekey(body, signature))


def test_a_later_version_may_say_more() -> None:
    body = msgpack.packb([SUITE_X25519, 7, bytes(32), False, "more"])
    signed = SignedPrekey(body, ALICE.sign(CONTEXT_PREKEY, ALICE.public_key, body))
    assert open_prekey(ALICE.guid, signed).number == 7
