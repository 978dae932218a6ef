"""Who goes first when too many have come."""

import random
from collections import Counter

from relay.http.crowd import Crowd
from relay.limits import WIDE_SHARE


def test_the_network_with_most_loses_its_oldest() -> None:
    crowd: Crowd[str] = Crowd(4)
    assert crowd.first_to_go() is None
    for guest, host in [("quiet", "192.0.2.1"), ("a1", "192.0.2.9"), ("a2", "192.0.2.9")]:
        crowd.enter(guest, host)
    crowd.enter("a3", "192.0.2.9")
    assert not crowd.is_over_full
    crowd.enter("newcomer", "192.0.2.2")
    assert crowd.is_over_full
    assert crowd.first_to_go() == "a1"
    crowd.leave("a1")
    crowd.leave("a1")
    assert (len(crowd), crowd.is_over_full, crowd.count("192.0.2.9")) == (4, False, 2)
    crowd.move("a2", "192.0.2.2")
    assert crowd.first_to_go() == "newcomer", "two of one network now, this one the older"
    crowd.move("a1", "192.0.2.2")
    assert "a1" not in crowd


def test_a_host_with_many_networks_has_a_share_of_the_wider_one() -> None:
    crowd: Crowd[int] = Crowd(100)
    for guest in range(2 * WIDE_SHARE):
        crowd.enter(guest, f"2001:db8:1:{guest:x}::1")
    for guest in (100, 101):
        crowd.enter(guest, "192.0.2.1")
    assert crowd.first_to_go() == 100, "as many as a wide network may have"
    crowd.enter(50, "2001:db8:1:ffff::1")
    assert crowd.first_to_go() == 0, "one more than that"


def test_against_counting_anew() -> None:
    chance = random.Random(7)
    crowd: Crowd[int] = Crowd(1000)
    there: dict[int, str] = {}
    for step in range(1_500):
        if there and chance.random() < 0.45:
            guest = crowd.first_to_go() if chance.random() < 0.5 else chance.choice(list(there))
            assert guest is not None
            crowd.leave(guest)
            del there[guest]
        else:
            there[step] = f"192.0.{chance.randrange(12)}.1"
            crowd.enter(step, there[step])
        if there:
            counts = Counter(there.values())
            first = crowd.first_to_go()
            assert first is not None
            assert counts[there[first]] == max(counts.values())
            oldest = next(guest for guest, host in there.items() if host == there[first])
            assert first == oldest
