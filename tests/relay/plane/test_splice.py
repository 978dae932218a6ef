"""Bytes between two sockets: both ways, each with its own end."""

import asyncio
import contextlib
import os
import socket

import pytest

from relay.limits import Cause, Charge, Toll, cause_of
from relay.plane import SocketLeg, splice
from relay.plane.splice import Pipes, SocketPlane

ALICE, BOB, CAROL = (cause_of(f"192.0.2.{number}", name) for number, name in enumerate("abc"))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def free(cause: Cause, cost: float) -> float:
    return 0.0


class Plane:
    """Two peers with a plane between them."""

    def __init__(
        self,
        pipes: Pipes | None = None,
        causes: tuple[Cause, Cause] = (ALICE, BOB),
        charge: Charge = free,
    ) -> None:
        self.alice, left = socket.socketpair()
        right, self.bob = socket.socketpair()
        for one in (self.alice, left, right, self.bob):
            one.setblocking(False)
        self.moved: dict[str, int] = {}
        self.ends: list[str] = []
        self.over = asyncio.Event()
        self.pipes = pipes or Pipes(4, Clock())
        first, second = (
            SocketLeg(sock, Toll(charge, cause))
            for sock, cause in zip((left, right), causes, strict=True)
        )
        self.plane = SocketPlane(
            (first, second), pipes=self.pipes, count=self._count, on_end=self._end
        )
        self.plane.start()

    def _count(self, way: str, size: int) -> None:
        self.moved[way] = self.moved.get(way, 0) + size

    def _end(self, plane: SocketPlane, reason: str) -> None:
        self.ends.append(reason)
        self.over.set()

    async def end(self) -> list[str]:
        """Close both ends; return the reasons."""
        self.alice.close()
        self.bob.close()
        await asyncio.wait_for(self.over.wait(), 60)
        self.plane.close("again")
        return self.ends


async def read_all(sock: socket.socket) -> bytes:
    loop, got = asyncio.get_running_loop(), b""
    while piece := await asyncio.wait_for(loop.sock_recv(sock, 1 << 20), 60):
        got += piece
    return got


