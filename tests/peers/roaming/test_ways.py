"""Which address, and why: real paths to one peer over addresses with different delays.

Differences are coarse here: what the race sees of a few milliseconds is shown on a clock of its own
(test_race.py) and measured (benchmarks/choice.py).
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable

import pytest

from peers import Identity, Mode, PathFailed, PathKind, Peer, PeerConfig, Refused, Session
from peers.location import Hosts
from relay.server import RelayServer
from tests.support.delay_proxy import DelayProxy
from tests.support.rooms import rooms

HOSTS = [f"127.0.41.{last}" for last in range(1, 9)]
DEAD = "127.0.42.1"


class Far:
    """A callee that is reached over proxies, and what each of them does."""

    def __init__(self, peer: Peer, proxies: dict[str, DelayProxy]) -> None:
        self.peer = peer
        self.proxies = proxies


def fixed(seconds: float) -> Callable[[], float]:
    return lambda: seconds


@contextlib.asynccontextmanager
async def far(
    relay: RelayServer, *delays: float, dead: int = 0, silent: int = 0
) -> AsyncIterator[Far]:
    """A peer at several addresses; those that are dead or silent come first.

    The relay believes all of them: whether they are proven is another test's business.
    """
    hosts = [f"127.0.42.{last}" for last in range(1, dead + 1)]
    silent_hosts = [f"127.0.43.{last}" for last in range(1, silent + 1)]
    proxied = HOSTS[: len(delays)]
    config = PeerConfig(
        relay=relay.url,
        listen_hosts=("127.0.0.1",),
        advertise=(*hosts, *silent_hosts, *proxied),
    )
    async with contextlib.AsyncExitStack() as stack:
        peer = await stack.enter_async_context(Peer(Identity.generate(), config=config))
        target = ("127.0.0.1", peer.port)
        proxies = {
            host: await stack.enter_async_context(DelayProxy(fixed(delay)).run(host, target))
            for host, delay in zip(proxied, delays, strict=True)
        }
        for host in silent_hosts:
            await stack.enter_async_context(DelayProxy(fixed(3600.0)).run(host, target))
        # Only the proxies are told, and the relay believes all of them.
        rooms(peer).location.update(Hosts())
        rooms(peer).location.update = lambda hosts: False  # type: ignore[method-assign]
        relay.proofs.consider = lambda guid: None  # type: ignore[method-assign]
        peer.listen("chat")
        await peer.published()
        registration = relay.registry.get(peer.guid)
        assert registration is not None
        for entry in registration.services["chat"][1]:
            registration.proofs[entry.endpoint] = None
        yield Far(peer, proxies)


async def host_of(session: Session) -> str:
    assert session.path is not None
    return session.path.remote.rpartition(":")[0]


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
            assert await host_of(session) == HOSTS[best], str(session.explain())
            session.abort()


async def test_where_another_peer_answers_the_next_is_taken(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, 0.0, 0.0) as there, Peer(Identity.generate(), relay.url) as other:
        there.proxies[HOSTS[0]].target = ("127.0.0.1", other.port)
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        assert await host_of(session) == HOSTS[1]
        failed = [event for event in session.explain().events if event.what == "failed"]
        assert other.guid in failed[0].reason
        session.abort()


async def test_known_round_trips_are_used_the_next_time(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, 0.06, 0.0) as there:
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        assert await host_of(session) == HOSTS[1]
        session.abort()
        before = there.proxies[HOSTS[0]].connections
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        assert await host_of(session) == HOSTS[1]
        assert there.proxies[HOSTS[0]].connections == before, "the best is tried first, and alone"
        session.abort()


async def test_latest_takes_the_first_that_answers(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, 0.01, 0.0) as there:
        session = await bob.connect(there.peer.guid, "chat", mode="p2p", select="latest")
        assert await host_of(session) == HOSTS[0]
        assert session.explain().select == "latest"
        session.abort()


async def test_a_program_may_choose_for_itself(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, 0.0, 0.04, 0.0) as there:
        session = await bob.connect(
            there.peer.guid,
            "chat",
            mode="p2p",
            select=lambda candidates: [c for c in candidates if c.endpoint.host == HOSTS[1]],
        )
        assert await host_of(session) == HOSTS[1]
        session.abort()
        with pytest.raises(PathFailed, match="no endpoint to dial"):
            await bob.connect(there.peer.guid, "chat", mode="p2p", select=lambda candidates: [])
        with pytest.raises(ValueError, match="select"):
            await bob.connect(there.peer.guid, "chat", select="slowest")


@pytest.mark.parametrize("kind", ["dead", "silent"])
async def test_a_bad_first_candidate_costs_no_more_than_the_stagger(
    relay: RelayServer, bob: Peer, kind: str
) -> None:
    async with far(relay, 0.0, **{kind: 1}) as there:
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        assert await host_of(session) == HOSTS[0]
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
        assert listener._waiting.empty()
        await session.close()


async def test_all_dead_falls_back_where_the_mode_allows(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, dead=2) as there:
        with pytest.raises(PathFailed) as failed:
            await bob.connect(there.peer.guid, "chat", mode="p2p")
        assert all(host in str(failed.value) for host in ("127.0.42.1", "127.0.42.2"))
        session = await bob.connect(there.peer.guid, "chat", mode="combined")
        assert session.mode is Mode.AUTO
        assert session.path is not None
        assert session.path.kind is PathKind.RELAYED
        await session.close()
        for policy in ("only direct", "not relayed"):
            with pytest.raises(PathFailed):
                await bob.connect(there.peer.guid, "chat", mode="combined", policy=policy)


async def test_a_policy_is_kept_and_named(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, 0.0) as there:
        guid = there.peer.guid
        with pytest.raises(PathFailed, match="only ipv6"):
            await bob.connect(guid, "chat", mode="p2p", policy="only ipv6")
        with pytest.raises(PathFailed, match="not relayed"):
            await bob.connect(guid, "chat", mode="central", policy="not relayed")
        with pytest.raises(PathFailed, match="not interface lo"):
            await bob.connect(guid, "chat", mode="p2p", policy="not interface lo")
        session = await bob.connect(guid, "chat", mode="auto", policy="only relayed")
        listener = rooms(there.peer).services.listeners["chat"]
        await asyncio.wait_for(anext(listener), 5)
        await asyncio.sleep(0)
        assert session.path is not None
        assert session.path.kind is PathKind.RELAYED
        await session.close()
        session = await bob.connect(guid, "chat", mode="auto", policy="not relayed")
        assert session.path is not None
        assert session.path.kind is PathKind.DIRECT
        await session.close()


async def test_a_callee_has_its_policy_too(relay: RelayServer, bob: Peer) -> None:
    config = PeerConfig(relay=relay.url, policies={"chat": "only relayed"})
    async with Peer(Identity.generate(), config=config) as alice:
        alice.listen("chat")
        await alice.published()
        with pytest.raises(Refused, match="only relayed"):
            await bob.connect(alice.guid, "chat", mode="p2p")
        session = await bob.connect(alice.guid, "chat", mode="central")
        await session.close()


async def test_a_deadline_ends_the_search(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, silent=1) as there:
        began = time.monotonic()
        with pytest.raises(PathFailed, match=r"within 0\.3"):
            await bob.connect(there.peer.guid, "chat", mode="p2p", policy="within 0.3")
        assert time.monotonic() - began < bob.config.path_timeout, "what would end it else"


@contextlib.asynccontextmanager
async def probing(relay: RelayServer) -> AsyncIterator[Peer]:
    config = PeerConfig(relay=relay.url, probe_interval=0.1)
    async with Peer(Identity.generate(), config=config) as peer:
        yield peer


async def moved_to(session: Session, host: str) -> None:
    async with asyncio.timeout(20):
        async for event in session.events():
            assert event.path is not None, "never without a path"
            if event.path.remote.startswith(host + ":"):
                return


async def test_a_session_moves_to_what_stays_better(relay: RelayServer) -> None:
    async with far(relay, 0.0, 0.2) as there, probing(relay) as bob:
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        callee = await asyncio.wait_for(anext(rooms(there.peer).services.listeners["chat"]), 5)
        assert await host_of(session) == HOSTS[0]
        there.proxies[HOSTS[0]].delay = fixed(0.25)
        there.proxies[HOSTS[1]].delay = fixed(0.0)
        await moved_to(session, HOSTS[1])
        assert "in 5 probes running" in session.explain().rule
        await session.send(b"after")
        assert await asyncio.wait_for(callee.receive(), 5) == b"after"
        await session.close()


async def test_delays_that_jitter_move_nothing(relay: RelayServer) -> None:
    draw = random.Random(4)

    def jitter() -> float:
        return 0.01 + draw.random() * 0.01

    async with far(relay, 0.0, 0.0) as there, probing(relay) as bob:
        for proxy in there.proxies.values():
            proxy.delay = jitter
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        at = await host_of(session)
        rounds = 0
        while rounds < 20:
            await asyncio.sleep(0.05)
            rounds = sum(event.what == "proven" for event in session.explain().events) // 2
        assert await host_of(session) == at, str(session.explain())
        await session.close()


async def test_a_pinned_session_stays(relay: RelayServer) -> None:
    async with far(relay, 0.0, 0.03) as there, probing(relay) as bob:
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        other = await bob.connect(there.peer.guid, "chat", mode="p2p")
        session.pin()
        there.proxies[HOSTS[0]].delay = fixed(0.25)
        there.proxies[HOSTS[1]].delay = fixed(0.0)
        await moved_to(other, HOSTS[1])
        assert await host_of(session) == HOSTS[0]
        assert "pinned" in str(session.explain())
        for one in (session, other):
            await one.close()


async def test_explain_tells_candidates_drops_and_the_rule(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, 0.15, 0.0, dead=1) as there:
        session = await bob.connect(there.peer.guid, "chat", mode="p2p", policy="prefer private")
        told = session.explain()
        whats = {event.what for event in told.events}
        assert {"candidate", "failed", "proven", "chosen", "path"} <= whats
        text = str(told)
        assert f"direct, {HOSTS[1]}" in text
        assert "better than" in told.rule
        assert "prefer private" in text
        session.abort()
