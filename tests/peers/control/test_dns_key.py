"""A peer gets its key from its relay."""

import asyncio
import base64
import stat
from pathlib import Path

import pytest

from peers import DdnsConfig, Identity, LimitExceeded, Peer, PeerConfig, Refused, UpdateRefused
from protocol.dns_records import peer_name
from relay.config import DnsConfig, RelayConfig
from relay.server import RelayServer
from tests.support.rooms import rooms

ZONE = "peers.example.org"


async def test_the_relay_gives_a_peer_its_own_key(tmp_path: Path) -> None:
    config = RelayConfig(
        port=0, dns=DnsConfig(zone=ZONE, port=0), requests_burst=3, requests_per_second=0.5
    )
    async with RelayServer(config) as relay:
        async with Peer(Identity.generate(), relay.url) as alice:
            key = await alice.ddns_key()
            assert relay.dns is not None
            assert key.name == peer_name(alice.guid, ZONE)
            assert key.secret == relay.dns.keys.secret(alice.guid)
            assert key.server == f"127.0.0.1:{relay.dns.port}"
            connection = rooms(alice).registration.current
            assert connection is not None
            assert connection.registration is not None
            assert connection.registration.fqdn == key.name
            key.write(tmp_path / "alice.tsig")
            mode = stat.S_IMODE((tmp_path / "alice.tsig").stat().st_mode)
            assert mode == 0o600
            await alice.ddns_key()
            await alice.ddns_key()
            with pytest.raises(LimitExceeded):
                await asyncio.gather(*(alice.ddns_key() for _ in range(9)))
        ddns = DdnsConfig(zone=ZONE, server=key.server, key_file=str(tmp_path / "alice.tsig"))
        async with Peer(alice.identity, config=PeerConfig(ddns=ddns)) as again:
            again.listen("chat")
            await again.published()


async def test_a_relay_without_a_zone_says_so() -> None:
    async with RelayServer(RelayConfig(port=0)) as relay, Peer(Identity.generate(), relay.url) as a:
        with pytest.raises(Refused, match="serves no DNS zone"):
            await a.ddns_key()


async def test_another_peers_key_is_of_no_use() -> None:
    config = RelayConfig(port=0, dns=DnsConfig(zone=ZONE, port=0))
    async with RelayServer(config) as relay:
        async with Peer(Identity.generate(), relay.url) as mallory:
            key = await mallory.ddns_key()
        ddns = DdnsConfig(
            zone=ZONE,
            server=key.server,
            key=base64.b64encode(key.secret).decode(),
            key_name=key.name,
        )
        async with Peer(Identity.generate(), config=PeerConfig(ddns=ddns)) as alice:
            alice.listen("chat")
            with pytest.raises(UpdateRefused, match="REFUSED"):
                await alice.published()
