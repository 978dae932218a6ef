"""The registration over several flows, with a real relay."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import psutil
import pytest

from peers import Peer
from peers.config import CarrierKind, PeerConfig
from peers.control import (
    Account,
    ControlConnection,
    PrimaryChanged,
    Registration,
    RegistrationEnded,
    RegistrationEvent,
    RegistrationLost,
    RequestArrived,
    StandbyLost,
)
from peers.control import attempt as attempts
from peers.dialing import Door
from protocol.errors import Code, RelayUnavailable, RoamRelayError, UnknownPeer, WrongIdentity
from protocol.features import CONTROL_FEATURES, MAILBOX
from protocol.identity import Identity
from protocol.messages import (
    LocationRecord,
    Mode,
    ServiceRecord,
    ServiceRequestTo,
    ServiceResponse,
    Watch,
)
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.control.scripted import Seven, logged
from tests.support.doors import open_door
from tests.support.ports import free_port

HERE, THERE = "127.0.0.1", "127.0.0.2"
NOBODY = Identity.from_seed(b"n" * 32).guid
ASK = ServiceRequestTo(0, NOBODY, "chat", Mode.P2P, b"s" * 16, timeout=2.0)
CARRIERS = pytest.mark.parametrize("carrier", list(CarrierKind))


class Numbered(Seven):
    """Writes records that are newer each time; may be told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.seq = 0
        self.fails: list[Exception] = []

    def record(self, local_host: str) -> LocationRecord:
        self.seq += 1
        if self.fails:
            raise self.fails.pop(0)
        return LocationRecord(self.seq)

    def advance(self, seq: int) -> bool:
        newer = seq > self.seq
        self.seq = max(self.seq, seq)
        return newer


