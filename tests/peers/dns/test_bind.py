"""Peers and BIND 9, with the configuration that docs/ddns.md shows."""

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.tsig
import pytest

from peers import (
    DdnsConfig,
    Identity,
    Mode,
    NameServerUnavailable,
    PathFailed,
    PathKind,
    Peer,
    PeerConfig,
    RelayUnavailable,
    UnknownPeer,
    UnknownService,
    UpdateRefused,
)
from peers.config import ModeWord
from peers.dns import Names
from peers.dns import tsig as peers_tsig
from peers.dns.client import Clock
from peers.dns.primary import Primary
from peers.location import Found, Hosts
from protocol.dns_records import location_record_sets, peer_name, read_zone_record
from protocol.endpoint import Entry, Phase, Provenance, sign_entry
from relay.config import DnsConfig, RelayConfig
from relay.server import RelayServer
from tests.support.addresses import Addresses
from tests.support.name_server import fake
from tests.support.named import ZONE, Named, named, need
from tests.support.rooms import rooms

SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
ALICE = Identity.generate()
ALICES = peer_name(ALICE.guid, ZONE)
KEY = dns.tsig.Key(ALICES, SECRET, "hmac-sha256")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Named]:
    with named(tmp_path, [KEY]) as running:
        yield running


def ddns(server: Named, *, key: str | None = SECRET, **more: object) -> DdnsConfig:
    return DdnsConfig(zone=ZONE, server=server.server, key=key, **more)  # type: ignore[arg-type]


def peer(
    server: Named,
    identity: Identity,
    *,
    key: str | None = SECRET,
    host: str = "127.0.0.1",
    addresses: Addresses | None = None,
    **more: object,
) -> Peer:
    config = PeerConfig(
        ddns=ddns(server, key=key, timeout=2.0),
        listen_hosts=("127.0.0.1", "127.0.51.1", "127.0.51.2"),
        sources=(host,) if addresses is None else ("127.0.51.1", "127.0.51.2"),
        **more,  # type: ignore[arg-type]
    )
    return Peer(identity, config=config, addresses=addresses)


def caller(server: Named, **more: object) -> Peer:
    return peer(server, Identity.generate(), key=None, **more)


