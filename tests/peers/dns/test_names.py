"""The door: registration and lookups, whatever the zone holds and whatever goes wrong."""

import base64
import logging
import time
from collections.abc import Iterable
from typing import Any, cast

import dns.tsig
import pytest

from peers import DdnsConfig, Identity, NameServerUnavailable, Peer, RoamRelayError
from peers.dns import Names, Zone
from peers.dns.key_file import read_key
from peers.dns.primary import Primary
from peers.location import Offered, OwnLocation
from peers.tasks import Tasks
from protocol.errors import Code
from protocol.messages import LocationRecord
from relay.config import DnsConfig, RelayConfig
from relay.server import RelayServer
from tests.support.name_server import answered, fake

ZONE = "peers.example.org"
ALICE = Identity.from_seed(bytes(range(32)))
SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


class Location(OwnLocation):
    """One that may be broken."""

    def __init__(self) -> None:
        super().__init__(ALICE, 4000, configured=("192.0.2.1",), lifetime=120)
        self.fault: Exception | None = None

    def record(self, services: Iterable[Offered], *, most_bytes: int = 0) -> LocationRecord:
        if self.fault is not None:
            raise self.fault
        return super().record(services, most_bytes=most_bytes)


async def test_without_a_key_it_looks_up_and_registers_nothing() -> None:
    tasks = Tasks()
    config = DdnsConfig(zone=ZONE, server="127.0.0.1:9")
    names = Names(ALICE.guid, Zone(config, read_key(config, ALICE.guid)), Location(), list)
    names.start(tasks.spawn)
    assert len(tasks) == 0
    names.changed()
    await names.published()
    await names.withdraw()


@pytest.mark.expected_errors("unexpected while registering")
async def test_a_fault_of_ours_is_logged_and_the_registration_goes_on_after_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = RelayConfig(port=0, dns=DnsConfig(zone=ZONE, port=0))
    async with RelayServer(config) as relay:
        assert relay.dns is not None
        key = relay.dns.keys.key(ALICE.guid)
        location = Location()
        location.fault = KeyError("nobody thought of it")
        tasks = Tasks()
        config = _config(relay.dns.port, key)
        names = Names(ALICE.guid, Zone(config, read_key(config, ALICE.guid)), location, list)
        with caplog.at_level(logging.ERROR, "peers"):
            names.start(tasks.spawn)
            with pytest.raises(RoamRelayError, match="nobody thought of it") as raised:
                await names.published()
        assert raised.value.code is Code.INTERNAL
        told = [one.exc_info is not None for one in caplog.records if one.name == "peers"]
        assert told == [True]
        location.fault = None
        names.changed()
        await names.published()
        await names.withdraw()
        assert len(tasks) == 0
        with pytest.raises(RoamRelayError):
            await names.published()


def _config(port: int, key: dns.tsig.Key) -> DdnsConfig:
    secret = base64.b64encode(key.secret).decode()
    return DdnsConfig(zone=ZONE, server=f"127.0.0.1:{port}", key=secret, timeout=2.0)


@pytest.mark.parametrize(
    "data",
    [
        '"roam-relay/1" "service=' + "a" * 63 + '"',
        '"roam-relay/1" "service=\\255\\"" "seq=9999999999999999999"',
    ],
)
async def test_what_stands_in_the_zone_ends_no_peer(data: str) -> None:
    async with fake(lambda query: [answered(query, f"TXT {data}")]) as (server, _):
        config = DdnsConfig(zone=ZONE, server=str(server), key=SECRET, timeout=2.0)
        async with Peer(ALICE, ddns=config) as alice:
            alice.listen("chat")
            with pytest.raises(NameServerUnavailable, match="Connect"):  # It speaks UDP alone.
                await alice.published()
            alice.listen("mail")


async def test_a_service_without_a_name_is_told_and_keeps_no_other_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = RelayConfig(port=0, dns=DnsConfig(zone=ZONE, port=0))
    async with RelayServer(config) as relay:
        assert relay.dns is not None
        ddns = _config(relay.dns.port, relay.dns.keys.key(ALICE.guid))
        looks = DdnsConfig(zone=ZONE, server=ddns.server)
        async with Peer(ALICE, ddns=ddns) as alice, Peer(Identity.generate(), ddns=looks) as bob:
            alice.listen("a" * 63)
            alice.listen("chat")
            with caplog.at_level(logging.WARNING, "peers"):
                await alice.published()
            assert "62 characters" in caplog.text
            assert (await bob.locate(ALICE.guid, "chat")).entries


@pytest.mark.parametrize("ahead", [7_200_000, 2**61])
async def test_a_number_that_is_ahead_in_the_zone_is_gone_above_at_once(
    ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a clock that ran fast. What is beyond all clocks is followed in the zone alone: a zone
    that lies must not keep a peer from its relay."""
    config = RelayConfig(port=0, dns=DnsConfig(zone=ZONE, port=0))
    async with RelayServer(config) as relay:
        assert relay.dns is not None
        ddns = _config(relay.dns.port, relay.dns.keys.key(ALICE.guid))
        key = read_key(ddns, ALICE.guid)
        numbers, own = [], []
        for fast in (ahead, 0):
            location, tasks = Location(), Tasks()
            with monkeypatch.context() as patch:
                now = time.time_ns()
                patch.setattr("time.time_ns", lambda now=now, fast=fast: now + fast * 1_000_000)
                names = Names(ALICE.guid, Zone(ddns, key), location, list)
                names.start(tasks.spawn)
                await names.published()
            await tasks.close()
            found = await Primary(ALICE.guid, ddns, cast(Any, key)).look()
            numbers.append(found.record.seq)
            own.append(location.record(()).seq)
        assert numbers[1] == numbers[0] + 1
        assert own[1] < 2**42
        assert (own[1] > own[0]) is (ahead == 7_200_000)
