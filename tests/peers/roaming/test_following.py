"""A path by the relay goes where the routes lead, before its own network has gone."""

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator

import pytest

from peers import Identity, Mode, PathKind, Peer, PeerConfig, Session, StandbyWord
from peers.choice import RoundTrips
from peers.host import Interfaces, routed_source
from peers.roaming.candidates import Candidates
from peers.session import Terms
from protocol.errors import PathFailed
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.roaming.fakes import CALLER, World, config, turns
from tests.support.addresses import address
from tests.support.fake_path import FakePath
from tests.support.sessions import FAST, exchange, joined, moving, pair
from tests.support.virtual_time import run

CENTRAL = dataclasses.replace(CALLER, mode=Mode.CENTRAL, standby=StandbyWord.AUTO)


@pytest.fixture
async def relay() -> AsyncIterator[RelayServer]:
    async with RelayServer(RelayConfig(port=0)) as server:
        yield server


@pytest.mark.parametrize("caller_moves", [True, False])
async def test_a_session_by_the_relay_is_on_the_new_network_before_the_old_one_goes(
    relay: RelayServer, caller_moves: bool
) -> None:
    settings = PeerConfig(relay=relay.url, session=FAST)
    async with (
        moving(relay, 84, 2) as (mobile, addresses, names),
        Peer(Identity.generate(), config=settings) as still,
    ):
        alice, bob = (still, mobile) if caller_moves else (mobile, still)
        here, there = await pair(alice, bob, Mode.CENTRAL)
        moved = here if caller_moves else there
        before = moved.path
        assert before is not None
        assert before.local_host == names[0]
        await exchange(here, there, 10)
        told: list[object] = []

        async def note() -> None:
            async for event in moved.events():
                told.append(event.path)

        noting = asyncio.create_task(note())
        talking = asyncio.create_task(exchange(here, there))
        addresses.set(names[0], names[1])
        await joined(moved, PathKind.RELAYED, names[1])
        await talking
        addresses.set(names[1])
        await exchange(here, there)
        assert moved.path is not None
        assert moved.path.local_host == names[1]
        assert None not in told, "it was never without a path"
        noting.cancel()
        await here.close()


def candidates(*hosts: str, **fields: object) -> Candidates:
    settings = config(sources=("10.0.0.1", "10.0.0.2"), **fields)
    interfaces = Interfaces(settings)
    interfaces.update([address("10.0.0.1")])
    interfaces.update([address(host) for host in hosts])
    return Candidates(settings, interfaces, RoundTrips(lambda: 0.0))


RELAYED = FakePath(PathKind.RELAYED, local_host="10.0.0.1").path
METERED = ("lo",)


@pytest.mark.parametrize(
    ("hosts", "terms", "metered", "expected"),
    [
        (("10.0.0.1",), CENTRAL, (), False),
        (("10.0.0.1", "10.0.0.2"), CENTRAL, (), True),
        (("10.0.0.1", "10.0.0.2"), CENTRAL, METERED, False),
        (
            ("10.0.0.1", "10.0.0.2"),
            dataclasses.replace(CENTRAL, standby=StandbyWord.METERED),
            METERED,
            True,
        ),
        (
            ("10.0.0.1", "10.0.0.2"),
            dataclasses.replace(CENTRAL, standby=StandbyWord.NEVER),
            (),
            False,
        ),
        ((), CENTRAL, (), False),
    ],
)
def test_which_path_the_routes_have_left(
    hosts: tuple[str, ...], terms: Terms, metered: tuple[str, ...], expected: bool
) -> None:
    found = candidates(*hosts, metered=metered)
    assert found.is_overtaken(terms, RELAYED) is expected


def test_the_routes_are_asked_of_the_system() -> None:
    assert routed_source("127.0.0.1") == "127.0.0.1"
    assert routed_source("no address") is None
    with socket.socket(socket.AF_INET6) as one:
        one.bind(("::1", 0))
    assert routed_source("::1") == "::1"


def unpinned(session: Session) -> None:
    """Have a session look at the routes: it was pinned, and is not any more."""
    session.pin()
    session.pin(False)


def test_what_is_made_is_taken_and_what_fails_is_tried_again() -> None:
    async def scene() -> None:
        world, before = World(), FakePath(PathKind.RELAYED)
        session = await world.opened(CENTRAL, path=before)
        unpinned(session)
        await asyncio.sleep(5.0)
        assert world.planes.calls == [], "the routes lead where they did"
        world.planes.strayed = True
        unpinned(session)
        await asyncio.sleep(0.01)
        (first,) = world.planes.calls
        first.say_hello()
        first.fails(PathFailed("the relay is full"))
        await asyncio.sleep(1.1)
        assert session.path is before
        second = world.planes.calls[-1]
        assert second is not first
        assert second.attempt.number > first.attempt.number
        after = second.finds(FakePath(PathKind.RELAYED))
        await turns()
        assert session.path is after
        assert before.end == "finished"
        world.planes.strayed = False
        await asyncio.sleep(100.0)
        assert len(world.planes.calls) == 2
        session.abort()

    run(scene())


def test_a_session_that_is_pinned_meanwhile_stays() -> None:
    async def scene() -> None:
        world, before = World(), FakePath(PathKind.RELAYED)
        session = await world.opened(CENTRAL, path=before)
        world.planes.strayed = True
        unpinned(session)
        await asyncio.sleep(0.01)
        session.pin()
        made = world.planes.calls[0].finds(FakePath(PathKind.RELAYED))
        await turns()
        assert (session.path, made.end) == (before, "aborted")
        session.abort()

    run(scene())


def test_one_that_is_lost_meanwhile_takes_what_is_made() -> None:
    async def scene() -> None:
        world, before = World(), FakePath(PathKind.RELAYED)
        session = await world.opened(CENTRAL, path=before)
        world.planes.strayed = True
        unpinned(session)
        await asyncio.sleep(0.01)
        before.lose("its network has gone")
        await turns()
        assert session.path is None
        made = world.planes.calls[0].finds(FakePath(PathKind.RELAYED))
        await turns()
        assert session.path is made
        assert world.rounds.last.cancelled
        session.abort()

    run(scene())


def test_a_session_that_ends_asks_for_nothing_more() -> None:
    async def scene() -> None:
        world = World()
        session = await world.opened(CENTRAL, path=FakePath(PathKind.RELAYED))
        world.planes.strayed = True
        unpinned(session)
        await asyncio.sleep(0.01)
        session.abort()
        await turns()
        assert world.planes.calls[0].cancelled
        assert len(world.local.tasks) == 0

    run(scene())
