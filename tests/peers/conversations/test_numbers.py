"""The numbers: what is sent next, what has come before, and what is out of step."""

import pytest

from peers.conversations.numbers import (
    Announce,
    Breach,
    Break,
    Line,
    Queue,
    Received,
    Sender,
    Transmit,
    adopt,
    missed,
    new_items,
)
from protocol.conversation import Acknowledged, Announced
from protocol.errors import ProtocolViolation

ONE, OTHER = b"1" * 16, b"2" * 16


def acknowledged(received: int, *, room: int = 100, line: bytes = ONE) -> Acknowledged:
    return Acknowledged(line, received, room, received)


def test_nothing_leaves_before_the_other_side_has_said_what_it_has() -> None:
    queue = Queue([Line(ONE, 0, 5)])
    sender = Sender(queue)
    assert sender.next() == Announce(Announced(ONE, 1))
    assert sender.next() is None
    assert sender.acknowledged(acknowledged(2)) == 2
    assert sender.next() == Transmit(ONE, 3, 3)
    assert sender.next() is None
    queue.settle(2)
    queue.add(ONE, 6)
    assert sender.next() == Transmit(ONE, 6, 1)


def test_no_more_leaves_than_there_is_room_for() -> None:
    sender = Sender(Queue([Line(ONE, 0, 10)]))
    sender.next()
    sender.acknowledged(acknowledged(0, room=4))
    assert sender.next() == Transmit(ONE, 1, 4)
    assert sender.next() is None
    # Less room than was told before takes nothing back.
    sender.acknowledged(acknowledged(2, room=0))
    assert sender.next() is None
    sender.acknowledged(acknowledged(4, room=2))
    assert sender.next() == Transmit(ONE, 5, 2)


def test_what_is_put_into_the_queue_leaves_at_once_where_nothing_waits() -> None:
    queue = Queue([Line(ONE, 0, 1)])
    sender = Sender(queue)
    assert not sender.is_free
    sender.next()
    sender.acknowledged(acknowledged(0, room=2))
    assert not sender.is_free
    assert sender.next() == Transmit(ONE, 1, 1)
    assert sender.is_free
    queue.add(ONE, 2)
    assert not sender.is_free
    assert sender.next() == Transmit(ONE, 2, 1)
    assert not sender.is_free  # There is no room for a third.


def test_lines_follow_one_another() -> None:
    queue = Queue([Line(ONE, 0, 2), Line(OTHER, 2, 3)])
    assert len(queue) == 3
    sender = Sender(queue)
    sender.next()
    sender.acknowledged(acknowledged(0))
    assert sender.next() == Transmit(ONE, 1, 2)
    assert sender.next() is None
    settled = sender.acknowledged(acknowledged(2))
    queue.settle(settled)
    assert sender.next() == Announce(Announced(OTHER, 3))
    # What is said of a line that is over says nothing of this one.
    assert sender.acknowledged(acknowledged(9)) is None
    assert sender.next() is None


def test_numbers_may_be_told_of_out_of_order() -> None:
    """Two calls of a program end in either order; their numbers were given in one."""
    queue = Queue()
    queue.add(ONE, 2)
    queue.add(ONE, 1)
    assert (len(queue), queue.oldest) == (2, Line(ONE, 0, 2))


def test_more_than_was_sent_is_from_before_an_old_copy() -> None:
    sender = Sender(Queue([Line(ONE, 0, 5)]))
    sender.next()
    assert sender.acknowledged(acknowledged(80)) == 5


@pytest.mark.parametrize(
    ("current", "known", "first", "state", "breach"),
    [
        (0, None, 1, Received(0), None),
        (7, None, 8, Received(7), None),
        (7, Received(7), 3, Received(7), None),
        # This store is new, or an old copy.
        (0, None, 8, Received(7, 0), Breach(Break.LOST, 7)),
        (4, Received(4), 8, Received(7, 4), Breach(Break.LOST, 3)),
        # The other one is.
        (7, None, 1, Received(0, 7), Breach(Break.BEGAN_AGAIN, 7)),
        (7, Received(3), 4, Received(3), None),
    ],
)
def test_what_a_recipient_makes_of_a_line(
    current: int, known: Received | None, first: int, state: Received, breach: Breach | None
) -> None:
    line = Announced(ONE, first)
    assert adopt(current, known, line) == (state, breach)
    # The sender sees the same in the answer.
    before = state.received if state.before is None else state.before
    assert missed(line, Acknowledged(ONE, state.received, 1, before)) == breach


def test_what_has_come_before_is_passed_over() -> None:
    assert [new_items(Received(5), first, 3) for first in (1, 3, 4, 5, 6)] == [3, 3, 2, 1, 0]
    with pytest.raises(ProtocolViolation, match="number 6 is missing"):
        new_items(Received(5), 7, 1)
    with pytest.raises(ProtocolViolation, match="not announced"):
        new_items(None, 1, 1)
