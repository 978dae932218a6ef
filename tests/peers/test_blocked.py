"""A peer that another one has nothing to do with any more."""

import asyncio

import pytest

from peers import Identity, IdentityError, Mode, Peer, PeerConfig, SessionLost, UnknownService
from peers.config import ConfigError
from relay.server import RelayServer
from tests.support.sessions import pair

MODES = pytest.mark.parametrize("mode", list(Mode))


@MODES
async def test_whoever_is_blocked_loses_its_sessions_and_finds_no_service(
    relay: RelayServer, alice: Peer, bob: Peer, mode: Mode
) -> None:
    listener = alice.listen("chat")
    await alice.published()
    here = await bob.connect(alice.guid, "chat", mode=mode)
    there = await anext(listener)
    async with Peer(Identity.generate(), relay.url) as carol, asyncio.timeout(60):
        hers = await carol.connect(alice.guid, "chat", mode=mode)
        with_carol = await anext(listener)
        alice.block(bob.guid)
        with pytest.raises(SessionLost, match="blocked"):
            await there.receive()
        with pytest.raises(SessionLost):
            await here.receive()
        with pytest.raises(UnknownService):
            await bob.connect(alice.guid, "chat", mode=mode)
        await hers.send(b"still here")
        assert await with_carol.receive() == b"still here"
        alice.block(bob.guid, False)
        again = await bob.connect(alice.guid, "chat", mode=mode)
        await again.send(b"back")
        assert await (await anext(listener)).receive() == b"back"


@MODES
async def test_a_caller_that_blocks_ends_its_own_sessions_and_opens_no_other(
    alice: Peer, bob: Peer, mode: Mode
) -> None:
    here, there = await pair(alice, bob, mode)
    bob.block(alice.guid)
    async with asyncio.timeout(60):
        with pytest.raises(SessionLost):
            await here.receive()
        with pytest.raises(SessionLost):
            await there.receive()
    with pytest.raises(ValueError, match=r"block\(guid, False\)"):
        await bob.connect(alice.guid, "chat", mode=mode)


async def test_blocked_while_its_session_is_being_opened(alice: Peer, bob: Peer) -> None:
    """The path comes after the word: it is refused, and the caller hears that there is nothing."""
    alice.listen("chat")
    await alice.published()
    opening = asyncio.create_task(bob.connect(alice.guid, "chat", mode=Mode.P2P))
    alice.block(bob.guid)
    async with asyncio.timeout(60):
        with pytest.raises(UnknownService):
            await opening


async def test_blocked_by_the_configuration(relay: RelayServer, bob: Peer) -> None:
    config = PeerConfig(blocked=(bob.guid,))
    async with Peer(Identity.generate(), relay.url, config=config) as alice, asyncio.timeout(60):
        alice.listen("chat")
        await alice.published()
        with pytest.raises(UnknownService):
            await bob.connect(alice.guid, "chat", mode=Mode.CENTRAL)


async def test_what_is_no_guid_is_refused(alice: Peer) -> None:
    with pytest.raises(IdentityError):
        alice.block("bob")
    with pytest.raises(TypeError):
        alice.block(alice.guid, "no")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="blocked"):
        PeerConfig(blocked=("bob",))
