"""A path that stands ready: its states, and a session that goes on over it."""

from itertools import product

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ProtocolViolation
from protocol.session.frames import Frame
from protocol.session.standby import (
    QUIET_INTERVAL,
    TRANSITIONS,
    Standby,
    StandbyInput,
    StandbyState,
    SwitchAsked,
)
from protocol.session.states import State
from tests.protocol.test_session import Pair, frames, inbox

EXPECTED = """
        ping-due  heard  answer-late  switch-here  switch-there  lost
quiet   asked     -      -            used         used          dead
asked   -         quiet  dead         used         used          dead
used    -         -      -            -            -             -
dead    -         -      -            -            -             -
"""
LARGE = bytes(range(256)) * 2048


def expected() -> dict[tuple[StandbyState, StandbyInput], StandbyState | None]:
    head, *rows = [line.split() for line in EXPECTED.strip().splitlines()]
    words = {state.value: state for state in StandbyState} | {"-": None}
    return {
        (StandbyState(name), StandbyInput(cause.replace("-", " "))): words[word]
        for name, *cells in rows
        for cause, word in zip(head, cells, strict=True)
    }


def packed(*values: object) -> bytes:
    return b"".join(msgpack.packb(value) for value in values)


class Standing:
    """A session with a path, and a second one that is quiet."""

    def __init__(self) -> None:
        self.pair = Pair(revised=True)
        self.pair.run()
        self.a, self.b = self.pair.a, self.pair.b
        self.at_a, self.at_b = Standby(0.0), Standby(0.0)

    def deliver(self) -> None:
        """Carry over the second path what a and b have to say, until nothing is left."""
        while (there := self.a.data_to_send(0.0)) or (back := self.b.data_to_send(0.0)):
            if there:
                self.to_b(there)
                continue
            self.to_a(back)

    def to_b(self, data: bytes) -> None:
        if (asked := self.at_b.receive(data, 0.0)) is not None:
            self.b.follow(self.at_b, asked, 0.0)
        elif self.at_b.state is StandbyState.USED:
            self.b.receive(data, 0.0)

    def to_a(self, data: bytes) -> None:
        if (asked := self.at_a.receive(data, 0.0)) is not None:
            self.a.follow(self.at_a, asked, 0.0)
        elif self.at_a.state is StandbyState.USED:
            self.a.receive(data, 0.0)


# -- the quiet path -------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "cause"), list(product(StandbyState, StandbyInput)))
def test_every_state_and_input(state: StandbyState, cause: StandbyInput) -> None:
    assert TRANSITIONS[state].get(cause) is expected()[state, cause]


def test_a_quiet_path_is_pinged_once_a_minute_and_by_one_side_only() -> None:
    here, there = Standby(0.0), Standby(0.0)
    pings = 0
    for minute in range(1, 61):
        now = minute * (QUIET_INTERVAL + 0.2)
        here.handle_timeout(now)
        asked = here.data_to_send()
        pings += bool(asked)
        assert there.receive(asked, now + 0.1) is None
        there.handle_timeout(now + 0.1)
        assert here.receive(there.data_to_send(), now + 0.2) is None
        assert there.data_to_send() == b""
    assert 30 <= pings <= 60
    assert here.state is there.state is StandbyState.QUIET
    assert here.round_trip == pytest.approx(0.2)


def test_an_answer_that_does_not_come_ends_it() -> None:
    standby = Standby(0.0)
    standby.handle_timeout(QUIET_INTERVAL)
    when = standby.next_timeout()
    assert standby.state is StandbyState.ASKED
    assert when is not None
    standby.handle_timeout(when)
    assert standby.state is StandbyState.DEAD
    assert (standby.next_timeout(), standby.data_to_send()) == (None, b"")
    assert standby.receive(packed([Frame.SWITCH, 2]), when) is None


def test_a_probe_asks_at_once_and_only_once() -> None:
    standby = Standby(0.0)
    standby.probe(1.0)
    standby.probe(2.0)
    assert frames(standby.data_to_send()) == [[Frame.PING, 1]]
    assert standby.next_timeout() == 7.0


