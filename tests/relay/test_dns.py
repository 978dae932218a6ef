"""The embedded zone over real sockets: with dnspython, dig and nsupdate as clients."""

import asyncio
import base64
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

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

from peers import Identity, Peer, PeerConfig
from protocol.dns_records import key_file_text, peer_name
from relay.admission import Rates
from relay.config import ConfigError, DnsConfig, RelayConfig
from relay.dns_server import DnsServer
from relay.dns_store import DnsStore
from relay.server import RelayServer
from tests.ddns.named import need
from tests.support.scale import of

ZONE = "peers.example.org"
ALICE = Identity.from_seed(bytes(range(32)))
MALLORY = Identity.from_seed(bytes(range(1, 33)))
NAME = f"{peer_name(ALICE.guid, ZONE)}."


@contextlib.asynccontextmanager
async def serving(**more: object) -> AsyncIterator[RelayServer]:
    settings = {"made_per_second": 1e6, "updates_burst": 10_000} | more
    config = DnsConfig(zone=ZONE, port=0, addresses="127.0.0.1", **settings)  # type: ignore[arg-type]
    async with RelayServer(RelayConfig(port=0, dns=config)) as server:
        yield server


@pytest.fixture
async def server() -> AsyncIterator[RelayServer]:
    async with serving() as running:
        yield running


def port_of(server: RelayServer) -> int:
    assert server.dns is not None
    return server.dns.port


async def ask(
    server: RelayServer, name: str, kind: str = "A", *, tcp: bool = False, **more: object
) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **more)  # type: ignore[arg-type]
    return await send(server, query, tcp=tcp)


async def send(
    server: RelayServer, query: dns.message.Message, *, tcp: bool = False
) -> dns.message.Message:
    way = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await way(query, "127.0.0.1", 5, port_of(server))


def key_of(server: RelayServer, identity: Identity = ALICE) -> dns.tsig.Key:
    assert server.dns is not None
    return server.dns.keys.key(identity.guid)


def update(server: RelayServer, identity: Identity | None = ALICE) -> dns.update.UpdateMessage:
    message = dns.update.UpdateMessage(f"{ZONE}.")
    if identity is not None:
        message.use_tsig(key_of(server, identity))
    return message


async def sent(server: RelayServer, message: dns.message.Message) -> dns.rcode.Rcode:
    return (await send(server, message, tcp=True)).rcode()


def texts(response: dns.message.Message) -> list[str]:
    return [rdata.to_text() for rrset in response.answer for rdata in rrset]


# -- answers --------------------------------------------------------------------------------------


async def test_a_registered_peer_is_in_the_zone_and_goes_with_its_connection(
    server: RelayServer,
) -> None:
    async with Peer(ALICE, server.url) as alice:
        alice.listen("chat")
        alice.listen("secret", disclose="nobody")
        await alice.published()
        response = await ask(server, f"_chat._tcp.{NAME}", "SRV")
        assert response.rcode() == dns.rcode.NOERROR
        assert response.flags & dns.flags.AA
        assert not response.flags & dns.flags.RA
        assert texts(response)[0] == f"0 0 {alice._direct.port} e0.{NAME}"
        assert {rrset.name.to_text() for rrset in response.additional} == {f"e0.{NAME}"}
        assert texts(await ask(server, NAME)) == ["127.0.0.1"]
        assert len(texts(await ask(server, f"_chat._tcp.{NAME}", "TXT"))) == 1
        hidden = await ask(server, f"_secret._tcp.{NAME}", "SRV")
        assert not hidden.answer
    gone = await ask(server, NAME)
    assert gone.rcode() == dns.rcode.NXDOMAIN
    assert gone.authority[0].rdtype == dns.rdatatype.SOA
    assert gone.authority[0].ttl <= 10