def dig(server: Named, name: str, kind: str) -> list[str]:
    done = subprocess.run(
        [need("dig"), "+short", "-p", str(server.port), "@127.0.0.1", name, kind],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return done.stdout.splitlines()


async def test_a_session_without_any_relay(server: Named) -> None:
    async with peer(server, ALICE) as alice, caller(server) as bob:
        listener = alice.listen("chat")
        await alice.published()
        session = await bob.connect(ALICE.guid, "chat")
        assert session.mode is Mode.P2P
        assert session.path is not None
        assert session.path.kind is PathKind.DIRECT
        callee = await asyncio.wait_for(anext(listener), 60)
        await session.send(b"by name alone")
        assert await callee.receive() == b"by name alone"
        assert "by the DNS" in str(session.explain())
        port = alice.port
        assert dig(server, ALICES, "A") == ["127.0.0.1"]
        assert dig(server, f"_chat._tcp.{ALICES}", "SRV") == [f"0 0 {port} e0.{ALICES}."]
        assert dig(server, f"e0.{ALICES}", "A") == ["127.0.0.1"]
        assert len(dig(server, f"_chat._tcp.{ALICES}", "TXT")) == 1
        located = await bob.locate(ALICE.guid, "chat")
        assert located.source == "dns"
        assert [str(entry.endpoint) for entry in located.entries] == [f"127.0.0.1:{port}"]
        await session.close()
    for name, kind in ((ALICES, "A"), (ALICES, "TXT"), (f"_chat._tcp.{ALICES}", "SRV")):
        assert dig(server, name, kind) == [], "withdrawn"


async def test_services_come_and_go_as_whole_sets(server: Named) -> None:
    async with peer(server, ALICE) as alice, caller(server) as bob:
        first = alice.listen("chat")
        alice.listen("hidden", disclose="nobody")
        await alice.published()
        with pytest.raises(UnknownService):
            await bob.locate(ALICE.guid, "hidden")
        with pytest.raises(UnknownPeer):
            await bob.locate(bob.guid, "chat")
        first.close()
        alice.listen("mail")
        await alice.published()
        assert dig(server, f"_chat._tcp.{ALICES}", "SRV") == []
        assert dig(server, f"_chat._tcp.{ALICES}", "TXT") == []
        assert len(dig(server, f"_mail._tcp.{ALICES}", "SRV")) == 1


async def test_after_a_crash_the_next_start_replaces_everything(
    server: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(names: Names) -> None:
        """The records stay, as after kill -9."""

    async with peer(server, ALICE) as alice:
        alice.listen("one")
        await alice.published()
        monkeypatch.setattr(Names, "withdraw", dies)
    monkeypatch.undo()
    assert len(dig(server, f"_one._tcp.{ALICES}", "SRV")) == 1
    async with peer(server, ALICE) as alice:
        alice.listen("two")
        await alice.published()
        assert dig(server, f"_one._tcp.{ALICES}", "SRV") == []
        assert len(dig(server, f"_two._tcp.{ALICES}", "SRV")) == 1


async def test_a_late_update_from_the_old_place_changes_nothing(
    server: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    sign = peers_tsig.sign

    def keep(message: dns.message.Message, key: dns.tsig.Key, now: float) -> peers_tsig.Signed:
        signed = sign(message, key, now)
        if message.opcode() == dns.opcode.UPDATE:
            sent.append(signed.wire)
        return signed

    monkeypatch.setattr(peers_tsig, "sign", keep)
    async with peer(server, ALICE) as alice:
        alice.listen("chat")
        await alice.published()
        alice.listen("mail")
        await alice.published()
        before = dig(server, ALICES, "TXT")
        for late in sent:
            wire = await asyncio.to_thread(_send, server.port, late)
            assert wire[3] & 0x0F in (7, 8), "YXRRSET or NXRRSET"
        assert dig(server, ALICES, "TXT") == before


def _send(port: int, wire: bytes) -> bytes:
    import socket
    import struct

    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(struct.pack("!H", len(wire)) + wire)
        (length,) = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))
        return connection.recv(length, socket.MSG_WAITALL)


@pytest.mark.parametrize("offset", [-600, 600, -1_700_000_000])
async def test_a_wrong_clock_is_corrected_by_the_servers(server: Named, offset: int) -> None:
    clock = Clock(offset)
    primary = Primary(ALICE.guid, ddns(server), KEY, clock)
    found = await primary.look()
    reply = await primary.update(found, location_record_sets(ALICE.guid, ZONE, 7, {}))
    assert reply.code == dns.rcode.NOERROR
    assert abs(clock.offset) < 60
    assert (await primary.look()).record.seq == 7


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"key": "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3I="}, "BADSIG.*anew"),
        ({"key": SECRET, "key_name": f"other.{ZONE}"}, "BADKEY.*does not know"),
        ({"key": SECRET, "zone": "elsewhere.example"}, "NOTAUTH|REFUSED"),
    ],
)
async def test_a_refusal_says_what_to_do(server: Named, config: dict[str, str], match: str) -> None:
    settings = {"zone": ZONE, "server": server.server, "timeout": 2.0} | config
    async with Peer(ALICE, ddns=DdnsConfig(**settings)) as alice:  # type: ignore[arg-type]
        alice.listen("chat")
        with pytest.raises((UpdateRefused, NameServerUnavailable), match=match):
            await alice.published()


async def test_a_key_cannot_change_another_name(server: Named) -> None:
    config = DdnsConfig(zone=ZONE, server=server.server, key=SECRET, key_name=ALICES)
    async with Peer(Identity.generate(), ddns=config) as mallory:
        mallory.listen("chat")
        with pytest.raises(UpdateRefused, match=r"REFUSED.*own name"):
            await mallory.published()
    assert dig(server, peer_name(mallory.guid, ZONE), "TXT") == []


async def test_another_instance_takes_over_and_the_first_stops(server: Named) -> None:
    async with peer(server, ALICE) as first:
        first.listen("chat")
        await first.published()
        async with peer(server, ALICE) as second:
            second.listen("chat")
            await second.published()
            port = second.port
            first.listen("mail")
            with pytest.raises(UpdateRefused, match="another instance"):
                await first.published()
            assert dig(server, f"_chat._tcp.{ALICES}", "SRV") == [f"0 0 {port} e0.{ALICES}."]


