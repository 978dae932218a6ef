"""What others ask of this peer: who gets a session, who is refused, and why."""

import asyncio

import pytest

from peers import (
    Identity,
    Mode,
    Peer,
    PeerConfig,
    Refused,
    RoamRelayError,
    Session,
)
from peers.path.open_paths import Paths
from peers.path.path import Path
from protocol.endpoint import Endpoint
from protocol.errors import Code
from protocol.messages import PathHello
from relay.server import RelayServer
from tests.support.direct_path import dial_direct
from tests.support.sessions import exchange, pair


def _hello(session: Session, **fields: object) -> PathHello:
    known = {"resume": True, "path": 99}
    return PathHello(session.id, "chat", session.mode, **(known | fields))  # type: ignore[arg-type]


async def test_paths_that_are_not_for_a_session(alice: Peer, bob: Peer) -> None:
    caller, callee = await pair(alice, bob, Mode.P2P)
    await exchange(caller, callee)
    path = callee.path
    endpoint = Endpoint("127.0.0.1", alice.port)

    async def dial(identity: Identity, hello: PathHello) -> Code | None:
        try:
            made, _ = await dial_direct(
                endpoint, alice.guid, lambda path: hello, Paths(identity), 5
            )
        except RoamRelayError as error:
            return error.code
        made.abort()
        return None

    stranger = Identity.generate()
    numbers = {"received": 200, "consumed": 0}
    assert await dial(stranger, _hello(caller, **numbers)) is Code.SESSION_UNKNOWN
    assert await dial(bob.identity, _hello(caller, path=1, **numbers)) is Code.PATH_SUPERSEDED
    unknown = PathHello(bytes(16), "chat", Mode.P2P, resume=True)
    assert await dial(bob.identity, unknown) is Code.SESSION_UNKNOWN
    other = PathHello(caller.id, "chat", Mode.COMBINED, resume=True, path=99)
    assert await dial(bob.identity, other) is Code.SESSION_UNKNOWN
    assert callee.path is path
    await exchange(caller, callee)
    await caller.close()
    await callee.close()
    # A closed session answers its own peer for a while, and nobody else.
    assert await dial(stranger, _hello(caller, **numbers)) is Code.SESSION_UNKNOWN
    made, welcome = await dial_direct(
        endpoint,
        alice.guid,
        lambda path: _hello(caller, received=400, consumed=0),
        Paths(bob.identity),
        5,
    )
    assert welcome.received == 400
    made.abort()


async def test_numbers_from_the_future_end_the_path_and_not_the_session(
    alice: Peer, bob: Peer
) -> None:
    caller, callee = await pair(alice, bob, Mode.P2P)
    await exchange(caller, callee)
    endpoint = Endpoint("127.0.0.1", alice.port)
    made, _ = await dial_direct(
        endpoint,
        alice.guid,
        lambda path: _hello(caller, received=10**6),
        Paths(bob.identity),
        5,
    )
    gone = asyncio.Event()

    class User:
        def path_data(self, path: Path, data: bytes) -> None:
            raise AssertionError("nothing is sent on a path that is refused")

        def path_writable(self, path: Path) -> None: ...

        def path_lost(self, path: Path, reason: str) -> None:
            gone.set()

    made.carry(User())
    await asyncio.wait_for(gone.wait(), 5)
    await exchange(caller, callee)


async def test_a_callee_has_its_policy_too(relay: RelayServer, bob: Peer) -> None:
    config = PeerConfig(relay=relay.url, policies={"chat": "only relayed"})
    async with Peer(Identity.generate(), config=config) as alice:
        alice.listen("chat")
        await alice.published()
        with pytest.raises(Refused, match="only relayed"):
            await bob.connect(alice.guid, "chat", mode="p2p")
        session = await bob.connect(alice.guid, "chat", mode="central")
        await session.close()
