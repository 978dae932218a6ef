"""Watching a peer, and waiting for one that is not there yet."""

import asyncio
import contextlib

import pytest

from peers import Identity, Peer, PeerState, Presence, Refused
from relay.config import RelayConfig
from relay.server import RelayServer


async def test_a_watched_peer_comes_moves_and_goes(relay: RelayServer, bob: Peer) -> None:
    identity = Identity.generate()
    async with asyncio.timeout(20), contextlib.aclosing(bob.watch(identity.guid)) as presences:
        assert await anext(presences) == Presence(identity.guid, PeerState.OFFLINE, None, False)
        async with Peer(identity, relay.url) as alice:
            alice.listen("chat")
            came = await anext(presences)
            assert (came.state, came.moved) == (PeerState.ONLINE, False)
            alice.listen("mail")
            moved = await anext(presences)
            assert (moved.state, moved.moved) == (PeerState.ONLINE, True)
        gone = await anext(presences)
        assert gone.state is PeerState.OFFLINE
        assert gone.last_seen is not None
    assert len(relay.watches) == 0 or await _empty(relay)


async def _empty(relay: RelayServer) -> bool:
    async with asyncio.timeout(5):
        while len(relay.watches):
            await asyncio.sleep(0)
    return True


async def test_two_readers_see_the_same_and_the_last_one_ends_the_watch(
    relay: RelayServer, alice: Peer, bob: Peer
) -> None:
    alice.listen("chat")
    await alice.published()
    async with asyncio.timeout(10):
        async with contextlib.aclosing(bob.watch(alice.guid)) as one:
            assert (await anext(one)).state is PeerState.ONLINE
            async with contextlib.aclosing(bob.watch(alice.guid)) as two:
                assert (await anext(two)).state is PeerState.ONLINE
            assert len(relay.watches) == 1
        assert await _empty(relay)


async def test_who_discloses_nothing_cannot_be_watched(alice: Peer, bob: Peer) -> None:
    alice.listen("chat", disclose="nobody")
    await alice.published()
    with pytest.raises(Refused, match="does not let"):
        await asyncio.wait_for(anext(bob.watch(alice.guid)), 10)


async def test_connect_waits_for_its_peer(relay: RelayServer, bob: Peer) -> None:
    identity = Identity.generate()
    waiting = asyncio.create_task(bob.connect(identity.guid, "chat", wait=True))
    async with asyncio.timeout(20):
        while not len(relay.watches):
            await asyncio.sleep(0)
        assert not waiting.done()
        async with Peer(identity, relay.url) as alice:
            # It is there, but offers something else at first.
            alice.listen("mail")
            await alice.published()
            listener = alice.listen("chat")
            session = await waiting
            there = await anext(listener)
            await session.send(b"at last")
            assert await there.receive() == b"at last"
            await session.close()
        assert await _empty(relay)


async def test_a_wait_that_is_given_up_leaves_nothing(relay: RelayServer, bob: Peer) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(
            bob.connect(Identity.generate().guid, "chat", wait=True), timeout=0.3
        )
    assert await _empty(relay)


async def test_watches_are_restored_at_a_relay_that_was_restarted() -> None:
    key = Identity.generate()
    async with contextlib.AsyncExitStack() as stack:
        first = RelayServer(RelayConfig(port=0), key)
        await first.__aenter__()
        port = int(first.url.rsplit(":", 1)[1])
        bob = await stack.enter_async_context(Peer(Identity.generate(), first.url))
        identity = Identity.generate()
        presences = await stack.enter_async_context(contextlib.aclosing(bob.watch(identity.guid)))
        assert (await anext(presences)).state is PeerState.OFFLINE
        await first.__aexit__(None, None, None)
        async with asyncio.timeout(30), RelayServer(RelayConfig(port=port), key) as second:
            async with Peer(identity, second.url) as alice:
                alice.listen("chat")
                assert (await anext(presences)).state is PeerState.ONLINE
            # Only then may bob's own farewell find a relay.
            await stack.aclose()
