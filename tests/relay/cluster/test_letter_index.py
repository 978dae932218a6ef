"""What a node counts of the letters in the cluster's stream: a pure table, without a stream."""

import random

from relay.cluster.letter_index import BOX_LASTS, Box, Index, InStream, Name
from relay.mailbox import Bound, Quotas, Waiting

QUOTAS = Quotas(Bound(64, 1 << 20), Bound(1000, 1 << 24), boxes=4)


def letter(number: int, recipient: str = "bob", sender: str = "alice", **more: float) -> InStream:
    name = Name(recipient, sender, int(more.get("id", number)).to_bytes(16, "big"))
    counted = Waiting(recipient, sender, "wide", "network", 100, False)
    return InStream(number, name, "chat", 0.0, more.get("expires", 1e9), b"digest", counted)


def test_letters_are_in_order_and_one_name_is_one_letter() -> None:
    index = Index(QUOTAS)
    for number in (3, 5, 8):
        index.put(letter(number))
    assert [one.number for one in index.after("bob", 3, 1.0)] == [5, 8]
    index.put(letter(9, id=5))
    assert [one.number for one in index.after("bob", 0, 1.0)] == [3, 8, 9]
    assert index.ledger.letters == 3
    # What is said of one of before is not of the one that has taken its place.
    assert index.drop(letter(5).name, 9) is None
    assert index.drop(letter(5).name, 10) is not None
    assert index.get("bob", 9) is index.find(letter(5).name) is None
    assert index.ledger.waiting("bob") == 2


def test_what_has_expired_is_gone_and_named_once() -> None:
    index = Index(QUOTAS)
    index.put(letter(1, expires=10.0))
    index.put(letter(2, "carol", expires=20.0))
    index.put(letter(3, expires=30.0))
    index.drop(letter(3).name)
    index.put_box("bob", Box(4, "network", b"", 5.0))
    index.put_box("bob", Box(5, "network", b"", BOX_LASTS))
    index.time(25.0)
    assert index.expired == ["bob", "carol"]
    assert index.boxes["bob"].number == 5
    assert index.ledger.boxes == 1
    index.time(BOX_LASTS + 1.0)
    assert index.expired == ["bob", "carol"]
    assert index.ledger.is_empty()


def test_all_of_a_peer_is_what_it_gets_and_what_it_has_left() -> None:
    index = Index(QUOTAS)
    index.put(letter(1, "bob", "alice"))
    index.put(letter(2, "alice", "bob"))
    index.put(letter(3, "carol", "alice"))
    index.put(letter(4, "bob", "bob"))
    assert sorted(one.number for one in index.of("bob")) == [1, 2, 4]


def test_letters_that_are_done_before_their_time_leave_nothing_behind() -> None:
    index, chance = Index(QUOTAS), random.Random(7)
    waiting: list[InStream] = []
    for number in range(1, 5_000):
        one = letter(number, f"peer {chance.randrange(5)}", expires=1e9 + chance.random())
        index.put(one)
        waiting.append(one)
        if len(waiting) > 20:
            index.drop(waiting.pop(chance.randrange(len(waiting))).name)
        assert index.ends <= 2 * 22 + 65
    assert index.ledger.letters == 20
    for one in waiting:
        index.drop(one.name)
    assert index.ledger.is_empty()
