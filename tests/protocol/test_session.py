"""The session machine by example: each promise, and each fault that it can see."""

import io

import msgpack
import pytest

from protocol.errors import Code, ProtocolViolation
from protocol.session.closed import ClosedSession
from protocol.session.events import Ended, PathDead
from protocol.session.frames import MAX_FRAME, Frame
from protocol.session.machine import SessionMachine
from protocol.session.settings import MAX_PAYLOAD, MESSAGE_WEIGHT, SessionSettings
from protocol.session.states import State

SETTINGS = SessionSettings()


class Pair:
    """Two machines and the path between them. Time stands still unless it is set."""

    def __init__(
        self,
        a: SessionSettings = SETTINGS,
        b: SessionSettings = SETTINGS,
        *,
        attach: bool = True,
        revised: bool = False,
    ) -> None:
        self.now = 0.0
        self.revised = revised
        """Whether both know the second revision of the frames."""
        self.a = SessionMachine(a, 0.0)
        self.b = SessionMachine(b, 0.0)
        if attach:
            self.attach()

    def attach(self) -> None:
        """Give both a new path, with their true numbers."""
        a, b = self.a, self.b
        hello = (a.received, a.consumed, a.settings.window)
        welcome = (b.received, b.consumed, b.settings.window)
        parts = a.partial, b.partial
        b.attach(*hello, self.now, partial=parts[0], revised=self.revised)
        a.attach(*welcome, self.now, partial=parts[1], revised=self.revised)

    def detach(self) -> None:
        self.a.detach(self.now)
        self.b.detach(self.now)

    def run(self) -> None:
        """Carry bytes until both have nothing to say."""
        while True:
            there, back = self.a.data_to_send(self.now), self.b.data_to_send(self.now)
            if not there and not back:
                return
            if there:
                self.b.receive(there, self.now)
            if back:
                self.a.receive(back, self.now)

    def lose(self) -> None:
        """Drop all that both would write now."""
        self.a.data_to_send(self.now)
        self.b.data_to_send(self.now)

    def wait(self, seconds: float, *, carry: bool = True) -> None:
        """Let time pass from deadline to deadline."""
        until = self.now + seconds
        while True:
            deadlines = [m.next_timeout() for m in (self.a, self.b)]
            when = min((w for w in deadlines if w is not None), default=until)
            if when >= until:
                break
            assert when >= self.now
            self.now = when
            for machine in (self.a, self.b):
                machine.handle_timeout(self.now)
            if carry:
                self.run()
        self.now = until


def frames(data: bytes) -> list[list[object]]:
    unpacker = msgpack.Unpacker(max_buffer_size=1 << 30)
    unpacker.feed(data)
    return list(unpacker)


def inbox(machine: SessionMachine) -> list[bytes]:
    return [machine.take() for _ in range(len(machine.inbox))]


def lone(settings: SessionSettings = SETTINGS) -> SessionMachine:
    """One attached machine; its other side is the test."""
    machine = SessionMachine(settings, 0.0)
    machine.attach(0, 0, settings.window, 0.0)
    machine.data_to_send(0.0)
    return machine


def feed(machine: SessionMachine, pieces: list[bytes]) -> None:
    for piece in pieces:
        machine.receive(piece, 0.0)


def tell(machine: SessionMachine, *values: object, now: float = 0.0) -> None:
    machine.receive(b"".join(msgpack.packb(value) for value in values), now)


# -- messages -------------------------------------------------------------------------------------


def test_messages_arrive_once_and_in_order_both_ways() -> None:
    pair = Pair()
    for number in range(3000):
        pair.a.send(b"a%d" % number)
        pair.b.send(b"b%d" % number)
    pair.run()
    assert inbox(pair.b) == [b"a%d" % number for number in range(3000)]
    assert inbox(pair.a) == [b"b%d" % number for number in range(3000)]
    assert pair.a.outstanding == pair.b.outstanding == 0
    assert not pair.a.needs_flush