@pytest.mark.parametrize(
    "frame",
    [
        [Frame.DATA, 1, [b"x"]],
        [Frame.ACK, 0, 0, 0],
        [Frame.CLOSE, 0],
        [Frame.ABORT, "internal", ""],
        [Frame.LOCATION, []],
        [Frame.SWITCH, 0],
        [Frame.SWITCH, 2**32],
        [Frame.PING, -1],
        [99],
    ],
)
def test_what_a_quiet_path_does_not_carry_ends_it(frame: list[object]) -> None:
    standby = Standby(0.0)
    with pytest.raises(ProtocolViolation):
        standby.receive(packed(frame), 0.0)
    assert standby.state is StandbyState.DEAD


def test_a_flood_of_pings_ends_it_and_has_one_answer_until_then() -> None:
    standby = Standby(0.0)
    standby.receive(packed(*([Frame.PING, n] for n in range(1000))), 0.0)
    assert frames(standby.data_to_send()) == [[Frame.PONG, 999]]
    with pytest.raises(ProtocolViolation):
        standby.receive(packed(*([Frame.PING, n] for n in range(1025))), 0.0)
    assert standby.state is StandbyState.DEAD


def test_it_is_switched_to_once() -> None:
    standby = Standby(0.0)
    assert standby.receive(packed([Frame.SWITCH, 2]), 0.0) == SwitchAsked(2, ())
    assert standby.receive(packed([Frame.SWITCH, 3]), 0.0) is None
    with pytest.raises(RuntimeError):
        standby.switch(4)


# -- the session ----------------------------------------------------------------------------------


def test_what_the_first_path_has_swallowed_goes_over_the_second_with_no_hello() -> None:
    two = Standing()
    two.a.send(b"one")
    two.b.send(b"uno")
    two.pair.lose()
    two.a.send(b"two")
    two.a.switch(two.at_a, 2, 0.0)
    first = two.a.data_to_send(0.0)
    assert frames(first)[0] == [Frame.SWITCH, 2]
    assert [Frame.DATA, 1, [b"one", b"two"]] in frames(first)
    two.to_b(first)
    assert inbox(two.b) == [b"one", b"two"], "in the same bytes as the word"
    two.deliver()
    assert inbox(two.a) == [b"uno"]
    assert two.a.outstanding == two.b.outstanding == 0


@pytest.mark.parametrize("acknowledged", [False, True])
def test_a_message_that_had_arrived_in_part_goes_on(acknowledged: bool) -> None:
    two = Standing()
    two.a.send(LARGE)
    two.b.receive(two.a.data_to_send(0.0), 0.0)
    here = two.b.partial
    assert 0 < here < len(LARGE)
    if (ack := two.b.data_to_send(0.0)) and acknowledged:
        two.a.receive(ack, 0.0)
    two.a.switch(two.at_a, 2, 0.0)
    begin = next(f[2] for f in frames(two.a.data_to_send(0.0)) if f[0] == Frame.PART)
    assert begin == (here if acknowledged else 0)
    two.a.detach(0.0)
    two.at_a = Standby(0.0)  # What was looked at is on no path, and is written again.
    two.a.switch(two.at_a, 3, 0.0)
    two.deliver()
    assert inbox(two.b) == [LARGE]


def test_a_frame_that_is_cut_behind_the_word_is_read_on() -> None:
    two = Standing()
    two.a.send(b"x" * 50)
    two.a.switch(two.at_a, 2, 0.0)
    data = two.a.data_to_send(0.0)
    for cut in range(len(data) + 1):
        there = Standing()
        there.to_b(data[:cut])
        there.to_b(data[cut:])
        assert inbox(there.b) == [b"x" * 50]


