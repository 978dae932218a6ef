"""The message of an update: what it asks for, what it takes out, in which order."""

import dns.message
import dns.rdataclass
import dns.rdatatype
import dns.update
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers import Identity
from peers.dns.events import NOTHING, Followed
from peers.dns.update import update_message
from protocol.dns_records import (
    MAX_ADDRESSES,
    TTL,
    ZoneRecord,
    location_record_sets,
    peer_name,
    read_zone_record,
    service_name,
    zone_record_text,
)
from protocol.endpoint import Entry, Phase, Provenance, SignedEntry, sign_entry

ZONE = "peers.example.org"
ALICE = Identity.from_seed(bytes(range(32)))
GUID = ALICE.guid
OWN = f"{peer_name(GUID, ZONE)}."
OLD = Followed.of(ZoneRecord(7, ("chat", "mail"), "00" * 16))

Change = tuple[str, str]
"""The name and type of a record set."""


def entry(service: str = "chat", host: str = "192.0.2.1") -> SignedEntry:
    return sign_entry(
        ALICE, Entry(8, service, host, 4000, Phase.PREFERRED, 120, Provenance.INTERFACE)
    )


def changes(message: dns.update.UpdateMessage) -> tuple[list[Change], list[Change]]:
    """Return the sets that are deleted and those that are added, in order, as the server reads it:
    no deletion may follow an addition."""
    read = dns.message.from_wire(message.to_wire())
    assert isinstance(read, dns.update.UpdateMessage)
    deleted: list[Change] = []
    added: list[Change] = []
    for rrset in read.update:
        change = rrset.name.to_text(), dns.rdatatype.to_text(rrset.rdtype)
        if rrset.deleting == dns.rdataclass.ANY:
            assert not added, "a deletion after an addition"
            deleted.append(change)
        else:
            assert rrset.deleting is None
            assert rrset.ttl == TTL
            added.append(change)
    return deleted, added


def test_a_first_update_asks_that_there_is_nothing_yet() -> None:
    message = update_message(GUID, ZONE, NOTHING, location_record_sets(GUID, ZONE, 1, {}))
    condition, no_alias = message.prerequisite
    assert condition.name.to_text() == OWN
    assert condition.rdtype == dns.rdatatype.TXT
    assert condition.rdclass == dns.rdataclass.NONE, "RFC 2136 §2.4.3: the set does not exist"
    assert no_alias.rdtype == dns.rdatatype.CNAME
    assert message.zone[0].name.to_text() == f"{ZONE}."


def test_a_later_one_asks_for_the_record_that_it_follows() -> None:
    message = update_message(GUID, ZONE, OLD, {})
    (condition,) = message.prerequisite
    assert condition.rdclass == dns.rdataclass.IN, "§2.4.2: the set exists with this value"
    assert condition[0].to_text() == OLD.text == zone_record_text(OLD.record)


def test_every_name_of_the_old_record_and_of_the_new_one_is_cleared_first() -> None:
    sets = location_record_sets(GUID, ZONE, 8, {"chat": [entry()], "new": [entry("new")]})
    deleted, added = changes(update_message(GUID, ZONE, OLD, sets))
    expected = {(OWN, kind) for kind in ("A", "AAAA", "TXT")}
    expected |= {
        (f"{service_name(one, GUID, ZONE)}.", kind)
        for one in ("chat", "mail", "new")
        for kind in ("SRV", "TXT")
    }
    expected |= {
        (f"e{number}.{OWN}", kind) for number in range(MAX_ADDRESSES) for kind in ("A", "AAAA")
    }
    assert set(deleted) == expected
    assert len(deleted) == len(expected)
    assert {(name.rstrip("."), kind) for name, kind in added} == set(sets)


def test_there_must_be_no_alias_at_any_name_that_is_added() -> None:
    """A server leaves out what would stand beside one, and says NOERROR."""
    sets = location_record_sets(GUID, ZONE, 8, {"chat": [entry()], "new": [entry("new")]})
    first, *others = update_message(GUID, ZONE, OLD, sets).prerequisite
    assert first.rdtype == dns.rdatatype.TXT
    assert {(one.rdtype, one.rdclass) for one in others} == {
        (dns.rdatatype.CNAME, dns.rdataclass.NONE)
    }
    names = [one.name.to_text().rstrip(".") for one in others]
    assert sorted(names) == sorted({name for name, _ in sets})


def test_taking_back_adds_nothing() -> None:
    deleted, added = changes(update_message(GUID, ZONE, OLD, {}))
    assert not added
    assert (OWN, "TXT") in deleted
    assert (f"_mail._tcp.{OWN}", "SRV") in deleted


@pytest.mark.parametrize(
    "service", ["a" * 63, "é", "a.b", 'a"b', "a\\", "\ufffd" * 63, "A", ""], ids=repr
)
def test_services_that_have_no_name_in_the_dns_hold_nothing_up(service: str) -> None:
    """One of 63 characters can be offered: the relay takes it."""
    sets = location_record_sets(GUID, ZONE, 8, {service: [entry()], "chat": [entry()]})
    assert (service_name("chat", GUID, ZONE), "SRV") in sets
    _, added = changes(update_message(GUID, ZONE, NOTHING, sets))
    assert (f"_chat._tcp.{OWN}", "TXT") in added


@given(st.lists(st.binary(max_size=255), max_size=8), st.lists(st.text(max_size=70)))
def test_whatever_stands_in_the_zone_can_be_followed(
    strings: list[bytes], services: list[str]
) -> None:
    named = [f"service={one}".encode()[:255] for one in services]
    record = read_zone_record([b"roam-relay/1", *strings, *named])
    assert record is not None
    changes(update_message(GUID, ZONE, Followed(record, '"any"'), {}))