def test_nothing_is_written_without_a_path_or_when_idle() -> None:
    pair = Pair(attach=False)
    assert pair.a.data_to_send(0.0) == b""
    assert not pair.a.writable, "the other side's window is not known yet"
    pair.attach()
    pair.run()
    assert pair.a.data_to_send(0.0) == b""
    assert pair.a.writable


def test_a_message_may_have_one_mebibyte_and_no_more() -> None:
    pair = Pair()
    pair.a.send(bytes(MAX_PAYLOAD))
    with pytest.raises(ValueError, match="1048577"):
        pair.a.send(bytes(MAX_PAYLOAD + 1))
    pair.run()
    assert inbox(pair.b) == [bytes(MAX_PAYLOAD)]


def test_a_frame_is_small_unless_one_message_is_large() -> None:
    pair = Pair()
    pair.run()
    for size in (10, 500_000, 10, 10, 65_530, 10):
        pair.a.send(bytes(size))
    batches = [
        [len(payload) for payload in frame[2]]  # type: ignore[attr-defined]
        for frame in frames(pair.a.data_to_send(0.0, limit=1 << 30))
    ]
    assert batches == [[10], [500_000], [10, 10], [65_530], [10]]


def test_data_to_send_keeps_to_its_limit() -> None:
    pair = Pair()
    pair.run()
    for _ in range(100):
        pair.a.send(bytes(10_000))
    assert len(pair.a.data_to_send(0.0, limit=100_000)) < 100_000 + 2 * 65_536
    pair.a.close(0.0)
    last = b""
    while data := pair.a.data_to_send(0.0, limit=100_000):
        last = data
    assert frames(last)[-1] == [2, 100], "the close follows the last message"


def test_empty_messages_are_messages() -> None:
    pair = Pair()
    for _ in range(2000):
        pair.a.send(b"")
    pair.run()
    assert inbox(pair.b) == [b""] * 2000


def test_bytes_may_come_one_by_one() -> None:
    pair = Pair()
    pair.run()
    for number in range(20):
        pair.a.send(b"%d" % number)
    for byte in pair.a.data_to_send(0.0):
        pair.b.receive(bytes([byte]), 0.0)
    assert len(inbox(pair.b)) == 20


# -- resume ---------------------------------------------------------------------------------------


def test_what_was_lost_in_flight_is_sent_again() -> None:
    pair = Pair()
    pair.run()
    for number in range(10):
        pair.a.send(b"%d" % number)
    pair.lose()
    pair.detach()
    pair.a.send(b"10")
    pair.attach()
    pair.run()
    assert inbox(pair.b) == [b"%d" % number for number in range(11)]
    assert pair.a.outstanding == 0


def test_what_arrived_unacknowledged_is_not_sent_again() -> None:
    pair = Pair()
    pair.run()
    pair.a.send(b"one")
    pair.b.receive(pair.a.data_to_send(0.0), 0.0)
    pair.lose()  # the acknowledgement
    pair.detach()
    pair.attach()
    assert pair.a.outstanding == 0
    assert [frame[0] for frame in frames(pair.a.data_to_send(0.0))] == [1]


def test_numbers_that_are_only_late_are_tolerated() -> None:
    """The hello was written before the old path delivered and acknowledged more."""
    pair = Pair()
    pair.run()
    late = (pair.b.received, pair.b.consumed, pair.b.settings.window)
    for number in range(5):
        pair.a.send(b"%d" % number)
    pair.run()
    assert pair.a.acknowledged == 5
    pair.a.attach(*late, 0.0)
    pair.b.attach(pair.a.received, pair.a.consumed, SETTINGS.window, 0.0)
    pair.a.send(b"5")
    pair.run()
    assert pair.a.acknowledged == 6
    assert inbox(pair.b) == [b"%d" % number for number in range(6)]


def test_what_comes_twice_is_taken_once() -> None:
    pair = Pair()
    pair.run()
    for number in range(5):
        pair.a.send(b"%d" % number)
    late = (pair.b.received, pair.b.consumed, pair.b.settings.window)
    pair.b.receive(pair.a.data_to_send(0.0), 0.0)
    pair.a.attach(*late, 0.0)
    pair.b.attach(pair.a.received, pair.a.consumed, SETTINGS.window, 0.0)
    pair.a.send(b"5")
    pair.run()
    assert inbox(pair.b) == [b"%d" % number for number in range(6)]


