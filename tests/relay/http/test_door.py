"""Who is let in."""

import pytest

from protocol.errors import Code
from relay.config import RelayConfig
from relay.http.descriptors import Descriptors
from relay.http.door import Doorkeeper, Rules, TurnedAway
from relay.http.origin import Origin, Proxies
from relay.metrics import Metrics


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def door(config: RelayConfig, descriptors: int = 1 << 16, clock: Clock | None = None) -> Doorkeeper:
    rules = Rules(config, Proxies(config.trusted_proxies), Descriptors(descriptors))
    return Doorkeeper(rules, Metrics(), clock or Clock())


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


def test_too_often_says_when() -> None:
    doorkeeper = door(RelayConfig(connects_per_second=0.5, connects_burst=1))
    with doorkeeper.admit(at("a"), 0.0):
        assert turned_away(doorkeeper, "a").retry_after == 2.0
        assert doorkeeper.inside == 1, "who is turned away has no place"


def test_nobody_while_it_drains() -> None:
    doorkeeper = door(RelayConfig())
    doorkeeper.draining = True
    assert turned_away(doorkeeper, "a").code is Code.RESTARTING
