"""A relay that makes its peers work: it sends them away for ever, as soon as they have come."""

import asyncio
import itertools

from peers import Identity, Mode, Peer
from protocol.messages import Restarting
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.attacks.test_callee import echo, talks


async def test_a_relay_that_always_restarts_is_come_back_to_ever_more_slowly() -> None:
    loop = asyncio.get_running_loop()
    came: list[float] = []
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        RelayServer(RelayConfig(port=0)) as evil,
        Peer(Identity.generate(), relay=relay.url) as callee,
        Peer(Identity.generate(), relay=relay.url) as honest,
    ):
        serving = asyncio.create_task(echo(callee.listen("chat")))
        await callee.published()

        async def send_away() -> None:
            while len(came) < 4:
                await asyncio.sleep(0.001)
                for connection in list(evil.connections):
                    if connection.guid and evil.registry.get(connection.guid) is not None:
                        came.append(loop.time())
                        connection.restart(Restarting(0.0, 0.0))

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(send_away())
            victim = Peer(Identity.generate(), relay=evil.url)
            tasks.create_task(_enter(victim))
        pauses = [later - sooner for sooner, later in itertools.pairwise(came)]
        assert all(pause >= least for pause, least in zip(pauses, (0.04, 0.49, 0.99), strict=True))
        await talks(honest, callee.guid, Mode.P2P)
        serving.cancel()
        async with asyncio.timeout(60):
            await victim.__aexit__(None, None, None)


async def _enter(peer: Peer) -> None:
    await peer.__aenter__()
