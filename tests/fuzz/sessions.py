"""Sessions: frames of a stranger's making, and two honest machines on paths that break."""

from collections import deque
from itertools import pairwise

import msgpack

from protocol.errors import Code, ProtocolViolation
from protocol.session import Ended, SessionMachine, SessionSettings, State
from protocol.session.states import ESTABLISHED
from tests.fuzz.draws import Draw

__all__ = ["frames", "frames_2", "pairs", "pairs_2"]

_SETTINGS = SessionSettings(window=4096, resume_window=60.0)
_A_PART = msgpack.packb([8, 1, 0, 40, b"half of message one!"])


def frames(data: bytes) -> None:
    """Bytes from a stranger, in a session that is in any state: violations alone are raised, and
    the session is lost by one; whole and in pieces they mean the same."""
    _same_in_pieces(Draw(data), revised=False)


def frames_2(data: bytes) -> None:
    """The same for the second revision of the frames."""
    _same_in_pieces(Draw(data), revised=True)


def _same_in_pieces(draw: Draw, *, revised: bool) -> None:
    start, size = draw.number(8 if revised else 6), draw.number()
    stream = draw.rest()
    step = size or len(stream) or 1
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    one, other = _outcome(start, pieces, revised), _outcome(start, [stream], revised)
    # How much that brings nothing may come at once depends on what comes at once.
    assert one == other or other[2] is Code.LIMIT_EXCEEDED


def _outcome(start: int, pieces: list[bytes], revised: bool) -> tuple[object, ...]:
    machine = SessionMachine(_SETTINGS, 0.0)
    machine.attach(0, 0, 4096, 0.0, revised=revised)
    if start > 5:
        machine.receive(_A_PART, 0.0)
    if start > 6:
        machine.finish(0.0)
    for number in range(start if start < 7 else 0):
        machine.send(b"m%d" % number)
    machine.data_to_send(0.0)
    if 3 < start < 7:
        machine.close(0.0)
    if start > 4:
        machine.detach(0.0)
        machine.attach(min(2, machine.sent), 0, 4096, 0.0, revised=revised)
    before, code = machine.state, None
    for piece in pieces:
        try:
            machine.receive(piece, 1.0)
        except ProtocolViolation as violation:
            code = violation.code or Code.BAD_MESSAGE
            # What was closed on both sides stays so.
            assert machine.state in (State.LOST, State.CLOSED), machine.state
            break
    inbox = list(machine.inbox)
    while machine.inbox:
        machine.take()
    assert len([event for event in machine.events() if isinstance(event, Ended)]) <= 1
    machine.data_to_send(1.0)
    machine.next_timeout()
    machine.handle_timeout(100.0)
    numbers = machine.received, machine.acknowledged, machine.partial
    return before, machine.state, code, inbox, *numbers


class _Side:
    """One machine of a pair, and what the program has sent and got there."""

    def __init__(self) -> None:
        self.machine = SessionMachine(_SETTINGS, 0.0)
        self.on_the_way: deque[bytes] = deque()
        self.sent: list[bytes] = []
        self.got: list[bytes] = []


class _Pair:
    """Two machines and a path between them, which a program of bytes drives."""

    def __init__(self, *, revised: bool) -> None:
        self.sides = (_Side(), _Side())
        self.now = 0.0
        self.revised = revised
        self.attach()

    def attach(self) -> None:
        """A new path; what was on the way on the old one is gone."""
        for side in self.sides:
            side.machine.detach(self.now)
            side.on_the_way.clear()
        here, there = (side.machine for side in self.sides)
        numbers = [(one.received, one.consumed, 4096, one.partial) for one in (here, there)]
        for one, (*said, partial) in ((here, numbers[1]), (there, numbers[0])):
            if one.state is not State.LOST:
                one.attach(*said, self.now, partial=partial, revised=self.revised)

    def step(self, draw: Draw) -> None:
        here = draw.number(2)
        side, other = self.sides[here], self.sides[1 - here]
        match draw.number(8):
            case 0 | 1 if side.machine.may_send and side.machine.writable:
                message = b"%d:" % len(side.sent) + bytes(draw.number() * 8)
                side.machine.send(message)
                side.sent.append(message)
            case 2:
                side.on_the_way.append(side.machine.data_to_send(self.now, 1 + draw.number(9000)))
            case 3 | 4:
                self.deliver(side, other, 1 + draw.number(9000))
            case 5 if side.machine.inbox:
                side.got.append(side.machine.take())
            case 5 if self.revised:
                # Beside the path, as before that of the next one.
                flight = side.machine.flight(1 + draw.number(9000))
                other.machine.take_flight(flight, self.now)
            case 6:
                self.now += draw.number(20) / 10
                side.machine.handle_timeout(self.now)
                side.machine.events()
            case 7:
                match draw.number(4):
                    case 0:
                        self.attach()
                    case 1 if draw.number(4) == 0:
                        side.machine.close(self.now)
                    case 3 if self.revised and side.machine.state in ESTABLISHED:
                        side.machine.finish(self.now)
                    case 2:
                        side.machine.probe(self.now, 1.0)
                    case _:
                        pass

    def deliver(self, side: _Side, other: _Side, size: int) -> None:
        data = b"".join(side.on_the_way)
        side.on_the_way.clear()
        if data[size:]:
            side.on_the_way.append(data[size:])
        other.machine.receive(data[:size], self.now)

    def finish(self) -> None:
        """All arrives, and both are closed."""
        self.attach()
        for _ in range(400):
            for here, there in pairwise((*self.sides, self.sides[0])):
                here.on_the_way.append(here.machine.data_to_send(self.now))
                self.deliver(here, there, 1 << 24)
                while here.machine.inbox:
                    here.got.append(here.machine.take())
                if here.machine.state in ESTABLISHED and not here.machine.outstanding:
                    here.machine.close(self.now)
            if all(side.machine.state is State.CLOSED for side in self.sides):
                break


def pairs(data: bytes) -> None:
    """Two honest sides on paths that break, with times that pass: everything arrives once and in
    order, and nobody is accused."""
    _once_and_in_order(Draw(data), _Pair(revised=False))


def pairs_2(data: bytes) -> None:
    """The same by the second revision: messages in parts, and directions that end by themselves."""
    _once_and_in_order(Draw(data), _Pair(revised=True))


def _once_and_in_order(draw: Draw, pair: _Pair) -> None:
    for _ in range(400):
        if draw.is_empty:
            break
        pair.step(draw)
    if any(side.machine.state is State.LOST for side in pair.sides):
        assert pair.now > _SETTINGS.resume_window
        return
    pair.finish()
    for side, other in (pair.sides, pair.sides[::-1]):
        assert side.machine.state is State.CLOSED, side.machine.state
        assert side.sent == other.got
