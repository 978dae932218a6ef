"""Every request ends in exactly one response, whatever raises; and what nobody expected ends one
connection, is logged once, and hinders no other."""

import asyncio
import logging

import pytest

from protocol.endpoint import SignedEntry
from protocol.errors import Code
from protocol.messages import (
    Error,
    LocationRecord,
    Mode,
    Ping,
    Pong,
    ServiceAnswer,
    ServiceRecord,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)
from relay.broker import Broker, BrokerLimits
from relay.limits import Cause
from relay.metrics import Metrics
from relay.plane import Purpose
from relay.presence import Registry
from relay.server import RelayServer
from tests.relay.client import Client, registered
from tests.relay.fakes import FakeAttachment
from tests.relay.planes import close, leg, tickets

SESSION = b"s" * 16
GARBAGE = SignedEntry(b"\xc1 no entry", bytes(64))
ASKING = pytest.mark.parametrize("mode", [Mode.CENTRAL, Mode.COMBINED, Mode.AUTO])


def request(
    callee: Client, mode: Mode = Mode.AUTO, number: int = 1, timeout: float = 60.0
) -> ServiceRequestTo:
    return ServiceRequestTo(number, callee.identity.guid, "chat", mode, SESSION, (), timeout)


async def lives(*clients: Client) -> None:
    """Nothing more was said to any of them, and each is answered."""
    for one in clients:
        one.send(Ping(7))
        assert (await one.expect(Pong)).ping == 7


@ASKING
async def test_a_callee_that_accepts_with_garbage(relay: RelayServer, mode: Mode) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        alice.send(request(bob, mode))
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED, entries=(GARBAGE,)))
        answer = await alice.expect(ServiceResponse)
        if mode is Mode.CENTRAL:
            assert answer.code is None, "nobody reads the entries"
        else:
            assert answer.code is Code.INTERNAL
            assert (await bob.expect(Error)).code is Code.BAD_MESSAGE
            assert await bob.closed()
            assert relay.planes.pending == 0
        assert relay.broker.pending == 0
        await lives(alice)


@ASKING
async def test_a_caller_whose_own_entries_are_garbage(relay: RelayServer, mode: Mode) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        alice.send(ServiceRequestTo(1, bob.identity.guid, "chat", mode, SESSION, (GARBAGE,), 60.0))
        if mode is Mode.CENTRAL:
            assert (await bob.expect(ServiceRequestFrom)).entries == ()
            return
        assert (await alice.expect(ServiceResponse)).code is Code.BAD_MESSAGE
        assert (await alice.expect(Error)).code is Code.BAD_MESSAGE
        assert await alice.closed()
        assert relay.planes.pending == relay.broker.pending == 0
        await lives(bob)


def break_(*_: object, **__: object) -> None:
    raise RuntimeError("nobody expected this")


def unexpected(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.exc_info]


@pytest.mark.expected_errors("a connection failed")
async def test_a_relay_that_fails_at_a_request_answers_it(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        registered(relay.url) as alice,
        registered(relay.url, "chat") as bob,
        registered(relay.url) as carol,
    ):
        with monkeypatch.context() as patched:
            patched.setattr(relay.planes, "create", break_)
            alice.send(request(bob))
            assert (await alice.expect(ServiceResponse)).code is Code.INTERNAL
            assert (await alice.expect(Error)).code is Code.INTERNAL
            assert await alice.closed()
        assert len(unexpected(caplog)) == 1
        assert relay.broker.pending == 0
        await lives(bob, carol)


@pytest.mark.parametrize("where", ["filter", "last_seen"])
@pytest.mark.expected_errors("a connection failed")
async def test_a_relay_that_fails_at_an_answer_tells_the_caller(
    relay: RelayServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        known = relay.registry.get(bob.identity.guid)
        alice.send(request(bob))
        asked = await bob.expect(ServiceRequestFrom)
        monkeypatch.setattr(type(known), where, break_)
        bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED, entries=(bob.entry("chat", 1),)))
        assert (await alice.expect(ServiceResponse)).code is Code.INTERNAL
        assert (await bob.expect(Error)).code is Code.INTERNAL
        assert await bob.closed()
        assert relay.planes.pending == relay.broker.pending == 0
        await lives(alice)
    assert len(unexpected(caplog)) == 1