def test_an_acknowledgement_may_name_messages_that_wait_to_be_sent_again() -> None:
    machine = lone()
    for number in range(5):
        machine.send(b"%d" % number)
    machine.data_to_send(0.0)
    machine.attach(0, 0, SETTINGS.window, 0.0)
    tell(machine, [1, 3, 0])
    assert machine.outstanding == 2
    assert frames(machine.data_to_send(0.0))[-1] == [0, 4, [b"3", b"4"]]
    tell(machine, [1, 4, 0])
    assert machine.outstanding == 1


@pytest.mark.parametrize(("received", "consumed"), [(1, 0), (2**63, 0), (0, 1), (0, 2**63)])
def test_numbers_from_the_future_are_refused_and_change_nothing(
    received: int, consumed: int
) -> None:
    machine = SessionMachine(SETTINGS, 0.0)
    with pytest.raises(ProtocolViolation):
        machine.attach(received, consumed, SETTINGS.window, 0.0)
    assert not machine.attached
    assert machine.state is State.OPEN
    machine.attach(0, 0, SETTINGS.window, 0.0)
    with pytest.raises(ProtocolViolation):
        tell(machine, [1, received, consumed])
    assert machine.state is State.LOST


def test_a_message_that_was_not_written_cannot_be_acknowledged() -> None:
    machine = lone()
    machine.send(b"queued")
    with pytest.raises(ProtocolViolation, match="only 0 went out"):
        tell(machine, [1, 1, 0])


def test_bytes_of_no_path_are_ignored() -> None:
    pair = Pair()
    pair.run()
    pair.a.send(b"one")
    late = pair.a.data_to_send(0.0)
    pair.detach()
    pair.b.receive(late, 0.0)
    assert not pair.b.inbox
    pair.attach()
    pair.run()
    assert inbox(pair.b) == [b"one"]


def test_half_a_frame_of_the_old_path_does_not_spoil_the_new_one() -> None:
    pair = Pair()
    pair.run()
    pair.a.send(b"x" * 1000)
    pair.b.receive(pair.a.data_to_send(0.0)[:500], 0.0)
    pair.attach()
    pair.run()
    assert inbox(pair.b) == [b"x" * 1000]


# -- window ---------------------------------------------------------------------------------------


def test_a_reader_that_does_not_read_stops_the_sender_at_the_window() -> None:
    small = SessionSettings(window=100_000)
    pair = Pair(small, small)
    count = 0
    while pair.a.writable:
        pair.a.send(bytes(1000))
        pair.run()
        count += 1
    assert 100_000 <= count * (1000 + MESSAGE_WEIGHT) < 100_000 + 1000 + MESSAGE_WEIGHT
    pair.b.take()
    pair.run()
    assert not pair.a.writable, "room is told in steps, not for each message"
    inbox(pair.b)
    pair.run()
    assert pair.a.writable


@pytest.mark.parametrize(("a", "b"), [(1024, 8 << 20), (8 << 20, 1024), (1024, 1024)])
def test_windows_of_different_size_do_not_stall(a: int, b: int) -> None:
    """The larger side must tell what was consumed in steps of the smaller window."""
    pair = Pair(SessionSettings(window=a), SessionSettings(window=b))
    for number in range(300):
        assert pair.a.writable, number
        pair.a.send(bytes(100))
        pair.run()
        inbox(pair.b)
        pair.run()


def test_the_window_holds_across_a_resume() -> None:
    small = SessionSettings(window=10_000)
    pair = Pair(small, small)
    while pair.a.writable:
        pair.a.send(bytes(1000))
    pair.lose()
    pair.attach()
    pair.run()
    assert not pair.a.writable
    inbox(pair.b)
    pair.detach()
    pair.attach()
    assert pair.a.writable, "the hello says what was consumed meanwhile"


