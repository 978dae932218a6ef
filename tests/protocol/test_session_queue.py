"""What a quiet session holds of its queues: nothing."""

import gc
from collections import deque

import pytest

from protocol.session import SessionMachine
from protocol.session.queue import NOTHING, filled
from tests.protocol.test_session import Pair, inbox


def queues_of(machine: SessionMachine) -> list[deque[object]]:
    """Return the deques that a session holds, but for the one that all share."""
    found: list[deque[object]] = []
    seen: set[int] = set()
    waiting: list[object] = [machine]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type) or one is NOTHING:
            continue
        seen.add(id(one))
        if type(one) is deque:
            found.append(one)
        waiting += gc.get_referents(one)
    return found


def test_a_session_that_is_quiet_holds_no_queue() -> None:
    pair = Pair()
    pair.run()
    assert queues_of(pair.a) == queues_of(pair.b) == []
    pair.a.send(b"one")
    pair.b.send(b"two")
    assert queues_of(pair.a), "a message stands there"
    pair.run()
    assert inbox(pair.b) == [b"one"]
    pair.wait(60.0)
    assert queues_of(pair.b) == []
    assert queues_of(pair.a) == [deque([b"two"])], "nobody has taken it yet"
    pair.a.send(b"three")
    pair.run()
    assert inbox(pair.b) == [b"three"]
    assert inbox(pair.a) == [b"two"]


def test_what_all_share_takes_nothing() -> None:
    for put in (NOTHING.append, NOTHING.appendleft, NOTHING.extend, NOTHING.extendleft):
        with pytest.raises(RuntimeError):
            put([b"somebody's"])
    mine = filled(NOTHING)
    mine.append(b"mine")
    assert filled(mine) is mine
    assert not NOTHING
