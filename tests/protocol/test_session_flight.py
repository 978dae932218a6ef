"""What a flight brings to the machine: data, beside whatever path there is."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Code, ProtocolViolation
from protocol.session.machine import SessionMachine
from protocol.session.settings import SessionSettings
from protocol.session.states import State

SETTINGS = SessionSettings()
LIMIT = 8192


def joined(revised: bool = True) -> tuple[SessionMachine, SessionMachine]:
    sides = SessionMachine(SETTINGS, 0.0), SessionMachine(SETTINGS, 0.0)
    for one in sides:
        one.attach(0, 0, SETTINGS.window, 0.0, revised=revised)
        one.data_to_send(0.0)
    return sides


def resume(here: SessionMachine, there: SessionMachine, now: float) -> None:
    """Give both a path, and let all arrive."""
    numbers = [(one.received, one.consumed, SETTINGS.window, one.partial) for one in (here, there)]
    for one, (received, consumed, window, partial) in zip(
        (here, there), reversed(numbers), strict=True
    ):
        one.attach(received, consumed, window, now, partial=partial, revised=True)
    for _ in range(600):
        there.receive(here.data_to_send(now), now)
        here.receive(there.data_to_send(now), now)
        if not here.outstanding and not there.outstanding:
            break


def frames(data: bytes) -> list[list[object]]:
    reader = msgpack.Unpacker(raw=False)
    reader.feed(data)
    return list(reader)


def test_it_says_what_is_here_and_brings_the_oldest() -> None:
    here, there = joined()
    here.detach(1.0)
    for number in range(3):
        here.send(b"%d" % number)
    flight = here.flight(LIMIT)
    assert frames(flight) == [[1, 0, 0, 0], [0, 1, [b"0", b"1", b"2"]]]
    there.take_flight(flight, 1.0)
    assert list(there.inbox) == [b"0", b"1", b"2"]
    assert there.attached, "it stays on the path that it has"
    here.take_flight(there.flight(LIMIT), 1.0)
    assert here.outstanding == 0
    assert not here.attached


def test_what_is_acknowledged_by_it_is_not_said_again() -> None:
    here, there = joined()
    here.detach(1.0)
    here.send(b"one")
    there.take_flight(here.flight(LIMIT), 1.0)
    here.take_flight(there.flight(LIMIT), 1.0)
    here.send(b"two")
    there.detach(1.0)
    resume(here, there, 2.0)
    assert list(there.inbox) == [b"one", b"two"]


def test_a_large_message_comes_in_part_and_goes_on_from_there() -> None:
    here, there = joined()
    here.detach(1.0)
    message = bytes(range(256)) * 400
    here.send(b"before")
    here.send(message)
    here.send(b"behind")
    there.take_flight(here.flight(LIMIT), 1.0)
    assert list(there.inbox) == [b"before"]
    assert LIMIT - 64 < there.partial <= LIMIT
    here.take_flight(there.flight(LIMIT), 1.0)
    second = here.flight(LIMIT)
    assert frames(second)[1][:3] == [8, 2, there.partial]
    there.take_flight(second, 1.0)
    assert 2 * (LIMIT - 64) < there.partial <= 2 * LIMIT
    there.detach(1.0)
    resume(here, there, 2.0)
    assert list(there.inbox) == [b"before", message, b"behind"]


@pytest.mark.parametrize(
    "frame", [[2, 0], [3, 0], [4, 1], [5, 1], [6, "refused", ""], [7, []], [9, 0], [10, 3], "x", 7]
)
def test_it_ends_nothing_and_moves_nothing(frame: object) -> None:
    _, there = joined()
    with pytest.raises(ProtocolViolation):
        there.take_flight(msgpack.packb(frame), 1.0)
    assert there.state is State.OPEN
    assert there.attached
    assert there.events() == []


@pytest.mark.parametrize(
    "frame", [[0, 3, [b"gap"]], [8, 2, 5, 9, b"gap"], [1, 4, 0, 0], [0, 2, ["text"]], [0, 0, [b""]]]
)
def test_what_cannot_be_true_loses_no_session(frame: list[object]) -> None:
    _, there = joined()
    with pytest.raises(ProtocolViolation):
        there.take_flight(msgpack.packb([0, 1, [b"right"]]) + msgpack.packb(frame), 1.0)
    assert there.state is State.OPEN
    assert list(there.inbox)[:1] == [b"right"]


def test_a_session_that_has_ended_or_is_of_the_first_revision_has_none() -> None:
    old, _ = joined(revised=False)
    old.send(b"one")
    assert old.flight(LIMIT) == b""
    old.take_flight(msgpack.packb([0, 1, [b"one"]]), 1.0)
    assert old.received == 0
    _, there = joined()
    there.send(b"one")
    there.abort(Code.REFUSED, "over", 1.0)
    assert there.flight(LIMIT) == b""
    there.take_flight(msgpack.packb([0, 1, [b"one"]]), 1.0)
    assert there.received == 0


SIZES = st.lists(st.sampled_from([0, 1, 200, 3000, 9000, 70_000]), max_size=8)


@given(SIZES, SIZES, st.data())
def test_doubled_late_and_out_of_turn_nothing_is_lost_or_doubled(
    ours: list[int], theirs: list[int], data: st.DataObject
) -> None:
    """Flights of both sides arrive whenever they like, more than once or never, while the path that
    one side holds for alive still brings some of what was written."""
    here, there = joined()
    sent: list[list[bytes]] = [[], []]
    for side, (machine, sizes) in enumerate(((here, ours), (there, theirs))):
        for number, size in enumerate(sizes):
            message = bytes([side, number]) * (size // 2) + bytes(size % 2)
            machine.send(message)
            sent[side].append(message)
    written = data.draw(st.integers(0, 3), label="writes before the path went")
    old = b"".join(here.data_to_send(0.5, 2000) for _ in range(written))
    cut = data.draw(st.integers(0, len(old)), label="that arrived of it")
    here.detach(1.0)
    flights: tuple[list[bytes], list[bytes]] = ([], [])
    for _ in range(data.draw(st.integers(0, 6), label="steps")):
        side = data.draw(st.integers(0, 1), label="side")
        machine, other = (here, there) if side == 0 else (there, here)
        match data.draw(st.sampled_from(["makes", "arrives", "old path"])):
            case "makes":
                flights[side].append(machine.flight(data.draw(st.sampled_from([1, 500, LIMIT]))))
            case "arrives" if flights[side]:
                other.take_flight(data.draw(st.sampled_from(flights[side])), 1.5)
            case "old path":
                step = data.draw(st.integers(0, cut))
                there.receive(old[:step], 1.5)
                old, cut = old[step:], cut - step
    there.receive(old[:cut], 1.6)
    there.detach(1.7)
    resume(here, there, 2.0)
    assert [list(there.inbox), list(here.inbox)] == sent
    assert (here.outstanding, there.outstanding) == (0, 0)