async def test_a_peer_that_discloses_nothing_to_anyone_is_not_there(server: RelayServer) -> None:
    async with Peer(ALICE, server.url) as alice:
        alice.listen("chat", disclose=[MALLORY.guid])
        await alice.published()
        assert (await ask(server, NAME)).rcode() == dns.rcode.NXDOMAIN


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


async def test_the_apex_the_name_server_and_the_relay(server: RelayServer) -> None:
    assert texts(await ask(server, ZONE, "NS")) == [f"ns.{ZONE}."]
    assert texts(await ask(server, ZONE, "SOA"))[0].startswith(f"ns.{ZONE}. hostmaster.{ZONE}.")
    assert texts(await ask(server, f"ns.{ZONE}")) == ["127.0.0.1"]
    port = server.url.rpartition(":")[2]
    assert texts(await ask(server, f"_roam-relay._tcp.{ZONE}", "SRV")) == [
        f"0 0 {port} relay.{ZONE}."
    ]
    assert not (await ask(server, ZONE, "A")).answer


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


async def test_what_is_too_large_for_a_datagram_comes_by_tcp(server: RelayServer) -> None:
    message = update(server)
    for number in range(60):
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
    assert len(texts(whole)) == 60


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


# -- updates --------------------------------------------------------------------------------------


async def test_an_update_is_made_and_unmade(server: RelayServer) -> None:
    message = update(server)
    message.absent(NAME, "TXT")
    message.add(NAME, 30, "A", "192.0.2.1", "192.0.2.2")
    message.add(NAME, 30, "TXT", '"roam-relay/1" "seq=5"')
    assert await sent(server, message) == dns.rcode.NOERROR
    assert sorted(texts(await ask(server, NAME))) == ["192.0.2.1", "192.0.2.2"]
    message = update(server)
    message.present(NAME, "TXT", '"roam-relay/1" "seq=5"')
    message.delete(NAME, "A", "192.0.2.1")
    assert await sent(server, message) == dns.rcode.NOERROR
    assert texts(await ask(server, NAME)) == ["192.0.2.2"]
    message = update(server)
    message.delete(NAME)
    assert await sent(server, message) == dns.rcode.NOERROR
    assert (await ask(server, NAME)).rcode() == dns.rcode.NXDOMAIN


async def test_prerequisites(server: RelayServer) -> None:
    message = update(server)
    message.add(NAME, 30, "A", "192.0.2.1")
    assert await sent(server, message) == dns.rcode.NOERROR

    async def code(*, present: Sequence[str] = (), absent: Sequence[str] = ()) -> str:
        message = update(server)
        if present:
            message.present(*present)
        if absent:
            message.absent(*absent)
        message.add(NAME, 30, "A", "192.0.2.66")
        return str(dns.rcode.to_text(await sent(server, message)))

    assert await code(present=[f"e9.{NAME}"]) == "NXDOMAIN"
    assert await code(absent=[NAME]) == "YXDOMAIN"
    assert await code(present=[NAME, "AAAA"]) == "NXRRSET"
    assert await code(absent=[NAME, "A"]) == "YXRRSET"
    assert await code(present=[NAME, "A", "192.0.2.2"]) == "NXRRSET"
    assert await code(present=["elsewhere.example.", "A"]) == "NOTZONE"
    assert texts(await ask(server, NAME)) == ["192.0.2.1"], "all or nothing"
    assert await code(present=[NAME, "A", "192.0.2.1"]) == "NOERROR"
    assert await code(present=[ZONE + ".", "SOA"]) == "NOERROR"


