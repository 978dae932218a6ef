"""Who is registered: a machine, walked without a connection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.endpoint import Entry, Phase, Provenance, read_entry, sign_entry
from protocol.errors import Code, ProtocolViolation
from protocol.identity import Identity
from protocol.messages import LocationRecord, PeerState, ServiceRecord
from relay.presence import Registry
from tests.relay.fakes import FakeAttachment

GRACE = 30.0


def new(max_offline: int = 10) -> Registry:
    return Registry(grace=GRACE, remember=100.0, max_offline=max_offline)


def record(seq: int, *services: str) -> LocationRecord:
    return LocationRecord(seq, tuple(ServiceRecord(name) for name in services))


def state(registry: Registry, one: FakeAttachment, now: float) -> PeerState:
    known = registry.get(one.guid) or registry.gone(one.guid)
    assert known is not None
    return registry.state(known, now)


def test_a_lost_peer_is_suspect_and_then_offline() -> None:
    registry, bob = new(), FakeAttachment()
    assert registry.register(bob, record(1, "chat"), 0.0) == []
    assert state(registry, bob, 0.0) is PeerState.ONLINE
    registry.remove(bob, 5.0, closed=False)
    assert state(registry, bob, 5.0 + GRACE - 1) is PeerState.SUSPECT
    assert state(registry, bob, 5.0 + GRACE) is PeerState.OFFLINE


def test_a_peer_that_says_farewell_is_offline_at_once() -> None:
    registry, bob = new(), FakeAttachment()
    registry.register(bob, record(1), 0.0)
    registry.remove(bob, 5.0, closed=True)
    assert state(registry, bob, 5.0) is PeerState.OFFLINE


def test_the_same_place_is_taken_over_and_another_program_takes_all() -> None:
    registry = new()
    first = FakeAttachment()
    second = FakeAttachment(first.guid, 1, first.instance)
    again = FakeAttachment(first.guid, 0, first.instance)
    clone = FakeAttachment(first.guid)
    assert registry.register(first, record(1), 0.0) == []
    assert registry.register(second, record(2), 0.0) == []
    assert registry.register(again, record(3), 0.0) == [first]
    assert not registry.remove(first, 1.0, closed=False), "it cannot remove its successor"
    assert registry.register(clone, record(4), 0.0) == [second, again]
    known = registry.get(first.guid)
    assert known is not None
    assert known.primary is clone


@pytest.mark.parametrize("seq", [1, 2])
def test_a_record_must_be_newer(seq: int) -> None:
    registry, bob = new(), FakeAttachment()
    registry.register(bob, record(2, "chat"), 0.0)
    for change in (registry.register, registry.update):
        with pytest.raises(ProtocolViolation) as caught:
            change(FakeAttachment(bob.guid), record(seq, "mail"), 0.0)
        assert caught.value.code is Code.STALE_SEQUENCE
    known = registry.get(bob.guid)
    assert known is not None
    assert list(known.services) == ["chat"], "nothing has changed"
    assert known.primary is bob


def test_of_who_has_gone_a_few_words_are_left() -> None:
    registry, bob = new(), FakeAttachment()
    registry.register(bob, record(7, "chat"), 0.0)
    bob.heard = 4.0
    registry.remove(bob, 5.0, closed=True)
    gone = registry.gone(bob.guid)
    assert registry.get(bob.guid) is None
    assert gone is not None
    assert (gone.instance, gone.seq, gone.last_seen(6.0), gone.shown) == (
        bob.instance,
        7,
        2.0,
        True,
    )
    assert registry.counts(6.0) == {"online": 0, "suspect": 0, "offline": 1}
    registry.register(bob, record(8), 9.0)
    assert registry.gone(bob.guid) is None
    assert registry.counts(9.0) == {"online": 1, "suspect": 0, "offline": 0}


def test_who_is_offline_is_forgotten_when_it_is_old() -> None:
    registry = new()
    peers = [FakeAttachment() for _ in range(3)]
    for number, one in enumerate(peers):
        registry.register(one, record(1), 0.0)
        if number < 2:
            registry.remove(one, float(number), closed=True)
    registry.forget(100.5)
    assert [registry.gone(one.guid) is None for one in peers[:2]] == [True, False]
    registry.forget(1e9)
    assert len(registry) == 1, "who is here is never forgotten"


def test_one_network_cannot_have_the_others_forgotten() -> None:
    registry, quiet = new(max_offline=10), FakeAttachment()
    quiet.observed_host = "192.0.2.1"
    strangers = [FakeAttachment() for _ in range(50)]
    for number, one in enumerate([quiet, *strangers]):
        if one is not quiet:
            one.observed_host = f"2001:db8:0:1::{number:x}"
        registry.register(one, record(1), 0.0)
        registry.remove(one, float(number), closed=False)
    assert registry.gone(quiet.guid) is not None
    left = [registry.gone(one.guid) is not None for one in strangers]
    assert left == [False] * 45 + [True] * 5, "its own oldest make room"
    assert registry.counts(50.0) == {"online": 0, "suspect": 5, "offline": 1}


def test_who_was_known_before_a_restart_has_the_grace_to_come_back() -> None:
    registry, bob, never = new(), FakeAttachment(), FakeAttachment()
    registry.started(100.0)
    registry.recall(bob.guid, "192.0.2.1", 101.0, 50.0, shown=True)
    assert state(registry, bob, 101.0 + GRACE - 1) is PeerState.SUSPECT
    assert state(registry, bob, 101.0 + GRACE) is PeerState.OFFLINE
    assert registry.unknown(159.0).retry_after is not None
    assert registry.unknown(160.0).retry_after is None
    registry.register(never, record(1), 102.0)
    registry.register(bob, record(1), 102.0)
    for one in (never, bob):
        registry.recall(one.guid, "192.0.2.1", 103.0, 50.0, shown=True)
        assert registry.gone(one.guid) is None, "who is here already is not recalled"


@given(
    st.lists(
        st.tuples(st.sampled_from(["register", "remove", "forget"]), st.integers(0, 5)),
        max_size=40,
    )
)
def test_online_is_who_has_a_connection(events: list[tuple[str, int]]) -> None:
    registry, guid = new(), FakeAttachment().guid
    instances = (b"a" * 16, b"b" * 16)
    live: list[FakeAttachment] = []
    now = 0.0
    for event, number in events:
        now += number
        match event:
            case "register":
                one = FakeAttachment(guid, number % 3, instances[number % 2])
                superseded = registry.register(one, record(int(now * 100) + len(live) + 1), now)
                assert all(old in live for old in superseded)
                live = [old for old in live if old not in superseded] + [one]
                now += 1
            case "remove" if live:
                one = live.pop(number % len(live))
                assert registry.remove(one, now, closed=bool(number % 2))
                assert not registry.remove(one, now, closed=False)
            case "forget":
                registry.forget(now)
        known = registry.get(guid)
        assert (known is not None) == bool(live)
        assert known is None or registry.gone(guid) is None
        if known is not None:
            assert set(map(id, known.flows.values())) == set(map(id, live))
            assert (registry.state(known, now) is PeerState.ONLINE) == bool(live)


PRIVATE, SHARED, LOCAL, ELSEWHERE, PUBLIC = (
    ("192.168.1.7", "fd00:1::7"),
    ("100.64.0.9",),
    ("127.0.0.7", "169.254.1.1", "fe80::7", "::1"),
    ("198.51.100.3", "2001:db8:9::1"),
    "203.0.113.5",
)


def told_to(asker: str, seen_at: str) -> set[str]:
    """Return the hosts of one's entries that who asks from an address is told, in both ways."""
    registry, own = new(), Identity.generate()
    bob = FakeAttachment(own.guid)
    bob.observed_host = seen_at
    hosts = (*PRIVATE, *SHARED, *LOCAL, *ELSEWHERE)
    places = (
        Entry(1, "chat", host, 7000, Phase.PREFERRED, 120, Provenance.INTERFACE) for host in hosts
    )
    entries = tuple(sign_entry(own, place) for place in places)
    services = (ServiceRecord("chat", entries),)
    registry.register(bob, LocationRecord(1, services), 0.0)
    known = registry.get(own.guid)
    assert known is not None
    looked_up = known.disclosable("chat", asker)
    for other in ("192.0.2.1", asker):  # What another was told is not what this one is told.
        known.filter("chat", entries, other)
        found = known.filter("chat", entries, asker)
    assert set(found) == set(looked_up)
    return {read_entry(one).host for one in found}


def test_private_addresses_are_for_who_is_seen_at_the_same_public_one() -> None:
    """They are behind one NAT: nobody but the relay can tell. Loopback and link-local mean another
    host there, and an address elsewhere is as unproven as before."""
    assert told_to(PUBLIC, PUBLIC) == {*PRIVATE, *SHARED}
    assert told_to("2001:db8::5", "2001:db8::5") == {*PRIVATE, *SHARED}


@pytest.mark.parametrize(
    ("asker", "seen_at"),
    [
        ("203.0.113.6", PUBLIC),
        ("", PUBLIC),
        ("", ""),
        # A relay inside sees each where it is; and behind a proxy that tells nothing all are one.
        ("192.168.1.9", "192.168.1.9"),
        ("127.0.0.1", "127.0.0.1"),
        ("100.64.0.1", "100.64.0.1"),
    ],
)
def test_for_others_they_are_nobodys(asker: str, seen_at: str) -> None:
    assert not {*PRIVATE, *SHARED} & (told_to(asker, seen_at) - {asker})
