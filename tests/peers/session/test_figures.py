"""What a session has carried, and when what was sent has arrived."""

import asyncio

import msgspec
import pytest

from peers import Identity, Mode, Peer, SessionLost
from relay.server import RelayServer
from tests.peers.roaming.fakes import PATIENT, turns
from tests.peers.session.test_session import Pair
from tests.support.sessions import pair
from tests.support.virtual_time import run


def test_what_was_sent_is_told_to_have_arrived_and_not_before() -> None:
    async def scene() -> None:
        pair = Pair()
        caller, callee = pair.caller.session, pair.callee.session
        pair.join()
        numbers = [await caller.send(b"first"), await caller.send(b"second")]
        assert numbers == [1, 2]
        await caller.acknowledged(2)
        caller.drop_path("test")
        third = await caller.send(b"third")
        waits = asyncio.create_task(caller.acknowledged())
        cancelled = asyncio.create_task(caller.acknowledged(third))
        await turns()
        assert not waits.done()
        cancelled.cancel()
        pair.join()
        await waits
        figures, there = caller.figures(), callee.figures()
        assert (figures.sent, figures.sent_bytes, figures.acknowledged) == (3, 16, 3)
        assert (figures.received, figures.paths) == (0, 2)
        assert (there.received, there.taken, there.taken_bytes) == (3, 0, 0)
        assert await callee.receive() == b"first"
        assert (callee.figures().taken, callee.figures().taken_bytes) == (1, 5)
        with pytest.raises(ValueError, match="3 messages were sent, not 4"):
            await caller.acknowledged(4)
        with pytest.raises(ValueError, match="at least 1"):
            await caller.acknowledged(0)

    run(scene())


def test_who_waits_is_told_of_the_loss() -> None:
    async def scene() -> None:
        pair = Pair(msgspec.structs.replace(PATIENT, resume_window=5.0))
        caller = pair.caller.session
        pair.join()
        await caller.send(b"arrives")
        await caller.acknowledged()
        caller.drop_path("test")
        await caller.send(b"never arrives")
        with pytest.raises(SessionLost):
            await caller.acknowledged()
        await caller.acknowledged(1)  # That one has.

    run(scene())


async def test_the_sessions_of_a_peer_with_their_figures(relay: RelayServer) -> None:
    async with (
        Peer(Identity.generate(), relay.url) as alice,
        Peer(Identity.generate(), relay.url) as bob,
    ):
        assert alice.sessions == bob.sessions == ()
        here, there = await pair(alice, bob, Mode.CENTRAL)
        assert bob.sessions == (here,)
        assert alice.sessions == (there,)
        await here.acknowledged(await here.send(b"hello"))
        assert there.figures().received == 1
        assert here.figures().seconds > 0
        closing = asyncio.create_task(there.close())
        await here.close()
        await closing
        assert bob.sessions == ()
        assert here.figures().acknowledged == 1, "also of one that is over"
