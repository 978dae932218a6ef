"""A node that hangs for longer than the others wait, and comes back with what it was told before:
its peer has moved meanwhile, and has one home."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from protocol.errors import Code
from protocol.identity import Identity
from protocol.messages import Error, Mode
from relay.server import RelayServer
from tests.cluster.nats import TIMEOUT, NatsServer, joined, known, node
from tests.cluster.test_registration import ask
from tests.relay.client import client, registered
from tests.support import processes


async def test_a_node_that_was_away_gives_its_old_peers_up(
    nats: NatsServer, tmp_path: Path
) -> None:
    identity, prefix = Identity.generate(), os.urandom(4).hex()
    key = tmp_path / "relay.key"
    key.write_bytes(identity.to_pem())
    key.chmod(0o600)
    (tmp_path / "relay.toml").write_text(
        f'identity = "{key}"\ndrain_timeout = 0.0\n[cluster]\nnode = "a"\n'
        f'servers = "{nats.url}"\nprefix = "{prefix}"\n'
    )
    flags = ("--config", str(tmp_path / "relay.toml"), "--state", str(tmp_path / "state"))
    with contextlib.ExitStack() as stack:
        url, process = await asyncio.to_thread(
            stack.enter_context, processes.relay(tmp_path, *flags)
        )
        stack.callback(process.send_signal, signal.SIGCONT)
        async with (
            asyncio.timeout(2 * TIMEOUT),
            RelayServer(node("b", nats, prefix), identity) as b,
            registered(url, "chat", seq=5) as moved,
            registered(url, "chat", seq=5) as replaced,
            registered(url) as bob,
            registered(b.url) as carol,
        ):
            await joined(b, nodes=2)
            guids = moved.identity.guid, replaced.identity.guid
            for guid in guids:
                await known(guid, "a", b)
            process.send_signal(signal.SIGSTOP)
            await joined(b, nodes=1)
            for guid in guids:
                # Lost with its node, and told so at once.
                assert (await ask(carol, guid, Mode.P2P)).code is Code.PEER_OFFLINE
            async with (
                client(b.url, moved.identity) as there,
                registered(b.url, "chat", identity=replaced.identity, seq=6) as other,
            ):
                there.instance = moved.instance
                await there.register("chat", seq=6)
                process.send_signal(signal.SIGCONT)
                # Its own claims are older: the old connections end, one by a word that is for good.
                assert (await moved.expect(Error)).code is Code.RESTARTING
                assert (await replaced.expect(Error)).code is Code.SUPERSEDED
                await joined(b, nodes=2)
                for guid in guids:
                    await known(guid, "", b)
                    assert b.registry.get(guid) is not None
                    assert (await ask(carol, guid, Mode.P2P)).code is None
                    # The node that was away knows it, too.
                    while (response := await ask(bob, guid, Mode.P2P)).code is not None:
                        assert response.code is Code.CLUSTER_UNAVAILABLE
                        await asyncio.sleep(response.retry_after or 0.0)  # As it says.
                assert not other.messages
