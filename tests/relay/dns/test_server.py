"""The zone's sockets: UDP and TCP, and what each may cost."""

import asyncio
import contextlib

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

from relay.server import RelayServer
from tests.relay.dns.asking import (
    NAME,
    ZONE,
    ask,
    port_of,
    send,
    serving,
    texts,
    update,
)


async def test_several_questions_on_one_connection_and_an_opcode_that_is_unknown(
    server: RelayServer,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
    for _ in range(3):
        wire = dns.message.make_query(ZONE, "SOA").to_wire()
        writer.write(len(wire).to_bytes(2, "big") + wire)
        length = int.from_bytes(await reader.readexactly(2), "big")
        assert dns.message.from_wire(await reader.readexactly(length)).answer
    for opcode, code in ((dns.opcode.NOTIFY, dns.rcode.NOTIMP), (dns.opcode.IQUERY, 4)):
        query = dns.message.make_query(ZONE, "SOA")
        query.set_opcode(opcode)
        wire = query.to_wire()
        writer.write(len(wire).to_bytes(2, "big") + wire)
        length = int.from_bytes(await reader.readexactly(2), "big")
        answer = await reader.readexactly(length)
        assert answer[:2] == wire[:2]
        assert answer[3] & 0x0F == code
    writer.close()
    await writer.wait_closed()


async def test_an_update_over_udp(server: RelayServer) -> None:
    message = update(server)
    message.add(NAME, 30, "A", "192.0.2.1")
    assert (await send(server, message)).rcode() == dns.rcode.NOERROR
    assert texts(await ask(server, NAME)) == ["192.0.2.1"]


async def test_answers_are_limited_for_each_network() -> None:
    async with serving(answers_per_second=1.0, answers_burst=5) as server:
        answers: list[dns.message.Message | None] = []
        for _ in range(15):
            query = dns.message.make_query(ZONE, "SOA")
            try:
                answers.append(await dns.asyncquery.udp(query, "127.0.0.1", 0.15, port_of(server)))
            except dns.exception.Timeout:
                answers.append(None)
        whole = [one for one in answers if one is not None and not one.flags & dns.flags.TC]
        cut = [one for one in answers if one is not None and one.flags & dns.flags.TC]
        assert 5 <= len(whole) <= 9
        assert cut, "who is honest may come by TCP"
        assert None in answers
        assert (await ask(server, ZONE, "SOA", tcp=True)).answer
        assert server.metrics.dns["udp", "limited"] >= 6


async def test_connections_are_bounded() -> None:
    async with serving(max_connections_per_address=2) as server:
        first = await asyncio.open_connection("127.0.0.1", port_of(server))
        second = await asyncio.open_connection("127.0.0.1", port_of(server))
        third, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(third.read(), 60) == b""
        for one in (first[1], second[1], writer):
            one.close()