async def test_a_relay_s_own_zone_says_under_its_signature_what_it_holds() -> None:
    dns_config = DnsConfig(zone=ZONE, port=0)
    async with RelayServer(RelayConfig(port=0, dns=dns_config)) as relay:
        assert relay.dns is not None
        config = DdnsConfig(zone=ZONE, server=f"127.0.0.1:{relay.dns.port}")
        clock = Clock(-600)
        primary = Primary(ALICE.guid, config, relay.dns.keys.key(ALICE.guid), clock)
        nothing = await primary.look()
        assert await primary.confirm(0) == (nothing, False)
        assert abs(clock.offset) < 60
        entry = Entry(7, "chat", "127.0.0.1", 9, Phase.PREFERRED, 120, Provenance.INTERFACE)
        services = {"chat": [sign_entry(ALICE, entry)]}
        sets = location_record_sets(ALICE.guid, ZONE, 7, services)
        reply = await primary.update(nothing, sets)
        assert (reply.code, reply.obstacle) == (dns.rcode.NOERROR, "")
        for above, proven in (6, True), (7, False):
            held, is_proven = await primary.confirm(above)
            assert (held.record.seq, is_proven) == (7, proven)


async def test_records_of_other_tools_are_hints(server: Named, tmp_path: Path) -> None:
    async with peer(server, ALICE, key=None) as alice, caller(server) as bob:
        listener = alice.listen("chat")
        await _nsupdate(
            server,
            tmp_path,
            f"update add where.{ALICES} 30 A 127.0.0.1",
            f"update add _chat._tcp.{ALICES} 30 SRV 0 0 {alice.port} where.{ALICES}",
        )
        located = await bob.locate(ALICE.guid, "chat")
        assert located.source == "dns, not signed"
        session = await bob.connect(ALICE.guid, "chat")
        await asyncio.wait_for(anext(listener), 60)
        assert "not signed" in str(session.explain())
        await session.close()


async def test_entries_that_others_signed_are_not_dialed(server: Named, tmp_path: Path) -> None:
    other = Identity.generate()
    from protocol.dns_records import entry_text
    from protocol.endpoint import Entry, Phase, Provenance, sign_entry

    entry = Entry(1, "chat", "127.0.0.1", 9, Phase.PREFERRED, 120, Provenance.INTERFACE)
    async with caller(server) as bob:
        await _nsupdate(
            server,
            tmp_path,
            f"update add _chat._tcp.{ALICES} 30 TXT {entry_text(sign_entry(other, entry))}",
        )
        with pytest.raises(PathFailed, match="the signature is not that of"):
            await bob.connect(ALICE.guid, "chat")


async def _nsupdate(server: Named, folder: Path, *lines: str) -> None:
    (folder / "update.key").write_text(
        f'key "{ALICES}" {{ algorithm hmac-sha256; secret "{SECRET}"; }};\n'
    )
    script = "\n".join([f"server 127.0.0.1 {server.port}", f"zone {ZONE}", *lines, "send", ""])
    done = await asyncio.to_thread(
        subprocess.run,
        [need("nsupdate"), "-v", "-k", str(folder / "update.key")],
        input=script,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def test_a_peer_is_found_that_a_cache_says_does_not_exist(server: Named) -> None:
    """The caller has asked a moment too early; its resolver keeps "there is none" (RFC 2308)."""

    def none(query: dns.message.Message) -> list[bytes]:
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.NXDOMAIN)
        return [response.to_wire()]

    async with fake(none) as (cache, _):
        config = PeerConfig(
            ddns=ddns(server, key=None, timeout=2.0, nameservers=(str(cache),)),
            listen_hosts=("127.0.0.1",),
            sources=("127.0.0.1",),
        )
        async with Peer(Identity.generate(), config=config) as bob:
            with pytest.raises(UnknownPeer):
                await bob.connect(ALICE.guid, "chat")
            waiting = asyncio.create_task(bob.connect(ALICE.guid, "chat", wait=True))
            async with peer(server, ALICE) as alice:
                alice.listen("chat")
                await alice.published()
                session = await bob.connect(ALICE.guid, "chat")
                await session.close()
                waited = await asyncio.wait_for(waiting, 60)
                await waited.close()


