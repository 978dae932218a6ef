"""Slow links: what flows is progress, what is only buffered is none, and a ping gets through."""

import tracemalloc

import msgpack
import pytest

from protocol.session.events import PathDead
from protocol.session.pace import Pace
from protocol.session.settings import MAX_PAYLOAD
from tests.protocol.test_session_parts import lone
from tests.support.slow_link import SlowLink

MIB = bytes(MAX_PAYLOAD)


# -- what one path may have on its way ------------------------------------------------------------


def test_nothing_more_leaves_than_brings_it_there_sooner() -> None:
    pace = Pace()
    first = pace.room
    pace.wrote((1, 0), first, 0.0)
    assert pace.room == 0
    pace.arrived((1, 0), 0.1)
    assert pace.room == 3 * first, "faster than TCP, after a round trip"
    pace.wrote((2, 0), 2 * first, 0.1)
    pace.wrote((3, 0), first, 0.1)
    pace.arrived((2, 0), 0.2)
    most = pace.room + first
    pace.arrived((3, 0), 1.2)
    assert pace.room < 0.6 * most, "it came a second later than it comes on an idle path"


def test_a_sender_that_has_little_to_say_is_not_taken_for_a_slow_path() -> None:
    pace = Pace()
    room = pace.room
    for number in range(1, 100):
        pace.wrote((number, 0), 100, number)
        pace.arrived((number, 0), number + 0.05)
    assert pace.room >= room
    assert pace.fragment >= 1024


def test_a_receiver_that_stands_still_for_a_while_does_not_slow_its_sender_for_good() -> None:
    pace = Pace()
    now, end = 0.0, 0
    for turn in range(60):
        while pace.room > 0:
            end += 1
            pace.wrote((end, 0), min(pace.fragment, pace.room), now)
        now += 5.0 if 20 <= turn < 25 else 0.01
        pace.arrived((end, 0), now)
    assert pace.room > 1 << 20
    assert pace.fragment == 65_536


def test_small_frames_that_nobody_acknowledges_cost_little() -> None:
    pace = Pace()
    tracemalloc.start()
    try:
        for number in range(1, 20_001):
            pace.wrote((number, 0), 40, number / 10_000)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 20_000 * 40, "less than the frames themselves"
    pace.arrived((20_000, 0), 3.0)
    assert pace.is_idle


def test_a_long_path_is_filled() -> None:
    """A second to the other side and back is no queue."""
    pace = Pace()
    now, end = 0.0, 0
    for _ in range(12):
        while pace.room > 0:
            end += 1
            pace.wrote((end, 0), min(pace.fragment, pace.room), now)
        now += 1.0
        pace.arrived((end, 0), now)
    assert pace.room > 4 << 20


def test_what_tcp_brings_in_its_first_round_trips_the_application_gets() -> None:
    """After an absence: a frame that is larger than what leaves in one round trip would hold up all
    that stands in it for the next."""
    a, b = lone(), lone()
    for _ in range(1000):
        a.send(bytes(200))
    pipe, tcp, brought, now = bytearray(), 14_600, 0, 0.0
    for _ in range(4):
        while data := a.data_to_send(now):
            pipe += data
        now += 0.05
        b.receive(bytes(pipe[:tcp]), now)
        brought += min(tcp, len(pipe))
        del pipe[:tcp]
        assert b.received * 200 > 0.7 * brought
        a.receive(b.data_to_send(now), now)
        tcp *= 2
    assert b.received > 800


def test_the_first_message_arrives_with_the_first_packet() -> None:
    pace = Pace()
    assert pace.fragment + 200 < 1448


# -- two machines and a slow link -----------------------------------------------------------------


@pytest.mark.parametrize("rate", [1000, 8192, 65_536])
def test_a_large_message_over_a_slow_link_needs_one_path_and_is_sent_once(rate: int) -> None:
    link = SlowLink(rate)
    size = min(MAX_PAYLOAD, 30 * rate)
    link.a.send(bytes(size))
    while link.a.outstanding:
        link.step()
    assert link.paths == 1
    assert link.there.taken < 1.03 * size
    assert link.now < 1.1 * size / rate


def test_a_link_that_is_slower_than_anybody_knew_makes_progress() -> None:
    link = SlowLink(250)
    link.a.send(bytes(8000))
    while link.a.outstanding:
        link.step()
    assert link.paths <= 4
    assert link.now < 3 * 8000 / 250


@pytest.mark.parametrize("rate", [8192, 65_536])
def test_a_ping_is_not_stuck_behind_megabytes(rate: int) -> None:
    link = SlowLink(rate)
    for _ in range(4):
        link.a.send(MIB)
    link.run(15.0)
    assert link.there.taken < (15.0 + 1.5) * rate, "the link takes all, and would have got it"
    for _ in range(5):
        link.run(1.0)
        before = link.a.round_trip
        link.a.probe(link.now, 60.0)
        while link.a.round_trip == before:
            link.step()
        assert link.a.round_trip is not None
        assert link.a.round_trip < 2.0


def test_a_receiver_that_stalls_behind_a_link_that_takes_all_is_dead_in_time() -> None:
    """The link takes a megabyte and more; nothing of that is progress."""
    link = SlowLink(65_536)
    for _ in range(4):
        link.a.send(MIB)
    link.run(10.0)
    link.there.rate = link.back.rate = 0.0
    stopped = link.now
    while not link.dead:
        link.step()
    assert link.now - stopped < 7.5


def test_a_receiver_that_only_answers_pings_is_dead_in_time() -> None:
    machine = lone()
    machine.send(MIB)
    now = 0.0
    while machine.attached and now < 60:
        now += 0.5
        machine.data_to_send(now)
        machine.receive(msgpack.packb([5, 0]), now)
        machine.handle_timeout(now)
    [event] = machine.events()
    assert isinstance(event, PathDead)
    assert "acknowledged" in event.reason
    assert now < 8.0


def test_bytes_of_an_unfinished_record_are_heard_but_not_for_ever() -> None:
    machine = lone()
    now = 0.0
    while machine.attached and now < 200:
        now += 1.0
        machine.hear_part(now)
        machine.handle_timeout(now)
        machine.data_to_send(now)
    assert 60.0 <= now < 70.0
    [event] = machine.events()
    assert isinstance(event, PathDead)
    machine.hear_part(now)


def test_bytes_of_an_unfinished_record_answer_a_probe() -> None:
    machine = lone()
    machine.probe(1.0, 0.5)
    machine.hear_part(1.4)
    machine.handle_timeout(1.6)
    assert machine.attached


def test_a_message_to_an_old_party_gets_more_time_on_each_next_path() -> None:
    """It is acknowledged whole or not at all: with the same time on each path it would never be."""
    link = SlowLink(8000, revised=False)
    link.a.send(MIB)
    while link.a.outstanding and link.now < 1000:
        link.step()
    assert link.a.outstanding == 0
    assert [reason for _, reason in link.dead] == ["nothing acknowledged for 70.0 s"]


def test_a_path_to_an_old_party_whose_rate_is_known_gets_what_it_needs() -> None:
    link = SlowLink(8000, revised=False)
    link.a.send(bytes(50_000))
    link.a.send(MIB)
    while link.a.outstanding and link.now < 1000:
        link.step()
    assert (link.paths, link.dead) == (1, [])
