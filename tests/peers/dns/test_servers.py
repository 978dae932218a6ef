"""Peers and the servers that docs/ddns.md tells how to set up, each with that configuration."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import pytest

from peers import DdnsConfig, Identity, NameServerUnavailable, Peer, PeerConfig, UpdateRefused
from peers.dns.client import Clock
from peers.dns.events import NOTHING
from peers.dns.primary import Primary
from protocol.dns_records import location_record_sets, peer_name, service_name
from protocol.endpoint import Entry, Phase, Provenance, sign_entry
from tests.support.named import ZONE, Named, named
from tests.support.zone_servers import knot, powerdns

ALICE, ALIAS, TEXT, BELOW, OTHER, CROWD = (Identity.from_seed(bytes([n]) * 32) for n in range(6))
"""Alice; one at whose name there is an alias, one with another tool's TXT, one with an alias at a
service's name."""
SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
RECORDS = f"""\
{ALIAS.guid} 30 CNAME www.example.com.
{TEXT.guid} 30 TXT "v=spf1 -all"
_chat._tcp.{BELOW.guid} 30 CNAME www.example.com.
"""


def key(identity: Identity) -> dns.tsig.Key:
    return dns.tsig.Key(peer_name(identity.guid, ZONE), SECRET, "hmac-sha256")


