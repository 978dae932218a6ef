"""A port mapped by a router that is played on loopback, over real datagrams. The real one is in
tests/lab/test_port_mapping.py."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from peers import ConfigError, Identity, Peer, PeerConfig, Provenance
from peers.gateway import PortMapper
from peers.gateway.messages import PORT
from protocol.endpoint import Endpoint
from relay.server import RelayServer
from tests.support.rooms import rooms

SEEN = "127.0.0.1"


class Router(asyncio.DatagramProtocol):
    """Grants what it is asked for, by PCP, and notes for how long that was."""

    def __init__(self, external: int) -> None:
        self.external = external
        self.asked: asyncio.Queue[int] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        lifetime = int.from_bytes(data[4:8], "big")
        self.asked.put_nowait(lifetime)
        head = struct.pack("!BBxBII12x", 2, 129, 0, lifetime, 9)
        mapped = bytes(10) + b"\xff\xff" + bytes(map(int, SEEN.split(".")))
        ports = data[40:42] + self.external.to_bytes(2, "big")
        self.transport.sendto(head + data[24:40] + ports + mapped, addr)


@asynccontextmanager
async def router(host: str, external: int = 41000) -> AsyncIterator[Router]:
    loop = asyncio.get_running_loop()
    transport, played = await loop.create_datagram_endpoint(
        lambda: Router(external), local_addr=(host, PORT)
    )
    try:
        yield played
    finally:
        transport.close()


async def test_a_peer_has_its_port_mapped_and_takes_that_back(relay: RelayServer) -> None:
    async with router("127.0.53.1") as played, asyncio.timeout(60):
        config = PeerConfig(relay=relay.url, map_port="127.0.53.1")
        async with Peer(Identity.generate(), config=config) as peer:
            peer.listen("chat")
            await peer.published()
            assert await played.asked.get() == 120
            location = rooms(peer).location
            while Endpoint(SEEN, 41000) not in [
                found.endpoint for found in (await peer.locate(peer.guid, "chat")).entries
            ]:
                await asyncio.sleep(0.02)
            assert location.addresses[SEEN][0] is Provenance.INTERFACE
        assert await played.asked.get() == 0


async def test_where_nobody_answers_nothing_is_told() -> None:
    told: list[Endpoint | None] = []
    mapper = PortMapper("127.0.53.2", 4000, told.append)
    task = asyncio.create_task(mapper.run())
    await asyncio.sleep(0)
    mapper.look()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told == []


def test_nobody_is_asked_unless_that_is_configured() -> None:
    assert not PortMapper(PeerConfig().map_port, 4000, print).is_wanted
    for wrong in ("yes", "fe80::1", "example.org"):
        with pytest.raises(ConfigError, match="map_port"):
            PeerConfig(map_port=wrong)


async def test_the_router_of_the_next_network_is_asked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    routers = ["127.0.53.3"]
    monkeypatch.setattr("peers.gateway.mapper.default_router", lambda: routers[0])
    mapper = PortMapper("auto", 4000, lambda mapped: None)
    async with router("127.0.53.3") as before, router("127.0.53.4") as after, asyncio.timeout(60):
        task = asyncio.create_task(mapper.run())
        assert await before.asked.get() == 120
        routers[0] = "127.0.53.4"
        mapper.look()
        assert await after.asked.get() == 120
        assert await before.asked.get() == 0
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
