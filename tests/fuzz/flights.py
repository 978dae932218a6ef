"""What stands before the TLS of a path, and what is sealed in it."""

import contextlib

from peers.session.flights import head_of
from protocol.errors import ProtocolViolation
from protocol.first_bytes import FLIGHT_HEAD, MAX_SEALED, FirstBytes
from protocol.first_flight import EXPORTED_BYTES, FlightKeys
from protocol.session import SessionMachine, SessionSettings, State
from tests.fuzz.draws import Draw

__all__ = ["flights"]

_SETTINGS = SessionSettings(window=4096)


def flights(data: bytes) -> None:
    """The first bytes of a stream mean the same in whatever pieces they come; what the other side
    has sealed is a violation at the worst, and the session is as it was."""
    draw = Draw(data)
    if draw.number(2):
        _inside(draw.rest())
        return
    size = draw.number()
    stream = draw.rest()
    step = size or len(stream) or 1
    whole = _read([stream])
    assert whole == _read([stream[at : at + step] for at in range(0, len(stream), step)])


def _read(pieces: list[bytes]) -> tuple[object, ...]:
    first, rest = FirstBytes(), b""
    try:
        for piece in pieces:
            rest += first.receive(piece)
    except ProtocolViolation as violation:
        return (violation.reason,)
    if first.flight is not None:
        assert FLIGHT_HEAD <= len(first.flight) <= FLIGHT_HEAD + MAX_SEALED
        keys = FlightKeys()
        keys.add(bytes(EXPORTED_BYTES), dialed_here=False)
        assert keys.open(first.flight) is None
    return rest, first.flight, first.done


def _inside(plain: bytes) -> None:
    machine = SessionMachine(_SETTINGS, 0.0)
    machine.attach(0, 0, 4096, 0.0, revised=True)
    machine.send(b"one")
    machine.data_to_send(0.0)
    with contextlib.suppress(ProtocolViolation):
        machine.take_flight(head_of(plain)[1], 1.0)
    assert machine.state is State.OPEN
    assert machine.attached
    assert machine.events() == []
    machine.flight(100)
    machine.data_to_send(1.0)
