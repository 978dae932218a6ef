"""Nodes go down one after the other, as for a new version: their peers go to the others at once,
and no message is lost. A peer that knows one node learns of the others."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from peers import Identity, LinkState, Mode, Peer, Session
from protocol.messages import RelayNode, Restarting
from relay.server import RelayServer
from tests.cluster.nats import TIMEOUT, NatsServer, cluster, joined, node, until
from tests.cluster.test_failover import numbered, three
from tests.relay.client import client, registered
from tests.support.rooms import rooms


def home(peer: Peer) -> str:
    """Return the URL of the node that a peer is at."""
    current = rooms(peer).registration.current
    return "" if current is None else str(current.relay.address)


def names_two(relay: RelayServer) -> bool:
    """Whether a node can say where the other one is."""
    return relay.cluster is not None and len(relay.cluster.nodes()) == 2


async def moved(peer: Peer, url: str) -> None:
    """Wait until a peer is registered at another node than at a URL."""
    async with asyncio.timeout(TIMEOUT):
        async for status in peer.events():
            if status.is_registered and home(peer) not in ("", url):
                return


async def test_peers_are_told_of_all_nodes_and_where_to_go(nats: NatsServer) -> None:
    async with cluster(nats, "a", "b", cluster={"weight": 7}) as (a, b):
        first, second = RelayNode(a.url, 7), RelayNode(b.url, 7)
        await until(a, lambda: a.cluster is not None and a.cluster.nodes() == (first, second))
        async with client(a.url) as alice:
            assert (await alice.register()).nodes == (first, second)
            draining = asyncio.create_task(a.drain())
            assert await alice.expect(Restarting) == Restarting(0.0, 0.0, (b.url,))
        await draining
        # A node that drains is nowhere to go.
        await until(b, lambda: b.cluster is not None and b.cluster.nodes() == (second,))
        async with client(b.url) as bob:
            assert (await bob.register()).nodes == (second,)


async def test_where_there_is_no_other_node_nobody_is_sent_to_one(nats: NatsServer) -> None:
    async with cluster(nats, "a") as (a,), registered(a.url) as alice:
        draining = asyncio.create_task(a.drain())
        said = await alice.expect(Restarting)
        assert (said.delay, said.urls) == (0.5, ())
        await draining


async def test_what_listens_everywhere_is_no_node_to_be_sent_to(nats: NatsServer) -> None:
    async with cluster(nats, "a", "b", host="0.0.0.0") as (a, _), client(a.url) as alice:
        assert (await alice.register()).nodes == ()


@contextlib.asynccontextmanager
async def talk(url: str, mode: Mode) -> AsyncIterator[tuple[Peer, Peer, Session, Session]]:
    """Open a session between two peers that know one node."""
    async with (
        asyncio.timeout(120),
        Peer(Identity.generate(), url) as alice,
        Peer(Identity.generate(), url) as bob,
    ):
        listener = alice.listen("chat")
        here = await bob.connect(alice.guid, "chat", mode=mode, wait=True)
        there = await anext(listener)
        await asyncio.gather(numbered(here, there, 0, 50), numbered(there, here, 0, 50))
        yield alice, bob, here, there
        await here.close()


async def test_each_node_drains_and_its_peers_have_gone_to_the_other(nats: NatsServer) -> None:
    identity, prefix = Identity.generate(), os.urandom(4).hex()

    def one(name: str) -> RelayServer:
        return RelayServer(node(name, nats, prefix, drain_timeout=1.0), identity)

    async with contextlib.AsyncExitStack() as stack:
        a = await stack.enter_async_context(one("a"))
        async with talk(a.url, Mode.CENTRAL) as (alice, bob, here, there):
            first = 50
            # It comes under another URL each time: peers learn of it from the others alone.
            for name in ("b", "a", "b"):
                new = await stack.enter_async_context(one(name))
                await joined(a, new, nodes=2)
                await until(a, partial(names_two, a))
                seen = [watch(peer) for peer in (alice, bob)]
                await asyncio.gather(
                    a.drain(),
                    moved(alice, a.url),
                    moved(bob, a.url),
                    numbered(here, there, first, 100),
                    numbered(there, here, first, 100),
                )
                assert home(alice) == home(bob) == new.url
                for statuses in seen:
                    # It was told, its connection has ended, and its next attempt has brought it
                    # back: nothing has failed between.
                    *away, last = await statuses
                    assert last is LinkState.BACK
                    assert away == [LinkState.RESTARTING] * len(away)
                    assert len(away) <= 2
                await a.__aexit__(None, None, None)
                await joined(new, nodes=1)
                a, first = new, first + 100


def watch(peer: Peer) -> "asyncio.Task[list[LinkState]]":
    """Return what a peer's link goes through, from now until it is registered again."""

    async def collect() -> list[LinkState]:
        found: list[LinkState] = []
        async with asyncio.timeout(TIMEOUT):
            async for status in peer.events():
                if not status.is_registered or found:
                    found.append(status.state)
                if found and status.is_registered:
                    return found
        raise AssertionError("the peer was closed")

    return asyncio.create_task(collect())


async def test_a_node_is_killed_and_who_knew_no_other_one_goes_there(
    nats: NatsServer, tmp_path: Path
) -> None:
    async with three(nats, tmp_path) as nodes:
        first = next(iter(nodes))
        async with talk(first, Mode.CENTRAL) as (alice, bob, here, there):
            nodes[first].kill()
            await asyncio.gather(
                moved(alice, first),
                moved(bob, first),
                numbered(here, there, 50, 100),
                numbered(there, here, 50, 100),
            )
            assert {home(alice), home(bob)} <= set(nodes) - {first}


@pytest.mark.nightly
@pytest.mark.parametrize("mode", list(Mode))
async def test_two_of_three_processes_drain_one_after_the_other(
    nats: NatsServer, tmp_path: Path, mode: Mode, capsys: pytest.CaptureFixture[str]
) -> None:
    async with three(nats, tmp_path) as nodes:
        async with talk(",".join(nodes), mode) as (alice, bob, here, there):
            first, away = 50, 0.0
            for url in list(nodes)[:2]:
                at = home(alice), home(bob)
                began = time.monotonic()
                nodes[url].send_signal(signal.SIGTERM)
                waits = [
                    moved(peer, url)
                    for peer, was in zip((alice, bob), at, strict=True)
                    if was == url
                ]
                await asyncio.gather(
                    *waits, numbered(here, there, first, 100), numbered(there, here, first, 100)
                )
                first += 100
                if waits:
                    away = max(away, time.monotonic() - began)
                assert await asyncio.to_thread(nodes[url].wait, 60) == 0, "it has drained"
        with capsys.disabled():
            print(f"\n{mode}: away for {away:.2f} s at most")
