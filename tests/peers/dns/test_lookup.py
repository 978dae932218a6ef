"""Looking up at name servers that are silent, slow, lame, forged or broken."""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import dns.tsig
import pytest

from peers import DdnsConfig, Identity, NameServerUnavailable, UnknownPeer, UnknownService
from peers.config.host_port import HostPort
from peers.dns import ask
from peers.dns.lookup import NameLookup, find_own, find_primary
from peers.dns.primary import Primary
from protocol.dns_records import entry_text, peer_name, service_name
from protocol.endpoint import Endpoint, Entry, Phase, Provenance, sign_entry
from protocol.errors import PathFailed
from tests.support.name_server import Answer, answered, fake

ZONE = "peers.example.org"
ALICE = Identity.from_seed(bytes(range(32)))
KEY = dns.tsig.Key(peer_name(ALICE.guid, ZONE), b"0" * 32, "hmac-sha256")
NAME = service_name("chat", ALICE.guid, ZONE)
ENTRY = entry_text(
    sign_entry(ALICE, Entry(1, "chat", "192.0.2.1", 9, Phase.PREFERRED, 120, Provenance.INTERFACE))
)


def good(query: dns.message.Message) -> list[bytes]:
    return [answered(query, f"TXT {ENTRY}")]


def lookup(
    *servers: HostPort, timeout: float = 20.0, server: str | None = None, **more: object
) -> NameLookup:
    config = DdnsConfig(
        zone=ZONE, nameservers=tuple(map(str, servers)), timeout=timeout, server=server
    )
    return NameLookup(config, **more)  # type: ignore[arg-type]


async def test_a_server_that_is_silent_lame_or_broken_is_followed_by_the_next() -> None:
    def lame(query: dns.message.Message) -> list[bytes]:
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.SERVFAIL)
        return [response.to_wire()]

    def refers(query: dns.message.Message) -> list[bytes]:
        response = dns.message.make_response(query)
        response.authority.append(dns.rrset.from_text("org.", 30, "IN", "NS", "ns.example."))
        return [response.to_wire()]

    def broken(query: dns.message.Message) -> list[bytes]:
        return [query.to_wire()[:2] + b"\x80\x00garbage", b"", b"\xff" * 600]

    def silent(query: dns.message.Message) -> list[bytes]:
        return []

    for bad in (lame, refers, broken, silent):
        async with fake(bad) as (first, asked), fake(good) as (second, _):
            found = await lookup(first, second, timeout=8.0).find(ALICE.guid, "chat")
            assert len(found.signed) == 1
            assert asked.asked
        async with fake(bad) as (only, _):
            with pytest.raises(NameServerUnavailable, match=str(only)):
                await lookup(only, timeout=0.4).find(ALICE.guid, "chat")


async def test_answers_with_another_id_or_question_are_not_believed() -> None:
    def forged(query: dns.message.Message) -> list[bytes]:
        evil = answered(query, 'TXT "forged"')
        other_id = bytes([evil[0] ^ 1]) + evil[1:]
        other_name = dns.message.make_query(f"x.{ZONE}", query.question[0].rdtype, id=query.id)
        return [other_id, answered(other_name, 'TXT "forged"'), *good(query)]

    async with fake(forged) as (server, _):
        found = await lookup(server).find(ALICE.guid, "chat")
        assert len(found.signed) == 1


async def test_a_server_that_is_slow_is_waited_for() -> None:
    async with fake(lambda query: []) as (server, protocol):
        loop = asyncio.get_running_loop()

        def late(query: dns.message.Message) -> list[bytes]:
            wire = good(query)[0]
            # The second datagram is answered: the first is taken for lost.
            return [wire] if protocol.asked.count(query.question[0].to_text()) > 1 else []

        protocol.answer = late
        began = loop.time()
        await lookup(server, timeout=8.0).find(ALICE.guid, "chat")
        assert loop.time() - began >= 0.3


async def test_an_answer_is_kept_for_its_lifetime_and_longer_while_nobody_answers() -> None:
    now = 0.0
    async with fake(good) as (server, protocol):
        names = lookup(server, clock=lambda: now, timeout=1.0)
        await names.find(ALICE.guid, "chat")
        count = len(protocol.asked)
        now = 29.0
        await names.find(ALICE.guid, "chat")
        assert len(protocol.asked) == count
        await names.find(ALICE.guid, "chat", fresh=True)
        assert len(protocol.asked) > count
        now += 31.0
        protocol.answer = lambda query: []
        assert (await names.find(ALICE.guid, "chat")).stale
        now += 90_000.0
        with pytest.raises(NameServerUnavailable):
            await names.find(ALICE.guid, "chat")


