"""Answers to queries: authoritative, and small."""

import dns.asyncquery
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update
import pytest

from peers import Peer
from relay.server import RelayServer
from tests.relay.dns.asking import ALICE, NAME, ZONE, ask, send, texts


async def test_names_and_types_that_are_not_there(server: RelayServer) -> None:
    async with Peer(ALICE, server.url) as alice:
        alice.listen("chat")
        await alice.published()
        for name in (f"_tcp.{NAME}", f"_TCP.{NAME.upper()}"):
            response = await ask(server, name)
            assert response.rcode() == dns.rcode.NOERROR, "others are below it"
            assert not response.answer
            assert response.authority[0].rdtype == dns.rdatatype.SOA
        assert not (await ask(server, NAME, "MX")).answer
        assert (await ask(server, f"nobody.{ZONE}")).rcode() == dns.rcode.NXDOMAIN
        assert (await ask(server, f"x.e0.{NAME}")).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(
    ("name", "kind", "rdclass", "code"),
    [
        ("example.com.", "A", "IN", "REFUSED"),
        ("org.", "NS", "IN", "REFUSED"),
        (ZONE, "AXFR", "IN", "REFUSED"),
        (ZONE, "SOA", "CH", "REFUSED"),
    ],
)
async def test_what_is_refused(
    server: RelayServer, name: str, kind: str, rdclass: str, code: str
) -> None:
    query = dns.message.make_query(name, kind, rdclass)
    assert (await send(server, query, tcp=True)).rcode() == dns.rcode.from_text(code)


async def test_any_is_answered_with_little(server: RelayServer) -> None:
    response = await ask(server, ZONE, "ANY")
    assert texts(response) == ['"RFC8482" ""']


async def test_edns(server: RelayServer) -> None:
    response = await ask(server, ZONE, "SOA", use_edns=0, payload=4096)
    assert response.edns == 0
    assert response.payload == 1232
    assert (await ask(server, ZONE, "SOA")).edns == -1
    assert (await ask(server, ZONE, "SOA", use_edns=1)).rcode() == dns.rcode.BADVERS
