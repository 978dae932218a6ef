"""What a registration outlives: everything that is said before the challenge, by whoever stands in
the way; and what a relay says in each phase, code by code."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from peers import Peer
from peers.config import CarrierKind, PeerConfig
from peers.control import Account, Registration, RegistrationEnded
from peers.control.refusal import FINAL, Phase
from protocol.codec import MessageDecoder, decode_location, encode
from protocol.errors import (
    Code,
    RelayUnavailable,
    Superseded,
    UpdateRefused,
    WrongIdentity,
)
from protocol.identity import CONTEXT_CHALLENGE, Identity, public_key_of
from protocol.messages import Challenge, Error, Hello, Message, Register, Registered, Update
from protocol.tables import FROM_PEER
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.control.test_registration import Numbered, Told
from tests.peers.host.test_netlink import namespace_command
from tests.support.doors import open_door
from tests.support.servers import close_server

RELAY = Identity.from_seed(b"r" * 32)
OTHER = Identity.from_seed(b"o" * 32)
UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: roam-relay/1\r\nConnection: Upgrade\r\n\r\n"
)


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def refused(status: str, code: str) -> bytes:
    body = json.dumps({"code": code, "reason": "said on the way"}).encode()
    return http(status, body, f"Roam-Relay-Code: {code}", "Content-Type: application/json")


PORTAL = b"<html><body>Welcome! Please log in.</body></html>"
STATUSES = (
    "200 OK",
    "204 No Content",
    "400 Bad Request",
    "401 Unauthorized",
    "403 Forbidden",
    "404 Not Found",
    "405 Method Not Allowed",
    "407 Proxy Authentication Required",
    "418 I'm a teapot",
    "426 Upgrade Required",
    "429 Too Many Requests",
    "451 Unavailable For Legal Reasons",
    "500 Internal Server Error",
    "502 Bad Gateway",
    "503 Service Unavailable",
    "511 Network Authentication Required",
)
BEFORE_ALL: list[bytes] = [
    *(http(status, b"" if status.startswith("204") else PORTAL) for status in STATUSES),
    *(
        http(f"{code} Moved", PORTAL, f"Location: {where}")
        for code in (301, 302, 303, 307, 308)
        for where in ("http://127.0.0.1:9/login", "ftp://x", "//[", "")
    ),
    *(refused("400 Bad Request", code.value) for code in Code),
    refused("200 OK", "superseded"),
    http("426 Upgrade Required", b'{"code": 7, "reason": []}'),
    http("503 Service Unavailable", b"[" * 5000),
    http("429 Too Many Requests", PORTAL, "Retry-After: 0"),
    http("429 Too Many Requests", PORTAL, "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT"),
    http("429 Too Many Requests", PORTAL, "Retry-After: -1e999"),
    b"",
    b"\x15\x03\x01\x00\x02\x02\x28",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\x00" * 100,
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 99999 What\r\n\r\n",
]
"""Whole answers to the request for an upgrade: whatever carrier it is for."""
WELL = Challenge(RELAY.guid, b"n" * 32, b"s" * 64)
BEFORE_RAW: list[bytes] = [
    UPGRADED + PORTAL,
    UPGRADED + b"\xc1",
    UPGRADED,
    UPGRADED + encode(Registered(1, "192.0.2.1", 1, 15.0, 120.0)),
    UPGRADED + encode(WELL),
    UPGRADED + encode(Challenge("no guid".ljust(52), b"n" * 32, b"s" * 64)),
    UPGRADED + encode(Hello(RELAY.guid, b"i" * 16, b"n" * 32)),
    *(UPGRADED + encode(Error(code, "said on the way")) for code in Code),
    UPGRADED + encode(Error(Code.NOT_ADMITTED, "come back", retry_after=0.0)),
]
"""What comes behind the upgrade, before a challenge that proves anything."""


class Entrance:
    """A port before a relay. Each connection gets the next of the answers; when there are none
    left, it leads to the relay."""

    def __init__(self) -> None:
        self.answers: list[bytes | Callable[[Talk], Awaitable[None]]] = []
        self.relay: tuple[str, int] | None = None
        self.url = ""
        self._tasks = set[asyncio.Task[None]]()

    async def __aenter__(self) -> "Entrance":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        await close_server(self._server)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def leads_to(self, relay: RelayServer) -> None:
        host, _, port = relay.url.removeprefix("http://").rpartition(":")
        self.relay = host, int(port)

    def cut(self) -> None:
        """End what is open."""
        for task in list(self._tasks):
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
            if not self.answers and self.relay is not None:
                await self._join(reader, writer)
            else:
                answer = self.answers.pop(0) if self.answers else b""
                await reader.readuntil(b"\r\n\r\n")
                if callable(answer):
                    await answer(Talk(reader, writer))
                else:
                    writer.write(answer)
                    await writer.drain()
        writer.close()
        self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.relay is not None
        there, here = await asyncio.open_connection(*self.relay)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
            target.close()

        try:
            await asyncio.gather(copy(reader, here), copy(there, writer))
        finally:
            here.close()


class Talk:
    """A relay by hand, behind the upgrade."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._decoder = MessageDecoder(FROM_PEER)
        self._messages: list[object] = []
        writer.write(UPGRADED)

    def say(self, message: Message) -> None:
        self.writer.write(encode(message))

    async def next(self) -> object:
        while not self._messages:
            data = await self.reader.read(65536)
            if not data:
                raise asyncio.IncompleteReadError(b"", None)
            self._messages += self._decoder.receive(data)
        return self._messages.pop(0)

    async def challenge(self, identity: Identity = RELAY) -> Register:
        hello = await self.next()
        assert isinstance(hello, Hello)
        signature = identity.sign(
            CONTEXT_CHALLENGE, public_key_of(hello.guid), hello.nonce, b"n" * 32
        )
        self.say(Challenge(identity.guid, b"n" * 32, signature))
        register = await self.next()
        assert isinstance(register, Register)
        return register

    async def register(self) -> None:
        await self.challenge()
        self.say(Registered(1, "192.0.2.1", 1, 15.0, 120.0))