async def test_a_callee_that_is_forgotten_meanwhile(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        for number, mode in enumerate((Mode.CENTRAL, Mode.COMBINED)):
            alice.send(request(bob, mode, number))
            await bob.expect(ServiceRequestFrom)
        flow = relay.registry.get(bob.identity.guid).primary  # type: ignore[union-attr]
        now = asyncio.get_running_loop().time()
        relay.registry.remove(flow, now, closed=True)  # type: ignore[arg-type]
        relay.registry.forget(now + 1e9)
        relay.broker.connection_lost(flow, now)  # type: ignore[arg-type]
        for _ in range(2):
            assert (await alice.expect(ServiceResponse)).code is Code.PEER_OFFLINE
        assert relay.planes.pending == relay.broker.pending == 0
        await lives(alice)


async def test_a_number_that_is_used_twice_is_answered_twice(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        for _ in range(2):
            alice.send(request(bob, Mode.CENTRAL))
        for code in (Code.REFUSED, Code.SESSION_UNKNOWN):
            asked = await bob.expect(ServiceRequestFrom)
            bob.send(ServiceAnswer(asked.request, Verdict.REFUSED, code=code))
            assert (await alice.expect(ServiceResponse)).code is code
        await lives(alice, bob)
        assert relay.planes.pending == relay.broker.pending == 0


@pytest.mark.parametrize(
    "step", ["watches.telling", "planes.sweeping", "node.watch_time", "broker.expiring"]
)
@pytest.mark.expected_errors("a step failed")
async def test_a_beat_that_fails_goes_on(
    relay: RelayServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: str,
) -> None:
    """What fails in a beat keeps nothing else from its turn, and itself not from the next."""
    owner, name = step.split(".")
    failures = 0

    def fail_once(*arguments: object) -> None:
        nonlocal failures
        failures += 1
        if failures > 1:
            monkeypatch.undo()
        raise RuntimeError("nobody expected this")

    async with (
        registered(relay.url) as alice,
        registered(relay.url, "chat") as bob,
    ):
        target = next(iter(relay.connections)) if owner == "node" else getattr(relay, owner)
        monkeypatch.setattr(type(target), name, fail_once)
        alice.send(request(bob, timeout=0.3))
        assert (await alice.expect(ServiceResponse)).code is Code.REQUEST_TIMEOUT
        async with asyncio.timeout(60):
            while failures < 2:
                await asyncio.sleep(0.01)
        alice.send(request(bob, timeout=0.3))
        assert (await alice.expect(ServiceResponse)).code is Code.REQUEST_TIMEOUT
    assert len(unexpected(caplog)) >= 2


@pytest.mark.expected_errors("a request failed")
async def test_a_leg_whose_other_side_cannot_be_asked(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, second = await tickets(alice, bob)
        a, ticket = await leg(relay, alice, first)
        b, _ = await leg(relay, bob, second)
        await close(a, b)
        async with asyncio.timeout(60):
            while relay.planes.live:
                await asyncio.sleep(0.01)
        with monkeypatch.context() as patched:
            patched.setattr(relay.broker, "ask_for_leg", break_)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", int(relay.url.rpartition(":")[2])
            )
            writer.write(
                f"GET {alice.plane_target(ticket, relay.guid)} HTTP/1.1\r\nHost: relay\r\n"
                "Connection: Upgrade\r\nUpgrade: roam-relay/1\r\n\r\n".encode()
            )
            assert b" 500 " in await asyncio.wait_for(reader.readline(), 60)
            writer.close()
        assert relay.planes.pending == 0
        a, _ = await leg(relay, alice, ticket)
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.REFUSED))
        assert await asyncio.wait_for(a[0].read(), 60) == b""
        await close(a)


@ASKING
def test_a_callee_that_cannot_be_asked(mode: Mode) -> None:
    """The machine alone: what raises at one connection is no reason to forget another's request."""
    alice, bob = FakeAttachment(), FakeAttachment()
    registry = Registry(grace=30.0, remember=100.0, max_offline=10)
    for one in (alice, bob):
        registry.register(one, LocationRecord(1, (ServiceRecord("chat"),)), 0.0)
    planes = Planes()
    broker = Broker(registry, planes, Metrics(), BrokerLimits(4, 100.0, 100))
    bob.fails = True
    message = ServiceRequestTo(1, bob.guid, "chat", mode, SESSION)
    with pytest.raises(RuntimeError):
        broker.request(alice, message, 0.0)
    assert [one.code for one in alice.got if isinstance(one, ServiceResponse)] == [Code.INTERNAL]
    assert broker.pending == 0
    assert planes.made == planes.discarded
    broker.expire(1e9)
    assert len(alice.got) == 1


@pytest.mark.expected_errors("a step failed")
def test_one_request_that_fails_at_the_end_of_a_connection_hinders_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    alice, carol, bob = FakeAttachment(), FakeAttachment(), FakeAttachment()
    registry = Registry(grace=30.0, remember=100.0, max_offline=10)
    for one in (alice, carol, bob):
        registry.register(one, LocationRecord(1, (ServiceRecord("chat"),)), 0.0)
    planes = Planes()
    broker = Broker(registry, planes, Metrics(), BrokerLimits(4, 100.0, 100))
    for one in (alice, carol):
        broker.request(one, ServiceRequestTo(1, bob.guid, "chat", Mode.CENTRAL, SESSION), 0.0)
    alice.fails = True
    registry.remove(bob, 1.0, closed=True)
    broker.connection_lost(bob, 1.0)
    assert [one.code for one in carol.got if isinstance(one, ServiceResponse)] == [
        Code.PEER_OFFLINE
    ]
    assert len(unexpected(caplog)) == 1
    assert broker.pending == 0
    assert len(planes.made) == 2
    assert planes.made == planes.discarded


class Planes:
    """Makes planes, and notes which were taken back."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.discarded: list[str] = []

    def create(self, purpose: Purpose, cause: Cause) -> tuple[str, str]:
        self.made.append(f"plane {len(self.made)}")
        return self.made[-1], "the callee's"

    def discard(self, ticket: str) -> None:
        if ticket not in self.discarded:
            self.discarded.append(ticket)


def test_a_flow_is_doubted_once_for_a_request_that_nothing_was_heard_after() -> None:
    alice, bob = FakeAttachment(), FakeAttachment()
    registry = Registry(grace=30.0, remember=100.0, max_offline=10)
    for one in (alice, bob):
        registry.register(one, LocationRecord(1, (ServiceRecord("chat"),)), 0.0)
    broker = Broker(registry, Planes(), Metrics(), BrokerLimits(4, 100.0, 100))

    def ask(now: float) -> None:
        broker.request(alice, ServiceRequestTo(1, bob.guid, "chat", Mode.COMBINED, bytes(16)), now)

    ask(1.0)
    broker.expire(1.9)
    assert bob.doubts == []
    for now in (2.0, 2.1, 9.0):
        broker.expire(now)
    assert bob.doubts == [2.0], "one flow too, and once"
    ask(20.0)
    bob.heard = 20.5
    broker.expire(21.0)
    assert bob.doubts == [2.0], "something was heard, and be it another message"
