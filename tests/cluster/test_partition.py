"""Several nats-servers: one dies, all die; and the way between two of them is cut, while a peer
registers on both sides."""

import asyncio
import contextlib
from functools import partial
from pathlib import Path

from protocol.errors import Code
from protocol.identity import Identity
from protocol.messages import Error, Mode
from relay.server import RelayServer
from tests.cluster.cut import way_to
from tests.cluster.nats import TIMEOUT, joined, known, nats_server, node, until
from tests.cluster.test_registration import ask
from tests.relay.client import Client, client, registered
from tests.support.ports import free_port


def routed(port: int, *others: int) -> str:
    """Return what makes a nats-server one of several: its port for the others, and theirs."""
    routes = ", ".join(f'"nats://127.0.0.1:{other}"' for other in others)
    return (
        f'cluster {{ name: one, listen: "127.0.0.1:{port}", routes: [{routes}], '
        "no_advertise: true, pool_size: -1 }"
    )


async def finds(caller: Client, guid: str) -> None:
    """Find a peer, as soon as its node is connected to the others again."""
    while (response := await ask(caller, guid, Mode.P2P)).code is not None:
        assert response.code is Code.CLUSTER_UNAVAILABLE
        await asyncio.sleep(response.retry_after or 0.0)  # As it says.


def knows_nobody(relay: RelayServer) -> bool:
    return relay.cluster is not None and not relay.cluster.directory.nodes


async def test_of_three_nats_servers_one_is_killed_and_then_all(tmp_path: Path) -> None:
    ports = [free_port() for _ in range(3)]
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(
                nats_server(tmp_path, routed(port, *(one for one in ports if one != port)))
            )
            for port in ports
        ]
        identity, urls = Identity.generate(), tuple(one.url for one in servers)
        async with (
            asyncio.timeout(2 * TIMEOUT),
            RelayServer(node("a", servers[0], "p", cluster={"servers": urls}), identity) as a,
            RelayServer(
                node("b", servers[1], "p", cluster={"servers": urls[1:] + urls[:1]}), identity
            ) as b,
            registered(a.url, "chat") as alice,
            registered(b.url, "chat") as bob,
            registered(b.url) as carol,
        ):
            await joined(a, b, nodes=2)
            await known(alice.identity.guid, "a", b)
            servers[0].kill()
            # Told by its connection's end, and with another server as soon as that answers.
            await until(a, lambda: a.cluster is not None and not a.cluster.is_in)
            assert (await ask(carol, bob.identity.guid, Mode.P2P)).code is None
            await joined(a, b, nodes=2)
            await known(alice.identity.guid, "a", b)
            await finds(carol, alice.identity.guid)
            for server in servers[1:]:
                server.kill()
            await until(b, lambda: b.cluster is not None and not b.cluster.is_in)
            response = await ask(carol, alice.identity.guid, Mode.P2P)
            assert (response.code, response.retry_after) == (Code.CLUSTER_UNAVAILABLE, 1.0)
            assert (await ask(carol, bob.identity.guid, Mode.P2P)).code is None
            for server in servers:
                server.start()
            await joined(a, b, nodes=2)
            await known(alice.identity.guid, "a", b)
            await finds(carol, alice.identity.guid)


async def test_who_registers_on_both_sides_of_a_cut_is_at_one_node_when_it_heals(
    tmp_path: Path,
) -> None:
    first, second = free_port(), free_port()
    moved, superseded, same = (Identity.generate() for _ in range(3))
    async with contextlib.AsyncExitStack() as stack:
        way = await stack.enter_async_context(way_to(second))
        here = stack.enter_context(nats_server(tmp_path, routed(first, way.port)))
        there = stack.enter_context(nats_server(tmp_path, routed(second)))
        identity = Identity.generate()
        enter = stack.enter_async_context
        await enter(asyncio.timeout(2 * TIMEOUT))
        a = await enter(RelayServer(node("a", here, "p"), identity))
        b = await enter(RelayServer(node("b", there, "p"), identity))
        await joined(a, b, nodes=2)
        watcher = await enter(registered(a.url))
        way.cut()
        for relay in (a, b):
            await until(relay, partial(knows_nobody, relay))
        # The same program on both sides, with a newer record behind; two programs, of which the
        # one before the cut has the higher number; and two with the same number.
        left = {}
        for guid, seqs in ((moved, (5, 6)), (superseded, (9, 8)), (same, (7, 7))):
            sides = [await enter(client(one.url, guid)) for one in (a, b)]
            if guid is moved:
                sides[1].instance = sides[0].instance
            for one, seq in zip(sides, seqs, strict=True):
                await one.register("chat", seq=seq)
            left[guid.guid] = sides
        way.mend()
        await joined(a, b, nodes=2)

        def is_one(guid: str) -> bool:
            homes = [one for one in (a, b) if one.registry.get(guid) is not None]
            elsewhere = [
                one for one in (a, b) if one.cluster is not None and one.cluster.home(guid)
            ]
            return len(homes) == len(elsewhere) == 1 and homes != elsewhere

        for guid in left:
            for relay in (a, b):
                await until(relay, partial(is_one, guid))
        assert b.registry.get(moved.guid) is not None
        assert (await left[moved.guid][0].expect(Error)).code is Code.RESTARTING
        assert a.registry.get(superseded.guid) is not None
        assert (await left[superseded.guid][1].expect(Error)).code is Code.SUPERSEDED
        instances = [one.instance for one in left[same.guid]]
        winner = instances.index(max(instances))
        assert (a, b)[winner].registry.get(same.guid) is not None
        for guid in left:
            assert (await ask(watcher, guid, Mode.P2P)).code is None
