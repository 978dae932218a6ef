"""One message in, one out: signatures, limits, garbage."""

import asyncio
import time

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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.dns_records import peer_name
from relay.server import RelayServer
from tests.relay.dns.asking import (
    MALLORY,
    NAME,
    ZONE,
    ask,
    key_of,
    port_of,
    raw,
    sent,
    serving,
    texts,
    update,
)
from tests.support.scale import of


async def test_what_is_too_large_for_a_datagram_comes_by_tcp(server: RelayServer) -> None:
    message = update(server)
    for number in range(30):
        message.add(f"many.{NAME}", 30, "TXT", f'"{number:03d} {"x" * 40}"')
    assert await sent(server, message) == dns.rcode.NOERROR
    small = await ask(server, f"many.{NAME}", "TXT")
    assert small.flags & dns.flags.TC
    assert len(small.to_wire()) <= 512
    whole, used_tcp = await dns.asyncquery.udp_with_fallback(
        dns.message.make_query(f"many.{NAME}", "TXT", use_edns=0, payload=1232),
        "127.0.0.1",
        5,
        port_of(server),
    )
    assert used_tcp
    assert len(texts(whole)) == 30


async def test_signatures_that_do_not_hold(server: RelayServer) -> None:
    async def error(key: dns.tsig.Key) -> str:
        message = dns.update.UpdateMessage(f"{ZONE}.")
        message.use_tsig(key)
        message.add(NAME, 30, "A", "192.0.2.1")
        wire = message.to_wire()
        answer = dns.message.from_wire(await raw(server, wire), keyring=False)
        assert answer.rcode() == dns.rcode.NOTAUTH
        assert answer.tsig is not None
        return str(dns.rcode.to_text(dns.rcode.Rcode(answer.tsig[0].error), tsig=True))

    secret = key_of(server).secret
    assert await error(dns.tsig.Key(NAME, b"0" * 32, dns.tsig.HMAC_SHA256)) == "BADSIG"
    assert await error(dns.tsig.Key("nobody.example.", secret, dns.tsig.HMAC_SHA256)) == "BADKEY"
    assert await error(dns.tsig.Key(f"x.{ZONE}.", secret, dns.tsig.HMAC_SHA256)) == "BADKEY"
    assert (await ask(server, NAME)).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("offset", [-600, 600])
async def test_a_wrong_clock_is_told_the_time_with_a_signature(
    server: RelayServer, offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = update(server)
    message.add(NAME, 30, "A", "192.0.2.1")
    now = time.time()
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now + offset)
        wire = message.to_wire()
    answer = dns.message.from_wire(await raw(server, wire), keyring=False)
    assert answer.tsig is not None
    rdata = answer.tsig[0]
    assert rdata.error == dns.rcode.BADTIME
    assert abs(int.from_bytes(rdata.other, "big") - now) < 60
    assert rdata.mac, "signed"
    assert rdata.time_signed == int(now + offset)


async def test_an_update_is_taken_once(server: RelayServer) -> None:
    message = update(server)
    message.add(NAME, 30, "A", "192.0.2.1")
    wire = message.to_wire()
    assert (await raw(server, wire))[3] & 0x0F == dns.rcode.NOERROR
    message = update(server)
    message.delete(NAME)
    assert await sent(server, message) == dns.rcode.NOERROR
    assert (await raw(server, wire))[3] & 0x0F == dns.rcode.NOERROR, "as it was answered before"
    assert (await ask(server, NAME)).rcode() == dns.rcode.NXDOMAIN


async def test_updates_of_one_key_are_limited() -> None:
    async with serving(updates_burst=3, updates_per_second=0.1) as server:
        codes = []
        for number in range(5):
            message = update(server)
            message.add(NAME, 30, "A", f"192.0.2.{number + 1}")
            codes.append(await sent(server, message))
        assert codes == [dns.rcode.NOERROR] * 3 + [dns.rcode.REFUSED] * 2
        message = update(server, MALLORY)
        message.add(f"{peer_name(MALLORY.guid, ZONE)}.", 30, "A", "192.0.2.9")
        assert await sent(server, message) == dns.rcode.NOERROR


async def test_what_was_put_off_may_be_sent_again_as_it_is() -> None:
    async with serving(updates_burst=1, updates_per_second=2.0) as server:
        first, second = update(server), update(server)
        first.add(NAME, 30, "A", "192.0.2.1")
        second.add(NAME, 30, "A", "192.0.2.2")
        assert (await raw(server, first.to_wire()))[3] & 0x0F == dns.rcode.NOERROR
        wire = second.to_wire()
        assert (await raw(server, wire))[3] & 0x0F == dns.rcode.REFUSED
        async with asyncio.timeout(60):
            while (await raw(server, wire))[3] & 0x0F == dns.rcode.REFUSED:
                await asyncio.sleep(0.01)
        assert sorted(texts(await ask(server, NAME))) == ["192.0.2.1", "192.0.2.2"]


async def test_answers_that_must_be_made_are_limited_for_everybody() -> None:
    async with serving(made_per_second=3.0) as server:
        cut = 0
        for number in range(8):
            response = await ask(server, f"n{number}.{ZONE}")
            cut += bool(response.flags & dns.flags.TC)
        assert cut >= 3
        assert (await ask(server, f"n9.{ZONE}", tcp=True)).rcode() == dns.rcode.NXDOMAIN


async def test_a_response_and_a_scrap_are_never_answered(server: RelayServer) -> None:
    assert server.dns is not None
    response = dns.message.make_response(dns.message.make_query(ZONE, "SOA")).to_wire()
    for wire in (response, b"", b"x", b"\0" * 11):
        assert server.dns.messages.respond(wire, udp=True) is None


@settings(
    max_examples=of(200, 4000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
async def test_garbage_gets_an_error_or_silence(server: RelayServer, data: st.DataObject) -> None:
    assert server.dns is not None
    message = update(server)
    message.present(NAME, "TXT", '"a"')
    message.add(NAME, 30, "SRV", f"0 0 1 {NAME}")
    good = data.draw(
        st.sampled_from(
            [dns.message.make_query(NAME, "TXT", use_edns=0).to_wire(), message.to_wire()]
        )
    )
    wire = bytearray(good)
    for _ in range(data.draw(st.integers(0, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(wire)))
    more = data.draw(st.binary(max_size=40))
    for one in (bytes(wire), bytes(wire[:cut]), bytes(wire[:cut]) + more, more):
        response = server.dns.messages.respond(one, udp=True)
        if isinstance(response, bytes):
            assert len(response) >= 12
            assert response[:2] == one[:2]
            assert response[2] & 0x80


async def test_compression_that_leads_in_a_circle(server: RelayServer) -> None:
    header = b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    for name in (b"\xc0\x0c", b"\x01a\xc0\x0c", b"\xc0\xff", b"\xc0"):
        answer = await raw(server, header + name + b"\x00\x01\x00\x01")
        assert answer[3] & 0x0F == dns.rcode.FORMERR
    assert (await ask(server, ZONE, "SOA")).answer, "and it serves on"