@pytest.fixture(scope="module", params=[named, knot, powerdns], ids=["bind", "knot", "powerdns"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Named]:
    start: Callable[..., object] = request.param
    folder: Path = tmp_path_factory.mktemp("server")
    keys = [key(one) for one in (ALICE, ALIAS, TEXT, BELOW, OTHER, CROWD)]
    with start(folder, keys, records=RECORDS) as running:  # type: ignore[attr-defined]
        yield running


def ddns(server: Named, **more: object) -> DdnsConfig:
    settings = {"zone": ZONE, "server": server.server, "timeout": 5.0} | more
    return DdnsConfig(**settings)  # type: ignore[arg-type]


def peer(server: Named, identity: Identity, **more: object) -> Peer:
    config = PeerConfig(
        ddns=ddns(server, **more), listen_hosts=("127.0.0.1",), sources=("127.0.0.1",)
    )
    return Peer(identity, config=config)


def records(server: Named, name: str, kind: str) -> list[str]:
    query = dns.message.make_query(name, kind)
    answer = dns.query.tcp(query, "127.0.0.1", 10, server.port)
    wanted = dns.name.from_text(name), dns.rdatatype.from_text(kind)
    return [str(one) for rrset in answer.answer for one in rrset if _is(rrset, wanted)]


def _is(rrset: object, wanted: tuple[object, object]) -> bool:
    return (rrset.name, rrset.rdtype) == wanted  # type: ignore[attr-defined]


def left_of(server: Named, identity: Identity) -> dict[str, list[str]]:
    """Return what the zone has of what a peer with a service `chat` puts in."""
    own = peer_name(identity.guid, ZONE)
    asked = [(own, "A"), (own, "TXT"), (f"e0.{own}", "A")]
    asked += [(service_name("chat", identity.guid, ZONE), kind) for kind in ("SRV", "TXT")]
    found = {f"{name} {kind}": records(server, name, kind) for name, kind in asked}
    return {name: data for name, data in found.items() if data}


async def test_a_peer_registers_is_found_and_takes_all_back(server: Named) -> None:
    async with (
        peer(server, ALICE, key=SECRET) as alice,
        peer(server, Identity.generate()) as bob,
    ):
        listener = alice.listen("chat")
        await alice.published()
        assert len(left_of(server, ALICE)) == 5
        session = await bob.connect(ALICE.guid, "chat")
        callee = await asyncio.wait_for(anext(listener), 60)
        await session.send(b"by name alone")
        assert await callee.receive() == b"by name alone"
        await session.close()
        alice.listen("mail")
        await alice.published()
        assert records(server, service_name("mail", ALICE.guid, ZONE), "SRV")
    assert left_of(server, ALICE) == {}
    assert not records(server, service_name("mail", ALICE.guid, ZONE), "SRV")


async def test_a_late_update_changes_nothing(server: Named) -> None:
    primary = Primary(OTHER.guid, ddns(server), key(OTHER))
    nothing = await primary.look()
    sets = location_record_sets(OTHER.guid, ZONE, 7, {})
    assert (await primary.update(nothing, sets)).code == dns.rcode.NOERROR
    assert (await primary.update(nothing, sets)).code != dns.rcode.NOERROR
    held = await primary.look()
    assert held.record.seq == 7
    assert await primary.confirm(0) == (held, False), "signed by the server, and names no entry"
    assert (await primary.update(held, {})).code == dns.rcode.NOERROR
    assert (await primary.look()).text == ""


async def test_a_wrong_clock_is_corrected_where_the_server_tells_the_time(
    server: Named, request: pytest.FixtureRequest
) -> None:
    clock = Clock(-600)
    primary = Primary(OTHER.guid, ddns(server), key(OTHER), clock)
    if "powerdns" in request.node.name:
        with pytest.raises(NameServerUnavailable, match=r"(REFUSED|NOTAUTH).* clock"):
            await primary.confirm(0)
        return
    assert await primary.confirm(0) == (NOTHING, False)
    assert abs(clock.offset) < 60


async def test_a_wrong_secret_is_refused(server: Named) -> None:
    async with peer(server, OTHER, key="d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3I=") as mallory:
        mallory.listen("chat")
        with pytest.raises((UpdateRefused, NameServerUnavailable), match=r"BADSIG|REFUSED.* key"):
            await mallory.published()
    assert left_of(server, OTHER) == {}


@pytest.mark.parametrize(
    ("identity", "match"),
    [
        (ALIAS, rf"{ALIAS.guid}.{ZONE} is an alias \(CNAME www.example.com.\)"),
        (TEXT, rf'{TEXT.guid}.{ZONE} has a TXT record of another program .* "v=spf1 -all"'),
        (BELOW, rf"_chat._tcp.{BELOW.guid}.{ZONE} is an alias \(CNAME www.example.com.\)"),
    ],
    ids=["alias", "text", "alias of a service"],
)
async def test_what_is_in_the_way_is_told_and_nothing_is_left(
    server: Named, identity: Identity, match: str
) -> None:
    before = left_of(server, identity)
    async with peer(server, identity, key=SECRET) as carol:
        carol.listen("chat")
        with pytest.raises(UpdateRefused, match=match):
            await carol.published()
    assert left_of(server, identity) == before


async def test_a_forged_record_of_another_instance_ends_nothing(server: Named) -> None:
    """Under a number above ours, with an entry that another key has signed."""
    mallory = Identity.generate()
    entry = Entry(2**50, "chat", "127.0.0.1", 9, Phase.PREFERRED, 120, Provenance.INTERFACE)
    forged = {"chat": [sign_entry(mallory, entry)]}
    async with peer(server, ALICE, key=SECRET) as alice:
        alice.listen("chat")
        await alice.published()
        primary = Primary(ALICE.guid, ddns(server), key(ALICE))
        sets = location_record_sets(ALICE.guid, ZONE, 2**50, forged, b"m" * 16)
        assert (await primary.update(await primary.look(), sets)).code == dns.rcode.NOERROR
        alice.listen("mail")
        await alice.published()
        (text,) = records(server, peer_name(ALICE.guid, ZONE), "TXT")
        assert b"m".hex() * 16 not in text
        assert records(server, service_name("mail", ALICE.guid, ZONE), "SRV")
    assert left_of(server, ALICE) == {}


async def test_sixteen_services_and_their_end(server: Named) -> None:
    async with peer(server, CROWD, key=SECRET) as crowd:
        for number in range(16):
            crowd.listen(f"s{number}")
        await crowd.published()
        assert records(server, service_name("s15", CROWD.guid, ZONE), "SRV")
    for number in range(16):
        assert not records(server, service_name(f"s{number}", CROWD.guid, ZONE), "SRV")
    assert left_of(server, CROWD) == {}
