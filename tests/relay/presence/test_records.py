"""What a peer registers, checked: a signature is verified once, and stands for nothing else."""

import pytest

from protocol.endpoint import Entry, Phase, Provenance, SignedEntry, sign_entry
from protocol.errors import ProtocolViolation
from protocol.identity import Identity
from protocol.messages import LocationRecord, ServiceRecord
from relay.presence import Registry
from relay.presence.records import VerifiedEntries
from tests.relay.fakes import FakeAttachment


def new() -> Registry:
    return Registry(grace=30.0, remember=100.0, max_offline=10)


def signatures(registry: Registry, identity: Identity, record: LocationRecord) -> int:
    """Return how many signatures checking a record takes."""
    return len(list(registry.checking(identity.guid, record)))


def with_entries(seq: int, *entries: SignedEntry) -> LocationRecord:
    return LocationRecord(seq, (ServiceRecord("chat", entries),))


def entry_of(identity: Identity, port: int) -> SignedEntry:
    place = Entry(1, "chat", "192.0.2.1", port, Phase.PREFERRED, 120, Provenance.INTERFACE)
    return sign_entry(identity, place)


def test_an_entry_is_verified_once_though_its_peer_was_away() -> None:
    registry, alice = new(), Identity.generate()
    bob = FakeAttachment(alice.guid)
    entries = [entry_of(alice, port) for port in (1, 2, 3)]
    assert signatures(registry, alice, with_entries(1, *entries[:2])) == 2
    registry.register(bob, with_entries(1, *entries[:2]), 0.0)
    registry.remove(bob, 1.0, closed=True)
    assert signatures(registry, alice, with_entries(2, *entries)) == 1


def test_what_was_verified_stands_for_nothing_else() -> None:
    """Neither for another's, nor for another text under the same signature, nor for one that was
    never right."""
    registry, alice, mallory = new(), Identity.generate(), Identity.generate()
    good, other = entry_of(alice, 1), entry_of(alice, 2)
    signatures(registry, alice, with_entries(1, good))
    forged = SignedEntry(other.body, good.signature)
    longer = SignedEntry(good.body + b"\xc0", good.signature)
    for who, entry in ((mallory, good), (alice, forged), (alice, longer), (alice, forged)):
        with pytest.raises(ProtocolViolation):
            signatures(registry, who, with_entries(2, entry))


def test_what_is_remembered_of_entries_has_a_bound_and_what_is_used_stays() -> None:
    verified, alice = VerifiedEntries(4), Identity.generate()
    entries = [entry_of(alice, port) for port in range(1, 12)]
    for entry in entries:
        assert verified.knows(alice.guid, entries[0]) == (entry is not entries[0])
        verified.add(alice.guid, entry)
        assert len(verified) <= 4
    # What is used goes on being known, whatever else comes; what is not goes, the oldest first.
    known = [verified.knows(alice.guid, entry) for entry in entries]
    assert known[0]
    assert known[-2:] == [True, True]
    assert not any(known[1:8])
