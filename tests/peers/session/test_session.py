"""A session as the application sees it."""

import asyncio
import contextlib
import tracemalloc

import pytest

from peers import (
    Identity,
    Mode,
    Peer,
    PeerConfig,
    SessionLost,
    SessionSettings,
)
from protocol.session.settings import MESSAGE_WEIGHT
from relay.server import RelayServer
from tests.support.faults import reset
from tests.support.rooms import rooms
from tests.support.sessions import exchange, pair, pathless


async def test_the_resume_window_passes_and_both_sides_know_what_is_missing(
    relay: RelayServer,
) -> None:
    short = PeerConfig(
        relay=relay.url, session=SessionSettings(resume_window=0.5), request_timeout=0.2
    )
    async with contextlib.AsyncExitStack() as stack:
        alice = await stack.enter_async_context(Peer(Identity.generate(), config=short))
        bob = await stack.enter_async_context(Peer(Identity.generate(), config=short))
        caller, callee = await pair(alice, bob, Mode.P2P)
        await exchange(caller, callee)
        for peer in (alice, bob):
            rooms(peer).direct.close()
        reset(caller)
        await pathless(caller)
        await caller.send(b"one")
        await caller.send(b"two")
        with pytest.raises(SessionLost, match=r"no path for 0\.5 s") as lost:
            await caller.receive()
        assert lost.value.unacknowledged == 2
        with pytest.raises(SessionLost) as lost:
            await callee.receive()
        assert lost.value.unacknowledged == 0


async def test_a_receiver_that_does_not_read_stops_its_sender(alice: Peer, bob: Peer) -> None:
    """Whatever is sent, memory stays within the windows and what the sockets hold."""
    caller, callee = await pair(alice, bob, Mode.P2P)
    window = SessionSettings().window
    message = bytes(100_000)

    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await caller.send(bytes(message))
            sent += 1

    # One message may reach past the window: there is room for it before it, not after.
    room = -(-window // (len(message) + MESSAGE_WEIGHT))

    tracemalloc.start()
    try:
        sending = asyncio.create_task(flood())
        async with asyncio.timeout(30):
            while caller.outstanding or sent < room:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (sent, sending.done()) == (room, False)
    # All that was sent has arrived and waits for its reader: one window, and one more while under
    # way, in the copies that TLS and the stream make of it.
    assert callee.welcome(()).received * len(message) <= window + len(message)
    assert peak < 4 * window
    assert len(await callee.receive()) == len(message)
    sending.cancel()
