"""The second revision of the frames: messages in parts, acknowledged by bytes."""

from collections.abc import Callable

import msgpack
import pytest

from protocol.errors import Code, ProtocolViolation
from protocol.session.events import Ended
from protocol.session.frames import FRAME_BYTES, MAX_SMALL_FRAME, Frame
from protocol.session.machine import SessionMachine
from protocol.session.settings import MAX_PAYLOAD, MESSAGE_WEIGHT, SessionSettings
from protocol.session.states import TRANSITIONS, Input, State
from tests.protocol.test_session import Pair, frames, inbox, tell
from tests.protocol.test_session import lone as lone_of_the_first
from tests.support import scale

SETTINGS = SessionSettings()
LARGE = bytes(range(256)) * 4096


def lone(settings: SessionSettings = SETTINGS) -> SessionMachine:
    """One attached machine; its other side is the test."""
    machine = SessionMachine(settings, 0.0)
    machine.attach(0, 0, settings.window, 0.0, revised=True)
    machine.data_to_send(0.0)
    return machine


def pair() -> Pair:
    two = Pair(revised=True)
    two.run()
    return two


def payload_bytes(data: bytes) -> int:
    """Return how many bytes of messages stand in these frames."""
    return sum(len(frame[-1]) for frame in frames(data) if frame[0] == Frame.PART)  # type: ignore[arg-type]


# -- parts ----------------------------------------------------------------------------------------


def test_a_large_message_goes_in_parts_and_small_ones_together() -> None:
    two = pair()
    two.a.send(b"before")
    two.a.send(LARGE)
    two.a.send(b"after")
    kinds: list[int] = []
    while data := two.a.data_to_send(0.0):
        for frame in frames(data):
            kinds.append(frame[0])  # type: ignore[arg-type]
            if frame[0] == Frame.PART:
                assert len(frame[4]) <= FRAME_BYTES  # type: ignore[arg-type]
        two.b.receive(data, 0.0)
        two.a.receive(two.b.data_to_send(0.0), 0.0)
    assert inbox(two.b) == [b"before", LARGE, b"after"]
    assert (kinds[0], kinds[-1]) == (Frame.DATA, Frame.DATA)
    assert set(kinds[1:-1]) == {Frame.PART}
    assert len(kinds) < 2 * MAX_PAYLOAD / FRAME_BYTES, "a fast path has large fragments"
    assert two.a.outstanding == 0


def test_every_part_is_acknowledged_by_itself() -> None:
    two = pair()
    two.a.send(LARGE)
    two.b.receive(two.a.data_to_send(0.0), 0.0)
    [ack] = frames(two.b.data_to_send(0.0))
    assert ack == [Frame.ACK, 0, 0, two.b.partial]
    assert 0 < two.b.partial < len(LARGE)


def test_a_fast_path_has_one_acknowledgement_for_many_parts() -> None:
    machine = lone()
    piece = bytes(65_536)
    acks = 0
    for number in range(1, 5):
        for offset in range(0, 1 << 20, 65_536):
            machine.receive(msgpack.packb([8, number, offset, 1 << 20, piece]), 1.0)
            acks += machine.data_to_send(1.0) != b""
        machine.take()
    assert acks < 16 + 2 * 4, "a mebibyte in full, and then whole messages"
    machine.data_to_send(1.0)
    machine.receive(msgpack.packb([8, 5, 0, 1 << 20, piece]), 1.0)
    assert machine.data_to_send(1.0) == b""
    due = machine.acknowledges_at
    assert due is not None
    assert machine.next_timeout() == due < 1.01
    machine.handle_timeout(due)
    assert machine.next_timeout() != due, "also where the path takes nothing now"
    [ack] = frames(machine.data_to_send(due))
    assert ack[-1] == len(piece)
    machine.receive(msgpack.packb([8, 5, 65_536, 1 << 20, piece]), 1.02)
    assert frames(machine.data_to_send(1.02)), "a part that comes later is acknowledged at once"


def test_an_old_party_gets_what_it_knows() -> None:
    two = Pair()
    two.run()
    two.a.send(LARGE)
    data = two.a.data_to_send(0.0)
    assert frames(data) == [[Frame.DATA, 1, [LARGE]]]
    two.b.receive(data, 0.0)
    assert [len(frame) for frame in frames(two.b.data_to_send(0.0))] == [3]
    assert not two.a.may_finish


def test_a_path_speaks_the_revision_of_the_path_before() -> None:
    for revised in (True, False):
        machine = SessionMachine(SETTINGS, 0.0)
        machine.attach(0, 0, 1024, 0.0, revised=revised)
        machine.detach(0.0)
        with pytest.raises(ProtocolViolation, match="another revision"):
            machine.attach(0, 0, 1024, 0.0, revised=not revised)
        assert (machine.attached, machine.state) == (False, State.OPEN)


