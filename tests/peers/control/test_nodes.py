"""Which node of a relay is tried next."""

from collections import Counter
from random import Random

import pytest

from peers.control.account import KnownRelay
from peers.control.nodes import Nodes
from peers.transport import RelayAddress
from protocol.identity import Identity
from protocol.messages import MAX_NODES, RelayNode

A, B, C, D = (f"http://192.0.2.{number}:8440" for number in range(1, 5))
GUID = Identity.generate().guid


def at(url: str) -> KnownRelay:
    return KnownRelay(RelayAddress(url), GUID)


def order(nodes: Nodes, *configured: str) -> list[str]:
    return [str(way.address) for way in nodes.ways([RelayAddress(url) for url in configured])]


def told(*urls: str, weight: int = 100) -> list[RelayNode]:
    return [RelayNode(url, weight) for url in urls]


def test_what_is_configured_comes_before_what_the_relay_has_named() -> None:
    nodes = Nodes(Random(1).random)
    assert order(nodes, B, A) == [B, A]
    nodes.registered(at(A), told(A, B, C, D))
    found = order(nodes, B, A)
    assert found[:2] == [B, A]
    assert set(found[2:]) == {C, D}
    assert order(nodes, B, A) == found, "chance is asked once"
    ways = nodes.ways([RelayAddress(A)])
    assert ways[0].named_by is None
    assert {way.named_by for way in ways[1:]} == {at(A)} or all(
        way.named_by is not None and way.named_by.guid == GUID for way in ways[1:]
    )


def test_who_is_sent_away_goes_there_and_comes_to_what_goes_down_last() -> None:
    nodes = Nodes(Random(1).random)
    nodes.registered(at(A), told(A, B, C))
    nodes.sent_away(at(A), (B, C))
    found = order(nodes, A)
    assert set(found[:2]) == {B, C}
    assert found[2:] == [A]
    # The second connection of the peer, too, goes to the first of them.
    assert order(nodes, A) == found
    nodes.registered(at(found[0]), told(A, B, C))
    assert order(nodes, A)[0] == A, "it is over"


def test_peers_are_spread_by_weight() -> None:
    firsts: Counter[str] = Counter()
    for seed in range(2000):
        nodes = Nodes(Random(seed).random)
        nodes.registered(at(A), [RelayNode(A, 100), RelayNode(B, 300), RelayNode(C, 100)])
        nodes.sent_away(at(A), (B, C))
        firsts[order(nodes, A)[0]] += 1
    assert 0.7 < firsts[B] / 2000 < 0.8
    assert firsts[B] + firsts[C] == 2000


@pytest.mark.parametrize(
    "url", ["", "no url", "ftp://192.0.2.1", "https://192.0.2.1", f"{B}/path", "http://a\r\nb"]
)
def test_what_is_no_node_is_passed_over(url: str) -> None:
    nodes = Nodes(Random(1).random)
    nodes.registered(at(A), told(url, C))
    nodes.sent_away(at(A), (url,))
    assert order(nodes, A) == [A, C]


def test_no_more_than_so_many_are_kept() -> None:
    nodes = Nodes(Random(1).random)
    for first in range(0, 1000, 20):
        nodes.registered(at(A), told(*(f"http://10.0.{first % 250}.{n}" for n in range(20))))
    assert len(order(nodes, A)) == 1 + MAX_NODES
    assert len(nodes._draws) <= MAX_NODES


def test_where_it_was_sent_is_kept_until_it_is_registered() -> None:
    nodes = Nodes(Random(1).random)
    for turn in range(100):
        urls = tuple(f"http://10.1.{turn}.{n}" for n in range(16))
        nodes.sent_away(at(A), urls)
        assert set(order(nodes, A)) == {A, *urls}
        assert nodes.has_other(RelayAddress(A), [RelayAddress(A)])
    assert len(nodes._draws) <= 2 * MAX_NODES
    nodes.registered(at(A), ())
    assert order(nodes, A) == [A]


def test_whether_there_is_another_one() -> None:
    nodes = Nodes(Random(1).random)
    a = RelayAddress(A)
    assert not nodes.has_other(a, [a])
    assert nodes.has_other(a, [a, RelayAddress(B)])
    nodes.registered(at(A), told(A))
    assert not nodes.has_other(a, [a])
    nodes.registered(at(A), told(A, C))
    assert nodes.has_other(a, [a])
    nodes.told(at(A), ())
    assert nodes.has_other(a, [a]), "who says nothing takes nothing back"
