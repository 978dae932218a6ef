"""A program that was stopped for longer than its deadlines, with uvloop, which runs timers before
it reads: what waits in its sockets is read before anybody is taken for silent."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import psutil

from peers import Peer
from protocol.messages import Ping, Pong, Registered
from relay.server import RelayServer
from tests.peers.stopped_program import SILENCE
from tests.peers.test_finality import Entrance, Talk
from tests.support.processes import environment

DEADLINE = 60.0


@contextlib.asynccontextmanager
async def program(relay: str, guid: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.peers.stopped_program", relay, guid),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    try:
        assert await line(process) == "registered"
        yield process
    finally:
        process.kill()
        await process.wait()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE):
        return (await process.stdout.readline()).decode().rstrip("\n")


@contextlib.asynccontextmanager
async def stopped(*processes: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """Have processes stopped inside, for longer than any of their deadlines."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"stop\n")
    async with asyncio.timeout(DEADLINE):
        for process in processes:
            while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
                await asyncio.sleep(0.01)
    yield
    await asyncio.sleep(1.5 * SILENCE)  # That is what is tested.
    for process in processes:
        process.send_signal(signal.SIGCONT)


async def pong(talk: Talk, number: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            match await talk.next():
                case Pong(said) if said == number:
                    return
                case Ping(asked):
                    talk.say(Pong(asked))
                case _:
                    pass


async def test_a_path_and_a_connection_to_the_relay_outlive_it(
    alice: Peer, relay: RelayServer
) -> None:
    talks: asyncio.Queue[Talk] = asyncio.Queue()

    async def serve(talk: Talk) -> None:
        await talk.challenge()
        talk.say(Registered(1, "127.0.0.1", 1, SILENCE / 2, 120.0))
        talks.put_nowait(talk)
        await asyncio.get_running_loop().create_future()  # The test ends it.

    listener = alice.listen("chat")
    await alice.published()
    async with (
        Entrance() as entrance,
        program(relay.url, alice.guid) as first,
        asyncio.timeout(DEADLINE),
    ):
        session = await anext(listener)
        assert await line(first) == "path"
        entrance.answers = [serve, serve]
        async with program(entrance.url) as second:
            talk = await talks.get()
            async with stopped(first, second):
                await session.send(b"sent meanwhile")
                talk.say(Ping(7))
            assert await line(first) == "sent meanwhile", "no path was given up before it was read"
            await pong(talk, 7)
            assert talks.empty()
    session.abort()
