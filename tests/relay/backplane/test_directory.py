"""Where each peer is comes to the same at every node, in whichever order it hears."""

import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.identity import Identity
from relay.backplane import (
    LOST,
    CameElsewhere,
    Claim,
    Directory,
    NodeLost,
    NodeMessage,
    NodeNow,
    Outranked,
    PeerHere,
    Say,
    TellAll,
    WentElsewhere,
)
from relay.backplane.directory import STEPPED_BACK
from relay.backplane.messages import PIECE, Beat, Came, Known, Tell

GUID = Identity.generate().guid
OTHER = Identity.generate().guid
OLD, NEW = b"\x01" * 16, b"\x02" * 16


def left(guid: str, seq: int, instance: bytes = OLD) -> WentElsewhere:
    return WentElsewhere(guid, seq, instance, 1.5, False, True, "192.0.2.1")


def heard(directory: Directory, *messages: NodeMessage, now: float = 0.0) -> list[object]:
    return [event for message in messages for event in directory.hear(message, now)]


def met(here: Directory, there: Directory, now: float = 0.0) -> list[object]:
    """Two nodes learn all of one another."""
    events = heard(here, there.beat(), *there.all_claims(), now=now)
    return events + heard(there, here.beat(), *here.all_claims(), now=now)


def test_a_new_node_is_asked_for_all() -> None:
    here, there = Directory("a", 1), Directory("b", 1, ("http://b",))
    there.came(PeerHere(GUID, 4, OLD, "192.0.2.1"))
    assert heard(here, there.beat()) == [Say("b", Tell("a", 1))]
    assert not here.is_whole
    assert heard(there, Tell("a", 1)) == [Say("a", Tell("b", 1)), TellAll("a")]
    (claim,) = (claim for piece in there.all_claims() for claim in piece.claims)
    assert heard(here, *there.all_claims()) == [CameElsewhere(claim)]
    assert here.is_whole
    assert here.home(GUID) == claim == Claim(GUID, 4, OLD, "b", 1, "192.0.2.1")
    assert here.nodes == {"b": ("http://b",)}


def test_who_looks_after_a_node_is_told_of_all() -> None:
    here, there = Directory("a", 1), Directory("b", 1)
    there.came(PeerHere(GUID, 4, OLD, "192.0.2.1"))
    heard(here, there.beat(), now=1.0)
    assert here.nodes_now(3.0, is_in=False) == [
        NodeNow("a", 0, None, False),
        NodeNow("b", 0, 2.0, False),
    ]
    heard(here, *there.all_claims(), now=3.0)
    assert here.nodes_now(3.0, is_in=True)[1] == NodeNow("b", 1, 0.0, True)


def test_who_has_just_come_is_answered_with_a_beat() -> None:
    here, there = Directory("a", 1), Directory("b", 1)
    met(here, there)
    assert heard(there, here.beat(is_new=True)) == [Say("a", there.beat())]


def test_a_peer_comes_moves_and_goes() -> None:
    here, there = Directory("a", 1), Directory("b", 1)
    met(here, there)
    came = there.came(PeerHere(GUID, 1, OLD, ""))
    assert heard(here, came) == [CameElsewhere(came.claim)]
    went = there.went(left(GUID, 1))
    assert went is not None
    assert heard(here, went) == [left(GUID, 1)]
    assert here.home(GUID) is None
    assert there.went(left(GUID, 1)) is None, "it is not there any more"
    came = there.came(PeerHere(GUID, 2, OLD, ""))
    heard(here, came)
    own = here.came(PeerHere(GUID, 3, NEW, ""))
    assert here.home(GUID) is None, "it is here"
    assert heard(there, own) == [Outranked(own.claim), CameElsewhere(own.claim)]
    assert there.home(GUID) == own.claim
    withdrawn = there.went(left(GUID, 2))
    assert withdrawn is not None
    assert heard(here, withdrawn) == [], "it is here, and has not gone"


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(
    ("one", "other"),
    [((5, OLD), (6, OLD)), ((7, NEW), (6, OLD)), ((5, OLD), (5, NEW)), ((5, NEW), (5, NEW))],
    ids=["record", "record, not instance", "instance", "name"],
)
def test_of_two_at_the_same_instant_one_is_left(
    one: tuple[int, bytes], other: tuple[int, bytes], swap: bool
) -> None:
    a, b, c = Directory("a", 1), Directory("b", 2), Directory("c", 3)
    for here, there in ((a, b), (a, c), (b, c)):
        met(here, there)
    at_a, at_b = a.came(PeerHere(GUID, *one, "")), b.came(PeerHere(GUID, *other, ""))
    outranked = [
        *(("b", event) for event in heard(b, at_a) if isinstance(event, Outranked)),
        *(("a", event) for event in heard(a, at_b) if isinstance(event, Outranked)),
    ]
    heard(c, *((at_b, at_a) if swap else (at_a, at_b)))
    ((loser, event),) = outranked
    winner = event.claim.node
    assert {loser, winner} == {"a", "b"}
    assert {where(one) for one in (a, b, c)} == {winner}


