"""Endpoints, signed entries and their order."""

import contextlib
import ipaddress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.endpoint import (
    Endpoint,
    Entry,
    Phase,
    Provenance,
    SignedEntry,
    check_newer,
    open_entry,
    order,
    sign_entry,
)
from protocol.errors import Code, ProtocolViolation, RoamRelayError
from protocol.identity import CONTEXT_ENDPOINT, Identity

ALICE = Identity.from_seed(b"a" * 32)
BOB = Identity.from_seed(b"b" * 32)
ENTRY = Entry(7, "chat", "192.0.2.1", 4000, Phase.PREFERRED, 120, Provenance.INTERFACE)


def signed(body: bytes) -> SignedEntry:
    return SignedEntry(body, ALICE.sign(CONTEXT_ENDPOINT, ALICE.public_key, body))


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_addresses_become_canonical(host: str, canonical: str) -> None:
    assert Endpoint.parse(host, 1) == Endpoint(canonical, 1)


@pytest.mark.parametrize(
    "host",
    ["", "localhost", "192.0.2.256", "192.0.2.01", "224.0.0.1", "ff02::1", "0.0.0.0", "::"]
    + ["255.255.255.255", "::ffff:224.0.0.1", "::ffff:0.0.0.0", "x" * 1000],
)
def test_addresses_that_cannot_be_dialed(host: str) -> None:
    with pytest.raises(ProtocolViolation):
        Endpoint.parse(host, 1)


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_ports_that_are_none(port: int) -> None:
    with pytest.raises(ProtocolViolation, match="not a TCP port"):
        Endpoint.parse("192.0.2.1", port)


def test_endpoints_are_printed_as_in_urls() -> None:
    assert str(Endpoint("192.0.2.1", 80)) == "192.0.2.1:80"
    assert str(Endpoint("2001:db8::1", 80)) == "[2001:db8::1]:80"
    assert ENTRY.endpoint == Endpoint("192.0.2.1", 4000)


def test_a_signed_entry_says_what_was_signed() -> None:
    assert open_entry(ALICE.guid, sign_entry(ALICE, ENTRY)) == ENTRY


def test_an_entry_of_somebody_else_is_refused() -> None:
    with pytest.raises(ProtocolViolation) as error:
        open_entry(ALICE.guid, sign_entry(BOB, ENTRY))
    assert error.value.code is Code.BAD_SIGNATURE


def test_a_signature_does_not_move_to_another_body() -> None:
    one = sign_entry(ALICE, ENTRY)
    with pytest.raises(ProtocolViolation):
        open_entry(ALICE.guid, SignedEntry(one.body[:-1] + b"\0", one.signature))


FIELDS = [7, "chat", "192.0.2.1", 4000, "preferred", 120, "interface"]


@pytest.mark.parametrize(
    "fields",
    [
        *(FIELDS[:index] + [None] + FIELDS[index + 1 :] for index in range(7)),
        FIELDS[:6],
        [-1, *FIELDS[1:]],
        [7, "", *FIELDS[2:]],
        [7, "x" * 64, *FIELDS[2:]],
        [7, "chat", "localhost", *FIELDS[3:]],
        [7, "chat", "2001:DB8::1", *FIELDS[3:]],
        [7, "chat", "fe80::1%eth0", *FIELDS[3:]],
        [7, "chat", "::ffff:192.0.2.1", *FIELDS[3:]],
        [*FIELDS[:3], 0, *FIELDS[4:]],
        [*FIELDS[:3], 65536, *FIELDS[4:]],
        [*FIELDS[:4], "gone", *FIELDS[5:]],
        [*FIELDS[:5], 604_801, "interface"],
        [*FIELDS[:6], "guessed"],
        {},
        7,
        None,
        msgpack.ExtType(5, b""),
    ],
)
def test_a_malformed_entry_is_refused_though_it_is_signed(fields: object) -> None:
    with pytest.raises(ProtocolViolation):
        open_entry(ALICE.guid, signed(msgpack.packb(fields)))


def test_further_elements_of_a_later_version_are_ignored() -> None:
    assert open_entry(ALICE.guid, signed(msgpack.packb([*FIELDS, "later"]))) == ENTRY


@given(st.binary(max_size=64))
def test_any_bytes_are_an_entry_or_a_violation(body: bytes) -> None:
    with pytest.raises(RoamRelayError):
        open_entry(ALICE.guid, signed(body))


@given(st.data())
def test_mutated_entries_are_entries_or_violations(data: st.DataObject) -> None:
    body = bytearray(sign_entry(ALICE, ENTRY).body)
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolViolation):
        open_entry(ALICE.guid, signed(bytes(body)))


def test_the_order_is_phase_then_recency_then_as_given() -> None:
    def entry(seq: int, phase: Phase, port: int) -> Entry:
        return Entry(seq, "chat", "192.0.2.1", port, phase, 120, Provenance.INTERFACE)

    entries = [
        entry(9, Phase.NEW, 1),
        entry(1, Phase.PREFERRED, 2),
        entry(2, Phase.PREFERRED, 3),
        entry(2, Phase.PREFERRED, 4),
        entry(99, Phase.LEAVING, 5),
    ]
    assert [one.port for one in order(entries)] == [3, 4, 2, 1]


def test_only_a_higher_seq_is_newer() -> None:
    check_newer(0, None)
    check_newer(6, 5)
    for seq in (5, 4):
        with pytest.raises(ProtocolViolation) as error:
            check_newer(seq, 5)
        assert error.value.code is Code.STALE_SEQUENCE


@given(st.lists(st.integers(0, 300), min_size=3, max_size=5), st.integers(-1, 65537))
def test_an_ipv4_endpoint_is_what_ipaddress_says(parts: list[int], port: int) -> None:
    host = ".".join(map(str, parts))
    try:
        address = ipaddress.IPv4Address(host)
        usable = 0 < port < 65536 and not (
            address.is_multicast or address.is_unspecified or host == "255.255.255.255"
        )
    except ValueError:
        usable = False
    if usable:
        assert Endpoint.parse(host, port) == Endpoint(host, port)
    else:
        with pytest.raises(ProtocolViolation):
            Endpoint.parse(host, port)
