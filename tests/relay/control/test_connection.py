"""Control connections: the handshake, and what bad input gets."""

import socket
import struct

import pytest

from protocol.codec import encode, encode_location
from protocol.errors import Code
from protocol.identity import Identity
from protocol.messages import (
    Error,
    LocationRecord,
    Mode,
    PeerState,
    Ping,
    Pong,
    Registered,
    ServiceAnswer,
    ServiceRecord,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Update,
    Verdict,
)
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.relay.client import Client, client, registered

SESSION = b"s" * 16


def request(callee: Client, number: int = 1, mode: Mode = Mode.COMBINED, timeout: float = 5.0):
    return ServiceRequestTo(number, callee.identity.guid, "chat", mode, SESSION, (), timeout)


async def test_registered_tells_the_observed_address(relay: RelayServer) -> None:
    async with client(relay.url) as one:
        challenge = await one.hello()
        assert challenge.guid == relay.guid
        answer = await one.register("chat", seq=7)
        assert (answer.seq, answer.observed_host) == (7, "127.0.0.1")
        assert answer.observed_port == one.writer.get_extra_info("sockname")[1]


async def test_wrong_signature(relay: RelayServer) -> None:
    async with client(relay.url) as one:
        await one.hello()
        register = one.signed_register(encode_location(one.record("chat")))
        one.send(type(register)(register.location, bytes(64)))
        assert (await one.expect(Error)).code is Code.BAD_SIGNATURE
        assert await one.closed()


async def test_replayed_registration(relay: RelayServer) -> None:
    async with registered(relay.url, "chat") as victim:
        async with client(relay.url) as thief:
            await thief.hello(guid=victim.identity.guid, instance=victim.instance)
            thief.send_bytes(victim.sent[-1])
            assert (await thief.expect(Error)).code is Code.BAD_SIGNATURE
        victim.send(Ping(3))
        assert (await victim.expect(Pong)).ping == 3


@pytest.mark.parametrize("guid", ["a" * 51 + "1", "a" * 51 + "b", "A" * 52])
async def test_no_guid(relay: RelayServer, guid: str) -> None:
    async with client(relay.url) as one:
        with pytest.raises(AssertionError):
            await one.hello(guid=guid)
        assert relay.metrics.closes[Code.BAD_GUID.value] == 1


async def test_someone_elses_entry(relay: RelayServer) -> None:
    async with client(relay.url) as one, client(relay.url) as other:
        await one.hello()
        record = LocationRecord(1, (ServiceRecord("chat", (other.entry("chat", 1),)),))
        one.send(one.signed_register(encode_location(record)))
        assert (await one.expect(Error)).code is Code.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xc1", Code.BAD_MESSAGE),
        (b"\x93\x01\x02\x03", Code.BAD_MESSAGE),
        (b"\x81\xa1a\x01", Code.BAD_MESSAGE),
        (b"\x81\xa4type\xa8register", Code.BAD_MESSAGE),
        (b"\x91" * 5000, Code.BAD_MESSAGE),
        (b"\xdd\xff\xff\xff\xff", Code.BAD_MESSAGE),
        (b"\xdf\xff\xff\xff\xff", Code.BAD_MESSAGE),
        (b"\xdb\xff\xff\xff\xff" + b"x" * 66_000, Code.MESSAGE_TOO_LARGE),
        (b"\xc6\xff\xff\xff\xff" + b"x" * 66_000, Code.MESSAGE_TOO_LARGE),
        (b"\x81\xa4type\xdb\x00\x00\x10\x01" + b"x" * 4097, Code.BAD_MESSAGE),
        (b"\x82\xa4type\xa4ping\xa1x\xc5\xff\xff" + b"x" * 70_000, Code.MESSAGE_TOO_LARGE),
        (encode(Pong(1)), Code.UNEXPECTED_MESSAGE),
        (encode(Ping(1)), Code.UNEXPECTED_MESSAGE),
    ],
)
async def test_bad_input_gets_its_code_and_harms_nobody(
    relay: RelayServer, data: bytes, code: Code
) -> None:
    async with registered(relay.url) as other, client(relay.url) as one:
        one.send_bytes(data)
        assert (await one.expect(Error)).code is code
        assert await one.closed()
        other.send(Ping(1))
        assert (await other.expect(Pong)).ping == 1


async def test_unknown_type_is_survived(relay: RelayServer) -> None:
    async with registered(relay.url) as one:
        one.send_bytes(b"\x81\xa4type\xa6future")
        assert (await one.expect(Error)).code is Code.UNKNOWN_TYPE
        one.send(Ping(1))
        await one.expect(Pong)


async def test_silent_client() -> None:
    config = RelayConfig(port=0, handshake_timeout=0.5)
    async with RelayServer(config) as relay, client(relay.url) as one:
        assert (await one.expect(Error)).code is Code.HANDSHAKE_TIMEOUT
        assert await one.closed()


async def test_who_registers_late_is_told_the_number_in_force(relay: RelayServer) -> None:
    identity = Identity.generate()
    async with client(relay.url, identity) as one:
        await one.register("chat", seq=2**61)
    async with client(relay.url, identity) as two:
        await two.hello()
        two.send(two.signed_register(encode_location(two.record("chat", seq=10))))
        refused = await two.expect(Error)
        assert (refused.code, refused.seq) == (Code.STALE_SEQUENCE, 2**61)
        assert await two.closed()


