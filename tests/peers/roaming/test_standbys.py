"""A second path that stands ready: which one is dialed, and that the session goes on over it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from peers import Identity, Mode, PathChanged, PathKind, Peer, PeerConfig, Session
from peers.session import SessionEnd
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support.sessions import FAST, exchange, moving, pair

DIRECT_MODES = pytest.mark.parametrize("mode", [Mode.P2P, Mode.COMBINED])


async def standing(session: Session, host: str | None = None) -> None:
    """Wait until a second path stands ready, from this local address."""
    async with asyncio.timeout(20):
        async for event in session.events():
            if event.standby is not None and host in (None, event.standby.local_host):
                return
    raise AssertionError("the session is over")


async def on(session: Session, host: str) -> list[PathChanged]:
    """Wait until the session's path begins, or ends, at this address; return what was told."""
    told = []
    async with asyncio.timeout(20):
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
    config = PeerConfig(relay=relay.url, session=FAST)
    async with (
        moving(relay, 81, 2) as (mobile, addresses, names),
        Peer(Identity.generate(), config=config) as still,
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
    config = PeerConfig(relay=relay.url, session=FAST)
    async with (
        moving(relay, 82, 2) as (mobile, addresses, names),
        Peer(Identity.generate(), config=config) as still,
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
    config = PeerConfig(
        relay=relay.url,
        session=FAST,
        policy="standby never" if never == "policy" else "",
        standby="never" if never == "other side" else "auto",  # type: ignore[arg-type]
    )
    async with (
        moving(relay, 83, 2) as (mobile, addresses, names),
        Peer(Identity.generate(), config=config) as still,
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