def test_addresses_that_were_to_be_told_are_told_behind_the_word() -> None:
    two = Standing()
    two.a.tell_location(())
    two.a.switch(two.at_a, 2, 0.0)
    assert [frame[0] for frame in frames(two.a.data_to_send(0.0))][:2] == [
        Frame.SWITCH,
        Frame.LOCATION,
    ]


def test_a_close_that_was_lost_is_said_again() -> None:
    two = Standing()
    two.a.close(0.0)
    two.b.close(0.0)
    two.pair.lose()
    two.a.switch(two.at_a, 2, 0.0)
    two.deliver()
    assert two.a.state is two.b.state is State.CLOSED


def test_a_second_path_that_dies_with_the_word_costs_a_hello_and_nothing_else() -> None:
    two = Standing()
    two.a.send(LARGE)
    two.b.send(b"uno")
    two.pair.lose()
    two.a.switch(two.at_a, 2, 0.0)
    half = two.a.data_to_send(0.0)
    two.to_b(half[: len(half) // 2])  # The word has arrived, and b answers into the void.
    two.b.data_to_send(0.0)
    two.pair.detach()
    two.pair.attach()
    two.pair.run()
    assert (inbox(two.b), inbox(two.a)) == ([LARGE], [b"uno"])


def test_a_path_that_was_dialed_behind_the_word_takes_over() -> None:
    two = Standing()
    two.a.send(b"one")
    two.a.switch(two.at_a, 2, 0.0)
    two.a.data_to_send(0.0)  # It never arrives: b has taken another path, of a higher number.
    two.pair.attach()
    two.at_b.lost()
    two.pair.run()
    assert inbox(two.b) == [b"one"]
    assert two.at_b.receive(packed([Frame.SWITCH, 2]), 0.0) is None


def test_a_session_that_is_lost_says_nothing_on_it() -> None:
    two = Standing()
    two.a.send(b"one")
    two.pair.wait(0.0)
    two.a.detach(0.0)
    two.a.handle_timeout(1000.0)
    assert two.a.state is State.LOST
    with pytest.raises(RuntimeError):
        two.a.switch(two.at_a, 2, 1000.0)
    assert two.at_a.is_ready, "it is for its owner to drop"
    two.a.follow(two.at_a, SwitchAsked(2, ([Frame.DATA, 1, [b"x"]],)), 1000.0)
    assert (two.a.attached, inbox(two.a)) == (False, [])


def test_there_is_no_switch_in_the_first_revision() -> None:
    pair = Pair()
    with pytest.raises(RuntimeError):
        pair.a.switch(Standby(0.0), 2, 0.0)
    with pytest.raises(RuntimeError):
        pair.b.follow(Standby(0.0), SwitchAsked(2, ()), 0.0)


def test_what_breaks_the_protocol_behind_the_word_ends_the_session() -> None:
    two = Standing()
    with pytest.raises(ProtocolViolation):
        two.to_b(packed([Frame.SWITCH, 2], [Frame.DATA, 7, [b"x"]]))
    assert two.b.state is State.LOST


@given(st.lists(st.sampled_from(["a sends", "b sends", "carry", "lose"])), st.sampled_from("ab*"))
def test_nothing_is_lost_doubled_or_reordered_whoever_switches(steps: list[str], who: str) -> None:
    two = Standing()
    sent: dict[str, list[bytes]] = {"a": [], "b": []}
    for number, step in enumerate(steps):
        match step:
            case "a sends" | "b sends":
                sent[step[0]].append(b"%d" % number * (number * 500 + 1))
                (two.a if step[0] == "a" else two.b).send(sent[step[0]][-1])
            case "carry":
                if (data := two.a.data_to_send(0.0)) and "lose" not in steps[:number]:
                    two.b.receive(data, 0.0)
            case _:
                two.pair.lose()
                two.pair.detach()
    if who in "a*":
        two.a.switch(two.at_a, 2, 0.0)
    if who in "b*":
        two.b.switch(two.at_b, 2, 0.0)
    two.deliver()
    assert (inbox(two.b), inbox(two.a)) == (sent["a"], sent["b"])
