"""What a peer tells of itself: its addresses, where they are from, and what they are for."""

from dataclasses import replace

import pytest

from peers import Identity, Phase, Provenance
from peers.location.told import FARTHEST_AHEAD, Hosts, Offered, OwnLocation
from protocol.endpoint import Endpoint, open_entry, read_entry
from protocol.errors import ProtocolViolation
from protocol.messages import MAX_ENTRIES, Disclosure

IDENTITY = Identity.generate()
GUID = IDENTITY.guid


def own(*configured: str) -> OwnLocation:
    return OwnLocation(IDENTITY, 4000, configured=configured, lifetime=60)


def told(location: OwnLocation) -> list[tuple[str, Provenance, Phase]]:
    entries = [read_entry(signed) for signed in location.entries("chat")]
    return [(entry.host, entry.provenance, entry.phase) for entry in entries]


def test_addresses_are_told_with_where_they_are_from_and_what_they_are_for() -> None:
    location = own("203.0.113.1")
    assert location.update(
        Hosts(
            ("192.0.2.1", "192.0.2.2", "192.0.2.3"),
            live=frozenset({"192.0.2.1"}),
            leaving=frozenset({"192.0.2.3"}),
            observed=("198.51.100.1", "192.0.2.1"),
        )
    )
    assert told(location) == [
        ("192.0.2.1", Provenance.INTERFACE, Phase.PREFERRED),
        ("192.0.2.2", Provenance.INTERFACE, Phase.NEW),
        ("192.0.2.3", Provenance.INTERFACE, Phase.LEAVING),
        ("198.51.100.1", Provenance.OBSERVED, Phase.PREFERRED),
        ("203.0.113.1", Provenance.CONFIGURED, Phase.PREFERRED),
    ]


def test_only_a_difference_is_one() -> None:
    location = own()
    one, two = "192.0.2.1", "192.0.2.2"
    live = frozenset({one})
    assert location.update(Hosts((one,), live))
    assert not location.update(Hosts((one, one), live))
    assert location.update(Hosts((one,), live, leaving=live))
    assert location.update(Hosts((two, one), live))
    assert location.update(Hosts((one, two), live)), "order counts"


def test_an_address_that_has_just_worked_goes_first() -> None:
    location = own()
    location.update(Hosts(("192.0.2.1", "192.0.2.2"), live=frozenset({"192.0.2.1"})))
    location.used("192.0.2.2")
    assert [(host, phase) for host, _, phase in told(location)] == [
        ("192.0.2.2", Phase.PREFERRED),
        ("192.0.2.1", Phase.PREFERRED),
    ]


def test_a_record_has_a_higher_number_than_any_before() -> None:
    location = own("203.0.113.1")
    first = location.record(())
    assert location.record(()).seq > first.seq
    ahead = first.seq + 10**9
    location.advance(ahead)
    assert location.record(()).seq == ahead + 1, "also where the clock is behind"
    location.advance(5)
    assert location.record(()).seq == ahead + 2


def test_a_signature_is_made_once_for_each_change_and_for_each_record() -> None:
    location = own("203.0.113.1")
    before = location.entries("chat")
    assert location.entries("chat")[0] is before[0]
    assert location.entries("mail")[0] is not before[0]
    location.update(Hosts(("192.0.2.1",)))
    after = location.entries("chat")
    assert after[0] is location.entries("chat")[0]
    number = location.record([Offered("chat", None, Disclosure.ANYONE)]).seq
    assert {read_entry(one).seq for one in location.entries("chat")} == {number}


def test_the_address_of_the_moment_goes_first_whether_it_is_known_or_not() -> None:
    location = own("203.0.113.1")
    location.update(Hosts(("192.0.2.1", "192.0.2.2")))

    def hosts(first: str | None) -> list[str]:
        return [read_entry(one).host for one in location.entries("chat", first)]

    usual = ["192.0.2.1", "192.0.2.2", "203.0.113.1"]
    assert hosts(None) == usual
    assert hosts("203.0.113.1") == ["203.0.113.1", "192.0.2.1", "192.0.2.2"]
    assert hosts("198.51.100.7") == ["198.51.100.7", *usual]
    assert hosts(None) == usual, "for once"
    assert list(location.addresses) == usual


def test_what_cannot_be_dialed_is_not_told_and_not_more_than_a_record_holds() -> None:
    location = own("not an address", "0.0.0.0", "fe80::1%eth0")
    assert [host for host, _, _ in told(location)] == ["fe80::1"]
    location.update(Hosts(tuple(f"192.0.2.{last}" for last in range(1, 100))))
    assert len(location.entries("chat")) == MAX_ENTRIES


def test_another_program_s_port_is_told_and_signed_for_itself() -> None:
    location = own("203.0.113.1")
    (mine,), (theirs,) = location.entries("ssh"), location.entries("ssh", port=22)
    assert (read_entry(mine).port, read_entry(theirs).port) == (location.port, 22)
    assert open_entry(GUID, theirs).host == "203.0.113.1"
    with pytest.raises(ProtocolViolation):
        open_entry(Identity.generate().guid, theirs)


def test_a_number_that_somebody_knows_is_followed_as_far_as_a_clock_can_have_been_wrong() -> None:
    location = own()
    first = location.record(()).seq
    assert location.advance(first + 7_200_000)
    assert location.record(()).seq == first + 7_200_001
    assert not location.advance(first), "it is behind"
    for lie in (first + 2 * FARTHEST_AHEAD, 2**63 - 1):
        assert not location.advance(lie)
    assert location.record(()).seq == first + 7_200_002


def test_a_clock_that_stands_at_1970_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    now = own().record(()).seq
    for clock in (0, -5_000_000_000):
        monkeypatch.setattr("time.time_ns", lambda clock=clock: clock)
        location = own()
        assert location.record(()).seq == 1
        assert location.advance(now)
        assert location.record(()).seq == now + 1


def test_what_was_followed_once_can_be_followed_after_every_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A liar at the bound must not lock a peer out of the relay that it registers with then."""
    clock = 1_700_000_000_000
    monkeypatch.setattr("time.time_ns", lambda: clock * 1_000_000)
    location = own()
    assert location.advance(clock + FARTHEST_AHEAD)
    known = [location.record(()).seq for _ in range(10)][-1]
    clock += 10
    again = own()
    assert again.advance(known)
    assert again.record(()).seq == known + 1


def test_a_mapped_port_stands_beside_the_own_one_for_services_of_this_peer_alone() -> None:
    location = own()
    hosts = Hosts(("10.0.0.1",), observed=("198.51.100.1",))
    assert location.update(hosts)
    assert location.update(replace(hosts, mapped=Endpoint("198.51.100.1", 41000)))
    assert not location.update(replace(hosts, mapped=Endpoint("198.51.100.1", 41000)))
    entries = [read_entry(signed) for signed in location.entries("chat")]
    assert [(one.port, one.provenance) for one in entries] == [
        (4000, Provenance.INTERFACE),
        (4000, Provenance.OBSERVED),
        (41000, Provenance.CONFIGURED),
    ]
    assert len(location.entries("web", port=80)) == 2
    many = tuple(f"10.0.1.{last}" for last in range(1, 30))
    location.update(replace(hosts, own=many, mapped=Endpoint("198.51.100.1", 41000)))
    entries = [read_entry(signed) for signed in location.entries("chat")]
    assert len(entries) == MAX_ENTRIES
    assert entries[-1].port == 41000, "however many addresses there are"
    location.update(replace(hosts, mapped=Endpoint("198.51.100.1", 4000)))
    assert len(location.entries("chat")) == 2, "the same endpoint, once"
