"""Who is let in."""

import pytest
from multidict import CIMultiDict

from protocol.errors import Code
from relay.config import RelayConfig
from relay.http.descriptors import Descriptors
from relay.http.door import Doorkeeper, Rules, TurnedAway
from relay.http.origin import Origin, Proxies
from relay.metrics import Metrics


def door(config: RelayConfig, descriptors: int = 1 << 16) -> Doorkeeper:
    rules = Rules(config, Proxies(config.trusted_proxies or ()), Descriptors(descriptors))
    return Doorkeeper(rules, Metrics())


def at(host: str) -> Origin:
    return Origin(host, 5)


def turned_away(doorkeeper: Doorkeeper, host: str, now: float = 0.0) -> TurnedAway:
    with pytest.raises(TurnedAway) as caught:
        doorkeeper.admit(at(host), now)
    return caught.value


def test_bounds_on_each_address_and_on_all() -> None:
    doorkeeper = door(RelayConfig(max_connections=3, max_connections_per_address=2))
    places = [doorkeeper.admit(at("a"), 0.0), doorkeeper.admit(at("a"), 0.0)]
    refused = turned_away(doorkeeper, "a")
    assert (refused.code, refused.retry_after) == (Code.LIMIT_EXCEEDED, 1.0)
    places.append(doorkeeper.admit(at("b"), 0.0))
    turned_away(doorkeeper, "c")
    assert doorkeeper.inside == 3
    for place in places:
        with place:
            pass
    assert doorkeeper.inside == 0


def test_an_ipv6_network_is_one_and_the_one_around_it_has_a_share() -> None:
    doorkeeper = door(RelayConfig(max_connections_per_address=2))
    for number in range(2):
        doorkeeper.admit(at(f"2001:db8:1:1::{number:x}"), 0.0)
    turned_away(doorkeeper, "2001:db8:1:1::ffff")
    for number in range(6):
        doorkeeper.admit(at(f"2001:db8:1:{number + 2:x}::1"), 0.0)
    turned_away(doorkeeper, "2001:db8:1:ff::1")
    doorkeeper.admit(at("2001:db8:2:ff::1"), 0.0)
    often = door(RelayConfig(connects_per_second=1.0, connects_burst=1))
    for number in range(4):
        often.admit(at(f"2001:db8:1:{number:x}::1"), 0.0)
    turned_away(often, "2001:db8:1:1::2")
    turned_away(often, "2001:db8:1:ff::1")


def test_who_came_by_a_proxy_that_does_not_tell_is_charged_to_it() -> None:
    doorkeeper = door(RelayConfig(max_connections_per_address=1))
    doorkeeper.admit(Origin("192.0.2.7", 5, "127.0.0.1"), 0.0)
    doorkeeper.admit(Origin("", 0, "127.0.0.1"), 0.0)
    with pytest.raises(TurnedAway):
        doorkeeper.admit(Origin("", 0, "127.0.0.1"), 0.0)


def test_too_often_says_when() -> None:
    doorkeeper = door(RelayConfig(connects_per_second=0.5, connects_burst=1))
    with doorkeeper.admit(at("a"), 0.0):
        assert turned_away(doorkeeper, "a").retry_after == 2.0
        assert doorkeeper.inside == 1, "who is turned away has no place"


def test_nobody_while_it_drains() -> None:
    doorkeeper = door(RelayConfig())
    doorkeeper.draining = True
    assert turned_away(doorkeeper, "a").code is Code.RESTARTING


class Guest:
    def __init__(self) -> None:
        self.dropped = ""

    def drop(self, reason: str) -> None:
        self.dropped = reason


FEW = 20


