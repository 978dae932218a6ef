"""What one message, one connection and one network may cost: calls are counted, no time is."""

import asyncio
import contextlib
import struct
from functools import partial
from typing import Any

import dns.message
import dns.opcode
import dns.rcode
import dns.rdata
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.dns.signed import SignedMessage, UpdateReader
from relay.dns.update import MAX_SET
from relay.server import RelayServer
from tests.relay.dns.asking import ALICE, NAME, ZONE, key_of, port_of, serving, texts, update
from tests.support.calls import TooManyCalls, calls_of
from tests.support.dns_wire import DEEP, POINTER, message, record
from tests.support.scale import of

MOST = 20_000
"""Calls that a message may cost before its signature is known to hold: 2 ms or so."""
MOST_OF_AN_ANSWER = 30_000
"""Calls for the largest answer that a key can make us give: 4 ms or so."""
MOST_AT_ONCE = 4_000
"""Calls without a pause for others, where records of a signed update are read."""

MX, TXT, SRV, OPT = 15, 16, 33, 41
DATA = {MX: b"\0\1" + POINTER, TXT: b"\x01x", SRV: b"\0" * 6 + POINTER}


def bombs() -> dict[str, bytes]:
    """Messages of up to 64 KiB, each of which costs much to read in its own way."""
    many: dict[str, bytes] = {}
    for opcode in (dns.opcode.QUERY, dns.opcode.UPDATE):
        for section in range(3):
            for kind, data in DATA.items():
                sections: list[list[bytes]] = [[], [], []]
                sections[section] = [record(kind, data, ttl=n) for n in range(4000)]
                many[f"{opcode} {section} {kind}"] = message(sections, opcode=opcode)
        options = struct.pack("!HH", 65001, 0)
        opt = record(OPT, options * 16_000, b"\0", 1232)
        many[f"{opcode} options"] = message([[], [], [opt]], opcode=opcode)
        small = record(OPT, options * 200, b"\0", 1232)
        many[f"{opcode} few options"] = message([[], [], [small]], opcode=opcode)
        many[f"{opcode} strings"] = message([[], [record(TXT, b"\0" * 60_000)], []], opcode=opcode)
        names = [record(TXT, b"\x01x", DEEP)] * 240
        many[f"{opcode} names"] = message([[], names, []], opcode=opcode)
    many["deep"] = message([[], [], []])
    below = b"\x01a" * 100 + dns.message.make_query(ZONE, "TXT").question[0].name.to_wire()
    many["deep below the zone"] = message([[], [], []], question=below)
    return many


async def test_no_message_of_a_stranger_costs_much(server: RelayServer) -> None:
    assert server.dns is not None
    answerer = server.dns.messages

    def respond(wire: bytes, udp: bool) -> None:
        answerer.respond(wire, udp=udp)

    for what, whole in bombs().items():
        for wire in (whole, whole[:1300]):
            try:
                for udp in (True, False):
                    calls_of(partial(respond, wire, udp), MOST)
                calls_of(partial(answerer.truncated, wire), MOST)
            except TooManyCalls as error:
                pytest.fail(f"{what}, {len(wire)} bytes: {error}")


async def test_an_update_that_is_signed_is_read_in_pieces(server: RelayServer) -> None:
    assert server.dns is not None
    made = update(server)
    for number in range(500):
        made.delete(f"_s{number}._tcp.{NAME}", "SRV")
    wire = made.to_wire()
    found: list[object] = []
    calls_of(lambda: found.append(server.dns.messages.respond(wire, udp=False)), MOST)  # type: ignore[union-attr]
    (signed,) = found
    assert isinstance(signed, SignedMessage)
    reader = UpdateReader(signed.wire, signed.weight.counts)
    left = [True]
    while left[-1]:
        calls_of(lambda: left.append(reader.more(16)), MOST_AT_ONCE)
    assert len(left) > 500 / 16
    assert len(reader.update) == 500
    code = dns.message.from_wire(
        await server.dns.messages.update(signed, "127.0.0.1", udp=False),
        keyring=key_of(server),
        request_mac=signed.mac,
    ).rcode()
    assert code == dns.rcode.NOERROR


async def test_an_update_is_charged_by_what_it_costs() -> None:
    async with serving(updates_burst=18, updates_per_second=0.001) as server:
        codes = []
        for _ in range(3):
            made = update(server)
            for number in range(400):
                made.delete(f"_s{number}._tcp.{NAME}", "SRV")
            codes.append(await _code(server, made.to_wire()))
        assert codes == [dns.rcode.NOERROR, dns.rcode.NOERROR, dns.rcode.REFUSED]