async def test_stale_update_is_refused_and_survived(relay: RelayServer) -> None:
    async with client(relay.url) as one:
        await one.register("chat", seq=10)
        one.send(Update(encode_location(one.record("mail", seq=9))))
        refused = await one.expect(Error)
        assert (refused.code, refused.seq) == (Code.STALE_SEQUENCE, 10)
        one.send(Update(encode_location(one.record("mail", seq=11))))
        assert (await one.expect(Registered)).seq == 11
        assert list(relay.registry.get(one.identity.guid).services) == ["mail"]  # type: ignore[union-attr]


async def test_same_instance_takes_over_and_its_old_exit_removes_nothing(
    relay: RelayServer,
) -> None:
    identity = Identity.generate()
    async with client(relay.url, identity) as old, client(relay.url, identity) as new:
        new.instance = old.instance
        await old.register("chat")
        await new.register("chat")
        assert (await old.expect(Error)).code is Code.SUPERSEDED
        assert await old.closed()
        assert relay.registry.counts(0.0)["online"] == 1
        new.send(Ping(1))
        await new.expect(Pong)


async def test_flows_of_one_instance_live_together_and_a_clone_ends_them(
    relay: RelayServer,
) -> None:
    identity = Identity.generate()
    async with client(relay.url, identity) as first, client(relay.url, identity) as second:
        second.instance = first.instance
        await first.register("chat")
        await second.hello(flow=1)
        await second.register("chat")
        first.send(Ping(1))
        await first.expect(Pong)
        async with client(relay.url, identity) as clone:
            await clone.register("chat")
            assert (await first.expect(Error)).code is Code.SUPERSEDED
            assert (await second.expect(Error)).code is Code.SUPERSEDED


async def test_lost_peer_is_suspect_and_a_closed_one_is_offline(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        # A reset, as from a network that is gone: an orderly end would mean offline at once.
        sock = bob.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        bob.writer.transport.abort()
        state = PeerState.ONLINE
        while state is PeerState.ONLINE:
            alice.send(ServiceRequestTo(1, bob.identity.guid, "chat", Mode.P2P, SESSION))
            answer = await alice.expect(ServiceResponse)
            state = answer.state
            assert answer.state is not None
        assert (state, answer.code) == (PeerState.SUSPECT, Code.PEER_OFFLINE)
        assert answer.last_seen is not None
        assert answer.last_seen < 10


async def test_a_peer_that_is_doubted_is_pinged_and_must_say_something(relay: RelayServer) -> None:
    async with registered(relay.url, "chat") as here, registered(relay.url, "chat") as gone:
        connections = {one.guid: one for one in relay.connections}
        silent, lives = connections[gone.identity.guid], connections[here.identity.guid]
        now = max(silent.heard, lives.heard) + 1.0
        for one in (silent, lives):
            for later in (0.0, 0.1, 1.0):
                one.doubt(now + later)
        assert (await here.expect(Ping)).ping == 0
        here.send(Ping(7))
        assert (await here.expect(Pong)).ping == 7, "one ping and no second came before"
        lives.heard = now + 1.0
        for one in (silent, lives):
            one.watch_time(now + 11.9)
            assert not one.is_closed
            one.watch_time(now + 12.0)
        assert (silent.is_closed, lives.is_closed) == (True, False)
        assert relay.metrics.closes[Code.HEARTBEAT_TIMEOUT.value] == 1
        silent.doubt(now)
        lives.doubt(now + 9.0)
        assert (await here.expect(Ping)).ping == 0, "it may be doubted again"


async def test_who_waits_for_a_silent_peer_is_told_and_the_peer_has_more_time(
    relay: RelayServer,
) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        alice.send(ServiceRequestTo(1, bob.identity.guid, "chat", Mode.CENTRAL, SESSION))
        request = await bob.expect(ServiceRequestFrom)
        callee = next(one for one in relay.connections if one.guid == bob.identity.guid)
        now = callee.heard + 1.0
        callee.doubt(now)
        callee.watch_time(now + 6.0)
        answer = await alice.expect(ServiceResponse)
        assert (answer.code, answer.state) == (Code.PEER_OFFLINE, PeerState.SUSPECT)
        callee.watch_time(now + 11.9)
        assert not callee.is_closed
        # The link was slow: what comes late is late, and the peer is as it was.
        bob.send(ServiceAnswer(request.request, Verdict.ACCEPTED))
        assert (await bob.expect(Error)).code is Code.UNKNOWN_REQUEST
        callee.heard = now + 11.9
        callee.watch_time(now + 12.0)
        # From now on it has three times as long.
        callee.doubt(now + 20.0)
        callee.watch_time(now + 20.0 + 15.0)
        assert not callee.is_closed


async def test_a_peer_that_comes_back_is_asked_what_waited_once_it_is_registered(
    relay: RelayServer,
) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        alice.send(ServiceRequestTo(1, bob.identity.guid, "chat", Mode.CENTRAL, SESSION))
        await bob.expect(ServiceRequestFrom)
        async with registered(relay.url, "chat", identity=bob.identity) as again:
            # `registered` has waited for that message, and nothing came before it.
            assert (await again.expect(ServiceRequestFrom)).session == SESSION