async def test_what_an_update_may_not_do(server: RelayServer) -> None:
    others = f"{peer_name(MALLORY.guid, ZONE)}."

    async def code(*add: object, who: Identity | None = ALICE, zone: str = f"{ZONE}.") -> str:
        message = dns.update.UpdateMessage(zone)
        if who is not None:
            message.use_tsig(key_of(server, who))
        message.add(*add)
        return str(dns.rcode.to_text(await sent(server, message)))

    assert await code(NAME, 30, "A", "192.0.2.1", who=None) == "REFUSED"
    assert await code(others, 30, "A", "192.0.2.1") == "REFUSED"
    assert await code(f"{ZONE}.", 30, "A", "192.0.2.1") == "REFUSED"
    assert await code(f"ns.{ZONE}.", 30, "A", "192.0.2.1") == "REFUSED"
    assert await code("example.com.", 30, "A", "192.0.2.1") == "NOTZONE"
    assert await code(NAME, 30, "NS", "evil.example.") == "REFUSED"
    assert await code(f"x.{NAME}", 30, "CNAME", "evil.example.") == "REFUSED"
    assert await code("x.example.com.", 30, "A", "192.0.2.1", zone="example.com.") == "NOTAUTH"
    message = update(server)
    for number in range(1000):
        message.add(f"n{number}.{NAME}", 30, "A", "192.0.2.1")
    assert await sent(server, message) == dns.rcode.REFUSED
    message = update(server)
    for number in range(200):
        message.add(NAME, 30, "TXT", " ".join([f'"{number:03d}{"x" * 200}"']))
    assert await sent(server, message) == dns.rcode.REFUSED
    assert (await ask(server, NAME)).rcode() == dns.rcode.NXDOMAIN


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


