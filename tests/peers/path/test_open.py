"""Opening a direct path: however it fails, it is an error of ours that names the endpoint."""

import asyncio
import socket

import pytest

from peers import Identity, Peer, WrongIdentity
from peers.config import PathKind
from peers.dialing import Ask
from peers.path import Paths, open_direct
from protocol.endpoint import Endpoint
from protocol.errors import PathFailed, RoamRelayError
from tests.support.doors import open_door


async def test_both_sides_are_proven_and_nothing_is_said(alice: Peer, bob: Peer) -> None:
    paths = Paths(bob.identity)
    endpoint = Endpoint("127.0.0.1", alice.port)
    path = await open_direct(open_door(), Ask(alice.guid, endpoint), paths, 10, source="127.0.0.1")
    assert (path.kind, path.remote, path.local_host) == (
        PathKind.DIRECT,
        str(endpoint),
        "127.0.0.1",
    )
    assert path.remote_guid == alice.guid
    assert path.round_trip is not None
    assert path.usual_round_trip is not None
    await paths.abort()


async def test_where_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(PathFailed, match=rf"127\.0\.0\.1:{port}: "):
            await open_direct(
                open_door(),
                Ask("x", Endpoint("127.0.0.1", port)),
                Paths(Identity.generate()),
                timeout=10,
            )


@pytest.mark.parametrize("source", ["192.0.2.1", "not an address"])
async def test_from_an_address_that_this_host_has_not(alice: Peer, source: str) -> None:
    paths = Paths(Identity.generate())
    endpoint = Endpoint("127.0.0.1", alice.port)
    with pytest.raises(RoamRelayError, match=r"127\.0\.0\.1"):
        await open_direct(open_door(), Ask(alice.guid, endpoint), paths, 10, source=source)
    await asyncio.wait_for(paths.close(), 1)


async def test_where_somebody_listens_and_says_nothing() -> None:
    paths = Paths(Identity.generate())
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        endpoint = Endpoint("127.0.0.1", deaf.getsockname()[1])
        with pytest.raises(PathFailed, match=r"no answer within 0\.2 s"):
            await open_direct(open_door(), Ask("x", endpoint), paths, 0.2)
        await asyncio.wait_for(paths.close(), 5)


async def test_where_another_peer_answers(alice: Peer) -> None:
    paths = Paths(Identity.generate())
    expected = Identity.generate().guid
    with pytest.raises(WrongIdentity, match=alice.guid):
        await open_direct(open_door(), Ask(expected, Endpoint("127.0.0.1", alice.port)), paths, 10)
    await asyncio.wait_for(paths.close(), 5)