async def test_what_is_kept_serves_while_the_server_is_silent(server: Named) -> None:
    async with peer(server, ALICE) as alice, caller(server) as bob:
        listener = alice.listen("chat")
        await alice.published()
        session = await bob.connect(ALICE.guid, "chat")
        await session.close()
        names = rooms(bob).names
        assert names is not None
        names.lookup.distrust(ALICE.guid, "chat")  # As if its lifetime were over.
        server.pause()
        try:
            session = await bob.connect(ALICE.guid, "chat")
            assert "too old" in str(session.explain())
            async with asyncio.timeout(60):
                while (await anext(listener)).id != session.id:
                    pass
            with pytest.raises(NameServerUnavailable):
                await bob.connect(Identity.generate().guid, "chat")
        finally:
            server.resume()
        await session.close()


async def test_what_is_kept_and_leads_nowhere_is_asked_anew(server: Named) -> None:
    async with caller(server) as bob:
        async with peer(server, ALICE) as alice:
            alice.listen("chat")
            await alice.published()
            session = await bob.connect(ALICE.guid, "chat")
            await session.close()
        async with peer(server, ALICE) as alice:
            listener = alice.listen("chat")
            await alice.published()
            session = await bob.connect(ALICE.guid, "chat")
            assert (await asyncio.wait_for(anext(listener), 60)).id == session.id
            assert "what was known led nowhere" in str(session.explain())
            await session.close()


