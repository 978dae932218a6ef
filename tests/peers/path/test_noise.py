"""A path that is locked by Noise, over a stream that is made of nothing: as one under TLS, from the
handshake to the end; and what somebody on the way does to it.
"""

import asyncio
from collections.abc import Callable

import pytest

from peers.config import PathKind
from peers.path import PathEnd, Paths
from protocol.errors import PathFailed
from protocol.lock import LOCK_HEAD, Agreed, Lock, LockSide
from protocol.messages import PathWelcome
from tests.peers.path.test_path import HELLO, HERES, THERES, User, failed, turns
from tests.peers.roaming.fakes import HERE, THERE
from tests.support.memory_stream import streams
from tests.support.virtual_time import run

AGREED = Agreed(b"r" * 32, ("noise",), "noise")
CALLER = LockSide(HERE, THERE.public_key, b"s" * 16, AGREED, is_caller=True)
CALLEE = LockSide(THERE, HERE.public_key, b"s" * 16, AGREED, is_caller=False)


class Scene:
    """Both ends of a path that has not begun."""

    def __init__(self, callee: LockSide | None = CALLEE) -> None:
        self.a, self.b = streams()
        self.paths = Paths(HERE), Paths(THERE)
        begun = self.paths[0].begin(CALLER)
        self.client = self.paths[0].make(self.a, PathKind.RELAYED, server=False, begun=begun)
        self.server = self.paths[1].make(self.b, PathKind.RELAYED, server=True, side=callee)
        self.user, self.other = User(), User()
        # As the early bytes of its leg.
        self.b.arrives(begun.flight)

    async def carrying(self) -> None:
        async def ask() -> PathWelcome:
            await self.client.prove(THERES, 5.0)
            return await self.client.ask(lambda path: HELLO, 5.0)

        asking = asyncio.create_task(ask())
        assert await self.server.accept(5.0) == HELLO
        self.server.welcome(PathWelcome())
        self.server.carry(self.other)
        await asking
        self.client.carry(self.user)

    async def all_gone(self) -> None:
        for one in self.paths:
            await one.abort()


def scene_of(work: Callable[[Scene], object]) -> None:
    """Let both ends carry, and then do this."""

    async def scene() -> None:
        it = Scene()
        await it.carrying()
        work(it)
        await turns()
        await it.all_gone()

    run(scene())


def test_both_sides_are_proven_and_it_closes_cleanly() -> None:
    async def scene() -> None:
        it = Scene()
        await it.carrying()
        assert (it.client.remote_guid, it.server.remote_guid) == (THERES, HERES)
        assert it.client.lock is it.server.lock is Lock.NOISE
        assert it.a.written
        assert b"".join(it.b.written).startswith(LOCK_HEAD)
        it.client.send(b"to there")
        it.server.send(bytes(100_000))
        await turns()
        assert (it.other.data, it.user.data) == (b"to there", bytes(100_000))
        it.client.finish()
        it.server.finish()
        await turns()
        assert (it.a.end, it.b.end) == ("closed", "closed")
        assert it.user.lost == it.other.lost == []
        await it.all_gone()

    run(scene())


def test_no_secret_is_taken_from_it() -> None:
    def look(it: Scene) -> None:
        assert it.client.export(b"s" * 16) == it.server.export(b"s" * 16) == b""

    scene_of(look)


def test_a_part_of_a_record_counts_as_heard_and_brings_nothing() -> None:
    def look(it: Scene) -> None:
        it.b.other = None
        it.server.send(b"all of it")
        record = it.b.written[-1]
        it.a.arrives(record[:-1])
        assert (it.user.heard, it.user.data) == (1, b"")
        it.a.arrives(record[-1:])
        assert it.user.data == b"all of it"

    scene_of(look)


def test_the_other_side_s_close_is_told_from_a_cut() -> None:
    async def scene() -> None:
        it = Scene()
        await it.carrying()
        it.client.send(b"the last")
        it.client.finish()
        await turns()
        assert (it.other.data, it.other.lost) == (b"the last", ["the other side closed the path"])
        await it.all_gone()

    run(scene())


def test_a_stream_that_ends_without_the_close_was_cut() -> None:
    def look(it: Scene) -> None:
        it.a.lose("the stream ended")
        (reason,) = it.user.lost
        assert "the stream ended" in reason

    scene_of(look)


@pytest.mark.parametrize("callee", [None, CALLEE], ids=["noise where TLS is", "tls where noise is"])
def test_another_lock_than_was_agreed_ends_it(callee: LockSide | None) -> None:
    async def scene() -> None:
        a, b = streams()
        paths = Paths(HERE), Paths(THERE)
        side = CALLER if callee is None else None
        client = paths[0].make(a, PathKind.RELAYED, server=False, begun=paths[0].begin(side))
        server = paths[1].make(b, PathKind.RELAYED, server=True, side=callee)
        accepting = asyncio.create_task(failed(server.accept(5.0)))
        a.write(paths[0].begin(side).flight)
        proving = asyncio.create_task(failed(client.prove(THERES, 5.0)))
        await accepting
        await proving
        assert not b.written, "nothing is said to it"
        for one in paths:
            await one.abort()

    run(scene())


def test_who_does_not_go_on_is_ended_in_time() -> None:
    async def scene() -> None:
        for cut in (0, 1, 35, 36):
            a, b = streams()
            paths = Paths(THERE)
            server = paths.make(b, PathKind.RELAYED, server=True, side=CALLEE)
            a.write(Paths(HERE).begin(CALLER).flight[:cut])
            error = await failed(server.accept(5.0))
            assert "no hello within 5 s" in error.reason
            await paths.abort()

    run(scene())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda data: data[:-1] + bytes((data[-1] ^ 1,)), id="a bit"),
        pytest.param(lambda data: data + data, id="twice"),
        pytest.param(lambda data: b"\xff\xff" + data[2:], id="the length"),
    ],
)
def test_what_is_changed_on_the_way_loses_the_path(change: Callable[[bytes], bytes]) -> None:
    async def scene() -> None:
        it = Scene()
        await it.carrying()
        it.b.changes = change
        it.server.send(b"first")
        await turns()
        assert it.user.data in (b"", b"first")
        (reason,) = it.user.lost
        assert "the lock of the plane failed" in reason
        assert it.a.end == "aborted"
        await it.all_gone()

    run(scene())


def test_the_wrong_peer_is_nobody() -> None:
    async def scene() -> None:
        other = LockSide(HERE, THERE.public_key, b"s" * 16, AGREED, is_caller=False)
        it = Scene(other)
        accepting = asyncio.create_task(failed(it.server.accept(5.0)))
        assert isinstance(await failed(it.client.prove(THERES, 5.0)), PathFailed)
        assert isinstance(await accepting, PathFailed)
        assert isinstance(it.client, PathEnd)
        await it.all_gone()

    run(scene())