async def _code(server: RelayServer, wire: bytes) -> int:
    assert server.dns is not None
    signed = server.dns.messages.respond(wire, udp=False)
    assert isinstance(signed, SignedMessage)
    answer = await server.dns.messages.update(signed, "127.0.0.1", udp=False)
    return dns.message.from_wire(answer, keyring=key_of(server), request_mac=signed.mac).rcode()


async def test_a_signature_cannot_make_a_message_of_any_size(server: RelayServer) -> None:
    assert server.dns is not None
    made = update(server)
    for number in range(3000):
        made.add(NAME, 30, "A", f"10.0.{number // 250}.{number % 250}")
    wire = made.to_wire()
    found: list[object] = []
    calls_of(lambda: found.append(server.dns.messages.respond(wire, udp=False)), MOST)  # type: ignore[union-attr]
    (answer,) = found
    assert isinstance(answer, bytes)
    assert answer[3] & 0x0F == dns.rcode.REFUSED


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Messages of up to 64 KiB of whatever kind: few records, or as many as there is room for."""
    names = st.sampled_from([POINTER, DEEP, b"\0", b"\x01b" + POINTER])
    kinds = st.sampled_from([1, 2, 5, 6, MX, TXT, 28, SRV, OPT, 46, 55, 249, 250, 255, 65000])
    data = st.one_of(
        st.sampled_from([*DATA.values(), POINTER * 40, b"\0" * 4000, DEEP]), st.binary(max_size=30)
    )
    sections = []
    for _ in range(3):
        one = record(
            draw(kinds), draw(data), draw(names), draw(st.sampled_from([1, 254, 255, 1232]))
        )
        most = 60_000 // len(one)
        sections.append([one] * draw(st.sampled_from([0, 0, 1, 20, most])))
    wire = message(
        sections,
        question=draw(names.filter(lambda name: name[:1] != b"\xc0")),
        opcode=draw(st.sampled_from([0, 0, 4, 5, 5])),
        kind=draw(kinds),
    )
    changed = bytearray(wire[:65_535])
    for _ in range(draw(st.integers(0, 3))):
        changed[draw(st.integers(0, min(200, len(changed)) - 1))] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.sampled_from([65_535, 1300, 300]))])


@settings(max_examples=of(150, 4000), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wire=messages())
async def test_messages_of_any_kind_cost_little(server: RelayServer, wire: bytes) -> None:
    assert server.dns is not None
    answerer = server.dns.messages
    calls_of(lambda: answerer.respond(wire, udp=False), MOST)
    calls_of(lambda: answerer.truncated(wire), MOST)


async def test_no_answer_costs_much_whatever_is_in_the_zone(server: RelayServer) -> None:
    """The most that one key may put there, asked for so that no answer is at hand."""
    assert server.dns is not None
    answerer = server.dns.messages
    for records, code in ((MAX_SET, dns.rcode.NOERROR), (MAX_SET + 1, dns.rcode.REFUSED)):
        made = update(server)
        for number in range(records):
            made.add(f"srv.{NAME}", 30, "SRV", f"0 0 {number} h{number}.{NAME}")
            made.add(f"h{number}.{NAME}", 30, "A", "192.0.2.1")
            made.add(f"h{number}.{NAME}", 30, "AAAA", "2001:db8::1")
            made.add(f"txt.{NAME}", 30, "TXT", f'"{number:03d} {"x" * 100}"')
            made.add(f"b.c.d.e.f.g.n{number}.{NAME}", 30, "A", "192.0.2.1")
        assert await _code(server, made.to_wire()) == code
    for name, kind in (("srv", "SRV"), ("txt", "TXT"), ("none", "A"), ("g.n31", "A"), ("x", "ANY")):
        for udp in (True, False):
            wire = dns.message.make_query(f"{name}.{NAME}", kind, use_edns=0).to_wire()
            calls_of(lambda wire=wire, udp=udp: answerer.respond(wire, udp=udp), MOST_OF_AN_ANSWER)  # type: ignore[misc]


async def test_nobody_s_records_are_read_to_find_out_what_is_asked(
    server: RelayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dnspython keeps something for each type and class that it meets, for ever; and what it does
    not know, as A of class ANY, would stand for what it has not loaded yet, as A of class IN."""
    assert server.dns is not None
    answerer = server.dns.messages
    met: list[tuple[int, int]] = []
    read = dns.rdata.from_wire_parser

    def watched(category: int, kind: int, *more: Any) -> dns.rdata.Rdata:
        met.append((category, kind))
        return read(category, kind, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(dns.rdata, "from_wire_parser", watched)
    foreign = [record(kind, b"\x7f\0\0\1", category=255) for kind in (1, 33)]
    for opcode in (dns.opcode.QUERY, dns.opcode.UPDATE):
        for sections in ([[], [], foreign], [[], foreign[:1], foreign[1:]], [foreign, [], []]):
            wire = message(sections, opcode=opcode, question=b"\1a\0")
            answerer.respond(wire, udp=False)
    assert met == []
    made = update(server)
    made.present(NAME, "MX", "1 a.example.")
    assert await _code(server, made.to_wire()) == dns.rcode.NXRRSET
    made = update(server)
    made.add(f"x.{NAME}", 30, "MX", "1 a.example.")
    made.add(NAME, 30, "A", "192.0.2.1")
    assert await _code(server, made.to_wire()) == dns.rcode.REFUSED
    assert (1, 15) not in met


# -- connections ----------------------------------------------------------------------------------


def query(number: int) -> bytes:
    wire = dns.message.make_query(f"n{number}.{ZONE}", "TXT").to_wire()
    return struct.pack("!H", len(wire)) + wire


async def test_others_get_their_turn_between_the_questions_of_one_connection(
    server: RelayServer,
) -> None:
    assert server.dns is not None
    answered: list[int] = []
    respond = server.dns.messages.respond

    def counted(wire: bytes, *, udp: bool) -> object:
        answered.append(turns)
        return respond(wire, udp=udp)

    server.dns.messages.respond = counted  # type: ignore[assignment, method-assign]
    turns = 0
    _, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
    writer.write(b"".join(map(query, range(40))))
    async with asyncio.timeout(60):
        while len(answered) < 40:
            turns += 1
            await asyncio.sleep(0)
    assert len(set(answered)) == 40, "no two in one turn of the loop"
    writer.close()


async def test_who_asks_faster_than_its_network_may_is_not_read() -> None:
    async with serving(answers_per_second=0.01, answers_burst=10) as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port_of(server), local_addr=("127.0.66.1", 0)
        )
        writer.write(b"".join(map(query, range(30))))
        for _ in range(10):
            length = int.from_bytes(await reader.readexactly(2), "big")
            await reader.readexactly(length)
        for source, answered in (("127.0.66.2", False), ("127.0.67.1", True)):
            other, other_writer = await asyncio.open_connection(
                "127.0.0.1", port_of(server), local_addr=(source, 0)
            )
            other_writer.write(query(99))
            if answered:
                async with asyncio.timeout(60):
                    assert await other.readexactly(2)
            other_writer.close()
        assert server.metrics.dns["tcp", "NXDOMAIN"] == 11
        assert server.metrics.dns["tcp", "waits"] >= 1
        writer.close()