async def test_a_caller_that_comes_too_early_after_a_move_asks_again(
    server: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cache and zone both hold the old address, where nobody is any more."""

    async def dies(names: Names) -> None:
        """The records stay, as after kill -9."""

    async with caller(server) as bob:
        with monkeypatch.context() as patched:
            async with peer(server, ALICE) as alice:
                alice.listen("chat")
                await alice.published()
                patched.setattr(Names, "withdraw", dies)
        names = rooms(bob).names
        assert names is not None
        asked: list[bool] = []
        find = names.lookup.find

        async def counted(guid: str, service: str, *, fresh: bool = False) -> Found:
            asked.append(fresh)
            return await find(guid, service, fresh=fresh)

        monkeypatch.setattr(names.lookup, "find", counted)
        connecting = asyncio.create_task(bob.connect(ALICE.guid, "chat"))
        async with asyncio.timeout(60):
            while len(asked) < 3:
                await asyncio.sleep(0.01)
        assert asked == [False, True, True]
        async with peer(server, ALICE) as alice:
            alice.listen("chat")
            session = await asyncio.wait_for(connecting, 60)
            assert "what was known led nowhere" in str(session.explain())
            await session.close()


async def test_a_session_finds_its_next_path_by_the_dns(server: Named) -> None:
    """The callee has moved, and nothing but the zone tells the caller where to."""
    addresses = Addresses(["127.0.51.1", "127.0.51.2"])
    async with peer(server, ALICE, addresses=addresses) as alice, caller(server) as bob:
        listener = alice.listen("chat")
        await alice.published()
        session = await bob.connect(ALICE.guid, "chat")
        callee = await asyncio.wait_for(anext(listener), 60)
        assert session.path is not None
        assert session.path.remote.startswith("127.0.51.1")
        rooms(alice).sessions.network_changed = lambda gone: None  # type: ignore[method-assign]
        addresses.set("127.0.51.2")
        async with asyncio.timeout(60):
            while dig(server, ALICES, "A") != ["127.0.51.2"]:
                await asyncio.sleep(0.02)
        # Neither what was told on the path, nor the callee's own search.
        for end in (bob, alice):
            route = rooms(end).sessions.find(session.id)
            assert route is not None
            route.remote_entries = ()
        callee._tell = lambda news: None
        for number in range(100):
            await session.send(b"%d" % number)
        session.drop_path("the test has cut it")
        for number in range(100):
            assert await asyncio.wait_for(callee.receive(), 60) == b"%d" % number
        # The data has come with the hello, half a round trip before its sender is welcomed.
        async with asyncio.timeout(60):
            async for event in session.events():
                if event.path is not None and event.path.remote.startswith("127.0.51.2"):
                    break
        assert "by the DNS" in str(session.explain())
        await session.close()


@pytest.mark.parametrize("lookup", ["relay", "dns"])
async def test_relay_and_dns_stand_in_for_each_other(server: Named, lookup: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer(RelayConfig(port=0)))
        more = {"relay": relay.url, "lookup": lookup}
        alice = await stack.enter_async_context(peer(server, ALICE, **more))
        bob = await stack.enter_async_context(caller(server, **more))
        alice.listen("chat")
        await alice.published()
        asked: list[str] = []
        _spy(bob, asked)
        session = await bob.connect(ALICE.guid, "chat", mode="p2p")
        assert asked == [lookup]
        await session.close()
        server.pause()
        try:
            rooms(bob).names.lookup._kept.clear()  # type: ignore[union-attr]
            session = await bob.connect(ALICE.guid, "chat", mode="p2p")
            assert asked[-1] == "relay"
            await session.close()
        finally:
            server.resume()
        await relay.__aexit__(None, None, None)
        for mode in ("p2p", "combined", "auto"):
            session = await bob.connect(ALICE.guid, "chat", mode=mode)
            assert session.mode is Mode.P2P
            assert asked[-1] == "dns"
            await session.close()
        with pytest.raises(RelayUnavailable):
            await bob.connect(ALICE.guid, "chat", mode="central", timeout=1)


def _spy(peer: Peer, asked: list[str]) -> None:
    def spied(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object, **more: object) -> object:
            asked.append(name)
            return call(*arguments, **more)

        return wrapped

    registration = rooms(peer).registration
    registration.ask = spied("relay", registration.ask)  # type: ignore[method-assign,assignment]
    lookup = rooms(peer).names.lookup  # type: ignore[union-attr]
    lookup.find = spied("dns", lookup.find)  # type: ignore[method-assign,assignment]


async def test_waiting_for_a_peer_that_is_not_there_yet(server: Named) -> None:
    async with caller(server) as bob:
        waiting = asyncio.ensure_future(bob.connect(ALICE.guid, "chat", wait=True))
        async with peer(server, ALICE) as alice:
            alice.listen("chat")
            session = await asyncio.wait_for(waiting, 15)
            await session.close()


@pytest.mark.parametrize("mode", ["auto", "p2p"])
async def test_waiting_with_a_relay_for_a_peer_that_registers_by_the_dns_alone(
    server: Named, relay: RelayServer, mode: ModeWord
) -> None:
    async with caller(server, relay=relay.url) as bob:
        with pytest.raises(UnknownPeer):
            await bob.connect(ALICE.guid, "chat", mode=mode)
        waiting = asyncio.ensure_future(bob.connect(ALICE.guid, "chat", mode=mode, wait=True))
        async with peer(server, ALICE) as alice:
            listener = alice.listen("chat")
            session = await asyncio.wait_for(waiting, 60)
            assert session.mode is Mode.P2P
            assert (await anext(listener)).id == session.id
            await session.close()
            without = await bob.connect(ALICE.guid, "chat", mode=mode)
            await without.close()
            located = await bob.locate(ALICE.guid, "chat")
            assert located.source == "dns"


def test_the_documented_number_is_readable() -> None:
    assert read_zone_record([b"roam-relay/1", b"seq=12", b"service=chat"]) is not None


async def test_more_services_than_one_message_holds_are_a_clear_error(server: Named) -> None:
    async with peer(server, ALICE) as alice:
        rooms(alice).location._configured = tuple(f"192.0.2.{last}" for last in range(1, 15))
        rooms(alice).location.update(Hosts())
        for number in range(40):
            alice.listen(f"service-{number}")
        with pytest.raises(UpdateRefused, match="too many services"):
            await alice.published()


async def test_watching_needs_a_relay(server: Named) -> None:
    async with caller(server) as bob:
        with pytest.raises(RelayUnavailable, match="none is configured"):
            bob.watch(ALICE.guid)