async def test_a_name_that_is_gone_is_forgotten() -> None:
    async with fake(good) as (server, protocol):
        names = lookup(server, timeout=1.0)
        await names.find(ALICE.guid, "chat")

        def gone(query: dns.message.Message) -> list[bytes]:
            response = dns.message.make_response(query)
            response.set_rcode(dns.rcode.NXDOMAIN)
            return [response.to_wire()]

        protocol.answer = gone
        with pytest.raises(UnknownPeer):
            await names.find(ALICE.guid, "chat", fresh=True)
        protocol.answer = lambda query: []
        with pytest.raises(NameServerUnavailable):
            await names.find(ALICE.guid, "chat")


def none(query: dns.message.Message) -> list[bytes]:
    """What a cache keeps saying for an hour of a name that was asked for a moment too early."""
    response = dns.message.make_response(query)
    response.set_rcode(dns.rcode.NXDOMAIN)
    response.authority.append(
        dns.rrset.from_text(f"{ZONE}.", 3600, "IN", "SOA", f"ns.{ZONE}. h.{ZONE}. 1 1 1 1 3600")
    )
    return [response.to_wire()]


def without_records(query: dns.message.Message) -> list[bytes]:
    return [answered(query)]


@pytest.mark.parametrize("cached", [none, without_records])
async def test_that_there_is_nobody_is_the_word_of_the_zone_s_own_server(
    cached: Answer,
) -> None:
    async with fake(cached) as (cache, at_cache), fake(good) as (own, at_own):
        names = lookup(cache, server=str(own), timeout=2.0)
        assert len((await names.find(ALICE.guid, "chat")).signed) == 1
        assert at_cache.asked
        asked = len(at_own.asked)
        await names.find(ALICE.guid, "chat")
        assert len(at_own.asked) == asked, "kept as any other answer"
        at_own.answer = none
        with pytest.raises(UnknownPeer):
            await lookup(cache, server=str(own), timeout=2.0).find(ALICE.guid, "chat")


async def test_a_cache_is_believed_where_the_zone_s_own_server_is_silent() -> None:
    async with fake(none) as (cache, _), fake(lambda query: []) as (own, at_own):
        with pytest.raises(UnknownPeer):
            await lookup(cache, server=str(own), timeout=0.5).find(ALICE.guid, "chat")
        assert at_own.asked
    async with fake(none) as (cache, at_cache):
        with pytest.raises(UnknownPeer):
            await lookup(cache, timeout=0.5).find(ALICE.guid, "chat")
        assert any(" SOA" in one for one in at_cache.asked), "nobody knows the zone's own server"


async def test_the_zone_s_own_servers_are_found_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now, found = 0.0, 0

    async def find(config: DdnsConfig, through: object) -> tuple[HostPort, ...]:
        nonlocal found
        found += 1
        return (own,)

    monkeypatch.setattr("peers.dns.lookup.find_own", find)
    async with fake(none) as (cache, _), fake(good) as (own, _):
        names = lookup(cache, timeout=2.0, clock=lambda: now)
        for later in (0.0, 400.0, 400.0, 200.0):
            now += later
            assert (await names.find(ALICE.guid, "chat")).signed
        assert found == 2


async def test_who_serves_a_zone_is_told_by_its_soa_and_ns_records() -> None:
    def zone(query: dns.message.Message) -> list[bytes]:
        names = [f"NS ns{number}.{ZONE}." for number in range(9)]
        return [answered(query, f"SOA hidden.{ZONE}. h.{ZONE}. 1 1 1 1 1", *names)]

    async with fake(zone) as (server, _):
        config = DdnsConfig(zone=ZONE, nameservers=(str(server),))
        first, *others = await find_own(config)
        assert first == HostPort(f"hidden.{ZONE}")
        assert len(others) == 3
        assert {one.host.partition(".")[0] for one in others} < {f"ns{n}" for n in range(9)}


async def test_a_thousand_records_and_huge_texts_are_bounded() -> None:
    def huge(query: dns.message.Message) -> list[bytes]:
        hints = [f"SRV {n} 0 {n + 1} t{n}.{ZONE}." for n in range(1000)]
        texts = ['TXT "' + "A" * 250 + '" "' + "A" * 250 + '" "' + "A" * 250 + '"'] * 30
        return [answered(query, *hints, *texts, "A 192.0.2.1", "AAAA 2001:db8::1")]

    async with fake(huge) as (server, protocol):
        found = await lookup(server).find(ALICE.guid, "chat")
        assert not found.signed
        assert 0 < len(found.hints) <= 16
        assert found.hints[0].host == "2001:db8::1"
        assert len(protocol.asked) < 60