def test_one_message_may_reach_past_the_window_and_no_more() -> None:
    machine = lone(SessionSettings(window=1024))
    tell(machine, [0, 1, [bytes(1000)]])
    tell(machine, [0, 2, [bytes(MAX_PAYLOAD - 1000)]])
    with pytest.raises(ProtocolViolation) as error:
        tell(machine, [0, 3, [bytes(2000)]])
    assert error.value.code is Code.LIMIT_EXCEEDED
    assert machine.state is State.LOST
    assert frames(machine.data_to_send(0.0))[0][:2] == [6, "limit_exceeded"]


# -- close ----------------------------------------------------------------------------------------


def ended(machine: SessionMachine) -> list[Ended]:
    return [event for event in machine.events() if isinstance(event, Ended)]


def test_all_that_was_sent_before_a_close_arrives_before_it() -> None:
    pair = Pair()
    for number in range(100):
        pair.a.send(bytes(10_000))
        pair.b.send(b"%d" % number)
    pair.a.close(0.0)
    pair.run()
    assert pair.a.state is pair.b.state is State.CLOSED
    assert ended(pair.a) == ended(pair.b) == [Ended(None, 0)]
    assert len(inbox(pair.b)) == len(inbox(pair.a)) == 100
    assert pair.a.next_timeout() is None
    pair.a.handle_timeout(1e9)
    assert pair.a.events() == []


def test_both_may_close_at_once_and_twice() -> None:
    pair = Pair()
    pair.a.close(0.0)
    pair.b.close(0.0)
    pair.a.close(0.0)
    pair.run()
    assert pair.a.state is pair.b.state is State.CLOSED
    pair.a.close(0.0)
    assert ended(pair.a) == ended(pair.b) == [Ended(None, 0)]


def test_a_close_waits_for_a_path() -> None:
    pair = Pair()
    pair.detach()
    pair.a.send(b"last")
    pair.a.close(0.0)
    assert pair.a.state is State.CLOSING
    pair.attach()
    pair.run()
    assert inbox(pair.b) == [b"last"]
    assert pair.a.state is pair.b.state is State.CLOSED


@pytest.mark.parametrize("steps", range(8))
def test_a_path_that_dies_during_the_close(steps: int) -> None:
    """Cut after any number of one-way deliveries; the resumed close is as clean."""
    pair = Pair()
    pair.run()
    pair.a.send(b"a")
    pair.b.send(b"b")
    pair.a.close(0.0)
    sides = [(pair.a, pair.b), (pair.b, pair.a)]
    for step in range(steps):
        here, there = sides[step % 2]
        there.receive(here.data_to_send(0.0), 0.0)
    pair.lose()
    pair.detach()
    for machine in (pair.a, pair.b):
        assert (machine.closed is not None) == (machine.state is State.CLOSED)
    pair.attach()
    pair.run()
    assert pair.a.state is pair.b.state is State.CLOSED
    assert ended(pair.a) == ended(pair.b) == [Ended(None, 0)]
    assert inbox(pair.b) == [b"a"]
    assert inbox(pair.a) == [b"b"]


@pytest.mark.parametrize("revised", [False, True])
def test_what_is_left_of_a_closed_session_says_what_the_session_would(revised: bool) -> None:
    pair = Pair(revised=revised)
    assert pair.a.closed is None
    pair.a.send(b"one")
    pair.b.send(b"two")
    pair.b.send(b"three")
    pair.run()
    pair.a.close(0.0)
    pair.run()
    left = pair.a.closed
    assert left is not None
    assert (left.received, left.sent, left.revised) == (2, 1, revised)
    pair.a.detach(1.0)
    pair.a.attach(1, 0, 65_536, 1.0, revised=revised)
    said = list(msgpack.Unpacker(io.BytesIO(pair.a.data_to_send(1.0))))
    assert [*msgpack.Unpacker(io.BytesIO(left.answer()))] == [
        frame for frame in said if frame[0] != Frame.ACK
    ], "`closed` acknowledges all there is"


