"""Who watches a peer is told of it wherever that peer is."""

import asyncio
import contextlib
from functools import partial

from msgspec import structs

from peers import Identity, Mode, Peer
from protocol.codec import encode_location
from protocol.errors import Code
from protocol.messages import Disclosure, LocationRecord, PeerEvent, PeerState, Update, Watch
from relay.server import RelayServer
from tests.cluster.nats import NatsServer, cluster, joined, known, node, until
from tests.relay.client import Client, client, registered


def told(event: PeerEvent) -> tuple[PeerState, int, Code | None]:
    return event.state, event.seq, event.code


async def watch(watcher: Client, guid: str) -> PeerEvent:
    watcher.send(Watch(guid))
    return await watcher.expect(PeerEvent)


def has_heard(relay: RelayServer, guid: str, seq: int) -> bool:
    claim = relay.cluster.home(guid) if relay.cluster is not None else None
    return claim is not None and claim.seq == seq


async def test_a_watched_peer_comes_moves_and_goes_at_other_nodes(nats: NatsServer) -> None:
    identity = Identity.generate()
    async with cluster(nats, "a", "b", "c") as (a, b, c), registered(b.url) as bob:
        for relay in (a, b, c):
            relay.registry.settled = 0.0
        assert told(await watch(bob, identity.guid)) == (PeerState.OFFLINE, 0, None)
        async with registered(a.url, "chat", identity=identity, seq=5) as alice:
            assert told(await bob.expect(PeerEvent)) == (PeerState.ONLINE, 5, None)
            alice.send(Update(encode_location(alice.record("chat", seq=6))))
            assert told(await bob.expect(PeerEvent)) == (PeerState.ONLINE, 6, None)
            # It moves to a third node, and then to the watcher's own: it was never away.
            async with client(c.url, identity) as there:
                there.instance = alice.instance
                await there.register("chat", seq=7)
                assert told(await bob.expect(PeerEvent)) == (PeerState.ONLINE, 7, None)
                async with client(b.url, identity) as here:
                    here.instance = alice.instance
                    await here.register("chat", seq=8)
                    assert told(await bob.expect(PeerEvent)) == (PeerState.ONLINE, 8, None)
        assert (await bob.expect(PeerEvent)).state is PeerState.OFFLINE


async def test_who_may_not_watch_a_peer_may_not_from_another_node(nats: NatsServer) -> None:
    async with (
        cluster(nats, "a", "b") as (a, b),
        client(a.url) as alice,
        registered(b.url) as bob,
        registered(b.url) as carol,
    ):
        record = alice.record("chat")
        for disclose, listed, who in (
            (Disclosure.NOBODY, (), ()),
            (Disclosure.LISTED, (bob.identity.guid,), (bob,)),
            (Disclosure.ANYONE, (), (bob, carol)),
        ):
            service = structs.replace(record.services[0], disclose=disclose, listed=listed)
            record = LocationRecord(record.seq + 1, (service,))
            if alice.challenge is None:
                await alice.hello()
                alice.send(alice.signed_register(encode_location(record)))
            else:
                alice.send(Update(encode_location(record)))
            guid = alice.identity.guid
            await known(guid, "a", b)
            await until(b, partial(has_heard, b, guid, record.seq))
            for watcher in (bob, carol):
                code = None if watcher in who else Code.REFUSED
                assert (await watch(watcher, guid)).code is code
                watcher.send(Watch(guid, watching=False))


async def test_a_node_that_goes_takes_its_peers_along(nats: NatsServer) -> None:
    async with cluster(nats, "b") as (b,), registered(b.url) as bob:
        prefix = b.config.cluster.prefix if b.config.cluster is not None else ""
        async with contextlib.AsyncExitStack() as stack:
            a = await stack.enter_async_context(RelayServer(node("a", nats, prefix), b.identity))
            alice = await stack.enter_async_context(registered(a.url, "chat"))
            await joined(b, nodes=2)
            await known(alice.identity.guid, "a", b)
            assert (await watch(bob, alice.identity.guid)).state is PeerState.ONLINE
        assert (await bob.expect(PeerEvent)).state in (PeerState.SUSPECT, PeerState.OFFLINE)


async def test_a_program_waits_for_a_peer_at_another_node(nats: NatsServer) -> None:
    identity = Identity.generate()
    async with cluster(nats, "a", "b") as (a, b), Peer(Identity.generate(), b.url) as bob:
        waiting = asyncio.create_task(
            bob.connect(identity.guid, "chat", mode=Mode.CENTRAL, wait=True)
        )
        async with Peer(identity, a.url) as alice:
            listener = alice.listen("chat")
            there = await asyncio.wait_for(anext(listener), 60)
            session = await waiting
            await session.send(b"hello")
            assert await there.receive() == b"hello"
            await session.close()