@pytest.fixture(params=["splice", "copy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "copy":
        monkeypatch.delattr(splice.os, "splice")
    return str(request.param)


async def test_either_way_ends_by_itself(way: str) -> None:
    both = Plane()
    loop = asyncio.get_running_loop()
    data = os.urandom(5 << 20)
    reading = asyncio.create_task(read_all(both.bob))
    await loop.sock_sendall(both.alice, data)
    both.alice.shutdown(socket.SHUT_WR)
    assert await reading == data
    await loop.sock_sendall(both.bob, b"and back")
    both.bob.shutdown(socket.SHUT_WR)
    assert await read_all(both.alice) == b"and back"
    await asyncio.wait_for(both.over.wait(), 60)
    assert both.ends == ["finished"]
    assert both.moved == {way: len(data) + 8}
    assert await both.end() == ["finished"]


async def test_a_plane_ends_once(way: str) -> None:
    both = Plane()
    both.plane.close("idle")
    assert await read_all(both.alice) == await read_all(both.bob) == b""
    assert await both.end() == ["idle"]


async def test_without_descriptors_for_a_pipe_bytes_are_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(flags: int) -> tuple[int, int]:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(splice.os, "pipe2", none_left)
    both = Plane()
    await asyncio.get_running_loop().sock_sendall(both.alice, b"hello")
    both.alice.shutdown(socket.SHUT_WR)
    assert await read_all(both.bob) == b"hello"
    assert both.moved == {"copy": 5}
    await both.end()


async def test_a_plane_has_a_pipe_only_while_it_holds_bytes() -> None:
    both = Plane()
    loop = asyncio.get_running_loop()
    for _ in range(3):
        await loop.sock_sendall(both.alice, b"hello")
        assert await asyncio.wait_for(loop.sock_recv(both.bob, 5), 60) == b"hello"
    assert both.pipes.open == 1, "one is kept for the next"
    data = os.urandom(8 << 20)
    sending = asyncio.create_task(loop.sock_sendall(both.alice, data))
    await loop.sock_sendall(both.bob, b"and back")
    assert await asyncio.wait_for(loop.sock_recv(both.alice, 8), 60) == b"and back"
    assert both.pipes.open <= 2
    got = b""
    while len(got) < len(data):
        got += await asyncio.wait_for(loop.sock_recv(both.bob, 1 << 20), 60)
    await sending
    assert got == data
    await both.end()
    both.pipes.close_kept()
    assert both.pipes.open == 0


async def test_who_gets_no_pipe_copies_and_holds_nothing() -> None:
    loop = asyncio.get_running_loop()
    both = Plane()
    taken = [both.pipes.take(ALICE) for _ in range(4)]
    data = os.urandom(4 << 20)
    sending = asyncio.create_task(loop.sock_sendall(both.alice, data))
    await loop.sock_sendall(both.bob, b"and back")
    assert await asyncio.wait_for(loop.sock_recv(both.alice, 8), 60) == b"and back"
    got = b""
    while len(got) < len(data):
        got += await asyncio.wait_for(loop.sock_recv(both.bob, 10_007), 60)
    await sending
    assert got == data
    assert both.moved == {"copy": len(data) + 8}
    for one in taken:
        both.pipes.give_back(one)
    await loop.sock_sendall(both.alice, b"again")
    assert await asyncio.wait_for(loop.sock_recv(both.bob, 5), 60) == b"again"
    assert both.moved["splice"] == 5
    await both.end()
    both.pipes.close_kept()


@pytest.mark.parametrize(
    ("largest", "way"), [(1 << 18, "splice"), (1 << 16, "splice"), (0, "copy")]
)
async def test_where_the_users_pipes_may_hold_no_more(
    monkeypatch: pytest.MonkeyPatch, largest: int, way: str
) -> None:
    """The kernel refuses what is larger than it allows the user's pipes in all."""
    sized = splice.fcntl.fcntl

    def limited(descriptor: int, command: int, value: int = 0) -> int:
        if command == splice.fcntl.F_SETPIPE_SZ and value > largest:
            raise PermissionError(1, "not permitted")
        return sized(descriptor, command, value)

    monkeypatch.setattr(splice.fcntl, "fcntl", limited)
    both = Plane()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(both.alice, b"hello")
    assert await asyncio.wait_for(loop.sock_recv(both.bob, 5), 60) == b"hello"
    assert both.moved == {way: 5}
    await both.end()
    both.pipes.close_kept()
    assert both.pipes.open == 0


async def stalled(pipes: Pipes, causes: tuple[Cause, Cause]) -> tuple[Plane, bytes]:
    """Return a plane of which Bob does not read, and what he should have."""
    one = Plane(pipes, causes)
    data = os.urandom(1 << 18)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += one.alice.send(data[sent % len(data) :])
            await asyncio.sleep(0)
    for _ in range(50):  # What the relay takes out of Alice's socket makes room for more.
        with contextlib.suppress(BlockingIOError):
            sent += one.alice.send(data[sent % len(data) :])
        await asyncio.sleep(0)
    return one, (data * (sent // len(data) + 1))[:sent]


async def hello(plane: Plane) -> str:
    """A few bytes go through; return by which way."""
    plane.moved.clear()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(plane.alice, b"hello")
    assert await asyncio.wait_for(loop.sock_recv(plane.bob, 5), 60) == b"hello"
    (way,) = plane.moved
    return way


async def test_pipes_that_nobody_reads_from_are_given_to_others() -> None:
    """And what was in them is not lost."""
    clock = Clock()
    pipes = Pipes(2, clock)
    lazy = [await stalled(pipes, (ALICE, BOB)) for _ in range(2)]
    honest = Plane(pipes, (BOB, CAROL))
    assert await hello(honest) == "copy", "they may go on at once"
    clock.now = 1.0
    assert await hello(honest) == "splice"
    assert (pipes.open, pipes.spilled) == (2, 1)
    for one, data in lazy:
        one.alice.close()
        assert await read_all(one.bob) == data
        one.bob.close()
        await asyncio.wait_for(one.over.wait(), 60)
    assert pipes.spilled == 0
    await honest.end()
    pipes.close_kept()
    assert pipes.open == 0


async def test_a_trickle_keeps_no_pipe() -> None:
    clock = Clock()
    pipes = Pipes(1, clock)
    lazy, _ = await stalled(pipes, (ALICE, BOB))
    for clock.now in (0.3, 0.6, 0.9, 1.2):
        lazy.bob.recv(10_000)
        await asyncio.sleep(0)
    honest = Plane(pipes, (BOB, CAROL))
    assert await hello(honest) == "splice"
    await lazy.end()
    await honest.end()
    pipes.close_kept()


async def test_who_has_most_bytes_in_memory_ends_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splice, "_SPILLED", 4)
    clock = Clock()
    pipes = Pipes(1, clock)
    lazy = []
    for number in range(6):
        lazy.append((await stalled(pipes, (ALICE, CAROL if number == 1 else BOB)))[0])
        clock.now += 1.0
        honest = Plane(pipes, (BOB, ALICE))
        assert await hello(honest) == "splice"
        await honest.end()
    assert pipes.spilled <= 4
    ended = [number for number, one in enumerate(lazy) if one.ends]
    assert ended
    assert 1 not in ended
    assert all(one.ends in ([], ["stalled"]) for one in lazy)
    for one in lazy:
        await one.end()
    pipes.close_kept()
    assert (pipes.open, pipes.spilled) == (0, 0)


async def test_who_sends_a_byte_at_a_time_waits_for_his_share() -> None:
    waits: list[float] = []

    def charge(cause: Cause, cost: float) -> float:
        if cause != ALICE:
            return 0.0
        waits.append(0.0 if len(waits) != 1 else 0.01)
        return waits[-1]

    both = Plane(charge=charge)
    for _ in range(40):
        assert await hello(both) == "splice"
    assert 0.01 in waits
    assert len(waits) > 2, "and goes on then"
    both.plane.close("done")
    both.alice.close()
    both.bob.close()