def test_a_closed_session_refuses_numbers_that_cannot_be() -> None:
    left = ClosedSession(received=2, consumed=0, window=65_536, sent=1, revised=True)
    left.check(1, revised=True)
    left.check(0, revised=True)
    with pytest.raises(ProtocolViolation, match="only 1 were sent"):
        left.check(2, revised=True)
    with pytest.raises(ProtocolViolation, match="revision"):
        left.check(1, revised=False)


def test_a_close_that_names_another_count_is_a_violation() -> None:
    machine = lone()
    with pytest.raises(ProtocolViolation, match="closed after 1"):
        tell(machine, [2, 1])


def test_a_closed_that_names_another_count_is_a_violation() -> None:
    machine = lone()
    machine.send(b"one")
    machine.close(0.0)
    machine.data_to_send(0.0)
    with pytest.raises(ProtocolViolation, match="closed at 0"):
        tell(machine, [3, 0])


def test_a_closed_that_nobody_asked_for_is_a_violation() -> None:
    machine = lone()
    with pytest.raises(ProtocolViolation, match="closed there in state open"):
        tell(machine, [3, 0])
    assert machine.state is State.LOST


def test_a_closed_before_the_close_went_out_is_a_violation() -> None:
    machine = lone()
    machine.send(b"one")
    machine.close(0.0)
    with pytest.raises(ProtocolViolation, match="only 0 went out"):
        tell(machine, [3, 1])


def test_a_message_after_the_close_is_a_violation() -> None:
    machine = lone()
    tell(machine, [2, 0])
    tell(machine, [0, 1, []])
    with pytest.raises(ProtocolViolation, match="after the close"):
        tell(machine, [0, 1, [b"x"]])


# -- abort and loss -------------------------------------------------------------------------------


def test_an_abort_ends_both_sides_with_the_right_counts() -> None:
    pair = Pair()
    pair.a.send(b"known")
    pair.run()
    pair.a.send(b"not sent")
    pair.b.send(b"under way")
    pair.a.abort(Code.REFUSED, "enough", 0.0)
    pair.run()
    assert ended(pair.a) == [Ended("enough", 1)]
    [there] = ended(pair.b)
    assert there.lost == "the other side ended it: enough (refused)"
    assert there.unacknowledged == 1
    assert inbox(pair.b) == [b"known"]
    pair.a.abort(Code.REFUSED, "again", 0.0)
    assert pair.a.data_to_send(0.0) == b""
    assert pair.a.next_timeout() is None
    pair.a.handle_timeout(1e9)
    assert pair.a.events() == []
    assert pair.a.closed is None


def test_an_abort_without_a_path_is_silent() -> None:
    pair = Pair()
    pair.detach()
    pair.a.abort(Code.REFUSED, "enough", 0.0)
    assert ended(pair.a) == [Ended("enough", 0)]
    assert pair.a.data_to_send(0.0) == b""


def test_a_closed_session_cannot_be_aborted() -> None:
    pair = Pair()
    pair.a.close(0.0)
    pair.run()
    pair.a.events()
    pair.a.abort(Code.REFUSED, "too late", 0.0)
    assert pair.a.state is State.CLOSED
    assert pair.a.events() == []


def test_what_follows_an_abort_is_ignored() -> None:
    machine = lone()
    tell(machine, [6, "refused", "no"], [0, 1, [b"x"]], ["nonsense"])
    assert machine.state is State.LOST
    assert not machine.inbox
    tell(machine, ["nonsense"])


def test_a_lost_session_does_not_close() -> None:
    machine = lone()
    machine.abort(Code.INTERNAL, "lost", 0.0)
    machine.close(0.0)
    assert machine.state is State.LOST
    machine.attach(0, 0, SETTINGS.window, 0.0)
    assert [frame[0] for frame in frames(machine.data_to_send(0.0))] == [1]


def test_without_a_path_for_the_resume_window_the_session_is_lost() -> None:
    pair = Pair()
    pair.run()
    for number in range(5):
        pair.a.send(b"%d" % number)
    pair.b.receive(pair.a.data_to_send(0.0), 0.0)
    for number in range(5):
        pair.a.send(b"%d" % number)
    pair.now = 10.0
    pair.detach()
    pair.detach()
    assert pair.a.next_timeout() == 310.0
    pair.a.handle_timeout(309.9)
    assert pair.a.state is State.OPEN
    pair.a.handle_timeout(310.0)
    assert ended(pair.a) == [Ended("no path for 300 s", 10)]
    assert pair.b.received == 5, "five arrived, but nothing said so: the count may only be too high"


