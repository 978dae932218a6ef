"""The sessions of one peer, and its three tables."""

import asyncio

import pytest

from peers import (
    Mode,
    Peer,
)
from relay.server import RelayServer
from tests.support.faults import mute, reset
from tests.support.sessions import MODES, exchange, joined, moving, pair


@MODES
@pytest.mark.parametrize("who", ["caller", "callee", "both"])
async def test_a_session_follows_its_ends_to_their_new_addresses(
    relay: RelayServer, mode: Mode, who: str
) -> None:
    async with moving(relay, 21) as (alice, here, a), moving(relay, 22) as (bob, there, b):
        caller, callee = await pair(alice, bob, mode)
        for turn in (1, 2, 0):
            if who in ("caller", "both"):
                there.set(b[turn])
            if who in ("callee", "both"):
                here.set(a[turn])
            await exchange(caller, callee)
            if who in ("caller", "both"):
                await joined(caller, host=b[turn])
            if who in ("callee", "both"):
                await joined(callee, host=a[turn])
        await caller.close()


async def test_an_address_that_is_merely_added_disturbs_no_session(relay: RelayServer) -> None:
    """The draft's rule (§4.2.1)."""
    async with moving(relay, 21) as (alice, here, a), moving(relay, 22) as (bob, _, _):
        caller, callee = await pair(alice, bob, Mode.P2P)
        path = caller.path
        before = (await bob.locate(alice.guid, "chat")).entries
        here.set(a[0], a[1])
        async with asyncio.timeout(10):
            while (found := await bob.locate(alice.guid, "chat")).entries[0].host != a[1]:
                await asyncio.sleep(0)
        assert found.entries[0].seq > before[0].seq
        assert {entry.host for entry in found.entries} == {a[0], a[1]}
        await exchange(caller, callee)
        assert caller.path is path
        # New sessions try the new address first, at once.
        other = await bob.connect(alice.guid, "chat", mode="p2p", select="latest")
        tried = [event.where for event in other.explain().events if event.what == "candidate"]
        assert [where.partition(":")[0] for where in tried] == [a[1], a[0]]
        await other.close()


async def test_a_close_whose_last_answer_was_lost_is_still_clean(alice: Peer, bob: Peer) -> None:
    caller, callee = await pair(alice, bob, Mode.P2P)
    await caller.send(b"last words")
    closing = asyncio.create_task(caller.close())
    assert await callee.receive() == b"last words"
    # What the callee says from now on does not arrive: its "closed" is lost with the path.
    assert callee.path is not None
    mute(callee)
    reset(callee)
    await callee.close()
    await closing