class Told(list[RegistrationEvent]):
    """Keeps the news, and wakes who waits for one."""

    def __init__(self) -> None:
        super().__init__()
        self.new = asyncio.Event()
        self.then: Callable[[RegistrationEvent], object] = lambda event: None

    def __call__(self, event: RegistrationEvent) -> None:
        self.append(event)
        self.new.set()
        self.then(event)

    async def until(self, there: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not there():
                self.new.clear()
                await self.new.wait()


def make(
    url: str | None, identity: Identity | None = None, **config: Any
) -> tuple[Registration, Told, Numbered]:
    account = Account(identity or Identity.generate(), bytes(16))
    told, records = Told(), Numbered()
    settings = PeerConfig(relay=url, **{"connect_timeout": 5.0, **config})
    return Registration(account, settings, records, told, open_door()), told, records


@contextlib.asynccontextmanager
async def registered(
    relay: RelayServer, *sources: str | None, **config: Any
) -> AsyncIterator[tuple[Registration, Told, Numbered]]:
    """Keep a registration with a live flow from each source."""
    registration, told, records = make(relay.url, **config)
    try:
        registration.set_sources(sources or (None,))
        await told.until(lambda: len(registration.connections) == len(sources or (None,)))
        yield registration, told, records
    finally:
        await registration.close()


def cut(*connections: ControlConnection) -> None:
    """Let the relay's ends of these vanish, in one turn."""
    for connection in connections:
        connection._messages.stream_lost("cut by the test")


def test_it_is_made_without_a_loop() -> None:
    registration, told, _ = make("http://127.0.0.1:9")
    assert (registration.relay_host, registration.current, told) == ("127.0.0.1", None, [])
    assert registration.failure is None
    with pytest.raises(RelayUnavailable, match="URL"):
        make("ftp://nowhere")
    with pytest.raises(RelayUnavailable, match="cannot use"):
        make("https://127.0.0.1:9", relay_ca="/nonexistent")


@CARRIERS
@pytest.mark.parametrize("drops", [True, False], ids=["dropped", "refused"])
async def test_a_relay_whose_name_has_a_family_that_leads_nowhere_is_reached_by_the_other(
    relay: RelayServer, carrier: CarrierKind, drops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, ours = int(relay.url.rpartition(":")[2]), socket.getaddrinfo

    def both(host: str, *more: Any, **options: Any) -> list[Any]:
        if host != "relay.test":
            return ours(host, *more, **options)
        return [answer for one in ("::1", HERE) for answer in ours(one, *more, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with contextlib.ExitStack() as stack:
        if drops:
            # A listener whose queue is full drops SYNs.
            full = socket.create_server(("::1", port), family=socket.AF_INET6, backlog=0)
            stack.enter_context(full)
            stack.enter_context(socket.create_connection(("::1", port), timeout=10))
        registration, told, _ = make(
            f"http://relay.test:{port}", carrier=carrier, connect_timeout=30.0
        )
        try:
            registration.set_sources([None])
            await told.until(lambda: registration.current is not None)
            assert registration.routed_host == HERE
            assert registration.failure is None, "by the first attempt"
        finally:
            await registration.close()


async def test_who_waits_together_is_let_go_together(relay: RelayServer) -> None:
    registration, _, _ = make(relay.url)
    waiting = [asyncio.create_task(registration.connection(5)) for _ in range(3)]
    await asyncio.sleep(0)
    registration.set_sources([None])
    connections = await asyncio.gather(*waiting)
    assert set(connections) == {registration.current}
    await registration.close()


async def test_the_newest_flow_is_primary_and_that_is_told(relay: RelayServer) -> None:
    async with registered(relay, HERE) as (registration, told, _):
        first = registration.current
        registration.set_sources([HERE, THERE])
        await told.until(lambda: len(registration.connections) == 2)
        second = registration.current
        assert second is not None
        assert first is not None
        assert told == [PrimaryChanged(first), PrimaryChanged(second)]
        assert registration.connections == [second, first]
        assert second.local_host == THERE
        assert registration.routed_host is None
        assert registration.last_relay == second.relay
        both = frozenset(CONTROL_FEATURES) - {MAILBOX}  # This relay has no state folder.
        assert second.relay == (second.address, relay.guid, both)


async def test_a_standby_that_is_lost_and_a_primary_that_is(relay: RelayServer) -> None:
    async with registered(relay, HERE, THERE) as (registration, told, _):
        primary, standby = registration.connections
        told.clear()
        cut(standby)
        await told.until(lambda: StandbyLost() in told)
        assert told[0] == StandbyLost()
        registration.hurry()
        # The one that comes back is the newest.
        await told.until(lambda: len(registration.connections) == 2)
        assert registration.connections[1] is primary
        cut(registration.connections[0])
        await told.until(lambda: told[-1] == PrimaryChanged(primary))


async def test_a_primary_flow_that_is_given_up_makes_the_other_one_primary(
    relay: RelayServer,
) -> None:
    async with registered(relay, HERE, THERE) as (registration, told, _):
        primary, standby = registration.connections
        told.clear()
        registration.set_sources([standby.local_host])
        assert primary.is_closed
        assert told == [PrimaryChanged(standby)]
        registration.set_sources([standby.local_host])
        assert told == [PrimaryChanged(standby)]


@pytest.mark.expected_errors("registration ended")
async def test_the_end_is_told_once_and_nothing_comes_back(relay: RelayServer) -> None:
    identity = Identity.generate()
    old, told, records = make(relay.url, identity)
    old.set_sources([HERE, THERE])
    await told.until(lambda: len(old.connections) == 2)
    account, config = Account(identity, b"another instance"), PeerConfig(relay=relay.url)
    new = Registration(account, config, records, Told(), open_door())
    new.set_sources([None])
    await new.connection(5)
    await told.until(lambda: any(isinstance(event, RegistrationEnded) for event in told))
    ended = [event for event in told if isinstance(event, RegistrationEnded)]
    assert [event.error.code for event in ended] == [Code.SUPERSEDED]
    assert old.connections == []
    with pytest.raises(RelayUnavailable, match="another program"):
        await old.connection(5)
    old.set_sources([HERE])
    assert old.connections == []
    await old.close()
    await new.close()
    assert len([event for event in told if isinstance(event, RegistrationEnded)]) == 1


async def test_who_waits_for_a_connection_hears_that_it_is_closed(relay: RelayServer) -> None:
    registration, _, _ = make(relay.url)
    waiting = asyncio.create_task(registration.connection(5))
    await asyncio.sleep(0)
    await registration.close()
    with pytest.raises(RelayUnavailable, match="closed"):
        await waiting


async def test_without_a_relay_it_says_so() -> None:
    registration, told, _ = make(None)
    registration.set_sources([None])
    with pytest.raises(RelayUnavailable, match="no relay is configured"):
        await registration.connection(5)
    assert (registration.relay_host, registration.current, told) == ("", None, [])
    with pytest.raises(RelayUnavailable, match="not registered"):
        await registration.publish()
    registration.watch(Watch(NOBODY))
    await registration.close()


async def test_what_the_relay_says_to_a_request_is_raised(relay: RelayServer) -> None:
    async with registered(relay) as (registration, _, _):
        with pytest.raises(UnknownPeer):
            await registration.ask(ASK, 5)


@pytest.mark.expected_errors("unexpected: news were lost")
async def test_a_request_reaches_the_other_peer_and_its_owner_s_error_is_an_answer(
    relay: RelayServer, caplog: pytest.LogCaptureFixture
) -> None:
    callee = Identity.generate()

    class Offers(Numbered):
        def record(self, local_host: str) -> LocationRecord:
            return LocationRecord(1, (ServiceRecord("chat"),))

    def fails(event: RegistrationEvent) -> None:
        if isinstance(event, RequestArrived):
            raise KeyError("nobody thought of it")

    config = PeerConfig(relay=relay.url)
    there = Registration(Account(callee, bytes(16)), config, Offers(), fails, open_door())
    there.set_sources([None])
    await there.connection(5)
    async with registered(relay) as (registration, _, _):
        ask = ServiceRequestTo(0, callee.guid, "chat", Mode.COMBINED, b"s" * 16, timeout=5.0)
        for _ in range(2):
            with (
                caplog.at_level(logging.ERROR, "peers"),
                pytest.raises(RoamRelayError) as failed,
            ):
                await registration.ask(ask, 5)
            assert failed.value.code is Code.INTERNAL
    assert [record.exc_info is not None for record in logged(caplog)] == [True, True]
    assert there.current is not None
    await there.close()


@pytest.mark.parametrize("ended", [1, 2])
async def test_a_request_while_connections_end_in_the_same_turn(
    relay: RelayServer, ended: int
) -> None:
    async with registered(relay, HERE, THERE) as (registration, _, _):
        connections = registration.connections
        asking = asyncio.create_task(registration.ask(ASK, 5))
        publishing = asyncio.create_task(registration.publish())
        for _ in range(2):
            await asyncio.sleep(0)
        cut(*connections[:ended])
        async with asyncio.timeout(60):
            await asyncio.wait({asking, publishing})
        assert isinstance(asking.exception(), UnknownPeer), "asked again over the next connection"
        failed = publishing.exception()
        assert failed is None or (ended == 2 and isinstance(failed, RelayUnavailable))
        await registration.connection(10)


async def test_an_answer_and_the_end_in_one_turn(relay: RelayServer) -> None:
    async with registered(relay, HERE, THERE) as (registration, _, _):
        connections = registration.connections
        asking = asyncio.create_task(registration.ask(ASK, 5))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        connections[0].receive(ServiceResponse(0))
        cut(*connections)
        answered = await asking
        assert answered.connection is connections[0]


@pytest.mark.parametrize("times", [1, 2])
async def test_a_request_over_a_flow_that_is_replaced_is_asked_again_once(
    relay: RelayServer, times: int
) -> None:
    async with registered(relay) as (registration, told, _):
        asked = 0

        def replaced(data: bytes) -> None:
            # The request has left into nowhere, and the relay answers on a new connection.
            nonlocal asked
            asked += 1
            flow = registration._flows[0]
            assert flow._held is not None
            flow._held.replace()

        def silence(event: RegistrationEvent) -> None:
            if isinstance(event, PrimaryChanged) and asked < times:
                event.connection._messages.stream.write = replaced  # type: ignore[method-assign]

        told.then = silence
        silence(PrimaryChanged(registration.connections[0]))
        with pytest.raises(UnknownPeer if times == 1 else RelayUnavailable):
            await registration.ask(ASK, 10.0)
        assert asked == times


async def test_a_flow_that_is_given_up_under_a_request_is_not_a_peer_that_is_closed(
    relay: RelayServer,
) -> None:
    async with registered(relay, HERE) as (registration, _, _):
        asking = asyncio.create_task(registration.ask(ASK, 5))
        await asyncio.sleep(0)
        registration.set_sources([THERE])
        with pytest.raises(RelayUnavailable, match="closed here"):
            await asking
        await registration.connection(5)


@pytest.mark.expected_errors("unexpected")
async def test_a_record_that_fails_costs_one_attempt_of_one_flow(
    relay: RelayServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "peers"):
        async with registered(relay, HERE) as (registration, told, records):
            first = registration.current
            records.fails = [KeyError("nobody thought of it")]
            registration.set_sources([HERE, THERE])
            await told.until(lambda: len(registration.connections) == 2)
            assert registration.connections[1] is first
    assert [record.exc_info is not None for record in logged(caplog)] == [True]
    while relay.connections:
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "host", ["relay..example", f"{'a' * 70}.example"], ids=["empty label", "long label"]
)
def test_a_host_name_that_is_none_is_refused_where_it_is_handed_over(host: str) -> None:
    with pytest.raises(RelayUnavailable, match="not a relay's URL"):
        make(f"http://{host}:8440")


async def test_a_system_that_does_not_tell_its_addresses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses() -> None:
        raise OSError("no netlink here")

    async def finds_nothing(*args: object, **options: object) -> None:
        raise RelayUnavailable("cannot connect")

    monkeypatch.setattr(attempts.ifaddr, "get_adapters", refuses)
    monkeypatch.setattr(Door, "to_relay", finds_nothing)
    registration, _, _ = make("http://192.0.2.1:8440")
    registration.set_sources([None])
    with caplog.at_level(logging.ERROR, "peers"), pytest.raises(RelayUnavailable, match="connect"):
        await registration.connection(0.3)
    await registration.close()
    assert logged(caplog) == []


async def test_awaited_is_released_on_every_way_out(relay: RelayServer) -> None:
    registration, _, _ = make(relay.url)

    async def waits() -> None:
        with registration.awaited():
            await asyncio.Event().wait()

    waiting = asyncio.create_task(waits())
    await asyncio.sleep(0)
    assert registration._awaited.is_urgent
    waiting.cancel()
    await asyncio.wait({waiting})
    assert not registration._awaited.is_urgent
    await registration.close()


@pytest.mark.parametrize("cancelled", [False, True], ids=["closed", "closing cancelled"])
async def test_closed_at_any_moment_it_leaves_no_task_and_no_socket(
    relay: RelayServer, cancelled: bool
) -> None:
    process = psutil.Process()
    tasks, files = asyncio.all_tasks(), process.num_fds()
    came = 0
    for turns in range(0, 80, 2):
        registration, _, _ = make(relay.url)
        registration.set_sources([HERE, THERE])
        waiting = asyncio.create_task(registration.connection(5))
        for _ in range(turns):
            await asyncio.sleep(0)
        closing = asyncio.create_task(registration.close())
        if cancelled:
            await asyncio.sleep(0)
            closing.cancel()
        await asyncio.wait({waiting, closing})
        came += waiting.exception() is None
        async with asyncio.timeout(60):
            while asyncio.all_tasks() - tasks or process.num_fds() > files:
                await asyncio.sleep(0)
        assert registration.connections == []
    assert came
    assert not relay.connections


async def test_it_comes_back_to_a_relay_that_was_restarted() -> None:
    key = Identity.generate()
    port = free_port()
    first = RelayServer(RelayConfig(port=port), key)
    await first.__aenter__()
    registration, told, _ = make(first.url)
    registration.set_sources([None])
    before = await registration.connection(5)
    await first.__aexit__(None, None, None)
    async with asyncio.timeout(60), RelayServer(RelayConfig(port=port), key):
        with registration.awaited():
            after = await registration.connection(20)
        assert after is not before
        assert [told[0], told[-1]] == [PrimaryChanged(before), PrimaryChanged(after)]
        assert {type(event) for event in told[1:-1]} == {RegistrationLost}
        await registration.close()


# -- as a program sees it ------------------------------------------------------------------------


async def test_no_relay() -> None:
    with pytest.raises(RelayUnavailable, match="no relay is configured"):
        Peer(Identity.generate())
    with pytest.raises(RelayUnavailable, match="URL"):
        async with Peer(Identity.generate(), "ftp://nowhere"):
            pass
    config = PeerConfig(connect_timeout=0.5)
    with pytest.raises(RelayUnavailable, match=r"127\.0\.0\.1:9"):
        async with Peer(Identity.generate(), "http://127.0.0.1:9", config=config):
            pass


@pytest.mark.parametrize("carrier", list(CarrierKind))
async def test_a_refusal_of_the_relay_has_its_code(carrier: CarrierKind) -> None:
    config = RelayConfig(port=0, max_connections=1)
    async with RelayServer(config) as server, Peer(Identity.generate(), server.url):
        second = Peer(
            Identity.generate(),
            server.url,
            config=PeerConfig(carrier=carrier, connect_timeout=3.0),
        )
        with pytest.raises(RelayUnavailable) as refused:
            await second.__aenter__()
        assert refused.value.code is Code.LIMIT_EXCEEDED


@pytest.mark.expected_errors("registration ended")
async def test_a_relay_with_another_key_than_pinned_is_refused(relay: RelayServer) -> None:
    config = PeerConfig(relay_guid=Identity.generate().guid)
    with pytest.raises(WrongIdentity):
        async with Peer(Identity.generate(), relay.url, config=config):
            pass
    async with Peer(Identity.generate(), relay.url, config=PeerConfig(relay_guid=relay.guid)):
        pass


@pytest.mark.expected_errors("registration ended")
async def test_a_second_program_with_the_same_key_wins_without_a_fight(relay: RelayServer) -> None:
    identity = Identity.generate()
    async with Peer(identity, relay.url) as old:
        listener = old.listen("chat")
        async with Peer(identity, relay.url) as new:
            new.listen("chat")
            await new.published()
            with pytest.raises(RelayUnavailable, match="another program"):
                await anext(listener)
            assert relay.metrics.registrations == 2
