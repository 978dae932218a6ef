"""Keys, GUIDs and signatures."""

import contextlib
import datetime
import os

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Code, IdentityError, ProtocolViolation
from protocol.identity import (
    CONTEXT_CHALLENGE,
    CONTEXT_DNS_KEY,
    CONTEXT_ENDPOINT,
    CONTEXT_PLANE,
    CONTEXT_REGISTER,
    GUID_LENGTH,
    Identity,
    guid_of,
    public_key_of,
    verify,
)

CONTEXTS = (
    CONTEXT_CHALLENGE,
    CONTEXT_DNS_KEY,
    CONTEXT_ENDPOINT,
    CONTEXT_PLANE,
    CONTEXT_REGISTER,
)
ALICE = Identity.from_seed(b"a" * 32)


@given(st.binary(min_size=32, max_size=32))
def test_a_guid_names_exactly_one_key(key: bytes) -> None:
    guid = guid_of(key)
    assert len(guid) == GUID_LENGTH
    assert guid == guid.lower()
    assert public_key_of(guid) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a" * 51,
        "a" * 53,
        "A" * 52,
        "a" * 51 + "b",  # one of the four unused bits is set
        "a" * 51 + "=",
        "1" * 52,
        "ä" * 52,
        "a" * 51 + " ",
        "x" * 10_000,
    ],
)
def test_what_is_no_guid(text: str) -> None:
    with pytest.raises(IdentityError, match="not a GUID") as error:
        public_key_of(text)
    assert error.value.code is Code.BAD_GUID
    assert len(error.value.reason) < 150


@given(st.text(max_size=60))
def test_any_text_is_a_guid_or_an_error(text: str) -> None:
    with contextlib.suppress(IdentityError):
        assert guid_of(public_key_of(text)) == text


def test_a_signature_holds_for_its_context_and_parts_only() -> None:
    signature = ALICE.sign(CONTEXT_REGISTER, b"one", b"two")
    verify(ALICE.guid, signature, CONTEXT_REGISTER, b"one", b"two")
    verify(ALICE.guid, signature, CONTEXT_REGISTER, b"onetwo")
    for guid, context, parts in [
        *((ALICE.guid, context, (b"one", b"two")) for context in CONTEXTS[:3]),
        (ALICE.guid, CONTEXT_REGISTER, (b"one", b"too")),
        (ALICE.guid, CONTEXT_REGISTER, (b"one",)),
        (Identity.generate().guid, CONTEXT_REGISTER, (b"one", b"two")),
    ]:
        with pytest.raises(ProtocolViolation) as error:
            verify(guid, signature, context, *parts)
        assert error.value.code is Code.BAD_SIGNATURE


@pytest.mark.parametrize("signature", [b"", b"x", b"x" * 64, b"x" * 65])
def test_bytes_that_are_no_signature(signature: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        verify(ALICE.guid, signature, CONTEXT_PLANE)


def test_no_context_begins_with_another() -> None:
    for one in CONTEXTS:
        assert one.endswith(b"\0")
        assert one.count(b"\0") == 1
    assert len(set(CONTEXTS)) == len(CONTEXTS)


def test_a_key_file_round_trip() -> None:
    again = Identity.from_pem(ALICE.to_pem(), file_mode=0o100600, name="alice.key")
    assert again.guid == ALICE.guid
    assert again.sign(b"", b"x") == ALICE.sign(b"", b"x")
    assert Identity(ALICE.private_key).guid == ALICE.guid


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o100644, 0o601])
def test_a_key_file_that_others_can_read_is_refused(mode: int) -> None:
    with pytest.raises(IdentityError, match=r"chmod 600 alice\.key"):
        Identity.from_pem(ALICE.to_pem(), file_mode=mode, name="alice.key")


def test_a_key_file_without_a_usable_key() -> None:
    encrypted = ALICE.private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    half = ALICE.to_pem()[:60]
    for data, says in (
        (b"", "k is empty: .* move it away"),
        (b"hello", "no whole PEM private key: .* move it away"),
        (half, "no whole PEM private key"),
        (os.urandom(64), "no whole PEM private key"),
        (encrypted, "locked with a password: .*openssl pkey"),
    ):
        with pytest.raises(IdentityError, match=says):
            Identity.from_pem(data, file_mode=0o600, name="k")
    other = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(IdentityError, match="another kind"):
        Identity.from_pem(other, file_mode=0o600, name="k")


def test_the_certificate_carries_the_key_for_ever() -> None:
    certificate = ALICE.certificate
    key = certificate.public_key()
    assert isinstance(key, Ed25519PublicKey)
    assert guid_of(key.public_bytes_raw()) == ALICE.guid
    key.verify(certificate.signature, certificate.tbs_certificate_bytes)
    assert certificate.not_valid_after_utc.year == 9999
    assert certificate.not_valid_before_utc < datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC)
    assert ALICE.certificate is certificate


def test_what_is_printed_of_an_identity_is_its_guid() -> None:
    assert repr(ALICE) == f"<Identity {ALICE.guid}>"