def test_a_session_that_never_had_a_path_is_lost_too() -> None:
    machine = SessionMachine(SETTINGS, 5.0)
    assert machine.next_timeout() == 305.0
    machine.handle_timeout(305.0)
    assert ended(machine) == [Ended("no path for 300 s", 0)]


@pytest.mark.parametrize(
    "frame",
    [
        7,
        "x",
        None,
        {},
        [],
        [0],
        [0, 1],
        [0, "1", []],
        [0, 1, [], 1],
        [0, 1, b""],
        [0, 0, []],
        [0, -1, [b""]],
        [0, 2, []],
        [0, 1, ["text"]],
        [0, 1, [b"", 7]],
        [0, 1, [None]],
        [1, 0],
        [1, "0", 0],
        [1, 0, None],
        [2, None],
        [3, b""],
        [4, -1],
        [4, 2**32],
        [4, 1.5],
        [5, "x"],
        [6, 1, "x"],
        [6, "x", b"x"],
        [7, 1],
        [-1],
        [[0], 1, []],
    ],
)
def test_frames_that_are_none_end_the_session(frame: object) -> None:
    machine = lone()
    machine.send(b"x")
    with pytest.raises(ProtocolViolation):
        tell(machine, frame)
    [event] = ended(machine)
    assert event.unacknowledged == 1
    abort = frames(machine.data_to_send(0.0))
    assert abort[0][:2] == [6, "bad_message"], "the other side is told"
    assert not machine.inbox


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        b"\x91" * 2000,
        msgpack.packb([0, 1, [bytes(MAX_PAYLOAD + 1)]]),
        msgpack.packb([0, 1, [b""] * 1025]),
        b"\xdd\xff\xff\xff\xff",
        b"\x93\x00\x01\x91\xc6\xff\xff\xff\xff" + bytes(MAX_FRAME),
    ],
)
def test_bytes_that_are_no_frames_end_the_session(data: bytes) -> None:
    machine = lone()
    pieces = [data[start : start + (1 << 20)] for start in range(0, len(data), 1 << 20)]
    with pytest.raises(ProtocolViolation):
        feed(machine, pieces)
    assert machine.state is State.LOST


def test_a_full_frame_is_accepted() -> None:
    machine = lone()
    tell(machine, [0, 1, [b"x" * 10] * 1024])
    assert machine.received == 1024
    tell(machine, [0, 1025, [bytes(MAX_PAYLOAD)]])


@pytest.mark.parametrize("question", [[4, 7], [2, 0]])
def test_who_asks_and_does_not_read_costs_no_memory(question: list[int]) -> None:
    """Nothing is written while the path is full: only the last answer of a kind is kept."""
    machine = lone()
    tell(machine, *[[4, number] for number in range(1000)])
    for _ in range(10):
        tell(machine, *[question] * 1000)
    written = frames(machine.data_to_send(0.0))
    assert len(written) <= 3
    assert [5, question[1] if question[0] == 4 else 999] in written
    assert not machine.needs_flush


# -- time -----------------------------------------------------------------------------------------


def test_an_idle_path_is_pinged_and_lives() -> None:
    pair = Pair()
    pair.run()
    assert pair.a.next_timeout() == 2.0
    pair.a.handle_timeout(1.9)
    assert pair.a.data_to_send(1.9) == b""
    pair.a.handle_timeout(2.0)
    assert frames(pair.a.data_to_send(2.0)) == [[4, 1]]
    assert pair.a.next_timeout() == 4.0
    pair.b.receive(msgpack.packb([4, 9]), 2.0)
    assert frames(pair.b.data_to_send(2.0)) == [[5, 9]]
    pair.now = 2.0
    pair.wait(3600.0)
    assert pair.a.attached
    assert pair.b.attached


