"""Frames that bring nothing: no window holds them back, and each costs as much as one that does."""

from collections.abc import Callable

import msgpack
import pytest

from protocol.endpoint import SignedEntry
from protocol.errors import Code, ProtocolViolation
from protocol.session import Moved
from protocol.session.frames import Frame
from protocol.session.states import State
from tests.protocol.test_session import Pair

MANY = 1025
ENTRY = SignedEntry(b"body", bytes(64))
IDLE: dict[str, Callable[[int], list[object]]] = {
    "pings": lambda number: [Frame.PING, number],
    "pongs": lambda number: [Frame.PONG, number],
    "acknowledgements": lambda number: [Frame.ACK, 0, 0, 0],
    "no messages": lambda number: [Frame.DATA, 1, []],
    "a message that is here": lambda number: [Frame.DATA, 1, [b"first"]],
    "a part of it": lambda number: [Frame.PART, 1, 0, 5, b"f"],
    "single bytes": lambda number: [Frame.PART, 2, number, 100_000, b"x"],
    "addresses": lambda number: [Frame.LOCATION, []],
    "changes to no path": lambda number: [Frame.SWITCH, 1],
}


def packed(*frame: object) -> bytes:
    return bytes(msgpack.packb(frame))


def paired() -> Pair:
    pair = Pair(revised=True)
    pair.a.send(b"first")
    pair.run()
    assert pair.b.take() == b"first"
    return pair


@pytest.mark.parametrize("kind", IDLE)
def test_too_many_at_once_end_the_session(kind: str) -> None:
    pair = paired()
    with pytest.raises(ProtocolViolation) as caught:
        pair.b.receive(b"".join(packed(*IDLE[kind](n)) for n in range(MANY)), 0.0)
    assert caught.value.code is Code.LIMIT_EXCEEDED
    assert pair.b.state is State.LOST


@pytest.mark.parametrize("kind", IDLE)
def test_as_many_as_are_allowed_each_time_end_nothing(kind: str) -> None:
    pair = paired()
    frames = [packed(*IDLE[kind](number)) for number in range(3 * MANY)]
    for begin in range(0, len(frames), MANY - 1):
        pair.b.receive(b"".join(frames[begin : begin + MANY - 1]), 0.0)
    assert pair.b.state is State.OPEN


def test_messages_and_what_acknowledges_them_are_not_counted() -> None:
    pair = paired()
    pair.b.receive(b"".join(packed(Frame.DATA, n, [b"x"]) for n in range(2, 5000)), 0.0)
    assert pair.b.received == 4999
    pair = paired()
    for _ in range(5000):
        pair.b.send(b"y")
    while data := pair.b.data_to_send(0.0):
        pair.a.receive(data, 0.0)
    whole = [packed(Frame.ACK, n, 0, 0) for n in range(1, pair.a.received + 1)]
    assert len(whole) > MANY
    pair.b.receive(b"".join(whole), 0.0)
    assert (pair.b.acknowledged, pair.b.state) == (len(whole), State.OPEN)


def test_of_addresses_that_come_together_the_last_are_told() -> None:
    pair = paired()
    pair.b.events()
    said = [[], [(ENTRY.body, ENTRY.signature)]]
    pair.b.receive(b"".join(packed(Frame.LOCATION, entries) for entries in said), 0.0)
    assert pair.b.events() == [Moved((ENTRY,))]