@contextlib.asynccontextmanager
async def registration(
    entrance: Entrance, **config: object
) -> AsyncIterator[tuple[Registration, Told]]:
    told = Told()
    settings = PeerConfig(relay=entrance.url, connect_timeout=5.0, **config)  # type: ignore[arg-type]
    made = Registration(
        Account(Identity.generate(), bytes(16)), settings, Numbered(), told, open_door()
    )
    made.set_sources([None])
    try:
        yield made, told
    finally:
        await made.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a flow come back as soon as it may."""
    monkeypatch.setattr("peers.control.reconnect.SHORTEST_PAUSE", 1e-3)
    monkeypatch.setattr("peers.control.reconnect.SOON", 0.0)
    monkeypatch.setattr("random.random", lambda: 0.0)


async def until_answered(entrance: Entrance, made: Registration) -> None:
    """Hurry until every answer was given and the registration is there."""
    async with asyncio.timeout(60):
        while entrance.answers or made.current is None:
            assert not made.is_over, made.failure
            made.hurry()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("carrier", "answers", "worked"),
    [
        (CarrierKind.RAW, BEFORE_ALL + BEFORE_RAW, False),
        (CarrierKind.RAW, BEFORE_RAW, True),
        (CarrierKind.WEBSOCKET, BEFORE_ALL, True),
    ],
)
async def test_nothing_before_the_challenge_is_final(
    relay: RelayServer, carrier: CarrierKind, answers: list[bytes], worked: bool
) -> None:
    async with Entrance() as entrance:
        entrance.leads_to(relay)
        if not worked:
            entrance.answers = list(answers)
        async with registration(entrance, carrier=carrier) as (made, told):
            await made.connection(60) if worked else None
            if worked:
                entrance.answers = list(answers)
                entrance.cut()
            await until_answered(entrance, made)
            assert not any(isinstance(event, RegistrationEnded) for event in told)
            assert made.failure is None


async def test_no_failure_of_tls_is_final() -> None:
    def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http("200 OK", PORTAL))
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server, Entrance() as entrance:
        entrance.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with registration(entrance) as (made, _):
            async with asyncio.timeout(60):
                while made.failure is None:
                    await asyncio.sleep(0.01)
            assert not made.is_over
            assert made.failure.code is None


def _says_first(said: Error) -> Callable[[Talk], Awaitable[None]]:
    async def talk(talk: Talk) -> None:
        await talk.next()
        talk.say(said)

    return talk


def _says_challenged(said: Error) -> Callable[[Talk], Awaitable[None]]:
    async def talk(talk: Talk) -> None:
        await talk.challenge()
        talk.say(said)

    return talk


def _says_registered(said: Error) -> Callable[[Talk], Awaitable[None]]:
    async def talk(talk: Talk) -> None:
        await talk.register()
        talk.say(said)

    return talk


PHASES = {
    Phase.UNPROVEN: _says_first,
    Phase.HANDSHAKE: _says_challenged,
    Phase.REGISTERED: _says_registered,
}


@pytest.mark.parametrize("phase", Phase)
async def test_what_a_relay_says_ends_a_registration_that_has_worked_on_two_codes_only(
    relay: RelayServer, phase: Phase
) -> None:
    passing = [code for code in Code if code not in FINAL[phase]]
    async with Entrance() as entrance:
        entrance.leads_to(relay)
        async with registration(entrance) as (made, told):
            await made.connection(60)
            entrance.answers = [
                *(PHASES[phase](Error(code, "no")) for code in passing),
                PHASES[phase](Error(Code.NOT_ADMITTED, "expired", retry_after=0.0)),
            ]
            entrance.cut()
            await until_answered(entrance, made)
            assert not any(isinstance(event, RegistrationEnded) for event in told)


@pytest.mark.expected_errors("registration ended")
@pytest.mark.parametrize("phase", [Phase.HANDSHAKE, Phase.REGISTERED])
@pytest.mark.parametrize("code", [Code.SUPERSEDED, Code.NOT_ADMITTED])
async def test_what_ends_it_is_told_with_a_type_of_its_own(code: Code, phase: Phase) -> None:
    async with Entrance() as entrance:
        entrance.answers = [PHASES[phase](Error(code, "because"))]
        async with registration(entrance) as (made, told):
            await told.until(lambda: any(isinstance(event, RegistrationEnded) for event in told))
            error = made.failure
            assert isinstance(error, RelayUnavailable)
            assert (error.code, error.reason) == (code, "because")
            assert isinstance(error, Superseded) is (code is Code.SUPERSEDED)
            assert isinstance(error, UpdateRefused) is (code is Code.SUPERSEDED)
            with pytest.raises(type(error)):
                await made.connection(5)


async def test_another_relay_at_the_address_is_refused_until_the_right_one_is_back(
    relay: RelayServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def other(talk: Talk) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await talk.challenge(OTHER)

    async with Entrance() as entrance:
        entrance.leads_to(relay)
        async with registration(entrance, relay_guid=relay.guid) as (made, _):
            await made.connection(60)
            entrance.answers = [other] * 5
            entrance.cut()
            await until_answered(entrance, made)
            said = [record.getMessage() for record in caplog.records]
            assert len([text for text in said if "expected peer" in text]) == 1


@pytest.mark.expected_errors("registration ended")
async def test_a_wrong_pin_is_told_at_once_to_who_does_not_wait() -> None:
    async def other(talk: Talk) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await talk.challenge(OTHER)

    async with Entrance() as entrance:
        entrance.answers = [other]
        async with registration(entrance, relay_guid=RELAY.guid) as (made, _):
            with pytest.raises(WrongIdentity):
                await made.connection(60)
        entrance.answers = [other] * 3
        async with registration(entrance, relay_guid=RELAY.guid, wait_for_relay=True) as (made, _):
            async with asyncio.timeout(60):
                while entrance.answers:
                    made.hurry()
                    await asyncio.sleep(0.01)
            assert not made.is_over


async def test_the_other_addresses_of_a_name_are_tried_where_one_leads_to_another_relay(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(relay.url.rsplit(":", 1)[1])
    async with RelayServer(RelayConfig(host="127.0.0.2", port=port)) as other:
        loop = asyncio.get_running_loop()
        genuine = loop.getaddrinfo

        async def getaddrinfo(host: str, *rest: object, **more: object) -> object:
            if host != "relay.example":
                return await genuine(host, *rest, **more)  # type: ignore[arg-type]
            found = [await genuine(one, *rest, **more) for one in ("127.0.0.2", "127.0.0.1")]  # type: ignore[arg-type]
            return [*found[0], *found[1]]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        for carrier in CarrierKind:
            settings = PeerConfig(
                relay=f"http://relay.example:{port}", relay_guid=relay.guid, carrier=carrier
            )
            made = Registration(
                Account(Identity.generate(), bytes(16)), settings, Numbered(), Told(), open_door()
            )
            made.set_sources([None])
            try:
                assert (await made.connection(30)).relay_guid == relay.guid
            finally:
                await made.close()
        assert other.connections == set()


@pytest.mark.parametrize("carrier", CarrierKind)
async def test_a_clock_that_ran_fast_costs_one_attempt(
    relay: RelayServer, carrier: CarrierKind
) -> None:
    identity = Identity.generate()
    made = []
    for seq in (2**60, 1):
        records = Numbered()
        records.seq = seq
        settings = PeerConfig(relay=relay.url, carrier=carrier)
        one = Registration(
            Account(identity, bytes([seq % 9] * 16)), settings, records, Told(), open_door()
        )
        one.set_sources([None])
        try:
            await one.connection(30)
            made.append(records)
            in_force = relay.registry.get(identity.guid)
            assert in_force is not None
            assert in_force.record.seq == records.seq
        finally:
            await one.close()
    assert made[1].seq == 2**60 + 2


@pytest.mark.parametrize("lie", [2**45, 2**61, 2**63 - 1])
async def test_a_relay_that_lies_does_not_use_the_numbers_up(relay: RelayServer, lie: int) -> None:
    async with Entrance() as entrance:
        entrance.leads_to(relay)
        stale = PHASES[Phase.HANDSHAKE](Error(Code.STALE_SEQUENCE, "late", seq=lie))
        entrance.answers = [stale] * 3
        config = PeerConfig(relay=entrance.url, connect_timeout=60.0)
        async with Peer(Identity.generate(), config=config) as peer:
            known = relay.registry.get(peer.guid)
            assert known is not None
            assert known.record.seq < 2**42


async def test_a_relay_that_names_no_number_is_asked_again(relay: RelayServer) -> None:
    async with Entrance() as entrance:
        entrance.leads_to(relay)
        entrance.answers = [PHASES[Phase.HANDSHAKE](Error(Code.STALE_SEQUENCE, "late"))] * 4
        async with registration(entrance) as (made, _):
            await until_answered(entrance, made)


@pytest.mark.expected_errors("not registered")
async def test_a_relay_that_takes_less_keeps_what_it_took_and_published_says_so(
    relay: RelayServer,
) -> None:
    """As one of another version may: it ends the connection by an update that it cannot take."""

    async def small(talk: Talk, most: int = 1) -> None:
        location = decode_location((await talk.challenge()).location)
        while len(location.services) <= most:
            taken.append([one.service for one in location.services])
            talk.say(Registered(location.seq, "192.0.2.1", 1, 15.0, 120.0))
            message = await talk.next()
            assert isinstance(message, Update)
            location = decode_location(message.location)
        talk.say(Error(Code.BAD_MESSAGE, "too many services for me"))

    taken: list[list[str]] = []
    async with Entrance() as entrance:
        entrance.answers = [small] * 5
        async with Peer(Identity.generate(), entrance.url) as peer:
            first = peer.listen("first")
            await peer.published()
            second = peer.listen("second")
            for _ in range(2):
                with pytest.raises(RelayUnavailable, match="too many services for me"):
                    await peer.published()
            assert taken[-1] == ["first"]
            assert peer.relay_guid == RELAY.guid
            first.close()
            await peer.published()
            assert taken[-1] == ["second"]
            second.close()


async def test_a_seventeenth_service_ends_nothing(relay: RelayServer) -> None:
    async with Peer(Identity.generate(), relay.url) as alice:
        for number in range(16):
            alice.listen(f"service-{number}")
        await alice.published()
        with pytest.raises(ValueError, match="16 services"):
            alice.listen("service-16")
        await alice.published()
        assert len(relay.registry.get(alice.guid).services) == 16  # type: ignore[union-attr]


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
async def test_a_listener_at_boot_waits_for_a_network_and_nothing_else_is_said(
    tmp_path: Path,
) -> None:
    command = namespace_command()
    if command is None:
        pytest.skip("this kernel lets nobody here make a network namespace")
    wanted = (
        ("--relay", "http://relay.example:8440"),
        ("--relay", "http://192.0.2.7:8440", "--carrier", "websocket"),
        ("--relay", "dns:example.org"),
    )
    running = [
        await asyncio.create_subprocess_exec(
            *(*command, sys.executable, "-W", "error", "-m", "peers"),
            *("--key", tmp_path / f"{number}.key", *options, "listen", "chat"),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for number, options in enumerate(wanted)
    ]
    try:
        async with asyncio.timeout(60):
            for one in running:
                assert one.stderr is not None
                line = await one.stderr.readline()
                while b"waiting for an answer" in line:
                    line = await one.stderr.readline()
                assert line.startswith(b"peer: waiting, not registered yet: "), line
                one.send_signal(signal.SIGINT)
            for one in running:
                assert one.stderr is not None
                assert await one.stderr.read() == b""
                assert await one.wait() == 130
    finally:
        for one in running:
            if one.returncode is None:
                one.kill()
                await one.wait()
