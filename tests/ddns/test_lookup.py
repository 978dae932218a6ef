"""Looking up at name servers that are silent, slow, lame, forged or broken."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers import DdnsConfig, Identity, NameServerUnavailable, RelayUnavailable, UnknownPeer
from peers.config.host_port import HostPort
from peers.control.relay_address import RelayLocation, in_srv_order
from peers.dns.client import ask
from peers.dns.lookup import NameLookup, find_primary
from protocol.dns_records import entry_text, service_name
from protocol.endpoint import Endpoint, Entry, Phase, Provenance, sign_entry
from protocol.errors import ProtocolViolation

ZONE = "peers.example.org"
ALICE = Identity.from_seed(bytes(range(32)))
NAME = service_name("chat", ALICE.guid, ZONE)
ENTRY = entry_text(
    sign_entry(ALICE, Entry(1, "chat", "192.0.2.1", 9, Phase.PREFERRED, 120, Provenance.INTERFACE))
)

Answer = Callable[[dns.message.Message], list[bytes]]


class Fake(asyncio.DatagramProtocol):
    """A name server that answers each question with the datagrams that a test makes."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        self.asked.append(query.question[0].to_text())
        for wire in self.answer(query):
            self.transport.sendto(wire, addr)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def fake(answer: Answer) -> AsyncIterator[tuple[HostPort, Fake]]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: Fake(answer), local_addr=("127.0.0.1", 0)
    )
    try:
        yield HostPort("127.0.0.1", transport.get_extra_info("sockname")[1]), protocol
    finally:
        transport.close()


def answered(query: dns.message.Message, *data: str, ttl: int = 30) -> bytes:
    """Return an answer with these records to a question of their type; nothing to others."""
    response = dns.message.make_response(query)
    question = query.question[0]
    found = [text.partition(" ")[2] for text in data if _is(question, text)]
    if found:
        response.answer.append(
            dns.rrset.from_text_list(question.name, ttl, "IN", question.rdtype, found)
        )
    return response.to_wire(max_size=65535)


def _is(question: dns.rrset.RRset, text: str) -> bool:
    return question.to_text().endswith(" " + text.partition(" ")[0])


def good(query: dns.message.Message) -> list[bytes]:
    return [answered(query, f"TXT {ENTRY}")]


def lookup(*servers: HostPort, timeout: float = 20.0, **more: object) -> NameLookup:
    config = DdnsConfig(zone=ZONE, nameservers=tuple(map(str, servers)), timeout=timeout)
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


async def test_a_thousand_records_and_huge_texts_are_bounded() -> None:
    def huge(query: dns.message.Message) -> list[bytes]:
        hints = [f"SRV {n} 0 {n + 1} t{n}.{ZONE}." for n in range(1000)]
        texts = ['TXT "' + "A" * 250 + '" "' + "A" * 250 + '" "' + "A" * 250 + '"'] * 30
        return [answered(query, *hints, *texts, "A 192.0.2.1", "AAAA 2001:db8::1")]

    async with fake(huge) as (server, protocol):
        found = await lookup(server).find(ALICE.guid, "chat")
        assert not found.signed
        assert 0 < len(found.hints) <= 16
        assert found.hints[0] == Endpoint("2001:db8::1", 1)
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


async def test_a_relay_is_found_by_its_domain_and_remembered() -> None:
    def relays(query: dns.message.Message) -> list[bytes]:
        return [
            answered(
                query,
                "SRV 5 0 8440 b.example.",
                "SRV 1 0 8441 a.example.",
                "A 192.0.2.1",
                "AAAA 2001:db8::1",
            )
        ]

    async with fake(relays) as (server, protocol):
        where = RelayLocation("dns+https:Example.org", nameservers=[server], timeout=1.0)
        found = await where.addresses()
        assert [str(one) for one in found] == [
            "https://[2001:db8::1]:8441",
            "https://192.0.2.1:8441",
            "https://[2001:db8::1]:8440",
            "https://192.0.2.1:8440",
        ]
        assert {one.certificate_name for one in found} == {"example.org"}
        protocol.answer = lambda query: []
        assert await where.addresses() == found
        with pytest.raises(RelayUnavailable, match="cannot find the relay"):
            await RelayLocation("dns:example.org", nameservers=[server], timeout=0.3).addresses()
        protocol.answer = good
        with pytest.raises(RelayUnavailable, match="names no relay"):
            await RelayLocation("dns:example.org", nameservers=[server], timeout=2).addresses()
    with pytest.raises(RelayUnavailable, match="not a relay"):
        RelayLocation("dns:a b")


def test_srv_records_are_tried_by_priority_and_weight() -> None:
    class Record:
        def __init__(self, priority: int, weight: int) -> None:
            self.priority, self.weight = priority, weight

    import random

    rng = random.Random(7)
    heavy = 0
    for _ in range(2000):
        ordered = in_srv_order([Record(1, 1), Record(0, 1), Record(0, 9), Record(0, 0)], rng.random)
        assert ordered[-1].priority == 1
        heavy += ordered[0].weight == 9
    assert 1700 < heavy < 1900


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("ns.example", HostPort("ns.example")),
        ("192.0.2.1:5353", HostPort("192.0.2.1", 5353)),
        ("2001:db8::1", HostPort("2001:db8::1")),
        ("[2001:db8::1]:54", HostPort("2001:db8::1", 54)),
        ("[2001:db8::1]", HostPort("2001:db8::1")),
    ],
)
def test_name_servers_as_text(text: str, server: HostPort) -> None:
    assert HostPort.parse(text) == server
    assert HostPort.parse(str(server)) == server


@given(st.text(max_size=30))
def test_other_texts_are_an_error_or_a_server(text: str) -> None:
    with contextlib.suppress(ProtocolViolation):
        assert HostPort.parse(text).host


async def test_a_name_server_without_an_address_is_an_answer_too() -> None:
    with pytest.raises(NameServerUnavailable, match="no address for the name server"):
        await ask([HostPort("does-not-exist.invalid")], NAME, "TXT", 2.0)
