"""The paths of one identity: none is left when its peer goes."""

import asyncio

import pytest

from peers.config import PathKind
from peers.path import PathEnd, Paths
from tests.peers.path.test_path import HELLO, Scene, User, turns
from tests.peers.roaming.fakes import HERE, THERE
from tests.support.memory_stream import streams
from tests.support.virtual_time import run


def test_without_a_path_there_is_nothing_to_wait_for() -> None:
    async def scene() -> None:
        paths = Paths(HERE)
        await asyncio.wait_for(paths.close(), 1)
        await asyncio.wait_for(paths.abort(), 1)

    run(scene())


def test_closing_lets_paths_finish_and_drops_those_that_do_not() -> None:
    async def scene() -> None:
        it = Scene()
        await it.carrying()
        stuck = it.paths[0].make(streams()[0], PathKind.DIRECT, server=False)
        proving = asyncio.create_task(stuck.prove(THERE.guid, 100.0))
        await turns()
        it.client.send(b"last words")
        it.client.finish()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await it.paths[0].close()
        assert loop.time() - began == 2.0
        assert it.other.data == b"last words"
        assert it.a.gone
        assert "closed here" in str((await asyncio.gather(proving, return_exceptions=True))[0])
        await it.paths[1].abort()

    run(scene())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_cancelled_end_can_be_done_again(how: str) -> None:
    async def scene() -> None:
        it = Scene()
        await it.carrying()
        ending = asyncio.create_task(it.paths[0].close())
        await turns()
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        assert it.a.end == ""
        await (it.paths[0].close() if how == "close" else it.paths[0].abort())
        assert it.a.end == "aborted"
        await it.paths[1].abort()

    run(scene())


def test_what_has_begun_before_its_stream_saves_a_round_trip() -> None:
    """A relay's plane passes the first flight on with the request for the leg."""

    async def scene() -> None:
        here, there = streams()
        paths, others = Paths(HERE), Paths(THERE)
        begun = paths.begin()
        assert begun.flight
        path = paths.make(here, PathKind.RELAYED, server=False, begun=begun)
        server = others.make(there, PathKind.RELAYED, server=True)
        there.arrives(begun.flight)
        accepting = asyncio.create_task(server.accept(5.0))
        await turns()
        assert here.written == [], "the first flight is on its way already"
        await path.prove(THERE.guid, 5.0)
        asking = asyncio.create_task(path.ask(hello, 5.0))
        assert await accepting == HELLO
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        for one in (paths, others):
            await one.abort()

    def hello(path: PathEnd) -> object:
        return HELLO

    run(scene())


def test_a_stream_that_is_gone_before_it_is_used_is_forgotten_when_it_has_said_so() -> None:
    async def scene() -> None:
        here, _ = streams()
        paths = Paths(HERE)
        path = paths.make(here, PathKind.DIRECT, server=False)
        here.lose("gone before")
        with pytest.raises(Exception, match="gone before"):
            await path.prove(THERE.guid, 5.0)
        path.carry(User())
        await asyncio.wait_for(paths.close(), 1)

    run(scene())