async def raw(server: RelayServer, wire: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
    try:
        writer.write(len(wire).to_bytes(2, "big") + wire)
        async with asyncio.timeout(5):
            length = int.from_bytes(await reader.readexactly(2), "big")
            return await reader.readexactly(length)
    finally:
        writer.close()
        await writer.wait_closed()


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


async def test_deletions_and_additions_are_made_in_their_order(server: RelayServer) -> None:
    message = update(server)
    message.add(NAME, 30, "A", "192.0.2.1", "192.0.2.2", "192.0.2.3")
    message.delete(NAME, "A", "192.0.2.2")
    message.add(f"x.{NAME}", 30, "TXT", '"a"')
    message.delete(f"x.{NAME}")
    message.add(f"y.{NAME}", 99999, "TXT", '"b"')
    assert await sent(server, message) == dns.rcode.NOERROR
    assert sorted(texts(await ask(server, NAME))) == ["192.0.2.1", "192.0.2.3"]
    assert (await ask(server, f"x.{NAME}")).rcode() == dns.rcode.NXDOMAIN
    assert (await ask(server, f"y.{NAME}", "TXT")).answer[0].ttl == 3600


async def test_what_was_put_off_may_be_sent_again_as_it_is(server: RelayServer) -> None:
    assert server.dns is not None
    message = update(server)
    message.add(NAME, 30, "A", "192.0.2.1")
    wire = message.to_wire()
    messages = server.dns._messages
    messages._update_rates, kept = Rates(0.001, 0), messages._update_rates
    for _ in range(2):
        assert (await raw(server, wire))[3] & 0x0F == dns.rcode.REFUSED
    messages._update_rates = kept
    assert (await raw(server, wire))[3] & 0x0F == dns.rcode.NOERROR
    assert texts(await ask(server, NAME)) == ["192.0.2.1"]


async def test_any_port_is_one_that_is_free_for_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []
    listen = DnsServer._listen

    async def taken_once(self: DnsServer, loop: asyncio.AbstractEventLoop) -> None:
        tried.append(1)
        if len(tried) == 1:
            raise OSError("taken")
        await listen(self, loop)

    monkeypatch.setattr(DnsServer, "_listen", taken_once)
    async with serving() as server:
        assert port_of(server)
    assert len(tried) == 2


async def test_an_update_over_udp(server: RelayServer) -> None:
    message = update(server)
    message.add(NAME, 30, "A", "192.0.2.1")
    assert (await send(server, message)).rcode() == dns.rcode.NOERROR
    assert texts(await ask(server, NAME)) == ["192.0.2.1"]


async def test_the_higher_number_counts_of_registration_and_update(server: RelayServer) -> None:
    async with Peer(ALICE, server.url) as alice:
        alice.listen("chat")
        await alice.published()
        message = update(server)
        message.delete(NAME, "A")
        message.add(NAME, 30, "A", "192.0.2.77")
        message.replace(NAME, 30, "TXT", '"roam-relay/1" "seq=99999999999999"')
        assert await sent(server, message) == dns.rcode.NOERROR
        assert texts(await ask(server, NAME)) == ["192.0.2.77"]
        message = update(server)
        message.replace(NAME, 30, "TXT", '"roam-relay/1" "seq=1"')
        assert await sent(server, message) == dns.rcode.NOERROR
        assert texts(await ask(server, NAME)) == ["127.0.0.1"]
    assert texts(await ask(server, NAME)) == ["192.0.2.77"]


# -- faults and abuse -----------------------------------------------------------------------------


async def test_answers_are_limited_for_each_network() -> None:
    async with serving(answers_per_second=0.001, answers_burst=5) as server:
        for number in range(15):
            query = dns.message.make_query(ZONE, "SOA")
            # Every second one that is too many gets nothing; who is honest may come by TCP.
            silent = number in range(5, 15, 2)
            try:
                answer = await dns.asyncquery.udp(
                    query, "127.0.0.1", 0.1 if silent else 10, port_of(server)
                )
            except dns.exception.Timeout:
                assert silent, number
            else:
                assert not silent, number
                assert bool(answer.flags & dns.flags.TC) == (number >= 5)
        assert (await ask(server, ZONE, "SOA", tcp=True)).answer
        assert server.metrics.dns["udp", "limited"] == 10


async def test_answers_that_must_be_made_are_limited_for_everybody() -> None:
    async with serving(made_per_second=0.001) as server:
        cut = []
        for number in range(4):
            response = await ask(server, f"n{number}.{ZONE}")
            cut.append(bool(response.flags & dns.flags.TC))
        assert cut == [False, True, True, True]
        assert (await ask(server, f"n9.{ZONE}", tcp=True)).rcode() == dns.rcode.NXDOMAIN


async def test_a_response_and_a_scrap_are_never_answered(server: RelayServer) -> None:
    assert server.dns is not None
    response = dns.message.make_response(dns.message.make_query(ZONE, "SOA")).to_wire()
    for wire in (response, b"", b"x", b"\0" * 11):
        assert server.dns._messages.respond(wire, udp=True) is None


@settings(
    max_examples=of(400, 4000),
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
        response = server.dns._messages.respond(one, udp=True)
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


async def test_connections_are_bounded() -> None:
    async with serving(max_connections_per_address=2) as server:
        first = await asyncio.open_connection("127.0.0.1", port_of(server))
        second = await asyncio.open_connection("127.0.0.1", port_of(server))
        third, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(third.read(), 5) == b""
        for one in (first[1], second[1], writer):
            one.close()


@pytest.mark.expected_errors("cannot be stored")
async def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    async with serving(store=str(tmp_path / "dns.sqlite")) as server:
        message = update(server)
        message.add(NAME, 30, "A", "192.0.2.1")
        assert await sent(server, message) == dns.rcode.NOERROR
        assert server.dns is not None
        database = server.dns._store._database
        assert database is not None
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")
        message = update(server)
        for number in range(150):
            message.add(f"n{number}.{NAME}", 30, "TXT", '"' + "x" * 150 + '"')
        message.delete(NAME, "A")
        assert await sent(server, message) == dns.rcode.SERVFAIL
        assert texts(await ask(server, NAME)) == ["192.0.2.1"]
        assert (await ask(server, f"n1.{NAME}", "TXT")).rcode() == dns.rcode.NXDOMAIN
    async with serving(store=str(tmp_path / "dns.sqlite")) as server:
        assert texts(await ask(server, NAME)) == ["192.0.2.1"]


async def test_what_is_old_is_dropped(tmp_path: Path) -> None:
    now = 1000.0
    store = DnsStore(str(tmp_path / "dns.sqlite"), clock=lambda: now)
    await store.open(60.0)
    await store.put("a", {("x", "A"): (30, ("192.0.2.1",))})
    now = 1050.0
    await store.put("b", {("x", "A"): (30, ("192.0.2.1",))})
    now = 1065.0
    assert await store.drop_old(60.0) == ["a"]
    await store.close()
    again = DnsStore(str(tmp_path / "dns.sqlite"), clock=lambda: now)
    assert list(await again.open(60.0)) == ["b"]
    await again.close()


async def test_a_store_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "dns.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match=r"cannot use the store .*dns\.sqlite"):
        async with serving(store=str(tmp_path / "dns.sqlite")):
            pass
    with pytest.raises(ConfigError, match="cannot use the store"):
        async with serving(store=str(tmp_path / "no" / "folder")):
            pass


# -- real tools -----------------------------------------------------------------------------------


async def run(*arguments: str, text: str = "") -> str:
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    async with asyncio.timeout(30):
        out, _ = await process.communicate(text.encode())
    return out.decode()


async def test_dig_and_nsupdate(server: RelayServer, tmp_path: Path) -> None:
    key = tmp_path / "alice.tsig"
    key.write_text(key_file_text(NAME.rstrip("."), key_of(server).secret))
    port = str(port_of(server))
    script = (
        f"server 127.0.0.1 {port}\nzone {ZONE}\nprereq nxdomain {NAME}\n"
        f"update add {NAME} 30 A 192.0.2.1\nupdate add _chat._tcp.{NAME} 30 SRV 0 0 22 {NAME}\n"
        "send\n"
    )
    for way in ([], ["-v"]):
        out = await run(need("nsupdate"), *way, "-k", str(key), text=script)
        if way:
            assert "YXDOMAIN" in out
        else:
            assert out == "", out
    out = await run(need("dig"), "-p", port, "@127.0.0.1", f"_chat._tcp.{NAME}", "SRV")
    assert "status: NOERROR" in out
    assert "flags: qr aa rd; " in out
    assert f"0 0 22 {NAME}" in out
    out = await run(need("dig"), "+tcp", "+short", "-p", port, "@127.0.0.1", NAME)
    assert out == "192.0.2.1\n"
    out = await run(
        need("nsupdate"),
        "-y",
        f"hmac-sha256:{NAME}:{base64.b64encode(b'wrong').decode()}",
        text=script.replace("nxdomain", "yxdomain"),
    )
    assert "BADSIG" in out or "NOTAUTH" in out


async def test_our_own_peers_register_and_find_each_other_there(server: RelayServer) -> None:
    from peers import DdnsConfig

    def ddns(identity: Identity | None) -> DdnsConfig:
        key = base64.b64encode(key_of(server, identity).secret).decode() if identity else None
        return DdnsConfig(zone=ZONE, server=f"127.0.0.1:{port_of(server)}", key=key)

    def config(identity: Identity | None) -> PeerConfig:
        return PeerConfig(ddns=ddns(identity), sources=("127.0.0.1",))

    async with (
        Peer(ALICE, config=config(ALICE)) as alice,
        Peer(MALLORY, config=config(None)) as bob,
    ):
        listener = alice.listen("chat")
        await alice.published()
        session = await bob.connect(ALICE.guid, "chat")
        await asyncio.wait_for(anext(listener), 5)
        await session.close()
        by_domain = Peer(
            Identity.generate(),
            config=PeerConfig(
                relay=f"dns:{ZONE}",
                ddns=DdnsConfig(zone=ZONE, nameservers=(f"127.0.0.1:{port_of(server)}",)),
            ),
        )
        async with by_domain as carol:
            assert carol.relay_guid == server.guid
    assert (await ask(server, NAME)).rcode() == dns.rcode.NXDOMAIN