def test_what_has_arrived_of_a_message_is_not_sent_again_wherever_the_path_is_cut() -> None:
    """At each byte of what was written: at most the fragments that were not whole come again."""
    message = bytes(6000)
    length = len(written := _first_writes(message))
    for cut in range(0, length + 1, scale.of(5, 1)):
        two = pair()
        two.a.send(message)
        assert _write_all(two.a) == written
        two.b.receive(written[:cut], 0.0)
        here = two.b.partial
        two.lose()
        two.detach()
        two.attach()
        again = _write_all(two.a)
        if two.b.received == 0:
            assert payload_bytes(again) == len(message) - here
        two.b.receive(again, 0.0)
        two.run()
        assert inbox(two.b) == [message]
        assert (two.a.outstanding, two.b.partial) == (0, 0)


def _first_writes(message: bytes) -> bytes:
    two = pair()
    two.a.send(message)
    return _write_all(two.a)


def _write_all(machine: SessionMachine) -> bytes:
    return b"".join(iter(lambda: machine.data_to_send(0.0), b""))


def test_a_message_that_is_cut_at_nine_tenths_ten_times_is_sent_once_and_a_little() -> None:
    two = pair()
    two.a.send(LARGE)
    taken = 0
    for _ in range(10):
        missing = len(LARGE) - two.b.partial
        arrived = 0
        while arrived < missing * 0.9:
            data = two.a.data_to_send(two.now)
            assert data
            taken += payload_bytes(data)
            arrived += payload_bytes(data)
            if arrived >= missing * 0.9:
                break  # What crosses the mark is lost, and so is its acknowledgement.
            two.now += len(data) / 65_536
            two.b.receive(data, two.now)
            two.a.receive(two.b.data_to_send(two.now), two.now)
        two.lose()
        two.detach()
        two.attach()
    before = taken
    while data := two.a.data_to_send(two.now):
        taken += payload_bytes(data)
        two.b.receive(data, two.now)
        two.a.receive(two.b.data_to_send(two.now), two.now)
    assert inbox(two.b) == [LARGE]
    assert before < taken < len(LARGE) + 11 * FRAME_BYTES


def test_parts_that_come_twice_count_once() -> None:
    machine = lone()
    tell(machine, [8, 1, 0, 10, b"01234"], [8, 1, 0, 10, b"012"], [8, 1, 3, 10, b"345678"])
    assert machine.partial == 9
    tell(machine, [8, 1, 0, 10, b"0123456789"], [8, 1, 5, 10, b"56789"], [8, 1, 0, 3, b"012"])
    assert inbox(machine) == [b"0123456789"]
    assert (machine.received, machine.partial) == (1, 0)


def test_a_message_that_came_in_part_may_come_whole() -> None:
    machine = lone()
    tell(machine, [8, 1, 0, 10, b"01234"], [0, 1, [b"0123456789", b"next"]])
    assert inbox(machine) == [b"0123456789", b"next"]
    assert machine.partial == 0
    tell(machine, [8, 3, 0, 2, b"a"], [8, 3, 1, 2, b"b"])
    assert inbox(machine) == [b"ab"]


@pytest.mark.parametrize(
    "frame",
    [
        [8, 1, 0, 10],
        [8, 1, 0, 10, "text"],
        [8, 1, 0, 10, b""],
        [8, 1, 0, 3, b"1234"],
        [8, 1, 1, 10, b"1"],
        [8, 2, 0, 10, b"1"],
        [8, 0, 0, 10, b"1"],
        [8, -1, 0, 10, b"1"],
        [8, 1, -1, 10, b"1"],
        [8, True, 0, 10, b"1"],
        [1, 0, 0],
        [1, 0, 0, -1],
        [1, 0, 0, "1"],
        [1, 0, 0, 1],
        [1, -1, 0, 0],
        [9, "0"],
        [9, 1],
        [9],
        [10, 0],
        [10, 2**32],
        [11, 0],
    ],
)
def test_frames_that_are_none(frame: list[object]) -> None:
    machine = lone()
    with pytest.raises(ProtocolViolation):
        tell(machine, frame)
    assert machine.state is State.LOST
    assert frames(machine.data_to_send(0.0))[0][:2] == [6, "bad_message"]