def where(directory: Directory) -> str:
    claim = directory.home(GUID)
    return claim.node if claim is not None else directory.beat().node


def test_what_was_missed_is_asked_for() -> None:
    here, there = Directory("a", 1), Directory("b", 1)
    met(here, there)
    there.came(PeerHere(GUID, 1, OLD, ""))
    later = there.came(PeerHere(OTHER, 1, OLD, ""))
    assert heard(here, later) == [CameElsewhere(later.claim), Say("b", Tell("a", 1))]
    assert {event.claim.guid for event in heard(here, *there.all_claims())} == {GUID}  # type: ignore[attr-defined]
    assert here.is_whole
    # A loss behind which nothing is announced is seen by the beat.
    there.went(left(GUID, 1))
    assert heard(here, there.beat()) == [Say("b", Tell("a", 1))]
    (event,) = heard(here, *there.all_claims())
    assert isinstance(event, WentElsewhere)
    assert (event.guid, event.shown) == (GUID, False), "nobody has told more of it"
    assert heard(here, there.beat()) == []


def test_who_goes_while_all_is_told_does_not_come_back() -> None:
    here, there = Directory("a", 1), Directory("b", 1)
    for number in range(PIECE + 1):
        there.came(PeerHere(f"{number:052}", 1, OLD, ""))
    pieces = list(there.all_claims())
    assert [len(piece.claims) for piece in pieces] == [PIECE, 1]
    heard(here, there.beat(), pieces[0])
    went = there.went(left(f"{PIECE:052}", 1))
    assert went is not None
    heard(here, went)
    assert not here.is_whole
    heard(here, pieces[1])
    assert here.is_whole
    assert here.home(f"{PIECE:052}") is None
    assert heard(here, there.beat()) == []
    assert len(here) == PIECE


def test_a_gap_while_all_is_told_is_asked_for_again() -> None:
    here, there = Directory("a", 1), Directory("b", 1)
    heard(here, there.beat())
    pieces = list(there.all_claims())
    there.came(PeerHere(GUID, 1, OLD, ""))
    second = there.came(PeerHere(OTHER, 1, OLD, ""))
    heard(here, second)
    assert heard(here, *pieces) == [Say("b", Tell("a", 1))]
    heard(here, *there.all_claims())
    assert here.is_whole
    assert here.home(GUID) is not None


def test_all_is_asked_for_again_where_no_answer_comes() -> None:
    here, there = Directory("a", 1), Directory("b", 1)
    heard(here, there.beat())
    assert list(here.time(1.0)) == []
    heard(here, there.beat(), now=2.0)
    assert list(here.time(2.0)) == [Say("b", Tell("a", 1))]
    assert list(here.time(2.1)) == []


def test_a_silent_node_is_lost_with_all_that_it_claims() -> None:
    here, there = Directory("a", 1), Directory("b", 1)
    there.came(PeerHere(GUID, 3, OLD, "192.0.2.1", True, True))
    met(here, there)
    assert list(here.time(LOST - 0.1)) == []
    lost, gone = here.time(LOST)
    assert lost == NodeLost("b")
    assert gone == WentElsewhere(GUID, 3, OLD, LOST, False, True, "192.0.2.1")
    assert (here.nodes, len(here)) == ({}, 0)
    # It was away: all of it is new.
    assert heard(here, there.beat(), now=10.0) == [Say("b", Tell("a", 1))]


def test_who_was_away_itself_takes_nobody_for_lost() -> None:
    here, there = Directory("a", 1), Directory("b", 1)
    met(here, there)
    here.silent(30.0)
    assert list(here.time(32.0)) == []
    assert NodeLost("b") in list(here.time(33.0))


