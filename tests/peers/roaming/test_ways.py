"""Ways to a path, each tried once: which address is taken, and why.

First with proofs that go as the test says, on a clock that jumps; then real paths to one peer over
addresses with different delays.
"""

import asyncio
import dataclasses
from typing import Any, cast

import pytest

from peers import Identity, Mode, Peer
from peers.choice import Candidate, RoundTrips
from peers.control import Answered, KnownRelay
from peers.dialing import Ask, Door, Reason
from peers.host import Interfaces
from peers.host.address import LocalAddress
from peers.location import Hosts
from peers.path import Dialing, PathEnd
from peers.roaming import Candidates, Ways, ways
from peers.roaming.locks import LOCKED_BY_TLS
from peers.roaming.route import Attempt, Meeting
from peers.session import end
from protocol.endpoint import Endpoint, Entry, Phase, Provenance, sign_entry
from protocol.errors import Code, PathFailed, Refused, RelayUnavailable, RoamRelayError
from protocol.features import EARLY_DATA, SESSION_2, SESSION_FEATURES
from protocol.messages import PathHello, PathWelcome, ServiceResponse
from relay.server import RelayServer
from tests.peers.roaming.fakes import CALLER, THERE, make_local, make_route, signed
from tests.support.fake_path import FakePath
from tests.support.far import HOSTS, far, host_of, unhurried
from tests.support.faults import reset
from tests.support.rooms import rooms
from tests.support.sessions import pathless
from tests.support.virtual_time import run

# -- with proofs that go as the test says -----------------------------------------------------

FIRST, SECOND = Endpoint("192.0.2.1", 9), Endpoint("192.0.2.2", 9)
HERE = "10.0.0.1"


class Asked(FakePath):
    """A proven path, and what its other end says to a hello: nothing, an error, or welcome."""

    def __init__(self, endpoint: Endpoint, trip: float, says: RoamRelayError | str) -> None:
        super().__init__(remote=str(endpoint), local_host=HERE)
        self.round_trip = trip
        self.says = says
        self.hellos: list[PathHello] = []

    async def ask(self, make_hello: Any, timeout: float, make_early: Any) -> PathWelcome:
        self.hellos.append(make_hello(self))
        if self.says == "nothing":
            await asyncio.sleep(timeout)
            self.abort()
            raise PathFailed(f"no answer to the hello within {timeout:g} s")
        if isinstance(self.says, RoamRelayError):
            self.abort()
            raise self.says
        return PathWelcome()


class Around:
    """One peer that can dial two endpoints, each of which proves itself as it is said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.says: dict[Endpoint, RoamRelayError | str] = {FIRST: "welcome", SECOND: "welcome"}
        self.trips = {FIRST: 0.05, SECOND: 0.05}
        self.made: dict[Endpoint, Asked] = {}
        self.usual: list[float | None] = []
        self.local = make_local()
        self.interfaces = Interfaces(self.local.config)
        self.interfaces.update([LocalAddress(HERE, "eth0", 2, 4, 24)])
        self.last_relay: KnownRelay | None = None
        self.observed: tuple[str, ...] = ()
        self.may_ask_where = False
        self.candidates = Candidates(self.local.config, self.interfaces, RoundTrips(lambda: 0.0))
        self.ways = Ways(self.local, self.candidates, cast(Any, self))
        monkeypatch.setattr(ways, "open_direct", self._open)

    async def _open(
        self, door: Door, ask: Ask, paths: Any, timeout: float, dialing: Dialing
    ) -> PathEnd:
        endpoint = ask.endpoint
        self.usual.append(dialing.round_trip)
        said = self.says[endpoint]
        if isinstance(said, PathFailed):
            raise said
        await asyncio.sleep(2 * self.trips[endpoint])
        self.made[endpoint] = Asked(endpoint, self.trips[endpoint], said)
        return self.made[endpoint].path

    def attempt(self, select: Any = "fastest") -> Attempt:
        route = make_route(dataclasses.replace(CALLER, select=select))
        route.learn(signed(FIRST.host, SECOND.host))
        return route.attempt()

    def ended(self) -> dict[str, str]:
        return {one.host: path.end for one, path in self.made.items()}


def test_what_the_relay_is_asked_for_is_dialed_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A well-known port needs its word, which may take seconds: nothing waits for that."""
    odd, usual = Endpoint(FIRST.host, 443), Endpoint(SECOND.host, 7000)

    async def scene() -> None:
        around = Around(monkeypatch)
        around.says |= {odd: "welcome", usual: "welcome"}
        around.trips |= {odd: 0.05, usual: 0.05}
        around.may_ask_where = True
        route = make_route(dataclasses.replace(CALLER, select="latest"))
        route.learn(
            tuple(sign_entry(THERE, entry_at(at, seq)) for seq, at in ((2, odd), (1, usual)))
        )
        nowhere = Endpoint("203.0.113.77", 443)
        asks = [
            around.ways.ask_for(route, Candidate(at), Reason.PROBE) for at in (odd, usual, nowhere)
        ]
        # Of what is not signed nobody can be asked.
        assert [around.local.door.doubts(ask) for ask in asks] == [True, False, False]
        await around.ways.direct(route.attempt())
        assert list(around.made) == [usual]
        around.may_ask_where = False
        assert around.ways.ask_for(route, Candidate(odd), Reason.PROBE).witness is None

    run(scene())


