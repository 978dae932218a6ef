"""Sessions between two real peers: opened, talked over, and waited for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from peers import (
    Identity,
    Mode,
    PathKind,
    Peer,
    PeerConfig,
    Session,
    SessionSettings,
)
from peers.path.path import Path
from relay.server import RelayServer
from tests.support.addresses import Addresses, absent_addresses

MODES = pytest.mark.parametrize("mode", list(Mode))


FAST = SessionSettings(ping_interval=0.2, silence_limit=0.6, resume_window=20.0)


async def pair(alice: Peer, bob: Peer, mode: Mode) -> tuple[Session, Session]:
    """Return both ends of a session that bob has opened."""
    listener = alice.listen("chat")
    await alice.published()
    here = await bob.connect(alice.guid, "chat", mode=mode)
    there = await asyncio.wait_for(anext(listener), 60)
    return here, there


async def joined(session: Session, kind: PathKind | None = None, host: str | None = None) -> Path:
    """Wait until the session has a path, of this kind, from this local address."""
    async with asyncio.timeout(60):
        async for event in session.events():
            path = event.path
            if path is not None and kind in (None, path.kind) and host in (None, path.local_host):
                return path
    raise AssertionError("the session is over")


async def pathless(session: Session) -> None:
    """Wait until the session has noticed that it has no path."""
    async for event in session.events():
        if event.path is None:
            return


async def exchange(here: Session, there: Session, count: int = 200) -> None:
    """Send numbered messages both ways at once."""

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


@contextlib.asynccontextmanager
async def moving(
    relay: RelayServer, number: int, hosts: int = 3
) -> AsyncIterator[tuple[Peer, Addresses, list[str]]]:
    """A peer, its first address, and the addresses that it may have."""
    names = [f"127.0.{number}.{last + 1}" for last in range(hosts)]
    with absent_addresses():
        addresses = Addresses(names)
        config = PeerConfig(relay=relay.url, sources=tuple(names), stagger=0.1, session=FAST)
        async with Peer(Identity.generate(), config=config, addresses=addresses) as peer:
            yield peer, addresses, names