@pytest.mark.parametrize(
    "frame",
    [
        [8, 1, 0, MAX_PAYLOAD + 1, b"1"],
        [8, 1, 0, 2**63, b"1"],
        [8, 1, 0, 100_000, bytes(FRAME_BYTES + 1)],
        [0, 1, [bytes(FRAME_BYTES + 1)]],
        [0, 1, [bytes(40_000), bytes(40_000)]],
    ],
)
def test_messages_payloads_and_frames_that_are_too_large(frame: list[object]) -> None:
    machine = lone()
    with pytest.raises(ProtocolViolation):
        tell(machine, frame)
    assert machine.state is State.LOST
    assert frames(machine.data_to_send(0.0))[0][:2] == [6, "message_too_large"]


def test_parts_do_not_change_their_message() -> None:
    for bad in ([8, 1, 5, 11, b"x"], [8, 1, 6, 10, b"x"], [2, 0], [9, 0]):
        machine = lone()
        tell(machine, [8, 1, 0, 10, b"01234"])
        with pytest.raises(ProtocolViolation):
            tell(machine, bad)


@pytest.mark.parametrize("frame", [[8, 1, 0, 10, b"1"], [9, 0], [10, 1], [1, 0, 0, 0]])
def test_a_session_of_the_first_revision_knows_none_of_them(frame: list[object]) -> None:
    with pytest.raises(ProtocolViolation, match="not a session frame"):
        tell(lone_of_the_first(), frame)


def test_a_path_that_stands_ready_is_not_known_yet() -> None:
    machine = lone()
    tell(machine, [10, 1], [10, 2**32 - 1])
    assert machine.state is State.OPEN
    assert machine.data_to_send(0.0) == b""


def test_a_full_frame_is_taken_and_a_larger_one_is_not() -> None:
    machine = lone()
    tell(machine, [8, 1, 0, MAX_PAYLOAD, bytes(FRAME_BYTES)])
    tell(machine, [0, 1, [bytes(64)] * 1024])
    assert machine.received == 1024
    data = b"\x95\x08\xcd\x04\x01\x00\x0a\xc6" + (MAX_SMALL_FRAME + 1).to_bytes(4)
    with pytest.raises(ProtocolViolation):
        machine.receive(data + bytes(MAX_SMALL_FRAME + 1), 0.0)


# -- bounds ---------------------------------------------------------------------------------------


def test_what_has_arrived_in_part_counts_in_the_window() -> None:
    machine = lone(SessionSettings(window=1024))
    tell(machine, [0, 1, [bytes(30_000)] * 2])
    held = 2 * (30_000 + MESSAGE_WEIGHT)
    room = 1024 + MAX_PAYLOAD + MESSAGE_WEIGHT - held - MESSAGE_WEIGHT
    offset = 0
    while offset < room:
        count = min(FRAME_BYTES, room - offset)
        tell(machine, [8, 3, offset, MAX_PAYLOAD, bytes(count)])
        offset += count
    assert machine.partial == room
    with pytest.raises(ProtocolViolation) as violation:
        tell(machine, [8, 3, offset, MAX_PAYLOAD, b"1"])
    assert violation.value.code is Code.LIMIT_EXCEEDED
    assert machine.partial == 0, "nothing is kept for a session that is over"


def test_a_reader_that_does_not_read_stops_the_sender_at_the_window() -> None:
    small = SessionSettings(window=100_000)
    two = Pair(small, small, revised=True)
    two.run()
    count = 0
    while two.a.writable:
        two.a.send(bytes(30_000))
        two.run()
        count += 1
    assert (count, two.a.outstanding) == (4, 0)
    two.b.take()
    two.run()
    assert two.a.writable


# -- numbers --------------------------------------------------------------------------------------


def test_a_hello_that_is_only_late_does_not_take_bytes_back() -> None:
    two = pair()
    two.a.send(LARGE)
    two.b.receive(two.a.data_to_send(0.0), 0.0)
    late = two.b.partial
    two.a.receive(two.b.data_to_send(0.0), 0.0)
    two.b.receive(two.a.data_to_send(0.0), 0.0)
    two.a.receive(two.b.data_to_send(0.0), 0.0)
    now = two.b.partial
    assert 0 < late < now
    two.a.attach(0, 0, SETTINGS.window, 0.0, partial=late, revised=True)
    two.b.attach(0, 0, SETTINGS.window, 0.0, revised=True)
    assert frames(_write_all(two.a))[1][:3] == [Frame.PART, 1, now]


def test_an_acknowledgement_may_be_ahead_of_what_is_sent_again() -> None:
    """The hello was written before more had arrived on the path before."""
    machine = lone()
    machine.send(LARGE)
    written = payload_bytes(_write_all(machine))
    machine.attach(0, 0, SETTINGS.window, 0.0, revised=True)
    tell(machine, [1, 0, 0, written - 1])
    again = [frame for frame in frames(_write_all(machine)) if frame[0] == Frame.PART]
    assert again[0][2] == written - 1


