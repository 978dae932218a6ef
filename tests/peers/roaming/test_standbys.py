"""A second path that stands ready: which one is dialed, and that the session goes on over it."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest

from peers import (
    Identity,
    LocalAddress,
    Mode,
    PathChanged,
    PathKind,
    Peer,
    PeerConfig,
    Session,
    SessionSettings,
    StandbyWord,
)
from peers.choice import RoundTrips
from peers.host import Interfaces
from peers.roaming.candidates import Candidates
from peers.roaming.keeper import Keeper, Looked
from peers.session import SessionEnd, Terms
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.roaming.fakes import CALLER, config, make_route, signed
from tests.support.fake_path import FakePath
from tests.support.faults import mute
from tests.support.sessions import FAST, exchange, moving, pair
from tests.support.virtual_time import run

DIRECT_MODES = pytest.mark.parametrize("mode", [Mode.P2P, Mode.COMBINED])


async def standing(session: Session, host: str | None = None) -> None:
    """Wait until a second path stands ready, from this local address."""
    async with asyncio.timeout(60):
        async for event in session.events():
            if event.standby is not None and host in (None, event.standby.local_host):
                return
    raise AssertionError("the session is over")


async def on(session: Session, host: str) -> list[PathChanged]:
    """Wait until the session's path begins, or ends, at this address; return what was told."""
    told = []
    async with asyncio.timeout(60):
        async for event in session.events():
            told.append(event)
            path = event.path
            if path is not None and host in (path.local_host, path.remote.rpartition(":")[0]):
                return told
    raise AssertionError("the session is over")


@pytest.fixture
async def relay() -> AsyncIterator[RelayServer]:
    async with RelayServer(RelayConfig(port=0)) as server:
        yield server


@pytest.mark.parametrize("caller_moves", [True, False])
@DIRECT_MODES
async def test_who_has_two_networks_goes_on_over_the_second_at_once(
    relay: RelayServer, mode: Mode, caller_moves: bool
) -> None:
    settings = PeerConfig(relay=relay.url, session=FAST)
    async with (
        moving(relay, 81, 2) as (mobile, addresses, names),
        Peer(Identity.generate(), config=settings) as still,
    ):
        alice, bob = (still, mobile) if caller_moves else (mobile, still)
        here, there = await pair(alice, bob, mode)
        moved, other = (here, there) if caller_moves else (there, here)
        assert here.standby is None
        await exchange(here, there, 10)
        addresses.set(names[0], names[1])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(standing(moved, names[1]))
            tasks.create_task(standing(other))
        assert moved.path is not None
        assert moved.path.local_host == names[0]
        standby = moved.standby
        follows = asyncio.create_task(on(moved, names[1])), asyncio.create_task(on(other, names[1]))
        await asyncio.sleep(0)
        addresses.set(names[1])
        await exchange(here, there)
        told = [await follow for follow in follows]
        assert moved.path is standby
        assert all(event.path is not None for events in told for event in events)
        assert "stood ready" in told[0][-1].reason
        assert "is gone" in moved.explain().rule
        assert isinstance(moved, SessionEnd)
        assert isinstance(other, SessionEnd)
        assert moved.path_rank[0] == other.path_rank[0]
        await here.close()
    assert moved.standby is None
    assert there.standby is None


async def test_a_program_that_says_that_an_address_is_leaving_moves_at_once(
    relay: RelayServer,
) -> None:
    settings = PeerConfig(relay=relay.url, session=FAST)
    async with (
        moving(relay, 82, 2) as (mobile, addresses, names),
        Peer(Identity.generate(), config=settings) as still,
    ):
        here, there = await pair(still, mobile, Mode.P2P)
        addresses.set(names[0], names[1])
        await standing(here, names[1])
        mobile.leaving(names[0])
        assert here.path is not None
        assert here.path.local_host == names[1]
        assert "leaving" in here.explain().rule
        await exchange(here, there)
        await here.close()


@pytest.mark.parametrize("never", ["policy", "mode", "other side"])
async def test_where_none_is_wanted_none_is_dialed(relay: RelayServer, never: str) -> None:
    settings = PeerConfig(
        relay=relay.url,
        session=FAST,
        policy="standby never" if never == "policy" else "",
        standby=StandbyWord.NEVER if never == "other side" else StandbyWord.AUTO,
    )
    async with (
        moving(relay, 83, 2) as (mobile, addresses, names),
        Peer(Identity.generate(), config=settings) as still,
    ):
        mode = Mode.CENTRAL if never == "mode" else Mode.P2P
        here, there = await pair(still, mobile, mode)
        addresses.set(names[0], names[1])
        await exchange(here, there)
        assert isinstance(here, SessionEnd)
        assert not here.may_stand_by
        assert here.standby is None is there.standby
        assert here.path is not None
        assert (here.path.kind is PathKind.DIRECT) == (never != "mode")
        assert "none" in str(here.explain()).splitlines()[3]
        await here.close()


