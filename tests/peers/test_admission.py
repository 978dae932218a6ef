"""A peer of the library at a relay that does not take everybody."""

import asyncio
from pathlib import Path

import pytest

from peers import Identity, Mode, Peer, PeerConfig
from protocol.errors import Code, RelayUnavailable
from relay.operator import Ban, Done, Revoke
from relay.server import RelayServer
from tests.relay.admission.doors import door, invited, token
from tests.support.addresses import Addresses


async def outcome(server: RelayServer, name: str, times: int) -> None:
    """Wait until the relay has decided so, so many times."""
    async with asyncio.timeout(60):
        while server.metrics.admissions[name] < times:
            await asyncio.sleep(0)


@pytest.mark.expected_errors("registration ended")
async def test_a_peer_comes_by_its_invitation(tmp_path: Path) -> None:
    some = token(uses=2)
    async with invited(tmp_path) as server:
        config = PeerConfig(relay=server.url, invitation=some.text)
        async with (
            Peer(Identity.generate(), config=config) as callee,
            Peer(Identity.generate(), config=config) as caller,
        ):
            listener = callee.listen("chat")
            await callee.published()
            session = await caller.connect(callee.guid, "chat", mode=Mode.P2P)
            await session.send(b"hello")
            async for incoming in listener:
                assert await incoming.receive() == b"hello"
                break
        with pytest.raises(RelayUnavailable, match="used up") as refused:
            async with Peer(Identity.generate(), config=config):
                pass
        assert refused.value.code is Code.NOT_ADMITTED
        with pytest.raises(RelayUnavailable, match="ask its operator for an invitation"):
            async with Peer(Identity.generate(), relay=server.url):
                pass


@pytest.mark.expected_errors("registration ended")
async def test_a_peer_that_is_revoked_does_not_come_back(tmp_path: Path) -> None:
    some = token()
    async with invited(tmp_path) as server:
        config = PeerConfig(relay=server.url, invitation=some.text)
        async with Peer(Identity.generate(), config=config) as peer:
            done = await server.operator.do(Revoke(some.invitation.id))
            assert done == Done(some.invitation.id, "revoked", 1)
            with pytest.raises(RelayUnavailable, match="taken back"):
                await peer.connect(Identity.generate().guid, "chat", mode=Mode.P2P)
            assert server.metrics.admissions["revoked"] == 0, "it has not asked again"


async def test_a_peer_whose_network_is_banned_comes_back_when_it_has_moved(tmp_path: Path) -> None:
    async with door(tmp_path) as server:
        addresses = Addresses(["127.0.0.21", "127.0.0.22"])
        config = PeerConfig(relay=server.url, sources=addresses.all)
        async with Peer(Identity.generate(), config=config, addresses=addresses) as peer:
            (connection,) = server.connections
            assert connection.observed_host == "127.0.0.21"
            done = await server.operator.do(Ban("127.0.0.21"))
            assert done == Done("127.0.0.21/32", "banned", 1)
            # It was told to stay away for ten minutes; who moves need not.
            addresses.set("127.0.0.22")
            await outcome(server, "granted", 2)
            await peer.published()
            (connection,) = server.connections
            assert connection.observed_host == "127.0.0.22"
            assert server.metrics.admissions["banned"] == 0
