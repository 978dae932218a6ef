"""The zone's serial number: alike at all nodes, and never lower."""

from itertools import pairwise

from relay.backplane import Directory, Naming, PeerHere, WentElsewhere
from relay.backplane.naming import AHEAD
from tests.relay.backplane.test_directory import GUID, OLD, heard

ZONE = "peers.example.org"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_it_grows_with_each_change_and_is_no_more_than_a_minute_ahead() -> None:
    clock = Clock()
    naming = Naming(ZONE, clock)
    first = naming.serial
    clock.now += 10
    for count in range(1, 11):
        naming.changed()
        assert naming.serial == first + count
    naming.changed()
    assert naming.serial == clock.now + AHEAD, "of more changes than seconds some have one number"
    clock.now += 1000
    naming.changed()
    assert naming.serial == clock.now


def test_who_is_started_anew_begins_above_all_that_it_has_said() -> None:
    clock = Clock()
    naming = Naming(ZONE, clock)
    for _ in range(1000):
        naming.changed()
    assert Naming(ZONE, clock).serial >= naming.serial


def test_the_highest_counts_but_for_another_zone_and_a_clock_that_is_wrong() -> None:
    clock = Clock()
    naming = Naming(ZONE, clock)
    first = naming.serial
    naming.heard(ZONE, first + 5)
    assert naming.serial == first + 5
    for zone, serial in ((ZONE, first), ("example.com", first + 9), (ZONE, 2**32 - 1), ("", 0)):
        naming.heard(zone, serial)
        assert naming.serial == first + 5


def test_who_serves_no_zone_has_none_that_changes() -> None:
    naming = Naming("", lambda: 0.0)
    naming.changed()
    assert naming.serial == AHEAD


def test_what_nodes_say_brings_it_from_one_to_the_other() -> None:
    clock = Clock()
    here, there = Naming(ZONE, clock), Naming(ZONE, clock)
    clock.now += 30
    a, b = Directory("a", 1, naming=here), Directory("b", 1, naming=there)
    heard(a, b.beat(), *b.all_claims())

    def told() -> int:
        heard(a, b.beat())
        assert here.serial == there.serial
        return here.serial

    serials = [told()]
    for seq, named in ((1, b"one"), (1, b"one"), (2, b"one"), (2, b"two"), (3, b""), (4, b"")):
        heard(a, b.came(PeerHere(GUID, seq, OLD, named=named)))
        claim = a.home(GUID)
        assert claim is not None
        assert claim.named == named
        serials.append(told())
    assert [later - one for one, later in pairwise(serials)] == [*(1, 0, 1, 1, 1, 0)]
    heard(a, b.came(PeerHere(GUID, 9, OLD, named=b"one")))
    gone = b.went(WentElsewhere(GUID, 9, OLD, 0.0, True, True, ""))
    assert gone is not None
    heard(a, gone)
    assert told() == serials[-1] + 2
    # Its node is lost with what the zone has shown of it.
    heard(a, b.came(PeerHere(GUID, 10, OLD, named=b"one")))
    before = told()
    list(a.time(100.0))
    assert here.serial == before + 1