def test_a_node_says_that_it_ends() -> None:
    here, there = Directory("a", 1), Directory("b", 1)
    there.came(PeerHere(GUID, 3, OLD, ""))
    met(here, there)
    assert [type(event) for event in heard(here, there.bye())] == [NodeLost, WentElsewhere]
    assert heard(here, there.bye()) == []


def test_a_node_that_begins_anew_has_nothing_of_before() -> None:
    here, before, after = Directory("a", 1), Directory("b", 1), Directory("b", 2)
    before.came(PeerHere(GUID, 3, OLD, ""))
    met(here, before)
    events = heard(here, after.beat())
    assert [type(event) for event in events] == [NodeLost, WentElsewhere, Say]
    late = before.came(PeerHere(OTHER, 1, OLD, ""))
    assert heard(here, late) == [], "of a program that has ended"
    assert here.home(OTHER) is None


def test_of_two_with_one_name_the_later_one_has_it() -> None:
    first, second = Directory("a", 1), Directory("a", 2)
    heard(second, first.beat())
    heard(first, second.beat())
    assert first.has_namesake(0.0)
    assert not second.has_namesake(0.0)
    assert not first.has_namesake(STEPPED_BACK)
    heard(first, second.bye(), now=STEPPED_BACK)
    assert not first.has_namesake(STEPPED_BACK), "it has ended"
    assert first.heard_self < 0
    heard(first, first.beat(), now=3.0)
    assert first.heard_self == 3.0


def test_what_comes_twice_or_late_changes_nothing() -> None:
    here, there = Directory("a", 1), Directory("b", 1)
    met(here, there)
    came = there.came(PeerHere(GUID, 1, OLD, ""))
    went = there.went(left(GUID, 1))
    assert went is not None
    heard(here, came, went)
    again = there.came(PeerHere(GUID, 2, OLD, ""))
    heard(here, again)
    assert heard(here, went, came) == []
    assert here.home(GUID) == again.claim
    # Nobody claims for another node.
    forged = Came("b", 1, Claim(OTHER, 9, OLD, "c", 9))
    heard(here, forged)
    assert here.home(OTHER) is None
    assert heard(here, Known("b", 1, 9, (), True)) == [] or here.is_whole


@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 2), min_size=1, max_size=12))
@settings(deadline=None)
def test_every_order_comes_to_the_same(rng: random.Random, moves: list[int]) -> None:
    """A peer moves between nodes, messages are lost, doubled and come in any order between two
    nodes; when all is quiet every node says the same."""
    nodes = [Directory(name, 1) for name in "abc"]
    for number, one in enumerate(nodes):
        for other in nodes[number + 1 :]:
            met(one, other)
    flying: list[tuple[int, NodeMessage]] = []
    here: set[int] = set()

    def say(source: int, message: NodeMessage | None, targets: Iterable[int]) -> None:
        for target in targets:
            if message is not None and target != source and rng.random() < 0.8:
                flying.append((target, message))

    def follow(node: int, events: Iterable[object]) -> None:
        for event in events:
            match event:
                case Outranked(claim):
                    here.discard(node)
                    say(node, nodes[node].went(left(claim.guid, claim.seq)), range(3))
                case Say(name, message):
                    say(node, message, ["abc".index(name)])
                case TellAll(name):
                    for piece in nodes[node].all_claims():
                        say(node, piece, ["abc".index(name)])
                case _:
                    pass

    for number, target in enumerate(moves):
        instance = rng.choice([OLD, NEW])
        # Two records may have one number: each peer counts for itself.
        say(target, nodes[target].came(PeerHere(GUID, number // 2, instance, "")), range(3))
        here.add(target)
        while flying and rng.random() < 0.7:
            receiver, message = flying.pop(rng.randrange(len(flying)))
            follow(receiver, nodes[receiver].hear(message, 0.0))
    # All is quiet, and nothing is lost any more: beats go round.
    rng.random = lambda: 0.0  # type: ignore[method-assign]
    for now in range(0, 30, 3):
        for source in range(3):
            say(source, nodes[source].beat(), range(3))
        for number, one in enumerate(nodes):
            follow(number, one.time(float(now)))
        while flying:
            receiver, message = flying.pop(0)
            follow(receiver, nodes[receiver].hear(message, float(now)))
    assert len(here) == 1, here
    assert {where(one) for one in nodes} == {"abc"[next(iter(here))]}


def test_a_beat_of_who_has_nothing_new_says_nothing() -> None:
    here, there = Directory("a", 1), Directory("b", 1)
    met(here, there)
    assert heard(here, there.beat(), Beat("b", 1, 0)) == []
