"""Paths that die and paths that are better: every message once and in order."""

import asyncio
import contextlib

import pytest

from peers import (
    Identity,
    Mode,
    PathKind,
    Peer,
    PeerConfig,
)
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support.faults import mute, reset
from tests.support.rooms import rooms
from tests.support.sessions import MODES, exchange, joined, moving, pair


@MODES
@pytest.mark.parametrize("side", ["caller", "callee"])
async def test_a_cut_path_is_replaced_and_nothing_is_lost(
    alice: Peer, bob: Peer, mode: Mode, side: str
) -> None:
    here, there = await pair(alice, bob, mode)
    for _ in range(5):
        await joined(here)
        await joined(there)
        first = here.path
        reset(here if side == "caller" else there)
        await exchange(here, there)
        assert here.path is not first
    await here.close()
    await there.close()


@MODES
async def test_a_path_that_goes_silent_is_given_up(relay: RelayServer, mode: Mode) -> None:
    async with moving(relay, 21) as (alice, _, _), moving(relay, 22) as (bob, _, _):
        caller, callee = await pair(alice, bob, mode)
        await exchange(caller, callee)
        assert mute(callee)
        await exchange(caller, callee)


async def test_without_any_network_a_session_waits(relay: RelayServer) -> None:
    async with moving(relay, 21) as (alice, here, a), moving(relay, 22) as (bob, _, _):
        caller, callee = await pair(alice, bob, Mode.COMBINED)
        here.set()
        async for event in callee.events():
            if event.path is None:
                assert "gone" in event.reason
                break
        waiting = asyncio.create_task(exchange(caller, callee))
        here.set(a[2])
        await waiting
        assert callee.path is not None
        assert callee.path.local_host == a[2]


async def test_auto_moves_to_a_direct_path_and_back(alice: Peer, bob: Peer) -> None:
    caller, callee = await pair(alice, bob, Mode.AUTO)
    assert caller.path is not None
    talking = asyncio.create_task(exchange(caller, callee, 3000))
    await joined(caller, PathKind.DIRECT)
    await joined(callee, PathKind.DIRECT)
    rooms(alice).direct.close()
    rooms(bob).direct.close()
    reset(caller)
    await joined(caller, PathKind.RELAYED)
    await joined(callee, PathKind.RELAYED)
    await talking


async def test_the_move_to_a_direct_path_leaves_no_moment_without_one(
    alice: Peer, bob: Peer
) -> None:
    for number in range(5):
        listener = alice.listen(f"chat-{number}")
        await alice.published()
        here = await bob.connect(alice.guid, f"chat-{number}", mode=Mode.AUTO)
        there = await asyncio.wait_for(anext(listener), 5)
        for end in (here, there):
            kinds = []
            async with asyncio.timeout(10):
                async for event in end.events():
                    kinds.append(event.path.kind if event.path else None)
                    if kinds[-1] is PathKind.DIRECT:
                        break
            assert None not in kinds
        await here.close()


async def test_direct_sessions_do_not_notice_a_relay_that_dies() -> None:
    config = RelayConfig(port=0)
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer(config))
        peer = PeerConfig(relay=relay.url)
        alice = await stack.enter_async_context(Peer(Identity.generate(), config=peer))
        bob = await stack.enter_async_context(Peer(Identity.generate(), config=peer))
        caller, callee = await pair(alice, bob, Mode.P2P)
        path = caller.path
        for connection in list(relay.connections):
            connection.abort("killed")
        await exchange(caller, callee)
        assert caller.path is path


async def test_mutual_loss_settles_on_one_path(alice: Peer, bob: Peer) -> None:
    """Both sides see the loss at once and search at once, again and again."""
    caller, callee = await pair(alice, bob, Mode.COMBINED)
    for _ in range(30):
        for end in (caller, callee):
            await joined(end)
        for end in (caller, callee):
            if end.path is not None:
                end.drop_path("cut by the test")
            rooms(alice).sessions.relay_found()
            rooms(bob).sessions.relay_found()
        await exchange(caller, callee, 20)
