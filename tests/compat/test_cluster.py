"""Old peers at two nodes of one relay: they know nothing of nodes, and have every mode."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cluster.nats import nats_server
from tests.compat.children import DEADLINE, Relay, Said, all_of
from tests.compat.past import NEW, OLD
from tests.compat.world import MODES, SERVICES, World, direct_or_relayed

pytestmark = pytest.mark.asyncio(loop_scope="session")

SMALL = [8, 0, 100, 9000] * 3
PAIRS = [
    (OLD, OLD),
    pytest.param(OLD, NEW, marks=pytest.mark.nightly),
    pytest.param(NEW, OLD, marks=pytest.mark.nightly),
]


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def nodes(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[str, str]]:
    """Return the URLs of two nodes."""
    folder = tmp_path_factory.mktemp("cluster")
    with nats_server(folder) as nats:
        relays = [
            Relay(world.trees[NEW], _config(world, folder, name, nats.url)) for name in ("a", "b")
        ]
        async with world.running(*relays):
            yield relays[0].url, relays[1].url


def _config(world: World, folder: Path, name: str, nats: str) -> Path:
    """Write the configuration of a node; all have one key."""
    file = world.config(f"node {name}")
    key = folder / "relay.key"
    if not key.exists():
        (file.parent / "relay.key").rename(key)
    file.write_text(
        f'port = 0\nidentity = "{key}"\nheartbeat = 6.0\ndrain_timeout = 0.0\n'
        f'[cluster]\nnode = "{name}"\nservers = "{nats}"\n'
    )
    return file


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("caller", "callee"), PAIRS, ids=lambda one: str(one))
async def test_old_peers_at_two_nodes(
    world: World, nodes: tuple[str, str], caller: str, callee: str, mode: str
) -> None:
    here = await world.open(caller, nodes[0])
    there = await world.open(callee, nodes[1], services=SERVICES)
    talk = None
    # The nodes may still be hearing of one another, and of these two.
    async with asyncio.timeout(DEADLINE):
        while talk is None:
            try:
                talk = await world.talk(here, there, mode)
            except Said:
                await asyncio.sleep(0.05)
    await talk.exchange(*SMALL)
    kind = direct_or_relayed(mode)
    await talk.joined(kind=kind)
    for end in talk.ends:
        cutting, sending = end("cut", sizes=SMALL), talk.other(end)("send", sizes=SMALL)
        await all_of(cutting, sending, *(one("receive", count=len(SMALL)) for one in talk.ends))
        await end("joined", other=True)
        await talk.exchange(*SMALL)
    await talk.close(talk.caller)