def test_traffic_both_ways_needs_no_pings() -> None:
    pair = Pair()
    for second in range(1, 60):
        pair.now = float(second)
        pair.a.send(b"x")
        pair.run()
        for machine in (pair.a, pair.b):
            deadline = machine.next_timeout()
            assert deadline is not None
            assert deadline > pair.now + 1.0


def test_a_side_that_only_hears_pings_too() -> None:
    """A large message on a slow link: its sender must hear something before the acknowledgement."""
    machine = lone()
    data = msgpack.packb([0, 1, [bytes(1000)]])
    pings = 0
    for second in range(30):
        machine.receive(data[second : second + 1], float(second))
        machine.handle_timeout(float(second))
        pings += machine.data_to_send(float(second)) != b""
    assert machine.attached
    assert pings >= 14


def test_a_large_message_on_a_slow_link_arrives() -> None:
    """1 MiB at 20 kB a second takes 52 s; nothing is acknowledged before the end."""
    pair = Pair()
    pair.run()
    pair.a.send(bytes(MAX_PAYLOAD))
    data = bytearray()
    second = 0
    while not pair.b.inbox:
        second += 1
        pair.now = float(second)
        data += pair.a.data_to_send(pair.now)
        pair.b.receive(bytes(data[:20_000]), pair.now)
        del data[:20_000]
        for machine in (pair.a, pair.b):
            machine.handle_timeout(pair.now)
            assert machine.attached, machine.events()
        if back := pair.b.data_to_send(pair.now):
            pair.a.receive(back, pair.now)
    assert 52 <= second <= 54
    assert pair.a.outstanding == 0


def test_a_silent_path_is_dead() -> None:
    pair = Pair()
    pair.run()
    pair.wait(6.5, carry=False)
    for machine in (pair.a, pair.b):
        assert not machine.attached
        assert machine.events() == [PathDead("silent for 6.0 s")]
        assert machine.state is State.OPEN
        assert machine.next_timeout() == 306.0


def test_a_path_that_answers_pings_but_carries_nothing_is_dead() -> None:
    machine = lone()
    machine.send(b"x")
    machine.data_to_send(1.0)
    for tenth in range(10, 70):
        machine.receive(msgpack.packb([5, 0]), tenth / 10)
        machine.handle_timeout(tenth / 10)
        assert machine.attached, tenth
    machine.receive(msgpack.packb([5, 0]), 7.0)
    assert machine.next_timeout() == pytest.approx(7.0, abs=0.01)
    machine.handle_timeout(7.1)
    assert machine.events() == [PathDead("nothing acknowledged for 6.1 s")]
    assert machine.state is State.OPEN
    assert machine.outstanding == 1


def test_progress_keeps_a_loaded_path_alive() -> None:
    machine = lone()
    for _ in range(100):
        machine.send(b"x")
    machine.data_to_send(0.0)
    for second in range(1, 100):
        tell(machine, [1, second, 0], now=float(second))
        machine.handle_timeout(float(second))
        assert machine.attached


def test_settings_change_the_times() -> None:
    machine = lone(SessionSettings(ping_interval=0.5, silence_limit=1.0, resume_window=3.0))
    assert machine.next_timeout() == 0.5
    machine.handle_timeout(0.5)
    assert machine.next_timeout() == 1.0
    machine.handle_timeout(1.0)
    assert machine.events() == [PathDead("silent for 1.0 s")]
    assert machine.next_timeout() == 4.0
    machine.handle_timeout(4.0)
    assert machine.state is State.LOST


@pytest.mark.parametrize("piece", [1, 1000])
def test_what_stands_behind_an_abort_is_not_looked_at(piece: int) -> None:
    """In whatever pieces it comes: a frame that is none would be a violation of its own."""
    machine = SessionMachine(SessionSettings(), 0.0)
    machine.attach(0, 0, 4096, 0.0)
    data = msgpack.packb([6, "internal", "no"]) + b"\xc1"
    for start in range(0, len(data), piece):
        machine.receive(data[start : start + piece], 1.0)
    assert machine.state is State.LOST
