"""When the network changes: probes, locations, and a close that nobody answers."""

import msgpack
import pytest

from protocol.endpoint import Entry, Phase, Provenance, SignedEntry, sign_entry
from protocol.errors import Code, ProtocolViolation
from protocol.identity import Identity
from protocol.messages import MAX_ENTRIES
from protocol.session.events import Ended, Moved, PathDead
from protocol.session.frames import read_location
from protocol.session.settings import SessionSettings
from protocol.session.states import State
from tests.protocol.test_session import Pair, frames, lone, tell

ALICE = Identity.from_seed(bytes(32))
SIGNED = sign_entry(
    ALICE, Entry(1, "chat", "192.0.2.1", 4000, Phase.PREFERRED, 120, Provenance.INTERFACE)
)


# -- probes ---------------------------------------------------------------------------------------


def test_a_probe_that_nothing_answers_ends_the_path_early() -> None:
    machine = lone()
    machine.probe(1.0, 0.5)
    assert frames(machine.data_to_send(1.0)) == [[4, 1]]
    assert machine.next_timeout() == 1.5
    machine.handle_timeout(1.5)
    [event] = machine.events()
    assert isinstance(event, PathDead)
    assert not machine.attached
    assert machine.state is State.OPEN


def test_whatever_is_heard_answers_a_probe() -> None:
    machine = lone()
    machine.probe(1.0, 0.5)
    machine.data_to_send(1.0)
    tell(machine, [1, 0, 0], now=1.4)
    machine.handle_timeout(1.6)
    assert machine.attached
    assert machine.events() == []


def test_a_second_probe_does_not_give_the_first_more_time() -> None:
    machine = lone()
    machine.probe(1.0, 0.5)
    machine.probe(1.4, 0.5)
    assert machine.next_timeout() == 1.5
    machine.handle_timeout(1.5)
    assert not machine.attached


def test_the_next_path_is_not_judged_by_the_probe_of_the_last() -> None:
    pair = Pair()
    pair.run()
    pair.now = 1.0
    pair.a.probe(1.0, 0.5)
    pair.attach()
    pair.now = 1.6
    pair.a.handle_timeout(1.6)
    assert pair.a.attached
    assert pair.a.events() == []


def test_a_round_trip_is_measured_by_the_last_ping_only() -> None:
    machine = lone()
    assert machine.round_trip is None
    machine.probe(1.0, 5.0)
    machine.probe(2.0, 5.0)
    tell(machine, [5, 1], now=2.1)
    assert machine.round_trip is None
    tell(machine, [5, 2], now=2.25)
    assert machine.round_trip == pytest.approx(0.25)
    machine.attach(0, 0, 1024, 3.0)
    assert machine.round_trip is None, "another path, another round trip"


@pytest.mark.parametrize("how", ["pathless", "closed", "lost"])
def test_what_has_no_path_is_not_probed(how: str) -> None:
    machine = lone()
    if how == "pathless":
        machine.detach(0.0)
    elif how == "lost":
        machine.abort(Code.REFUSED, "enough", 0.0)
        machine.data_to_send(0.0)
    else:
        machine.close(0.0)
        tell(machine, [2, 0], [3, 0])
        machine.data_to_send(0.0)
        assert machine.state is State.CLOSED
    machine.probe(1.0, 0.5)
    machine.tell_location((SIGNED,))
    assert machine.data_to_send(1.0) == b""


# -- locations ------------------------------------------------------------------------------------


def test_a_location_arrives_as_it_was_told() -> None:
    pair = Pair()
    pair.run()
    pair.a.tell_location((SIGNED,))
    pair.run()
    assert pair.b.events() == [Moved((SIGNED,))]
    pair.a.tell_location(())
    pair.run()
    assert pair.b.events() == [Moved(())]


def test_only_the_last_location_is_told() -> None:
    machine = lone()
    for _ in range(100):
        machine.tell_location(())
    machine.tell_location((SIGNED,))
    assert frames(machine.data_to_send(0.0)) == [[7, [[SIGNED.body, SIGNED.signature]]]]


def test_a_location_has_no_more_entries_than_a_registration() -> None:
    entry = [b"x", bytes(64)]
    assert read_location([entry] * MAX_ENTRIES) == (SignedEntry(b"x", bytes(64)),) * MAX_ENTRIES
    with pytest.raises(ProtocolViolation, match="more than 16"):
        read_location([entry] * (MAX_ENTRIES + 1))


@pytest.mark.parametrize(
    "entry",
    [
        1,
        b"xy",
        [b"x"],
        [b"x", bytes(64), 1],
        ["x", bytes(64)],
        [b"x", "s" * 64],
        [b"x", bytes(63)],
        [bytes(257), bytes(64)],
        [None, None],
    ],
)
def test_what_is_no_location_ends_the_session(entry: object) -> None:
    machine = lone()
    with pytest.raises(ProtocolViolation):
        tell(machine, [7, [entry]])
    assert machine.state is State.LOST
    assert frames(machine.data_to_send(0.0))[0][:2] == [6, "bad_message"]


# -- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [[False, 1, []], [True, 0, 0], [1, False, 0], [0.0, 1, []]])
def test_what_only_equals_a_number_is_none(frame: list[object]) -> None:
    with pytest.raises(ProtocolViolation):
        tell(lone(), frame)


# -- a close that is not answered -----------------------------------------------------------------


def test_a_close_that_only_pings_answer_ends_in_the_resume_window() -> None:
    machine = lone(SessionSettings(resume_window=30.0))
    machine.close(0.0)
    assert frames(machine.data_to_send(0.0)) == [[2, 0]]
    now = 0.0
    while now < 29.5:
        now += 0.5
        machine.handle_timeout(now)
        machine.data_to_send(now)
        machine.receive(msgpack.packb([5, 0]), now)
    assert machine.state is State.CLOSING
    assert machine.next_timeout() == pytest.approx(30.0)
    machine.handle_timeout(30.0)
    [event] = machine.events()
    assert isinstance(event, Ended)
    assert event.lost is not None
    assert "not answered" in event.lost
    assert frames(machine.data_to_send(30.0))[-1][0] == 6, "the other side is told"


def test_progress_gives_a_close_more_time() -> None:
    machine = lone(SessionSettings(resume_window=30.0))
    machine.send(b"x")
    machine.send(b"y")
    machine.close(0.0)
    machine.data_to_send(0.0)
    tell(machine, [1, 1, 0], now=5.0)
    tell(machine, [1, 2, 0], now=10.0)
    for tenth in range(100, 400, 10):
        machine.receive(msgpack.packb([5, 0]), tenth / 10)
        machine.handle_timeout(tenth / 10)
    assert machine.state is State.CLOSING
    machine.handle_timeout(40.0)
    assert machine.state is State.LOST
