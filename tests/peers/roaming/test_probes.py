"""Probes for a better path: the session moves to what stays better, and to nothing else.

First above fakes, on a clock that jumps; then between real peers.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from peers import Identity, Peer, PeerConfig, Session
from peers.choice import Candidate
from peers.path import Proven
from peers.roaming import Probes
from peers.roaming.monitor import ROUNDS, Seen
from peers.roaming.route import Route
from protocol.endpoint import Endpoint
from protocol.errors import PathFailed
from protocol.messages import PathWelcome
from relay.server import RelayServer
from tests.peers.roaming.fakes import make_route
from tests.support import scale
from tests.support.fake_path import FakePath
from tests.support.far import HOSTS, far, fixed, host_of
from tests.support.rooms import rooms
from tests.support.virtual_time import run

# -- above fakes ------------------------------------------------------------------------------

ON = Candidate(Endpoint("192.0.2.1", 9))
OTHERS = [Candidate(Endpoint(f"192.0.2.{last}", 9)) for last in range(2, 9)]
GONE, LATE = "gone", "late"


class Around:
    """The candidates of one session, and what each of them answers: seconds, or not."""

    def __init__(self, *others: float | str, here: float | str = 0.1) -> None:
        self.known = [ON, *OTHERS[: len(others)]]
        self.trips: dict[Endpoint, float | str] = {
            one.endpoint: trip for one, trip in zip(self.known, (here, *others), strict=True)
        }
        self.proven: list[FakePath] = []
        self.measured: list[Candidate] = []
        self.error: Exception | None = None
        self.while_probing: Any = lambda: None
        self.probes = Probes(cast(Any, self), cast(Any, self))
        self.seen = Seen()

    def of(self, route: Route) -> list[Candidate]:
        if self.error is not None:
            raise self.error
        return self.known

    async def prove_for(self, route: Route, candidate: Candidate) -> Proven:
        self.measured.append(candidate)
        self.while_probing()
        trip = self.trips[candidate.endpoint]
        if trip == LATE:
            await asyncio.sleep(100)
        if not isinstance(trip, float):
            raise PathFailed("gone")
        self.proven.append(FakePath())
        return Proven(candidate, self.proven[-1].path, trip)

    async def look(self, route: Route) -> Candidate | None:
        return await self.probes.look(route, self.seen)


def on_path(remote: str = "192.0.2.1:9") -> tuple[Route, FakePath]:
    route, path = make_route(), FakePath(remote=remote)
    route.take(path.path, 1, PathWelcome(), dialed_here=True)
    return route, path


@pytest.mark.parametrize(
    ("around", "best"),
    [
        (Around(0.01), OTHERS[0]),
        (Around(0.05, 0.01), OTHERS[1]),
        (Around(0.099), None),
        (Around(0.2), None),
        (Around(GONE, 0.01), OTHERS[1]),
        (Around(LATE, 0.01), OTHERS[1]),
        # Where the path itself does not answer there is nothing to compare with.
        (Around(0.01, here=GONE), None),
    ],
)
def test_what_was_better_in_enough_rounds_is_told_and_nothing_is_left_open(
    around: Around, best: Candidate | None
) -> None:
    async def scene() -> None:
        route, _ = on_path()
        for number in range(ROUNDS):
            found = await around.look(route)
            assert number == ROUNDS - 1 or found is None
        assert (found and found.endpoint) == (best and best.endpoint)
        assert all(path.end == "aborted" for path in around.proven)
        kept = [one for one in route.trace.events if one.what == "kept"]
        assert len(kept) == ROUNDS - (best is not None)
        route.session.abort()

    run(scene())


def test_one_round_probes_few() -> None:
    async def scene() -> None:
        around = Around(*[0.2] * 7)
        route, _ = on_path()
        await around.look(route)
        assert around.measured == [ON, *OTHERS[:4]]
        route.session.abort()

    run(scene())


def test_a_path_that_is_no_candidate_is_measured_by_what_it_says_itself() -> None:
    async def scene() -> None:
        around = Around(0.001, 0.2)
        route, path = on_path("203.0.113.1:9")
        path.round_trip = 0.05
        for _ in range(ROUNDS):
            found = await around.look(route)
        assert found is not None
        assert found.endpoint == OTHERS[0].endpoint
        assert ON in around.measured, "as one of the others"
        route.session.abort()

    run(scene())


@pytest.mark.parametrize("why", ["no path", "one candidate", "no candidate"])
def test_where_there_is_nothing_to_compare_what_was_seen_is_forgotten(why: str) -> None:
    async def scene() -> None:
        around = Around(0.01)
        route, _ = on_path()
        for _ in range(ROUNDS - 1):
            await around.look(route)
        match why:
            case "no path":
                route.session.drop_path("test")
            case "one candidate":
                around.known.pop()
            case "no candidate":
                around.error = PathFailed("none")
        assert await around.look(route) is None
        around.known, around.error = [ON, OTHERS[0]], None
        if why == "no path":
            route.take(FakePath().path, 2, PathWelcome(), dialed_here=True)
        for number in range(ROUNDS):
            found = await around.look(route)
            assert (found is not None) is (number == ROUNDS - 1)
        route.session.abort()

    run(scene())


def test_a_session_that_has_moved_meanwhile_is_not_moved_again() -> None:
    async def scene() -> None:
        around = Around(0.01)
        route, _ = on_path()
        for _ in range(ROUNDS - 1):
            await around.look(route)

        def moves() -> None:
            around.while_probing = lambda: None
            route.take(FakePath().path, 2, PathWelcome(), dialed_here=True)

        around.while_probing = moves
        assert await around.look(route) is None
        assert await around.look(route) is None, "it is compared with the new path from now on"
        route.session.abort()

    run(scene())


# -- between real peers -----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def probing(relay: RelayServer) -> AsyncIterator[Peer]:
    config = PeerConfig(relay=relay.url, probe_interval=0.1)
    async with Peer(Identity.generate(), config=config) as peer:
        yield peer


async def moved_to(session: Session, host: str) -> None:
    async with asyncio.timeout(60):
        async for event in session.events():
            assert event.path is not None, "never without a path"
            if event.path.remote.startswith(host + ":"):
                return


async def test_a_session_moves_to_what_stays_better(relay: RelayServer) -> None:
    async with far(relay, 0.0, 0.15) as there, probing(relay) as bob:
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        callee = await asyncio.wait_for(anext(rooms(there.peer).services.listeners["chat"]), 60)
        assert host_of(session) == HOSTS[0]
        there.proxies[HOSTS[0]].delay = fixed(0.1)
        there.proxies[HOSTS[1]].delay = fixed(0.0)
        await moved_to(session, HOSTS[1])
        assert "in 5 probes running" in session.explain().rule
        await session.send(b"after")
        assert await asyncio.wait_for(callee.receive(), 60) == b"after"
        await session.close()


async def test_delays_that_jitter_move_nothing(relay: RelayServer) -> None:
    draw = random.Random(4)

    def jitter() -> float:
        return 0.01 + draw.random() * 0.01

    async with far(relay, 0.0, 0.0) as there, probing(relay) as bob:
        for proxy in there.proxies.values():
            proxy.delay = jitter
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        at = host_of(session)
        rounds = 0
        while rounds < scale.of(8, 20):
            await asyncio.sleep(0.05)
            rounds = sum(event.what == "proven" for event in session.explain().events) // 2
        assert host_of(session) == at, str(session.explain())
        await session.close()


async def test_a_pinned_session_stays(relay: RelayServer) -> None:
    async with far(relay, 0.0, 0.03) as there, probing(relay) as bob:
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        other = await bob.connect(there.peer.guid, "chat", mode="p2p")
        session.pin()
        there.proxies[HOSTS[0]].delay = fixed(0.1)
        there.proxies[HOSTS[1]].delay = fixed(0.0)
        await moved_to(other, HOSTS[1])
        assert host_of(session) == HOSTS[0]
        assert "pinned" in str(session.explain())
        for one in (session, other):
            await one.close()