async def test_hints_that_cannot_be_dialed_are_left_out() -> None:
    def bad(query: dns.message.Message) -> list[bytes]:
        return [
            answered(
                query,
                f"SRV 0 0 0 t.{ZONE}.",
                "SRV 1 0 9 .",
                f"SRV 2 0 9 u.{ZONE}.",
                "A 0.0.0.0",
                "AAAA ::ffff:192.0.2.7",
            )
        ]

    async with fake(bad) as (server, _):
        found = await lookup(server).find(ALICE.guid, "chat")
        assert found.hints == (Endpoint("192.0.2.7", 9),)


async def test_the_primary_is_the_one_that_the_soa_record_names() -> None:
    def soa(query: dns.message.Message) -> list[bytes]:
        return [answered(query, f"SOA ns7.{ZONE}. h.{ZONE}. 1 1 1 1 1")]

    async with fake(soa) as (server, _):
        config = DdnsConfig(zone=ZONE, nameservers=(str(server),))
        assert await find_primary(config) == HostPort(f"ns7.{ZONE}")
    async with fake(good) as (server, _):
        config = DdnsConfig(zone=ZONE, nameservers=(str(server),))
        with pytest.raises(NameServerUnavailable, match="is no zone"):
            await find_primary(config)


async def test_a_server_that_the_zone_names_passes_the_door_and_a_configured_one_does_not() -> None:
    """A zone may name any address as its server's: this peer's own network, or a victim's."""

    def soa(query: dns.message.Message) -> list[bytes]:
        return [answered(query, "SOA 127.0.9.1. h. 1 1 1 1 1", "NS 192.168.77.7.", "TXT x")]

    class Gate:
        def __init__(self) -> None:
            self.came: list[tuple[Endpoint, str, tuple[str, ...]]] = []

        @contextlib.contextmanager
        def to_server(
            self, server: Endpoint, zone: str, met: Collection[str]
        ) -> Iterator[Callable[[], None]]:
            self.came.append((server, zone, tuple(met)))
            raise PathFailed("not there")
            yield

    gate = Gate()
    async with fake(soa) as (server, _):
        config = DdnsConfig(zone=ZONE, nameservers=(str(server),), timeout=0.5)
        with pytest.raises(NameServerUnavailable, match="not there"):
            await ask(await find_own(config, gate), ZONE, "TXT", 0.5)
        assert {one for one, _, _ in gate.came} == {
            Endpoint("127.0.9.1", 53),
            Endpoint("192.168.77.7", 53),
        }
        assert {(zone, met) for _, zone, met in gate.came} == {(ZONE, ("127.0.0.1",))}
        gate.came.clear()
        with pytest.raises(NameServerUnavailable, match="not there"):
            await Primary(ALICE.guid, config, KEY, through=gate).confirm(0)
        assert [one for one, _, _ in gate.came] == [Endpoint("127.0.9.1", 53)]
        gate.came.clear()
        configured = DdnsConfig(zone=ZONE, server=str(server), timeout=0.5)
        assert (await ask(await find_own(configured, gate), ZONE, "TXT", 0.5)).data
        assert not gate.came


@pytest.mark.parametrize(
    "service", ["a" * 63, "a" * 300, "a..b", "", ".", "é" * 70, "\ud800", "\\"]
)
async def test_a_service_that_is_no_name_is_offered_by_nobody(service: str) -> None:
    """As it is with a relay: a name that breaks the pattern is registered nowhere."""
    async with fake(good) as (server, protocol):
        with pytest.raises(UnknownService):
            await lookup(server).find(ALICE.guid, service)
        assert not protocol.asked


async def test_targets_of_any_name_are_asked_for() -> None:
    """Up to 255 bytes, and of any bytes."""
    longest = ".".join(["b" * 63] * 3 + ["c" * 61]) + "."

    def targets(query: dns.message.Message) -> list[bytes]:
        return [
            answered(
                query,
                f"SRV 0 0 9 {longest}",
                "SRV 1 0 9 \\000\\255\\.\\032.example.",
                "A 192.0.2.1",
            )
        ]

    async with fake(targets) as (server, protocol):
        found = await lookup(server).find(ALICE.guid, "chat")
        assert found.hints == (Endpoint("192.0.2.1", 9),)
        assert sum(longest in one for one in protocol.asked) == 2


async def test_garbage_in_texts_is_no_entry() -> None:
    def garbage(query: dns.message.Message) -> list[bytes]:
        return [answered(query, 'TXT ""', 'TXT "\\000\\255"', 'TXT "AAAA"', f"TXT {ENTRY}")]

    async with fake(garbage) as (server, _):
        assert len((await lookup(server).find(ALICE.guid, "chat")).signed) == 1


async def test_a_lookup_that_is_cancelled_leaves_no_question() -> None:
    async with fake(lambda query: []) as (server, protocol):
        finding = asyncio.create_task(lookup(server).find(ALICE.guid, "chat"))
        while not protocol.asked:
            await asyncio.sleep(0)
        finding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await finding
        assert len(asyncio.all_tasks()) == 1
