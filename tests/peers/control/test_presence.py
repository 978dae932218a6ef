"""Watching a peer, and waiting for one that is not there yet."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from peers import (
    UNKNOWN,
    ConnectionClosed,
    Identity,
    LimitExceeded,
    Peer,
    PeerOffline,
    PeerState,
    Presence,
    Refused,
    UnknownPeer,
)
from peers.control import Watching
from protocol.errors import Code
from protocol.messages import PeerEvent, Watch
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support.ports import free_port


async def test_a_watched_peer_comes_moves_and_goes(relay: RelayServer, bob: Peer) -> None:
    identity = Identity.generate()
    async with asyncio.timeout(60), contextlib.aclosing(bob.watch(identity.guid)) as presences:
        # The relay has just started: the peer may be on its way back to it.
        assert await anext(presences) == Presence(identity.guid, UNKNOWN, None, False)
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
    async with asyncio.timeout(60):
        while len(relay.watches):
            await asyncio.sleep(0)
    return True


async def test_two_readers_see_the_same_and_the_last_one_ends_the_watch(
    relay: RelayServer, alice: Peer, bob: Peer
) -> None:
    alice.listen("chat")
    await alice.published()
    async with asyncio.timeout(60):
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
        await asyncio.wait_for(anext(bob.watch(alice.guid)), 60)


async def test_connect_waits_for_its_peer(relay: RelayServer, bob: Peer) -> None:
    identity = Identity.generate()
    waiting = asyncio.create_task(bob.connect(identity.guid, "chat", wait=True))
    async with asyncio.timeout(60):
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
        port = free_port()
        first = RelayServer(RelayConfig(port=port), key)
        await first.__aenter__()
        bob = await stack.enter_async_context(Peer(Identity.generate(), first.url))
        identity = Identity.generate()
        presences = await stack.enter_async_context(contextlib.aclosing(bob.watch(identity.guid)))
        assert (await anext(presences)).state == UNKNOWN
        await first.__aexit__(None, None, None)
        async with asyncio.timeout(60), RelayServer(RelayConfig(port=port), key) as second:
            async with Peer(identity, second.url) as alice:
                alice.listen("chat")
                assert (await anext(presences)).state is PeerState.ONLINE
            # Only then may bob's own farewell find a relay.
            await stack.aclose()


@pytest.mark.parametrize("keeps", [True, False])
async def test_who_lives_is_not_offline_when_the_relay_was_restarted(
    tmp_path: Path, keeps: bool
) -> None:
    """With a state folder, and without one: then the relay has forgotten whom it knew."""
    key, identity = Identity.generate(), Identity.generate()
    state = str(tmp_path / "state") if keeps else None
    told: list[Presence] = []

    async def follow(peer: Peer) -> None:
        async with contextlib.aclosing(peer.watch(identity.guid)) as presences:
            async for presence in presences:
                if not presence.moved:
                    told.append(presence)

    async def until(count: int) -> None:
        while len(told) < count:
            await asyncio.sleep(0.01)

    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(60):
        port = free_port()
        first = RelayServer(RelayConfig(port=port, state=state), key)
        await first.__aenter__()
        alice = await stack.enter_async_context(Peer(Identity.generate(), first.url))
        bob = await stack.enter_async_context(Peer(identity, first.url))
        bob.listen("chat")
        await bob.published()
        following = asyncio.create_task(follow(alice))
        await until(1)
        await first.__aexit__(None, None, None)
        await until(2)
        assert not alice.status.is_registered
        again = await stack.enter_async_context(
            RelayServer(RelayConfig(port=port, state=state), key)
        )
        while again.registry.get(bob.guid) is None or told[-1].state is not PeerState.ONLINE:
            await asyncio.sleep(0.01)
        following.cancel()
        await asyncio.wait({following})
        states = [str(presence.state) for presence in told]
        assert states[:2] == ["online", "unknown"]
        assert states[2:] in (["online"], ["suspect", "online"]), "equal states are told once"
        await stack.aclose()


async def test_of_whom_a_relay_has_known_it_says_so_at_once_when_it_was_restarted(
    tmp_path: Path,
) -> None:
    key = Identity.generate()
    config = RelayConfig(port=0, state=str(tmp_path / "state"))
    async with RelayServer(config, key) as first, Peer(Identity.generate(), first.url) as bob:
        bob.listen("chat")
        await bob.published()
        bob_guid = bob.guid
    async with RelayServer(config, key) as again, Peer(Identity.generate(), again.url) as alice:
        while again.registry.gone(bob_guid) is None:
            await asyncio.sleep(0.01)
        with pytest.raises(PeerOffline, match="suspect") as offline:
            await alice.connect(bob_guid, "chat")
        assert offline.value.last_seen is not None
        with pytest.raises(UnknownPeer, match="not known yet") as unknown:
            await alice.connect(Identity.generate().guid, "chat")
        assert unknown.value.retry_after is not None


# -- without a relay ----------------------------------------------------------------------------

GUID = Identity.generate().guid


class Sent(list[Watch]):
    """Keeps what would go to the relay."""

    def __call__(self, watch: Watch) -> None:
        self.append(watch)


async def begun(watching: Watching, sent: Sent) -> AsyncGenerator[Presence, None]:
    """Return a watch that has seen its peer online."""
    presences = watching.watch(GUID)
    first = asyncio.create_task(anext(presences))
    while not sent or not sent[-1].watching:
        await asyncio.sleep(0)
    watching.receive(PeerEvent(GUID, PeerState.ONLINE, seq=1))
    assert (await first).state is PeerState.ONLINE
    return presences


@pytest.mark.parametrize("state", ["not begun", "between two news", "waiting"])
@pytest.mark.parametrize("way", ["closed", "cancelled"])
async def test_a_watch_that_ends_at_any_point_leaves_nothing(state: str, way: str) -> None:
    sent = Sent()
    watching = Watching(sent)
    presences = watching.watch(GUID) if state == "not begun" else await begun(watching, sent)
    waiting: asyncio.Task[Presence] | None = None
    if state == "waiting":
        waiting = asyncio.create_task(anext(presences))
        await asyncio.sleep(0)
    if way == "cancelled" and waiting is not None:
        waiting.cancel()
    elif waiting is not None:
        watching.close()
    if waiting is not None:
        await asyncio.wait({waiting})
        ended = None if waiting.cancelled() else type(waiting.exception())
        assert ended is (None if way == "cancelled" else ConnectionClosed)
    await presences.aclose()
    assert watching._readers == {}
    expected = [] if state == "not begun" else [Watch(GUID), Watch(GUID, watching=False)]
    assert sent == expected
    watching.restore()
    assert sent == expected


@pytest.mark.parametrize(
    ("code", "error"), [(Code.REFUSED, Refused), (Code.LIMIT_EXCEEDED, LimitExceeded)]
)
async def test_a_watch_that_is_refused_leaves_nothing(code: Code, error: type[Exception]) -> None:
    sent = Sent()
    watching = Watching(sent)
    first = asyncio.create_task(anext(watching.watch(GUID)))
    await asyncio.sleep(0)
    watching.receive(PeerEvent(GUID, code=code))
    with pytest.raises(error):
        await first
    assert watching._readers == {}
    assert sent[-1] == Watch(GUID, watching=False)


async def test_a_watch_that_cannot_be_said_leaves_nothing() -> None:
    def fails(watch: Watch) -> None:
        raise KeyError("nobody thought of it")

    watching = Watching(fails)
    with pytest.raises(KeyError):
        await anext(watching.watch(GUID))
    assert watching._readers == {}


async def test_no_watch_begins_after_the_end() -> None:
    sent = Sent()
    watching = Watching(sent)
    watching.close()
    with pytest.raises(ConnectionClosed):
        await anext(watching.watch(GUID))
    assert sent == []


async def test_what_is_told_again_after_a_reconnection_is_no_news() -> None:
    sent = Sent()
    watching = Watching(sent)
    presences = await begun(watching, sent)
    watching.restore()
    assert sent == [Watch(GUID), Watch(GUID)]
    watching.receive(PeerEvent(GUID, PeerState.ONLINE, seq=1))
    watching.receive(PeerEvent(GUID, PeerState.ONLINE, seq=2))
    assert (await anext(presences)).moved
    watching.receive(PeerEvent(GUID, PeerState.ONLINE, seq=2))
    watching.receive(PeerEvent(GUID, PeerState.OFFLINE, seq=2))
    assert (await anext(presences)).state is PeerState.OFFLINE
    await presences.aclose()


async def test_while_there_is_no_relay_nothing_is_known() -> None:
    sent = Sent()
    watching = Watching(sent)
    presences = await begun(watching, sent)
    for _ in range(3):
        watching.relay_lost()
    assert await anext(presences) == Presence(GUID, UNKNOWN, None, False)
    async with contextlib.aclosing(watching.watch(GUID)) as late:
        assert (await anext(late)).state == UNKNOWN, "of whoever begins to watch now, too"
    watching.restore()
    # The relay has started anew, and has not met the peer yet: no news.
    watching.receive(PeerEvent(GUID, PeerState.SUSPECT))
    watching.receive(PeerEvent(GUID, PeerState.ONLINE, seq=9))
    back = await anext(presences)
    assert (back.state, back.moved) == (PeerState.ONLINE, False)
    for seq, state in enumerate([PeerState.SUSPECT, PeerState.OFFLINE, PeerState.OFFLINE]):
        watching.receive(PeerEvent(GUID, state, 1.0, seq=seq))
    assert [(await anext(presences)).state for _ in range(2)] == [
        PeerState.SUSPECT,
        PeerState.OFFLINE,
    ]
    waiting = asyncio.create_task(anext(presences))
    await asyncio.sleep(0)
    assert not waiting.done(), "equal states are told once"
    waiting.cancel()
    await asyncio.wait({waiting})


async def test_of_too_many_news_the_oldest_are_dropped() -> None:
    sent = Sent()
    watching = Watching(sent)
    presences = await begun(watching, sent)
    for seq in range(2, 1002):
        watching.receive(PeerEvent(GUID, PeerState.ONLINE, seq=seq))
    seen = [await anext(presences) for _ in range(64)]
    assert all(one.moved for one in seen)
    waiting = asyncio.create_task(anext(presences))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait({waiting})
