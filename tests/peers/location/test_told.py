"""What a peer tells of itself: its addresses, where they are from, and what they are for."""

from peers import Identity, Phase, Provenance
from peers.location.told import Hosts, OwnLocation
from protocol.endpoint import read_entry


def own(*configured: str) -> OwnLocation:
    return OwnLocation(Identity.generate(), 4000, configured=configured, lifetime=60)


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
