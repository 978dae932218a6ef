"""Who is let in."""

import pytest

from protocol.errors import Code
from relay.config import RelayConfig
from relay.http.door import Doorkeeper, TurnedAway


def turned_away(doorkeeper: Doorkeeper, host: str, now: float = 0.0) -> TurnedAway:
    with pytest.raises(TurnedAway) as caught:
        doorkeeper.admit(host, now)
    return caught.value


def test_bounds_on_each_address_and_on_all() -> None:
    doorkeeper = Doorkeeper(RelayConfig(max_connections=3, max_connections_per_address=2))
    places = [doorkeeper.admit("a", 0.0), doorkeeper.admit("a", 0.0)]
    refused = turned_away(doorkeeper, "a")
    assert (refused.code, refused.retry_after) == (Code.LIMIT_EXCEEDED, 1.0)
    places.append(doorkeeper.admit("b", 0.0))
    turned_away(doorkeeper, "c")
    assert doorkeeper.inside == 3
    for place in places:
        with place:
            pass
    assert doorkeeper.inside == 0


def test_too_often_says_when() -> None:
    doorkeeper = Doorkeeper(RelayConfig(connects_per_second=0.5, connects_burst=1))
    with doorkeeper.admit("a", 0.0):
        assert turned_away(doorkeeper, "a").retry_after == 2.0
        assert doorkeeper.inside == 1, "who is turned away has no place"


def test_nobody_while_it_drains() -> None:
    doorkeeper = Doorkeeper(RelayConfig())
    doorkeeper.draining = True
    assert turned_away(doorkeeper, "a").code is Code.RESTARTING