async def test_who_holds_all_places_gives_one_up() -> None:
    async with (
        serving(max_connections=8, max_connections_per_address=2) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        assert server.dns is not None

        async def connect(source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port_of(server), local_addr=(source, 0)
            )
            stack.callback(writer.transport.abort)
            return reader, writer

        async def asks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
            writer.write(query(1))
            async with asyncio.timeout(60):
                try:
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    return len(await reader.readexactly(length)) == length
                except (ConnectionError, asyncio.IncompleteReadError):
                    return False

        held = [await connect(f"127.0.{70 + number // 2}.1") for number in range(8)]
        assert [await asks(*one) for one in held] == [True] * 8
        newcomer = await connect("127.0.80.1")
        assert await asks(*newcomer), "the eight hold no longer all"
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                assert await held[0][0].read() == b"", "the one that was quiet longest"
        assert [await asks(*one) for one in held[1:]] == [True] * 7
        assert server.metrics.dns["tcp", "no place"] == 1


async def test_texts_of_a_peer_are_still_answered(server: RelayServer) -> None:
    """The bounds leave room for what peers do."""
    assert server.dns is not None
    made = update(server)
    for number in range(200):
        made.add(f"_s{number}._tcp.{NAME}", 30, "TXT", '"' + "x" * 100 + '"')
    assert await _code(server, made.to_wire()) == dns.rcode.NOERROR
    wire = dns.message.make_query(f"_s7._tcp.{NAME}", "TXT", use_edns=0).to_wire()
    answer = server.dns.messages.respond(wire, udp=True)
    assert isinstance(answer, bytes)
    assert texts(dns.message.from_wire(answer)) == ['"' + "x" * 100 + '"']
    assert ALICE.guid in NAME
