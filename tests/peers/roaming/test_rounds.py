"""One round of a search: who is asked, what is dialed, and what a refusal means."""

import asyncio

import pytest

from peers import (
    Mode,
    PathKind,
    Peer,
    SessionLost,
)
from tests.support.faults import mute, reset
from tests.support.rooms import rooms
from tests.support.sessions import exchange, joined, pair


async def test_who_does_not_disclose_stays_relayed_in_auto(alice: Peer, bob: Peer) -> None:
    listener = alice.listen("chat", disclose="nobody")
    await alice.published()
    caller = await bob.connect(alice.guid, "chat", mode="auto")
    callee = await anext(listener)
    for _ in range(3):
        await exchange(caller, callee)
        route = rooms(bob).sessions.find(caller.id)
        assert route is not None
        assert route.remote_entries == ()
        assert caller.path is not None
        assert caller.path.kind is PathKind.RELAYED
        reset(callee)
        await joined(caller)


async def test_a_session_that_the_other_side_gave_up_is_lost_at_once(
    alice: Peer, bob: Peer
) -> None:
    caller, callee = await pair(alice, bob, Mode.P2P)
    assert caller.path is not None
    mute(callee)
    callee.abort("enough")
    await caller.send(b"nobody reads this")
    reset(caller)
    with pytest.raises(SessionLost, match="given the session up") as lost:
        async with asyncio.timeout(5):
            await caller.receive()
    assert lost.value.unacknowledged == 1
