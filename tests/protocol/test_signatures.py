"""Signatures by OpenSSL and by libsodium: the same answer, whoever has crafted them."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from protocol.signatures import Verifier, by_openssl, by_sodium, is_signature

# The curve in affine coordinates, as slow as it is short: only who has points can craft signatures.
PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, PRIME) % PRIME
Point = tuple[int, int]
ZERO: Point = (0, 1)


def add(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    k = D * x1 * x2 * y1 * y2 % PRIME
    x = (x1 * y2 + x2 * y1) * pow(1 + k, -1, PRIME)
    y = (y1 * y2 + x1 * x2) * pow(1 - k, -1, PRIME)
    return x % PRIME, y % PRIME


def times(number: int, point: Point) -> Point:
    found = ZERO
    while number:
        if number & 1:
            found = add(found, point)
        point, number = add(point, point), number >> 1
    return found


def with_y(y: int) -> Point | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    return None if (x * x - square) % PRIME else (x if x % 2 == 0 else PRIME - x, y)


def encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def hashed(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % ORDER


def base() -> Point:
    found = with_y(4 * pow(5, -1, PRIME) % PRIME)
    assert found is not None
    return found


BASE = base()
TORSION = next(
    torsion
    for y in range(2, 100)
    if (point := with_y(y)) is not None and times(4, torsion := times(ORDER, point)) != ZERO
)
"""A point of order 8."""
SECRET = hashed(b"secret")
NONCE = hashed(b"nonce")
KEY, R = times(SECRET, BASE), times(NONCE, BASE)


def signed(key: bytes, r: bytes, message: bytes, nonce: int = NONCE, secret: int = SECRET) -> bytes:
    """Return the signature under an encoded key, with an encoded R, whatever the two are."""
    s = (nonce + hashed(r, key, message) * secret) % ORDER
    return r + s.to_bytes(32, "little")


def crafted() -> Iterator[tuple[str, bool, bytes, bytes, bytes]]:
    """What it is, whether it holds, and key, signature, message."""
    key, r, message = encoded(KEY), encoded(R), b"hello"
    good = signed(key, r, message)
    yield "plain", True, key, good, message
    yield "another message", False, key, good, b"hullo"
    yield (
        "S + L",
        False,
        key,
        r + (int.from_bytes(good[32:], "little") + ORDER).to_bytes(32, "little"),
        message,
    )
    r8 = encoded(add(R, TORSION))
    yield "R with torsion", False, key, signed(key, r8, message), message
    key8 = encoded(add(KEY, TORSION))
    for least in range(8):
        said = next(m for i in range(999) if hashed(r, key8, m := b"%d" % i) % 8 == least)
        # Where the hash is a multiple of 8 the torsion is gone: a signature like all others.
        yield f"key with torsion, {least}", least == 0, key8, signed(key8, r, said), said
    for index in range(8):
        weak = encoded(times(index, TORSION))
        said = next(m for i in range(999) if hashed(r, weak, m := b"%d" % i) % 8 == 0)
        yield f"key of small order, {index}", False, weak, signed(weak, r, said, secret=0), said
        yield f"R of small order, {index}", False, key, signed(key, weak, message, 0), message
    for y in (PRIME, PRIME + 1, PRIME + 3, 2**255 - 1):
        for sign in (0, 1 << 255):
            odd = (y | sign).to_bytes(32, "little")
            yield f"key y = {y:#x}", False, odd, signed(odd, r, message, secret=0), message
            yield f"R y = {y:#x}", False, key, signed(key, odd, message, 0), message


CRAFTED = list(crafted())


@pytest.mark.parametrize("verifier", [by_openssl, by_sodium])
@pytest.mark.parametrize("case", CRAFTED, ids=[case[0] for case in CRAFTED])
def test_a_crafted_signature(
    case: tuple[str, bool, bytes, bytes, bytes], verifier: Verifier
) -> None:
    _, holds, *given_ = case
    assert verifier(*given_) is holds


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.data())
def test_both_say_the_same(seed: bytes, message: bytes, data: st.DataObject) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    parts = [private.public_key().public_bytes_raw(), private.sign(message), message]
    assert by_openssl(*parts)
    assert by_sodium(*parts)
    which = data.draw(st.sampled_from([0, 1] + [2] * bool(message)))
    changed = bytearray(parts[which])
    at = data.draw(st.integers(0, 8 * len(changed) - 1))
    changed[at // 8] ^= 1 << at % 8
    parts[which] = bytes(changed)
    assert not by_openssl(*parts)
    assert not by_sodium(*parts)


@pytest.mark.parametrize("verifier", [by_openssl, by_sodium])
@pytest.mark.parametrize("length", [0, 32, 63, 65, 96])
def test_a_signature_of_another_length(length: int, verifier: Verifier) -> None:
    """What is cut off it may not be taken from the message, nor the other way."""
    private = Ed25519PrivateKey.generate()
    key, message = private.public_key().public_bytes_raw(), os.urandom(64)
    whole = private.sign(message) + message
    assert not verifier(key, whole[:length], whole[length:])


def test_libsodium_is_asked_where_it_is_installed() -> None:
    assert is_signature is by_sodium


def test_openssl_is_asked_where_there_is_no_libsodium() -> None:
    program = (
        "import sys\nsys.modules['nacl'] = None\n"
        "from protocol import signatures\n"
        "from protocol.identity import CONTEXT_PLANE, Identity, verify\n"
        "assert signatures.is_signature is signatures.by_openssl\n"
        "one = Identity.generate()\n"
        "verify(one.guid, one.sign(CONTEXT_PLANE, b'x'), CONTEXT_PLANE, b'x')\n"
        "try: verify(one.guid, one.sign(CONTEXT_PLANE, b'x'), CONTEXT_PLANE, b'y')\n"
        "except Exception as error: print(error.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("bad_signature\n", "")