def entry_at(at: Endpoint, seq: int) -> Entry:
    return Entry(seq, "chat", at.host, at.port, Phase.PREFERRED, 60, Provenance.INTERFACE)


def test_the_other_is_asked_where_the_chosen_one_does_not_answer_the_hello(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene() -> None:
        around = Around(monkeypatch)
        attempt = around.attempt()
        loop = asyncio.get_running_loop()
        began = loop.time()
        # Both are proven: they are compared for as long as the second may be clearly better.
        around.trips[FIRST], around.trips[SECOND] = 0.1, 0.02
        around.says[SECOND] = "nothing"
        welcomed = await around.ways.direct(attempt)
        assert welcomed.path.remote == str(FIRST)
        assert not welcomed.all_answered
        assert 2.0 <= loop.time() - began < 3.0
        assert around.ended() == {FIRST.host: "", SECOND.host: "aborted"}
        assert attempt.route.session.id == around.made[FIRST].hellos[0].session
        assert around.made[FIRST].hellos[0].path == around.made[SECOND].hellos[0].path == 1

    run(scene())


@pytest.mark.parametrize(
    "error", [Refused("no"), RoamRelayError("?", code=Code.SESSION_UNKNOWN)], ids=repr
)
def test_what_the_other_side_says_itself_ends_it_and_leaves_no_path(
    monkeypatch: pytest.MonkeyPatch, error: RoamRelayError
) -> None:
    async def scene() -> None:
        around = Around(monkeypatch)
        around.trips[FIRST], around.trips[SECOND] = 0.1, 0.02
        around.says[SECOND] = error
        with pytest.raises(type(error)) as told:
            await around.ways.direct(around.attempt())
        assert told.value is error
        assert around.ended() == dict.fromkeys((FIRST.host, SECOND.host), "aborted")

    run(scene())


@pytest.mark.parametrize("how", ["quick", "latest"])
def test_who_is_in_a_hurry_takes_the_first_that_is_proven(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    async def scene() -> None:
        around = Around(monkeypatch)
        around.trips[FIRST], around.trips[SECOND] = 0.1, 0.02
        attempt = around.attempt("latest" if how == "latest" else "fastest")
        welcomed = await around.ways.direct(attempt, quick=how == "quick")
        assert welcomed.path.remote == str(FIRST)
        assert SECOND not in around.made

    run(scene())


def test_only_one_is_dialed_where_it_is_known_which(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        around = Around(monkeypatch)
        attempt = around.attempt()
        welcomed = await around.ways.direct(attempt, only=Candidate(SECOND))
        assert welcomed.path.remote == str(SECOND)
        assert list(around.made) == [SECOND]
        assert [one.what for one in attempt.route.trace.events] == ["proven"]

    run(scene())


def test_what_was_measured_is_expected_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        around = Around(monkeypatch)
        await around.ways.prove(Ask(THERE.guid, FIRST), Candidate(FIRST), usual=0.3)
        (first, _) = around.candidates.of(around.attempt().route)
        assert first.round_trip == 0.05
        await around.ways.prove(Ask(THERE.guid, FIRST), first, usual=0.3)
        assert around.usual == [0.3, 0.05]
        around.ways.network_changed(frozenset())
        assert around.candidates.of(around.attempt().route)[0].round_trip == 0.05
        around.ways.network_changed(frozenset({"10.0.0.9"}))
        assert around.candidates.of(around.attempt().route)[0].round_trip is None

    run(scene())


def test_a_proof_that_fails_is_in_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        around = Around(monkeypatch)
        around.says[FIRST] = PathFailed("deaf")
        attempt = around.attempt()
        welcomed = await around.ways.direct(attempt)
        assert (welcomed.path.remote, welcomed.all_answered) == (str(SECOND), False)
        told = [(one.what, one.reason) for one in attempt.route.trace.events]
        assert ("failed", "deaf") in told
        assert told[-1][0] == "chosen"

    run(scene())


def test_a_path_from_an_address_that_has_gone_meanwhile_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene() -> None:
        around = Around(monkeypatch)
        dialing = asyncio.create_task(around.ways.direct(around.attempt()))
        await asyncio.sleep(0.01)
        around.interfaces.update([])
        with pytest.raises(PathFailed, match="is gone"):
            await dialing
        assert set(around.ended().values()) == {"aborted"}

    run(scene())


def test_who_is_cancelled_leaves_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        around = Around(monkeypatch)
        around.trips[FIRST], around.trips[SECOND] = 0.1, 0.02
        around.says[SECOND] = "nothing"
        dialing = asyncio.create_task(around.ways.direct(around.attempt()))
        await asyncio.sleep(1)
        assert len(around.made) == 2
        dialing.cancel()
        await asyncio.gather(dialing, return_exceptions=True)
        assert around.made[FIRST].end == "aborted"

    run(scene())


def test_without_a_ticket_or_a_relay_there_is_no_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        around = Around(monkeypatch)
        answer = Answered(cast(Any, None), ServiceResponse(0))
        with pytest.raises(RoamRelayError, match="no ticket") as told:
            await around.ways.relayed(around.attempt(), answer, LOCKED_BY_TLS)
        assert told.value.code is Code.INTERNAL
        with pytest.raises(RelayUnavailable, match="no relay"):
            await around.ways.next_plane(around.attempt())

    run(scene())


# -- between real peers -----------------------------------------------------------------------


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


async def test_latest_takes_the_first_that_answers(relay: RelayServer) -> None:
    async with far(relay, 0.01, 0.0) as there, unhurried(relay) as bob:
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
        callee = await asyncio.wait_for(anext(listener), 60)
        assert callee.id == session.id
        await session.send(b"once")
        assert await callee.receive() == b"once"
        assert rooms(there.peer).sessions.live == [callee]
        await session.close()


@pytest.mark.parametrize(
    ("features", "flights"),
    [(SESSION_FEATURES, 1), ((SESSION_2, EARLY_DATA), 3), ((SESSION_2,), 5)],
)
async def test_a_resumed_path_brings_data_one_round_trip_sooner(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch, features: tuple[str, ...], flights: int
) -> None:
    """With the first flight, sealed and before TLS; to older parties with the third, of TLS and the
    hello, or the fifth. What comes later is swallowed, so that no other can have brought it."""
    monkeypatch.setattr(end, "SESSION_FEATURES", features)
    async with far(relay, 0.005) as there, unhurried(relay) as bob:
        # Only this side can dial: the other one, told where this was, finds nobody.
        rooms(bob).direct.close()
        rooms(bob).location.update(Hosts())
        monkeypatch.setattr(rooms(bob).location, "update", lambda hosts: False)
        listener = rooms(there.peer).services.listeners["chat"]
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        callee = await asyncio.wait_for(anext(listener), 60)
        proxy = there.proxies[HOSTS[0]]
        before = len(proxy.flights)
        proxy.most_flights = flights
        assert reset(session)
        await pathless(session)
        await session.send(b"as soon as it can be")
        assert await asyncio.wait_for(callee.receive(), 60) == b"as soon as it can be"
        ways_taken = ["there", "back", "there", "back", "there"]
        # Where the first connection was slow, another one has brought it.
        assert ways_taken[:flights] in proxy.flights[before:]
        session.abort()


async def test_explain_tells_candidates_drops_and_the_rule(relay: RelayServer) -> None:
    async with far(relay, 0.1, 0.0, dead=1) as there, unhurried(relay) as bob:
        session = await bob.connect(there.peer.guid, "chat", mode="p2p", policy="prefer private")
        told = session.explain()
        whats = {event.what for event in told.events}
        assert {"candidate", "failed", "proven", "chosen", "path"} <= whats
        text = str(told)
        assert f"direct, {HOSTS[1]}" in text
        assert "better than" in told.rule
        assert "prefer private" in text
        session.abort()


# -- meetings -------------------------------------------------------------------------------------

MIDWAY = Candidate(Endpoint("192.0.2.9", 5000), provenance=None, by_meeting=True)


@pytest.mark.parametrize("dials", [False, True])
def test_a_session_without_a_path_waits_for_a_meeting_a_little_while(
    monkeypatch: pytest.MonkeyPatch, dials: bool
) -> None:
    async def scene() -> None:
        around, loop = Around(monkeypatch), asyncio.get_running_loop()
        route = make_route(CALLER)
        if dials:
            route.learn(signed(FIRST.host))
            around.says[FIRST] = PathFailed("refused")
        route.meeting = Meeting(MIDWAY)
        began = loop.time()
        with pytest.raises(PathFailed, match=r"by a meeting: nobody within 0.9 s"):
            await around.ways.direct(route.attempt())
        assert loop.time() - began == pytest.approx(0.9)
        tried = [event.where for event in route.trace.events if event.what == "candidate"]
        assert tried[-1] == "192.0.2.9:5000 by a meeting"
        route.meeting.close()

    run(scene())


def test_a_meeting_that_has_come_to_nothing_leaves_what_else_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene() -> None:
        around = Around(monkeypatch)
        attempt = around.attempt()
        attempt.route.meeting = Meeting(MIDWAY)
        attempt.route.meeting.fail(PathFailed("nobody came to the meeting"))
        welcomed = await around.ways.direct(attempt)
        assert welcomed.path.remote == str(FIRST)
        attempt.route.meeting.close()

    run(scene())