@pytest.mark.parametrize("knows", [True, False])
async def test_an_old_callee_is_asked_for_none(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch, knows: bool
) -> None:
    """It would take the hello for that of the session's next path."""
    right = Terms.features.fget
    assert right is not None

    def features(terms: Terms) -> tuple[str, ...]:
        named: tuple[str, ...] = right(terms)
        return named if knows or terms.is_caller else ()

    monkeypatch.setattr(Terms, "features", property(features))
    looked = asyncio.Event()
    take = Keeper.looked

    def seen(keeper: Keeper, result: Looked, now: float) -> None:
        take(keeper, result, now)
        looked.set()

    monkeypatch.setattr(Keeper, "looked", seen)
    settings = PeerConfig(relay=relay.url, session=FAST)
    async with (
        moving(relay, 84, 2) as (mobile, addresses, names),
        Peer(Identity.generate(), config=settings) as still,
    ):
        here, there = await pair(still, mobile, Mode.P2P)
        addresses.set(names[0], names[1])
        if knows:
            async with asyncio.timeout(60):
                await looked.wait()
            await standing(here)
        else:
            await exchange(here, there)
            assert "knows none" in here.explain().standby
        assert bool(mobile.dialing.dialed.get("standby")) == knows
        assert (here.standby is not None) == knows
        await here.close()


async def test_a_peer_that_dies_silently_is_helped(relay: RelayServer) -> None:
    """Nothing is cut: the path carries nothing any more, long before it would be found dead."""
    patient = SessionSettings(ping_interval=60.0, silence_limit=300.0)
    settings = PeerConfig(relay=relay.url, session=patient)
    async with (
        moving(relay, 85, 2) as (mobile, addresses, names),
        Peer(Identity.generate(), config=settings) as still,
    ):
        here, there = await pair(still, mobile, Mode.P2P)
        await exchange(here, there, 10)
        addresses.set(names[0], names[1])
        await standing(here, names[1])
        assert mute(here)
        await here.send(b"into the void")
        async with asyncio.timeout(60):
            assert await there.receive() == b"into the void"
        assert "acknowledged" in here.explain().rule
        await exchange(here, there)
        await here.close()


class Hosts:
    """What a session's second paths are chosen from."""

    def __init__(self, **fields: Any) -> None:
        self.config = config(**fields)
        self.interfaces = Interfaces(self.config)
        self.candidates = Candidates(self.config, self.interfaces, RoundTrips(lambda: 0.0))

    def have(self, *addresses: tuple[str, str]) -> None:
        self.interfaces.update(
            LocalAddress(host, name, 1, 6 if ":" in host else 4, 64 if ":" in host else 24)
            for host, name in addresses
        )

    def beside(self, path: FakePath, *hosts: str, standby: str = "auto") -> list[str]:
        terms = dataclasses.replace(CALLER, standby=StandbyWord(standby))
        route = make_route(terms)
        route.learn(signed(*hosts))
        found = self.candidates.beside(route, path.path)
        return [f"{one.source} {one.endpoint.host}" for one in found]


def test_what_leads_over_another_network_is_dialed_the_best_first() -> None:
    async def scene() -> None:
        there = "198.51.100.1"
        path = FakePath(remote=f"{there}:9", local_host="10.0.0.1")
        hosts = Hosts()
        hosts.have(("10.0.0.1", "eth0"), ("10.0.0.2", "eth0"), ("2001:db8::1", "eth0"))
        assert hosts.beside(path, there) == [], "one network of either side"
        assert hosts.beside(path, there, "2001:db8:1::2") == []
        assert hosts.beside(path, there, "203.0.113.5") == [
            "10.0.0.1 203.0.113.5",
            "10.0.0.2 203.0.113.5",
        ]
        hosts.have(("10.0.0.1", "eth0"), ("172.16.0.1", "wlan0"))
        assert hosts.beside(path, there, "203.0.113.5") == [
            "172.16.0.1 203.0.113.5",
            f"172.16.0.1 {there}",
            "10.0.0.1 203.0.113.5",
        ]
        hosts.interfaces.mark_leaving("172.16.0.1", True)
        assert hosts.beside(path, there) == []

    run(scene())


@pytest.mark.parametrize("word", ["auto", "metered"])
def test_nothing_metered_is_used_unless_that_is_allowed(word: str) -> None:
    async def scene() -> None:
        there = "198.51.100.1"
        path = FakePath(remote=f"{there}:9", local_host="10.0.0.1")
        hosts = Hosts(metered=("wwan*",))
        hosts.have(("10.0.0.1", "eth0"), ("172.16.0.1", "wwan0"))
        allowed = word == "metered"
        assert hosts.beside(path, there, standby=word) == ["172.16.0.1 " + there] * allowed
        terms = dataclasses.replace(CALLER, standby=StandbyWord(word))
        dialed = FakePath(remote=f"{there}:9", local_host="172.16.0.1").path
        assert hosts.candidates.refuses_standby(terms, dialed) != allowed

    run(scene())