def test_the_network_with_most_makes_room_for_a_newcomer() -> None:
    doorkeeper = door(RelayConfig(max_newcomers=3))
    flood = [Guest() for _ in range(5)]
    quiet, newcomer = Guest(), Guest()
    assert doorkeeper.arrive(quiet, "192.0.2.1", FEW)
    for guest in flood:
        assert doorkeeper.arrive(guest, "192.0.2.66", FEW)
    assert [bool(guest.dropped) for guest in flood] == [True, True, True, False, False]
    assert doorkeeper.arrive(newcomer, "192.0.2.2", FEW)
    assert flood[3].dropped == "crowded_out"
    assert (quiet.dropped, newcomer.dropped, doorkeeper.newcomers) == ("", "", 3)
    for guest in (quiet, newcomer, *flood):
        doorkeeper.left(guest)
    assert doorkeeper.newcomers == 0


def test_whoever_has_proven_itself_is_none_of_the_crowd() -> None:
    doorkeeper = door(RelayConfig(max_newcomers=1))
    peer, stranger = Guest(), Guest()
    assert doorkeeper.arrive(peer, "192.0.2.66", FEW)
    doorkeeper.proven(peer, "192.0.2.66")
    assert doorkeeper.arrive(stranger, "192.0.2.66", FEW)
    assert not peer.dropped


def test_a_guest_counts_where_it_turns_out_to_come_from() -> None:
    doorkeeper = door(RelayConfig(max_newcomers=2, trusted_proxies=("127.0.0.1",)))
    first, second, third = Guest(), Guest(), Guest()
    for guest, client in ((first, "192.0.2.1"), (second, "192.0.2.66")):
        doorkeeper.arrive(guest, "127.0.0.1", FEW)
        headers = CIMultiDict({"X-Forwarded-For": client})
        assert doorkeeper.origin(guest, at("127.0.0.1"), headers).host == client
    doorkeeper.arrive(third, "192.0.2.66", FEW)
    assert (first.dropped, second.dropped) == ("", "crowded_out")


def test_the_last_descriptors_are_for_known_networks_and_the_very_last_for_none() -> None:
    descriptors = Descriptors(1_024)
    doorkeeper = door(RelayConfig(), 1_024)
    known, stranger, silent = Guest(), Guest(), Guest()
    doorkeeper.arrive(known, "192.0.2.1", FEW)
    doorkeeper.proven(known, "192.0.2.1")
    assert not doorkeeper.arrive(stranger, "192.0.2.2", descriptors.for_strangers)
    assert stranger.dropped == "descriptors", "there was nobody else to go"
    again = Guest()
    assert doorkeeper.arrive(again, "192.0.2.1", descriptors.for_strangers)
    assert not again.dropped
    assert doorkeeper.arrive(Guest(), "192.0.2.1", descriptors.for_known)
    assert again.dropped == "descriptors"
    doorkeeper = door(RelayConfig(), 1_024)
    doorkeeper.arrive(silent, "192.0.2.66", FEW)
    doorkeeper.arrive(Guest(), "192.0.2.66", FEW)
    assert doorkeeper.arrive(Guest(), "192.0.2.2", descriptors.for_strangers)
    assert silent.dropped == "descriptors"


@pytest.mark.parametrize("limit", [64, 256, 1_024, 65_536, 1 << 20])
def test_shares_of_descriptors(limit: int) -> None:
    descriptors = Descriptors(limit)
    assert 0 < descriptors.share < descriptors.connections < descriptors.for_strangers
    assert descriptors.for_strangers < descriptors.for_known < limit


def test_many_from_one_near_address_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    doorkeeper = door(RelayConfig())
    for host in ("10.1.1.1", "203.0.113.1"):
        for _ in range(40):
            doorkeeper.admit(at(host), 0.0)
    assert caplog.text.count('trusted_proxies = ["10.1.1.1"]') == 1
    assert "203.0.113.1" not in caplog.text
    for _ in range(2):
        doorkeeper.origin(Guest(), at("127.0.0.1"), CIMultiDict({"Via": "1.1 proxy"}))
    assert caplog.text.count('trusted_proxies = ["127.0.0.1"]') == 1
