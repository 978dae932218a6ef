"""Shares: who has most gives way, and who has little is served."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.limits import Bounds, Cause, Shares, cause_of

BOUNDS = Bounds(in_all=12, wide=10, network=8, key=4)


def fill(shares: Shares[str], host: str, keys: int, each: int = 1) -> list[str]:
    """Take what can be had with so many keys of one host; return what gave way."""
    gave = []
    for key in range(keys):
        for number in range(each):
            gone = shares.add(cause_of(host, f"k{key}"), f"{host}/k{key}/{number}")
            gave += gone or ()
    return gave


def test_a_key_has_its_share_and_no_more() -> None:
    shares: Shares[str] = Shares(BOUNDS)
    alice = cause_of("192.0.2.1", "alice")
    assert [shares.add(alice, str(number)) for number in range(5)] == [()] * 4 + [None]
    assert not shares.has_room(alice)
    assert shares.of(alice) == len(shares) == 4
    assert shares.remove("0")
    assert not shares.remove("0")
    assert shares.add(alice, "again") == ()


def test_fresh_keys_of_one_network_take_from_one_another_alone() -> None:
    shares: Shares[str] = Shares(BOUNDS)
    shares.add(cause_of("2001:db8::1", "quiet"), "quiet")
    gave = [
        gone
        for number in range(1000)
        for gone in shares.add(cause_of(f"2001:db8:0:1::{number:x}", f"k{number}"), str(number))
        or ()
    ]
    assert len(gave) == 1000 - BOUNDS.network
    assert "quiet" in shares
    assert shares.add(cause_of("2001:db8::2", "newcomer"), "newcomer") == ()


def test_where_all_is_used_the_heaviest_loses_its_oldest() -> None:
    shares: Shares[str] = Shares(BOUNDS)
    fill(shares, "192.0.2.1", keys=2, each=4)
    fill(shares, "198.51.100.1", keys=1, each=4)
    assert len(shares) == BOUNDS.in_all
    assert shares.has_room(cause_of("203.0.113.1", "new"))
    assert shares.add(cause_of("203.0.113.1", "new"), "first") == ("192.0.2.1/k0/0",)
    assert shares.add(cause_of("203.0.113.1", "new"), "second", lambda all_: list(all_)[-1]) == (
        "192.0.2.1/k1/3",
    ), "the heaviest key of the heaviest network; what it loses can be chosen"
    assert shares.add(cause_of("192.0.2.1", "k9"), "own") == ("192.0.2.1/k0/1",), (
        "a new key of the heaviest network takes from its neighbors"
    )


def test_who_has_most_gets_no_more() -> None:
    shares: Shares[str] = Shares(Bounds(in_all=3, wide=3, network=3, key=3))
    alice = cause_of("192.0.2.1", "alice")
    for number in range(3):
        assert shares.add(alice, str(number)) == ()
    assert shares.add(alice, "more") is None
    assert shares.add(cause_of("192.0.2.1", "bob"), "bob") == ("0",)
    assert shares.add(alice, "more") is None, "two and one: alice has most"


def test_the_usual_shares() -> None:
    assert Bounds.of(100) == Bounds(100, 75, 50, 25)
    assert Bounds.of(100, key=7).key == 7
    assert Bounds.of(1) == Bounds(1, 1, 1, 1)


CAUSES = [Cause(wide, wide + network, key) for wide in "ab" for network in "xy" for key in "kl"]


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, len(CAUSES) - 1), st.integers(0, 99)), max_size=80
    )
)
def test_no_bound_is_passed_and_nobody_loses_to_one_who_has_more(
    events: list[tuple[bool, int, int]],
) -> None:
    bounds = Bounds(in_all=9, wide=7, network=5, key=3)
    shares: Shares[int] = Shares(bounds)
    held: dict[int, Cause] = {}
    for number, (adds, index, pick) in enumerate(events):
        if not adds:
            if held:
                item = list(held)[pick % len(held)]
                del held[item]
                assert shares.remove(item)
            continue
        cause = CAUSES[index]
        keys = Counter((one.network, one.key) for one in held.values())
        room = shares.has_room(cause)
        gone = shares.add(cause, number)
        assert room == (gone is not None)
        for item in gone or ():
            loser = held.pop(item)
            assert loser != cause
            if loser.network == cause.network:
                assert keys[cause.network, cause.key] < keys[loser.network, loser.key]
        if gone is not None:
            held[number] = cause
        assert set(shares) == set(held)
        for depth, bound in ((1, bounds.wide), (2, bounds.network), (3, bounds.key)):
            counts = Counter(one[:depth] for one in held.values())
            assert all(count <= bound for count in counts.values())
        assert len(shares) <= bounds.in_all
    for item in held:
        assert shares.remove(item)
    assert len(shares) == 0


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_what_is_not_proven_is_its_networks(host: str) -> None:
    shares: Shares[int] = Shares(BOUNDS)
    taken = [shares.add(cause_of(host), number) for number in range(BOUNDS.network + 1)]
    assert taken == [()] * BOUNDS.network + [None], "it has no key, and no share of a key"


def test_who_is_the_heaviest_by_weight_gives_way() -> None:
    shares: Shares[str] = Shares(Bounds(in_all=20, wide=20, network=12, key=20))
    alice, mallory = cause_of("192.0.2.1", "alice"), cause_of("198.51.100.1", "mallory")
    assert shares.weigh(mallory, "m1", 6) == ()
    assert shares.weigh(cause_of("198.51.100.1", "other"), "m2", 5) == ()
    assert not shares.bears(mallory, "m1", 8), "its network has no more"
    assert shares.bears(mallory, "m1", 7), "what it has is given up for it"
    assert shares.weigh(alice, "a", 8) == ()
    assert shares.weight == 19
    assert shares.bears(alice, "a", 9)
    assert shares.weigh(alice, "a", 10) == ("m1",)
    assert shares.weigh(alice, "a", 1) == ()
    assert shares.remove("a")
    assert shares.remove("m2")
    assert shares.weight == len(shares) == 0