def test_what_is_acknowledged_whole_while_it_is_sent_again_leaves_the_next_one_whole() -> None:
    machine = lone()
    messages = [b"a" * 5000, b"b" * 5000]
    for message in messages:
        machine.send(message)
    _write_all(machine)
    machine.attach(0, 0, SETTINGS.window, 0.0, partial=100, revised=True)
    [_, again] = frames(machine.data_to_send(0.0))
    assert again[:3] == [Frame.PART, 1, 100]
    tell(machine, [1, 1, 0, 0], now=10.0)  # A slow path: small fragments.
    rest = [frame for frame in frames(_write_all(machine)) if frame[0] == Frame.PART]
    assert rest[0][:3] == [Frame.PART, 2, 0]
    assert b"".join(frame[4] for frame in rest) == messages[1]  # type: ignore[misc]


@pytest.mark.parametrize("partial", [0, 1, 9])
def test_an_acknowledgement_may_name_messages_that_wait_to_be_sent_again(partial: int) -> None:
    machine = lone()
    for number in range(4):
        machine.send(b"%d" % number * 10)
    machine.data_to_send(0.0)
    machine.attach(0, 0, SETTINGS.window, 0.0, revised=True)
    tell(machine, [1, 2, 0, partial])
    assert machine.outstanding == 2
    [_, *rest] = frames(_write_all(machine))
    if partial:
        assert rest[0] == [Frame.PART, 3, partial, 10, b"2" * (10 - partial)]
        assert rest[1] == [Frame.DATA, 4, [b"3" * 10]]
    else:
        assert rest == [[Frame.DATA, 3, [b"2" * 10, b"3" * 10]]]
    tell(machine, [1, 4, 0, 0])
    assert machine.outstanding == 0


@pytest.mark.parametrize(("received", "partial"), [(0, 10), (1, 10), (2, 1), (1, 11), (0, 2**63)])
def test_bytes_that_never_went_out_are_not_acknowledged(received: int, partial: int) -> None:
    machine = lone()
    for _ in range(2):
        machine.send(b"x" * 10)
    machine.data_to_send(0.0)
    machine.detach(0.0)
    with pytest.raises(ProtocolViolation):
        machine.attach(received, 0, SETTINGS.window, 0.0, partial=partial, revised=True)
    assert (machine.attached, machine.state, machine.outstanding) == (False, State.OPEN, 2)
    machine.attach(0, 0, SETTINGS.window, 0.0, partial=9, revised=True)
    with pytest.raises(ProtocolViolation):
        tell(machine, [1, received, 0, partial])
    assert machine.state is State.LOST


# -- finish ---------------------------------------------------------------------------------------


def ended(machine: SessionMachine) -> list[Ended]:
    return [event for event in machine.events() if isinstance(event, Ended)]


def test_who_has_finished_still_gets_the_answers() -> None:
    two = pair()
    for number in range(1000):
        two.a.send(b"question %d" % number)
    two.a.send(LARGE)
    two.a.finish(0.0)
    two.run()
    assert len(inbox(two.b)) == 1001
    assert (two.a.state, two.b.state) == (State.HALF_CLOSED_LOCAL, State.HALF_CLOSED_REMOTE)
    assert (two.b.is_drained, two.a.is_drained, two.a.may_send) == (True, False, False)
    two.wait(3600.0)
    assert two.a.attached
    for number in range(1000):
        two.b.send(b"answer %d" % number)
    two.run()
    assert len(inbox(two.a)) == 1000
    two.b.close(0.0)
    two.run()
    assert two.a.state is two.b.state is State.CLOSED
    assert ended(two.a) == ended(two.b) == [Ended(None, 0)]


@pytest.mark.parametrize("at_once", [True, False])
def test_when_both_have_finished_the_session_closes(at_once: bool) -> None:
    two = pair()
    two.a.send(LARGE)
    two.b.send(b"b")
    two.a.finish(0.0)
    if not at_once:
        two.run()
    two.b.finish(0.0)
    two.run()
    assert two.a.state is two.b.state is State.CLOSED
    assert ended(two.a) == ended(two.b) == [Ended(None, 0)]
    assert (inbox(two.a), inbox(two.b)) == ([b"b"], [LARGE])


