"""Another node of a relay is dialed by that relay's word, as far as such a word goes."""

import asyncio

import pytest

from peers.config import PeerConfig
from peers.dialing import Door, Leg, Node, Reason
from peers.host import Interfaces
from peers.transport import RelayAddress
from protocol.errors import Code, RelayUnavailable
from protocol.identity import Identity
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support.servers import close_server

LEG = Leg("/v1/plane/" + "0" * 32 + "?guid=&signature=", Reason.LEG, None)


def door(relay: RelayServer) -> Door:
    config = PeerConfig(relay=relay.url)
    return Door(config, Interfaces(config), 0)


async def met(through: Door, relay: RelayServer) -> RelayAddress:
    """Return a relay's address once this peer has met it."""
    address = RelayAddress(relay.url)
    leg = Leg("/v1/control", Reason.CONTROL, None)
    opened = await through.to_relay(address, leg, spawn=lambda *_: None, timeout=10.0)
    opened.stream.abort()
    return address


async def test_another_node_is_dialed_as_the_relay_names_it() -> None:
    async with RelayServer(RelayConfig(port=0)) as relay, RelayServer(RelayConfig(port=0)) as other:
        through = door(relay)
        node = Node(await met(through, relay), relay.guid, other.url)
        for _ in range(3):
            with pytest.raises(RelayUnavailable) as refused:
                await through.to_node(node, LEG, spawn=lambda *_: None, timeout=10.0)
            assert refused.value.code is Code.TICKET_UNKNOWN, "it was asked"


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:9",  # The relay has no TLS.
        "http://127.0.0.1:22",
        "http://169.254.169.254",
        "http://224.0.0.1:8440",
        "http://nobody.invalid:8440",
        "http://127.0.0.1:9/path",
        "http://user@127.0.0.1:9",
        "ftp://127.0.0.1:9",
        "no url",
        "http://127.0.0.1:8440\r\nX: y",
    ],
)
async def test_what_is_no_node_is_not_dialed(url: str) -> None:
    async with RelayServer(RelayConfig(port=0)) as relay:
        through = door(relay)
        node = Node(await met(through, relay), relay.guid, url)
        dialed = through.counts.dialed
        opened = await through.to_node(node, LEG, spawn=lambda *_: None, timeout=10.0)
        assert opened is None
        assert through.counts.dialed == dialed


async def test_where_nobody_is_the_relay_itself_is_asked_and_it_is_not_dialed_without_end() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await close_server(server)
    async with RelayServer(RelayConfig(port=0)) as relay:
        through = door(relay)
        node = Node(await met(through, relay), relay.guid, f"http://127.0.0.1:{port}")
        for _ in range(5):
            assert await through.to_node(node, LEG, spawn=lambda *_: None, timeout=10.0) is None
        assert through.counts.dialed["plane"] < 5, "it rests between two"


async def test_a_loopback_node_of_a_relay_elsewhere_is_not_dialed() -> None:
    async with RelayServer(RelayConfig(port=0)) as relay:
        through = door(relay)
        identity = Identity.generate()
        node = Node(RelayAddress("http://192.0.2.1:8440"), identity.guid, relay.url)
        assert await through.to_node(node, LEG, spawn=lambda *_: None, timeout=10.0) is None
        assert "plane" not in through.counts.dialed
