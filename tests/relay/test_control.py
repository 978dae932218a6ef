"""Control connections: the handshake, and what bad input gets."""

import asyncio
import socket
import struct

import aiohttp
import pytest

from protocol.codec import encode, encode_location
from protocol.errors import Code
from protocol.identity import Identity
from protocol.messages import (
    WEBSOCKET_PROTOCOL,
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
from relay.server import RelayServer
from tests.relay.client import Client, client, registered

SESSION = b"s" * 16


def request(callee: Client, number: int = 1, mode: Mode = Mode.COMBINED, timeout: float = 5.0):
    return ServiceRequestTo(number, callee.identity.guid, "chat", mode, SESSION, (), timeout)


async def test_a_frozen_peer_hinders_nobody_and_is_aborted(relay: RelayServer) -> None:
    async with (
        registered(relay.url) as alice,
        registered(relay.url, "chat") as bob,
        registered(relay.url, "chat") as cathy,
    ):
        assert cathy.identity.guid
        cathy.writer.transport.pause_reading()
        # Far more than the sockets' buffers and her outbox hold; nobody waits for her.
        connection = relay.registry.get(cathy.identity.guid).primary  # type: ignore[union-attr]
        reason = "r" * 500
        while not connection.is_closed:  # type: ignore[union-attr]
            connection.send(Error(Code.INTERNAL, reason))  # type: ignore[union-attr]
            await asyncio.sleep(0)
        assert relay.metrics.closes[Code.SLOW_CONSUMER.value] == 1
        alice.send(request(bob))
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED, "", (bob.entry("chat", 1),)))
        answer = await alice.expect(ServiceResponse)
        assert answer.code is None
        assert len(answer.entries) == 1
        alice.send(request(cathy, 2))
        assert (await alice.expect(ServiceResponse)).code is Code.PEER_OFFLINE


async def test_the_write_deadline_aborts_a_peer_that_stops_reading(relay: RelayServer) -> None:
    async with registered(relay.url) as cathy:
        cathy.writer.transport.pause_reading()
        connection = relay.registry.get(cathy.identity.guid).primary  # type: ignore[union-attr]
        carrier = connection._carrier  # type: ignore[union-attr]
        while not carrier._paused:
            connection.send(Error(Code.INTERNAL, "r" * 500))  # type: ignore[union-attr]
            await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.shield(carrier.closed), 5)
        assert relay.metrics.closes[Code.SLOW_CONSUMER.value] == 1


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


async def test_silent_client(relay: RelayServer) -> None:
    async with client(relay.url) as one:
        assert (await one.expect(Error)).code is Code.HANDSHAKE_TIMEOUT
        assert await one.closed()


async def test_stale_update_is_refused_and_survived(relay: RelayServer) -> None:
    async with client(relay.url) as one:
        await one.register("chat", seq=10)
        one.send(Update(encode_location(one.record("mail", seq=9))))
        assert (await one.expect(Error)).code is Code.STALE_SEQUENCE
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
            assert not Code.SUPERSEDED.is_retryable
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


async def test_request_outcomes(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        nobody = Identity.generate().guid
        alice.send(ServiceRequestTo(1, nobody, "chat", Mode.P2P, SESSION))
        assert (await alice.expect(ServiceResponse)).code is Code.UNKNOWN_PEER
        alice.send(ServiceRequestTo(2, bob.identity.guid, "mail", Mode.P2P, SESSION))
        assert (await alice.expect(ServiceResponse)).code is Code.UNKNOWN_SERVICE
        alice.send(request(bob, 3))
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.REFUSED, "busy"))
        refused = await alice.expect(ServiceResponse)
        assert (refused.code, refused.reason) == (Code.REFUSED, "busy")
        bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED))
        assert (await bob.expect(Error)).code is Code.UNKNOWN_REQUEST
        alice.send(request(bob, 4, timeout=0.2))
        await bob.expect(ServiceRequestFrom)
        assert (await alice.expect(ServiceResponse)).code is Code.REQUEST_TIMEOUT
        alice.send(request(bob, 5, Mode.CENTRAL))
        await bob.expect(ServiceRequestFrom)
        bob.writer.transport.abort()
        assert (await alice.expect(ServiceResponse)).code is Code.PEER_OFFLINE
        assert relay.broker.pending == 0
        assert relay.planes.pending == 0


async def test_too_many_requests_wait(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        for number in range(5):
            alice.send(request(bob, number))
        answer = await alice.expect(ServiceResponse)
        assert (answer.request, answer.code) == (4, Code.LIMIT_EXCEEDED)
        assert answer.retry_after == 1.0


async def test_only_proven_endpoints_are_disclosed(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, client(relay.url) as bob:
        entries = (bob.entry("chat", 1, "192.0.2.1"), bob.entry("chat", 1))
        await bob.hello()
        record = LocationRecord(1, (ServiceRecord("chat", entries),))
        bob.send(bob.signed_register(encode_location(record)))
        await bob.expect(Registered)
        alice.send(ServiceRequestTo(1, bob.identity.guid, "chat", Mode.P2P, SESSION))
        assert (await alice.expect(ServiceResponse)).entries == entries[1:]
        alice.send(request(bob, 2))
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED, "", entries[:1]))
        assert (await alice.expect(ServiceResponse)).code is Code.NO_ENDPOINT


async def test_websocket_carrier_by_a_foreign_client(relay: RelayServer) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{relay.url}/v1/control", protocols=(WEBSOCKET_PROTOCOL,)) as websocket,
    ):
        assert websocket.protocol == WEBSOCKET_PROTOCOL
        await websocket.send_bytes(b"\xc1")
        message = await websocket.receive_bytes()
        assert b"bad_message" in message
        assert (await websocket.receive()).type in (
            aiohttp.WSMsgType.CLOSE,
            aiohttp.WSMsgType.CLOSED,
        )


async def test_http(relay: RelayServer) -> None:
    async with aiohttp.ClientSession(relay.url) as http, registered(relay.url, "chat") as bob:
        async with http.get("/v1/control") as answer:
            assert answer.status == 426
            assert "roam-relay/1" in answer.headers["Upgrade"]
        async with http.get("/healthz") as answer:
            assert answer.status == 200
        async with http.get("/readyz") as answer:
            assert answer.status == 200
        async with http.get("/") as answer:
            assert "Roam Relay" in await answer.text()
        async with http.get("/metrics") as answer:
            assert 'roam_relay_peers{state="online"} 1.0' in await answer.text()
        async with http.get(f"/v1/peers/{bob.identity.guid}/services/chat") as answer:
            body = await answer.json()
            assert body["state"] == "online"
            assert body["endpoints"][0]["host"] == "127.0.0.1"
        async with http.get(f"/v1/peers/{bob.identity.guid}/services/mail") as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "unknown_service")
        async with http.get("/v1/peers/nobody/services/chat") as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "unknown_peer")
