"""Which address, and why: real paths to one peer over addresses with different delays."""

import asyncio

import pytest

from peers import Identity, Mode, Peer, PeerConfig
from relay.server import RelayServer
from tests.support.far import HOSTS, far, host_of
from tests.support.rooms import rooms


@pytest.mark.parametrize("best", [0, 1, 2])
async def test_the_best_is_chosen_whatever_its_place(
    relay: RelayServer, bob: Peer, best: int
) -> None:
    delays = [0.4, 0.3, 0.5]
    delays[best] = 0.0
    async with far(relay, *delays) as there:
        for mode in (Mode.P2P, Mode.COMBINED):
            rooms(bob).candidates.forget()
            session = await bob.connect(there.peer.guid, "chat", mode=mode)
            assert host_of(session) == HOSTS[best], str(session.explain())
            session.abort()


async def test_where_another_peer_answers_the_next_is_taken(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, 0.0, 0.0) as there, Peer(Identity.generate(), relay.url) as other:
        there.proxies[HOSTS[0]].target = ("127.0.0.1", other.port)
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        assert host_of(session) == HOSTS[1]
        failed = [event for event in session.explain().events if event.what == "failed"]
        assert other.guid in failed[0].reason
        session.abort()


async def test_latest_takes_the_first_that_answers(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, 0.01, 0.0) as there:
        session = await bob.connect(there.peer.guid, "chat", mode="p2p", select="latest")
        assert host_of(session) == HOSTS[0]
        assert session.explain().select == "latest"
        session.abort()


@pytest.mark.parametrize("kind", ["dead", "silent"])
async def test_a_bad_first_candidate_costs_no_more_than_the_stagger(
    relay: RelayServer, bob: Peer, kind: str
) -> None:
    async with far(relay, 0.0, **{kind: 1}) as there:
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        assert host_of(session) == HOSTS[0]
        # What a stagger is, is shown on a clock of its own (test_race.py): here, that the bad one
        # was the first, and a silent one has not been waited for.
        events = session.explain().events
        assert HOSTS[0] not in next(one.where for one in events if one.what == "candidate")
        assert [one.what for one in events].count("failed") == (kind == "dead")
        session.abort()


async def test_losers_leave_no_trace_at_the_callee(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, 0.03, 0.03, 0.0) as there:
        listener = rooms(there.peer).services.listeners["chat"]
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        callee = await asyncio.wait_for(anext(listener), 5)
        assert callee.id == session.id
        await session.send(b"once")
        assert await callee.receive() == b"once"
        assert rooms(there.peer).sessions.live == [callee]
        await session.close()


async def test_explain_tells_candidates_drops_and_the_rule(relay: RelayServer) -> None:
    # The second is tried because the first is slow, and not because its time has come.
    config = PeerConfig(relay=relay.url, stagger=10.0)
    async with (
        far(relay, 0.15, 0.0, dead=1) as there,
        Peer(Identity.generate(), config=config) as bob,
    ):
        session = await bob.connect(there.peer.guid, "chat", mode="p2p", policy="prefer private")
        told = session.explain()
        whats = {event.what for event in told.events}
        assert {"candidate", "failed", "proven", "chosen", "path"} <= whats
        text = str(told)
        assert f"direct, {HOSTS[1]}" in text
        assert "better than" in told.rule
        assert "prefer private" in text
        session.abort()
