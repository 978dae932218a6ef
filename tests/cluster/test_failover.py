"""A node that is killed: its peers come to another one, and no message of a session is lost."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peers import Identity, Mode, Peer, Session
from tests.cluster.nats import NatsServer
from tests.support import processes
from tests.support.rooms import rooms

MODES = [Mode.CENTRAL, *(pytest.param(one, marks=pytest.mark.nightly) for one in Mode)]


@contextlib.asynccontextmanager
async def three(nats: NatsServer, folder: Path) -> AsyncIterator[dict[str, subprocess.Popen[str]]]:
    """Run three nodes as processes; yield them by where they are."""
    key, prefix = folder / "relay.key", os.urandom(4).hex()
    Identity.load_or_create(key)
    with contextlib.ExitStack() as stack:
        nodes = {}
        for name in "abc":
            (folder / name).mkdir()
            (folder / name / "relay.toml").write_text(
                f'identity = "{key}"\ndrain_timeout = 0.0\n[cluster]\nnode = "{name}"\n'
                f'servers = "{nats.url}"\nprefix = "{prefix}"\n'
            )
            url, process = await asyncio.to_thread(
                stack.enter_context,
                processes.relay(
                    folder / name,
                    *("--config", str(folder / name / "relay.toml")),
                    *("--state", str(folder / name / "state")),
                ),
            )
            nodes[url] = process
        yield nodes


async def numbered(sender: Session, receiver: Session, first: int, count: int) -> None:
    """Send numbers; each arrives once and in order."""

    async def send() -> None:
        for number in range(first, first + count):
            await sender.send(b"%d" % number)

    sending = asyncio.create_task(send())
    for number in range(first, first + count):
        assert await receiver.receive() == b"%d" % number
    await sending


def _home(peer: Peer) -> str:
    """Return the URL of the node that a peer is at."""
    current = rooms(peer).registration.current
    assert current is not None
    return str(current.relay.address)


@pytest.mark.parametrize("mode", MODES)
async def test_a_node_is_killed_and_nothing_is_lost(
    nats: NatsServer, tmp_path: Path, mode: Mode
) -> None:
    async with three(nats, tmp_path) as nodes:
        urls = ",".join(nodes)
        async with (
            asyncio.timeout(120),
            Peer(Identity.generate(), urls) as alice,
            Peer(Identity.generate(), urls) as bob,
        ):
            listener = alice.listen("chat")
            here = await bob.connect(alice.guid, "chat", mode=mode, wait=True)
            there = await anext(listener)
            await asyncio.gather(numbered(here, there, 0, 100), numbered(there, here, 0, 100))
            nodes[_home(alice)].kill()
            await asyncio.gather(numbered(here, there, 100, 100), numbered(there, here, 100, 100))
            await here.close()