@pytest.mark.parametrize("steps", range(8))
@pytest.mark.parametrize("then", ["close", "finish", "other closes"])
def test_a_path_that_dies_while_a_side_finishes(steps: int, then: str) -> None:
    two = pair()
    two.a.send(b"a")
    two.b.send(b"b")
    two.a.finish(0.0)
    sides = [(two.a, two.b), (two.b, two.a)]
    for step in range(steps):
        if step == 2:
            match then:
                case "close":
                    two.a.close(0.0)
                case "finish":
                    two.b.finish(0.0)
                case _:
                    two.b.close(0.0)
        here, there = sides[step % 2]
        there.receive(here.data_to_send(0.0), 0.0)
    two.lose()
    two.detach()
    two.attach()
    two.run()
    if steps < 3:
        assert (two.a.state, two.b.state) == (State.HALF_CLOSED_LOCAL, State.HALF_CLOSED_REMOTE)
        two.a.close(0.0)
        two.run()
    assert two.a.state is two.b.state is State.CLOSED
    assert ended(two.a) == ended(two.b) == [Ended(None, 0)]
    assert (inbox(two.a), inbox(two.b)) == ([b"b"], [b"a"])


WALK: dict[State, Callable[[SessionMachine], object]] = {
    State.OPEN: lambda machine: None,
    State.HALF_CLOSED_LOCAL: lambda machine: machine.finish(0.0),
    State.HALF_CLOSED_REMOTE: lambda machine: tell(machine, [9, 0]),
    State.CLOSING: lambda machine: machine.close(0.0),
    State.ANSWERING: lambda machine: tell(machine, [2, 0]),
    State.ACKNOWLEDGED: lambda machine: (machine.close(0.0), tell(machine, [3, 0])),
    State.CLOSED: lambda machine: (machine.close(0.0), tell(machine, [2, 0], [3, 0])),
    State.LOST: lambda machine: machine.abort(Code.REFUSED, "enough", 0.0),
}
INPUTS: dict[Input, Callable[[SessionMachine], object]] = {
    Input.FINISH_HERE: lambda machine: machine.finish(0.0),
    Input.FINISH_THERE: lambda machine: tell(machine, [9, 0]),
    Input.CLOSE_HERE: lambda machine: machine.close(0.0),
    Input.CLOSE_THERE: lambda machine: tell(machine, [2, 0]),
    Input.CLOSED_THERE: lambda machine: tell(machine, [3, 0]),
    Input.LOSE: lambda machine: machine.abort(Code.REFUSED, "enough", 0.0),
}


@pytest.mark.parametrize("cause", INPUTS)
@pytest.mark.parametrize("state", WALK)
def test_the_machine_walks_the_table(state: State, cause: Input) -> None:
    machine = lone()
    WALK[state](machine)
    assert machine.state is state
    after = TRANSITIONS[state].get(cause)
    if after is None:
        with pytest.raises(ProtocolViolation):
            INPUTS[cause](machine)
        after = State.LOST
    else:
        INPUTS[cause](machine)
    assert machine.state is after
    assert machine.may_send == (after in (State.OPEN, State.HALF_CLOSED_REMOTE))
    ends = [event for event in machine.events() if isinstance(event, Ended)]
    assert len(ends) == (after in (State.CLOSED, State.LOST))
    # What a new path swallows is said again.
    if after not in (State.CLOSED, State.LOST):
        machine.data_to_send(0.0)
        machine.attach(0, 0, SETTINGS.window, 0.0, revised=True)
        said = {frame[0] for frame in frames(machine.data_to_send(0.0))} - {Frame.ACK}
        assert (
            said
            == {
                State.OPEN: set(),
                State.HALF_CLOSED_LOCAL: {Frame.FINISH},
                State.HALF_CLOSED_REMOTE: set(),
                State.CLOSING: {Frame.CLOSE},
                State.ANSWERING: {Frame.CLOSED, Frame.CLOSE},
                State.ACKNOWLEDGED: {Frame.CLOSE},
            }[after]
        )


def test_a_message_after_the_finish_is_a_violation() -> None:
    for late in ([0, 1, [b"x"]], [8, 1, 0, 2, b"x"]):
        machine = lone()
        tell(machine, [9, 0], [9, 0])
        with pytest.raises(ProtocolViolation, match="after the close"):
            tell(machine, late)


def test_a_finish_is_not_overtaken_by_the_close_nor_said_twice() -> None:
    two = pair()
    two.a.send(b"x")
    two.a.finish(0.0)
    two.a.finish(0.0)
    assert [frame[0] for frame in frames(two.a.data_to_send(0.0))] == [Frame.DATA, Frame.FINISH]
    two.a.close(0.0)
    assert frames(two.a.data_to_send(0.0)) == [[Frame.CLOSE, 1]]
