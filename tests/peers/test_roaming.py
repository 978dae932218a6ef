"""Sessions over paths that die: every message once and in order, in every mode."""

import asyncio

import pytest

from peers import Mode, PathKind, Peer, Session
from peers.path import Path

MODES = list(Mode)


async def pair(alice: Peer, bob: Peer, mode: Mode) -> tuple[Session, Session]:
    """Return both ends of a session that bob has opened."""
    listener = alice.listen("chat")
    await alice.published()
    here = await bob.connect(alice.guid, "chat", mode=mode)
    there = await asyncio.wait_for(anext(listener), 5)
    return here, there


def cut(session: Session) -> None:
    """Reset the session's path, as a router does that has lost its state."""
    assert isinstance(session.path, Path)
    session.path._stream.abort()


async def joined(session: Session, kind: PathKind | None = None) -> Path:
    """Wait until the session has a path, of this kind."""
    async with asyncio.timeout(10):
        async for event in session.events():
            if event.path is not None and kind in (None, event.path.kind):
                return event.path
    raise AssertionError("the session is over")


async def exchange(here: Session, there: Session, count: int) -> None:
    """Send numbered messages both ways at once, cutting the path now and then."""

    async def send(session: Session) -> None:
        for number in range(count):
            await session.send(b"%d" % number)
            if number % 50 == 0:
                await asyncio.sleep(0)

    async def receive(session: Session) -> None:
        for number in range(count):
            assert await session.receive() == b"%d" % number

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for session in (here, there):
            tasks.create_task(send(session))
            tasks.create_task(receive(session))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("side", ["caller", "callee"])
async def test_a_cut_path_is_replaced_and_nothing_is_lost(
    alice: Peer, bob: Peer, mode: Mode, side: str
) -> None:
    here, there = await pair(alice, bob, mode)
    for _ in range(5):
        await joined(here)
        await joined(there)
        first = here.path
        cut(here if side == "caller" else there)
        await exchange(here, there, 500)
        assert here.path is not first
    await here.close()
    await there.close()
