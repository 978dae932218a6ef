"""A location record as DNS records, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.dns_records import (
    MAX_ADDRESSES,
    ZoneRecord,
    entry_text,
    location_record_sets,
    parse_zone,
    read_entry_text,
    read_zone_record,
    zone_record_text,
)
from protocol.endpoint import Entry, Phase, Provenance, SignedEntry, sign_entry
from protocol.errors import ProtocolViolation
from protocol.identity import Identity

ALICE = Identity.from_seed(bytes(range(32)))
ZONE = "peers.example.org"


def entry(
    host: str,
    seq: int = 1,
    phase: Phase = Phase.PREFERRED,
    service: str = "chat",
    port: int = 4000,
) -> SignedEntry:
    return sign_entry(ALICE, Entry(seq, service, host, port, phase, 120, Provenance.INTERFACE))


def strings(text: str) -> list[bytes]:
    return [part.strip('"').encode() for part in text.split(" ")]


def test_the_latest_endpoint_has_priority_0_and_the_one_that_leaves_none() -> None:
    entries = [
        entry("192.0.2.1", 1),
        entry("2001:db8::1", 2),
        entry("192.0.2.9", 3, Phase.LEAVING),
    ]
    sets = location_record_sets(ALICE.guid, ZONE, 3, {"chat": entries})
    name = f"{ALICE.guid}.{ZONE}"
    assert sets[f"_chat._tcp.{name}", "SRV"] == (
        f"0 0 4000 e0.{name}.",
        f"1 0 4000 e1.{name}.",
    )
    assert sets[f"e0.{name}", "AAAA"] == ("2001:db8::1",)
    assert sets[f"e1.{name}", "A"] == ("192.0.2.1",)
    assert sets[name, "A"] == ("192.0.2.1",)
    assert sets[name, "AAAA"] == ("2001:db8::1",)
    found = read_zone_record(strings(sets[name, "TXT"][0]))
    assert found == ZoneRecord(3, ("chat",))
    back = [read_entry_text(strings(text)) for text in sets[f"_chat._tcp.{name}", "TXT"]]
    assert back == entries, "established sessions may ask for the one that leaves too"


def test_services_at_one_address_share_its_name() -> None:
    services = {"a": [entry("192.0.2.1", service="a")], "b": [entry("192.0.2.1", service="b")]}
    sets = location_record_sets(ALICE.guid, ZONE, 1, services)
    assert [name for name, kind in sets if name.startswith("e")] == [f"e0.{ALICE.guid}.{ZONE}"]


def test_no_more_addresses_than_an_update_clears() -> None:
    entries = [entry(f"192.0.2.{last}") for last in range(1, 30)]
    sets = location_record_sets(ALICE.guid, ZONE, 1, {"chat": entries})
    assert len(sets[f"_chat._tcp.{ALICE.guid}.{ZONE}", "SRV"]) == MAX_ADDRESSES


def test_without_services_only_the_number_stays() -> None:
    sets = location_record_sets(ALICE.guid, ZONE, 7, {})
    assert list(sets) == [(f"{ALICE.guid}.{ZONE}", "TXT")]


@pytest.mark.parametrize("text", ["peers.example.org", "Peers.Example.ORG.", "x", "_a.b"])
def test_zones(text: str) -> None:
    assert parse_zone(text) == text.lower().rstrip(".")


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "-a", "a b", "a" * 64, "é.org", "x." * 70 + "x", "a.."]
)
def test_not_zones(text: str) -> None:
    with pytest.raises(ProtocolViolation):
        parse_zone(text)


@given(st.integers(0, 2**62 - 1), st.lists(st.from_regex(r"[a-z][a-z0-9]{0,20}", fullmatch=True)))
def test_the_number_comes_back(seq: int, services: list[str]) -> None:
    record = ZoneRecord(seq, tuple(services), "00ff" * 8 if seq % 2 else "")
    assert read_zone_record(strings(zone_record_text(record))) == record


@pytest.mark.parametrize("seq", ["9999999999999999999", str(2**62), "-1", "1.5", "٣"])
def test_a_number_that_no_peer_reaches_is_not_followed(seq: str) -> None:
    found = read_zone_record([b"roam-relay/1", f"seq={seq}".encode()])
    assert found == ZoneRecord(0, ())


def test_only_what_can_be_a_service_is_read() -> None:
    services = ["a" * 62, "a" * 63, "a.b", "Chat", "a\\", 'a"', "-a", "a-", "é", ""]
    found = read_zone_record([b"roam-relay/1", *(f"service={one}".encode() for one in services)])
    assert found is not None
    assert found.services == ("a" * 62,)


def test_a_service_whose_label_is_too_long_is_left_out() -> None:
    services = {"a" * 63: [entry("192.0.2.1")], "a" * 62: [entry("192.0.2.2")]}
    sets = location_record_sets(ALICE.guid, ZONE, 1, services)
    assert [len(name.split(".")[0]) for name, kind in sets if kind == "SRV"] == [63]
    assert sets[f"{ALICE.guid}.{ZONE}", "A"] == ("192.0.2.2",)


@given(st.lists(st.binary(max_size=255), max_size=8))
def test_other_programs_records_are_no_fault(found: list[bytes]) -> None:
    read_zone_record(found)
    read_zone_record([b"roam-relay/1", *found])
    one = read_entry_text(found)
    assert one is None or len(one.signature) == 64


@given(st.binary(min_size=1, max_size=256), st.binary(min_size=64, max_size=64))
def test_entries_come_back(body: bytes, signature: bytes) -> None:
    signed = SignedEntry(body, signature)
    text = entry_text(signed)
    assert all(len(one) <= 255 for one in strings(text))
    assert read_entry_text(strings(text)) == signed
