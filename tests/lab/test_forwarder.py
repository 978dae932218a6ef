"""What a link does to packets: its arithmetic by itself, and the process between two hosts."""

import os
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from tests.lab.forwarder import Direction
from tests.lab.links import Link
from tests.lab.network import LabUnavailable, network


def times(direction: Direction, packets: int, every: float, size: int = 100) -> list[float]:
    """Send packets and return when those that arrive do so, by a clock that is only counted."""
    arrivals = []
    for number in range(packets):
        direction.accept(number.to_bytes(4, "big") + bytes(size - 4), number * every)
    order = []
    while (due := direction.next_due) is not None:
        for packet in direction.arrived(due):
            arrivals.append(due)
            order.append(int.from_bytes(packet[:4], "big"))
    assert order == sorted(order), "a packet has overtaken another"
    return arrivals


def test_a_delay_is_the_same_for_all() -> None:
    arrivals = times(Direction(Link(delay_ms=25)), 10, 0.001)
    assert arrivals == pytest.approx([0.025 + number * 0.001 for number in range(10)])


def test_jitter_spreads_and_never_reorders() -> None:
    arrivals = times(Direction(Link(delay_ms=10, jitter_ms=20)), 1000, 0.025)
    delays = [arrival - number * 0.025 for number, arrival in enumerate(arrivals)]
    assert min(delays) >= 0.01 - 1e-9
    assert max(delays) <= 0.03 + 1e-9
    assert max(delays) - min(delays) > 0.015
    close = times(Direction(Link(delay_ms=10, jitter_ms=20)), 1000, 0.001)
    assert all(later >= earlier for earlier, later in pairwise(close))


def test_loss_is_the_share_that_was_asked_for_and_the_same_each_time() -> None:
    one, again = Direction(Link(loss=0.05)), Direction(Link(loss=0.05))
    assert 0.04 < 1 - len(times(one, 20_000, 0.001)) / 20_000 < 0.06
    times(again, 20_000, 0.001)
    assert one.lost == again.lost


def test_a_rate_spaces_packets_and_drops_what_finds_the_queue_full() -> None:
    # 100 bytes at 80 kbit/s take 10 ms; ten of them fit the queue.
    direction = Direction(Link(rate_bits=80_000, queue_bytes=1000))
    arrivals = times(direction, 50, 0.0)
    assert arrivals == pytest.approx([0.01 * (number + 1) for number in range(10)])
    assert direction.full == 40


def test_what_is_under_way_arrives_as_it_would_have() -> None:
    direction = Direction(Link(delay_ms=100))
    direction.accept(b"before", 0.0)
    direction.change(Link(delay_ms=1))
    direction.accept(b"after", 0.01)
    assert not direction.arrived(0.05)
    assert direction.arrived(0.1) == [b"before", b"after"]


def syn(version: int, host: int, port: int, flags: int = 0x02) -> bytes:
    tcp = bytes(2) + port.to_bytes(2, "big") + bytes(9) + bytes([flags]) + bytes(6)
    if version == 4:
        return bytes([0x45]) + bytes(8) + b"\x06" + bytes(9) + bytes([host]) + tcp
    return bytes([0x60]) + bytes(5) + b"\x06" + bytes(32) + bytes([host]) + tcp


@pytest.mark.parametrize("version", [4, 6])
def test_first_syns_vanish_and_nothing_else(version: int) -> None:
    direction = Direction(Link(lose_syns=1))
    first, answer, data = (syn(version, 1, 80, flags) for flags in (0x02, 0x12, 0x18))
    udp = first.replace(b"\x06", b"\x11", 1)
    for packet in (first, answer, data, udp, first, syn(version, 1, 81), syn(version, 2, 80)):
        direction.accept(packet, 0.0)
    assert direction.arrived(0.0) == [answer, data, udp, first]
    assert direction.syns == 3
    direction.change(Link(lose_syns=1))
    direction.accept(first, 0.0)
    assert direction.arrived(0.0) == []


@pytest.mark.parametrize("version", [4, 6])
def test_first_data_of_each_connection_vanishes_and_nothing_else(version: int) -> None:
    direction = Direction(Link(lose_data=1))
    dial, ack = (bytearray(syn(version, 1, 80, flags)) for flags in (0x02, 0x10))
    at = len(ack) - 20
    dial[at + 12] = ack[at + 12] = 5 << 4  # A header without options.
    said = bytes(ack) + b"x"
    other = bytearray(said)
    other[at] = 7  # From another port.
    for packet in (dial, ack, said, said, other):
        direction.accept(bytes(packet), 0.0)
    assert direction.arrived(0.0) == [dial, ack, said]
    assert direction.data == 2


SERVER = """
import socket
server = socket.create_server(("10.0.0.2", 9))
print(flush=True)
connection, _ = server.accept()
while data := connection.recv(65536):
    connection.sendall(data)
"""
CLIENT = """
import socket, sys, time
connection = socket.create_connection(("10.0.0.2", 9))
for _ in range(200):
    began = time.monotonic()
    connection.sendall(b"x")
    connection.recv(1)
    took = time.monotonic() - began
    print(took)
    if took < float(sys.argv[1]):
        break
"""


def test_two_hosts_over_a_link_that_changes() -> None:
    try:
        with network() as net:
            net.host("one", "two")
            link = Link(delay_ms=20)
            net.link("one", ["10.0.0.1/24"], "two", ["10.0.0.2/24"], link)
            trips = [_round_trip(net["one"].command(), net["two"].command(), 0.06)]
            net.change("one", "two", Link(delay_ms=40))
            trips.append(_round_trip(net["one"].command(), net["two"].command(), 0.1))
            counts = net.counts("one", "two")
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))
    assert 0.04 <= trips[0] < 0.06
    assert 0.08 <= trips[1] < 0.1
    assert counts["passed"] > 10
    assert counts["lost"] == counts["full"] == 0


def _round_trip(one: list[str], two: list[str], below: float) -> float:
    """Return the shortest of many, but no more than it takes until one is below so many seconds:
    a busy machine may be late for some."""
    server = subprocess.Popen([*two, sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        server.stdout.readline()
        done = subprocess.run(
            [*one, sys.executable, "-c", CLIENT, str(below)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return min(map(float, done.stdout.split()))
    finally:
        server.kill()
        server.communicate(timeout=20)


def test_one_direction_carries_twenty_thousand_packets_a_second() -> None:
    direction = Direction(Link(delay_ms=5, jitter_ms=1, loss=0.01))
    began = time.thread_time()
    for number in range(20_000):
        direction.accept(b"x" * 100, number * 5e-5)
        direction.arrived(number * 5e-5)
    assert time.thread_time() - began < 1.0
