"""Every endpoint of a service tried once, and which one a session would take."""

import asyncio
import time

import pytest

from peers import Identity, Peer, PeerConfig
from peers.choice import Candidate, clearly_better
from peers.location import Located
from peers.path import Proven
from peers.roaming import survey
from protocol.endpoint import Entry, Phase, Provenance
from protocol.errors import PathFailed
from relay.server import RelayServer
from tests.support.fake_path import FakePath
from tests.support.rooms import rooms
from tests.support.virtual_time import run


def entry(last: int, phase: Phase = Phase.PREFERRED, seq: int = 1) -> Entry:
    return Entry(seq, "chat", f"192.0.2.{last}", 9, phase, 60, Provenance.INTERFACE)


@pytest.mark.parametrize(
    ("trips", "chosen"),
    [
        ({1: 0.1, 2: 0.1}, 1),
        ({1: 0.1, 2: 0.01}, 2),
        ({1: 0.1, 2: 0.097}, 1),
        ({2: 0.1}, 2),
        ({}, None),
    ],
)
def test_the_one_that_a_session_would_take_is_marked(
    trips: dict[int, float], chosen: int | None
) -> None:
    # One that is leaving is dialed by nobody who begins anew.
    late, gone = entry(3, Phase.NEW), entry(4, Phase.LEAVING)
    entries = (gone, late, entry(2, Phase.NEW, seq=2), entry(1))
    located = Located("x", "chat", None, None, entries, ())
    made: list[FakePath] = []

    async def prove(candidate: Candidate) -> Proven:
        last = int(candidate.endpoint.host.rpartition(".")[2])
        if last == 3:
            await asyncio.sleep(1000)
        if last not in trips:
            raise PathFailed("deaf")
        made.append(FakePath())
        return Proven(candidate, made[-1].path, trips[last])

    surveyed = run(survey(located, prove, 3.0))
    assert [one.entry.host for one in surveyed] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert [one.round_trip for one in surveyed] == [trips.get(1), trips.get(2), None]
    assert surveyed[2].reason == "no answer within 3 s"
    assert [one.entry.host for one in surveyed if one.chosen] == (
        [] if chosen is None else [f"192.0.2.{chosen}"]
    )
    assert all(one.reason == "deaf" for one in surveyed[:2] if one.round_trip is None)
    assert [path.end for path in made] == ["aborted"] * len(trips), "nothing is left open"


def test_the_age_of_an_entry_is_told_where_its_number_is_a_time() -> None:
    async def nobody(candidate: Candidate) -> Proven:
        raise PathFailed("nobody is there")

    now = time.time_ns() // 1_000_000
    entries = tuple(
        entry(last, seq=seq) for last, seq in enumerate((now - 5_000, 1, now + 3_600_000), 1)
    )
    found = Located("a" * 52, "chat", None, None, entries, ())
    ages = {one.entry.seq: one.age for one in run(survey(found, nobody, 1.0))}
    recent = ages[now - 5_000]
    assert recent is not None
    assert 5 <= recent < 60
    assert ages[1] is None
    assert ages[now + 3_600_000] is None, "a clock that is wrong"


@pytest.mark.expected_errors("unexpected in a survey")
def test_what_nobody_expected_is_the_word_of_one_endpoint() -> None:
    async def fails(candidate: Candidate) -> Proven:
        raise KeyError("nobody thought of it")

    found = Located("a" * 52, "chat", None, None, (entry(1), entry(2)), ())
    assert all("KeyError" in one.reason for one in run(survey(found, fails, 1.0)))


async def test_a_survey_tries_every_endpoint_once(relay: RelayServer, bob: Peer) -> None:
    config = PeerConfig(relay=relay.url, advertise=("127.0.62.1",))
    async with Peer(Identity.generate(), config=config) as alice:
        alice.listen("chat")
        await alice.published()
        async with asyncio.timeout(60):
            while len((found := await bob.locate(alice.guid, "chat")).entries) < 2:
                await asyncio.sleep(0.02)
        surveyed = await bob.survey(found)
        first, second = (one.round_trip for one in surveyed)
        assert first is not None
        assert second is not None
        # By what was measured: both are this very host, and a busy one may take long for either.
        assert surveyed[1].chosen is clearly_better(second, first)
        assert surveyed[0].chosen is not surveyed[1].chosen
        assert rooms(alice).sessions.live == [], "nothing is said to the application"
        rooms(alice).direct.close()
        surveyed = await bob.survey(found)
        assert not any(one.chosen for one in surveyed)
        assert all("127.0." in one.reason for one in surveyed)
