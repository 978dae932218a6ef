"""One registered connection, against a relay that says what a test wants."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from peers.control.connection import ControlConnection, ControlEvent, PeerChanged, RequestArrived
from peers.transport import SILENT
from protocol.endpoint import SignedEntry
from protocol.errors import Code, ConnectionClosed, RelayUnavailable, RequestTimeout, RoamRelayError
from protocol.messages import (
    Challenge,
    DnsKeyRequest,
    DnsKeyResponse,
    EndpointQuery,
    EndpointResponse,
    Error,
    LocationRecord,
    Mode,
    PeerEvent,
    Ping,
    Pong,
    Restarting,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Update,
    Verdict,
    Watch,
)
from tests.peers.control.scripted import CONFIRMED, RELAY, Events, Wire, connected, logged
from tests.support.virtual_time import run

ASK = ServiceRequestTo(0, RELAY.guid, "chat", Mode.P2P, b"s" * 16)
ASKED = ServiceRequestFrom(5, RELAY.guid, "chat", Mode.P2P, b"s" * 16)
ACCEPTED = ServiceAnswer(5, Verdict.ACCEPTED)
ENTRY = SignedEntry(b"entry", b"s" * 64)
CHANGED = PeerEvent(RELAY.guid, seq=1)

Asks = Callable[[ControlConnection], Coroutine[Any, Any, Any]]
WAITS: list[Asks] = [
    lambda connection: connection.request(ASK),
    lambda connection: connection.dns_key(b"p" * 32, b"s" * 64, 5.0),
    lambda connection: connection.endpoint_query(RELAY.guid, ENTRY, 5.0),
    lambda connection: connection.update(LocationRecord(8), 5.0),
    lambda connection: connection.ping(5.0),
]
IDS = ["request", "dns_key", "endpoint_query", "update", "ping"]


def waiting(connection: ControlConnection) -> int:
    return sum(
        len(table)
        for table in (
            connection._responses,
            connection._dns_keys,
            connection._endpoints,
            connection._updates,
            connection._pongs,
        )
    )


async def test_each_request_gets_its_own_response() -> None:
    wire, connection = await connected(Events())
    asking = [asyncio.create_task(connection.request(ASK)) for _ in range(3)]
    numbers = []
    for _ in asking:
        request = await wire.next(ServiceRequestTo)
        assert isinstance(request, ServiceRequestTo)
        assert msgspec.structs.replace(request, request=0) == ASK
        numbers.append(request.request)
    wire.say(*(ServiceResponse(number, reason=str(number)) for number in reversed(numbers)))
    assert [(await one).reason for one in asking] == [str(number) for number in numbers]
    assert waiting(connection) == 0


async def test_an_answer_to_another_question_is_no_answer() -> None:
    wire, connection = await connected(Events())
    asking = asyncio.create_task(connection.dns_key(b"p" * 32, b"s" * 64, 5.0))
    request = await wire.next(DnsKeyRequest)
    assert isinstance(request, DnsKeyRequest)
    wire.say(ServiceResponse(request.request), DnsKeyResponse(request.request, zone="z"))
    assert (await asking).zone == "z"


async def test_what_the_relay_says_of_an_endpoint_is_for_that_question() -> None:
    wire, connection = await connected(Events())
    asking = [
        asyncio.create_task(connection.endpoint_query(RELAY.guid, ENTRY, 5.0)) for _ in range(2)
    ]
    queries = [await wire.next(EndpointQuery) for _ in asking]
    numbers = [query.request for query in queries if isinstance(query, EndpointQuery)]
    wire.say(EndpointResponse(numbers[1]), EndpointResponse(numbers[0], True))
    assert [(await one).met for one in asking] == [True, False]


async def test_the_pong_of_a_heartbeat_is_not_that_of_a_ping() -> None:
    wire, connection = await connected(Events())
    pinging = asyncio.create_task(connection.ping(5.0))
    ping = await wire.next(Ping)
    assert isinstance(ping, Ping)
    wire.say(Pong(0))
    await asyncio.sleep(0)
    assert not pinging.done()
    wire.say(Pong(ping.ping))
    assert await pinging >= 0


async def test_an_update_is_confirmed_by_its_number() -> None:
    wire, connection = await connected(Events())
    updating = asyncio.create_task(connection.update(LocationRecord(8), 5.0))
    await wire.next(Update)
    wire.say(msgspec.structs.replace(CONFIRMED, seq=9))
    await asyncio.sleep(0)
    assert not updating.done()
    wire.say(msgspec.structs.replace(CONFIRMED, seq=8, observed_host="198.51.100.9"))
    await updating
    assert connection.registration.observed_host == "198.51.100.9"


async def test_an_update_that_is_stale_fails_and_the_connection_lives() -> None:
    wire, connection = await connected(Events())
    updating = asyncio.create_task(connection.update(LocationRecord(8), 5.0))
    await wire.next(Update)
    wire.say(Error(Code.STALE_SEQUENCE, "newer"))
    with pytest.raises(RelayUnavailable) as stale:
        await updating
    assert stale.value.code is Code.STALE_SEQUENCE
    wire.hang_up("later")
    assert (await connection.keep_alive()).code is None


@pytest.mark.parametrize("ask", WAITS, ids=IDS)
@pytest.mark.parametrize("ends", ["hangs up", "drop", "close", "violation", "said why"])
async def test_every_wait_ends_with_its_connection(ask: Asks, ends: str) -> None:
    wire, connection = await connected(Events())
    asking = asyncio.create_task(ask(connection))
    await asyncio.sleep(0)
    match ends:
        case "hangs up":
            wire.hang_up()
        case "drop":
            connection.drop("leads nowhere")
        case "close":
            connection.close()
        case "violation":
            wire.owner.stream_data(b"\xc1")
        case _:
            wire.say(Error(Code.LIMIT_EXCEEDED, "enough"))
            wire.hang_up()
    with pytest.raises(ConnectionClosed if ends == "close" else RelayUnavailable) as ended:
        await asking
    if ends == "said why":
        assert ended.value.code is Code.LIMIT_EXCEEDED
    assert connection.is_closed
    assert waiting(connection) == 0
    with pytest.raises(type(ended.value)):
        await ask(connection)
    assert await connection.keep_alive() is ended.value


@pytest.mark.parametrize("ask", WAITS, ids=IDS)
async def test_who_gives_up_leaves_nothing(ask: Asks) -> None:
    wire, connection = await connected(Events())
    asking = asyncio.create_task(ask(connection))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    assert waiting(connection) == 0
    wire.hang_up()


@pytest.mark.parametrize("ask", WAITS, ids=IDS)
async def test_an_end_in_the_turn_of_the_cancellation_harms_nobody(ask: Asks) -> None:
    wire, connection = await connected(Events())
    asking = asyncio.create_task(ask(connection))
    await asyncio.sleep(0)
    asking.cancel()
    wire.hang_up()
    await asyncio.wait({asking})
    assert asking.cancelled()
    assert waiting(connection) == 0


@pytest.mark.parametrize(
    "ask",
    [
        lambda connection: connection.dns_key(b"p" * 32, b"s" * 64, 0.01),
        lambda connection: connection.endpoint_query(RELAY.guid, ENTRY, 0.01),
        lambda connection: connection.update(LocationRecord(8), 0.01),
        lambda connection: connection.ping(0.01),
    ],
    ids=IDS[1:],
)
async def test_silence_is_a_timeout(ask: Asks) -> None:
    _, connection = await connected(Events())
    with pytest.raises(RequestTimeout, match="did not"):
        await ask(connection)
    assert waiting(connection) == 0
    assert not connection.is_closed


async def test_news_are_events() -> None:
    events = Events()
    wire, connection = await connected(events)
    wire.say(ASKED, CHANGED, Challenge(RELAY.guid, b"n" * 32, b"s" * 64))
    assert events == [RequestArrived(connection, ASKED), PeerChanged(CHANGED)]
    connection.answer(ACCEPTED)
    assert await wire.next(ServiceAnswer) == ACCEPTED
    connection.watch(Watch(RELAY.guid))
    assert await wire.next(Watch) == Watch(RELAY.guid)


async def test_a_request_is_answered_once() -> None:
    wire, connection = await connected(Events())
    wire.say(ASKED)
    connection.answer(ACCEPTED)
    connection.answer(ServiceAnswer(5, Verdict.REFUSED))
    connection.answer(ServiceAnswer(6, Verdict.REFUSED))
    connection.watch(Watch(RELAY.guid))
    await wire.next(Watch)
    wire.say(ASKED)
    connection.answer(ServiceAnswer(5, Verdict.REFUSED))
    answer = await wire.next(ServiceAnswer)
    assert isinstance(answer, ServiceAnswer)
    assert answer.verdict is Verdict.REFUSED
    assert wire.got == []


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.expected_errors("unexpected: news were lost")
async def test_who_fails_over_a_request_loses_that_one_and_it_is_answered_once(
    answers: bool, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[ControlEvent] = []

    def tell(event: ControlEvent) -> None:
        heard.append(event)
        if isinstance(event, RequestArrived) and event.request.request == 5:
            if answers:
                event.connection.answer(ACCEPTED)
            raise KeyError("nobody thought of it")

    wire, connection = await connected(tell)
    with caplog.at_level(logging.ERROR, "peers"):
        wire.say(ASKED, msgspec.structs.replace(ASKED, request=6), CHANGED)
    assert len(heard) == 3
    assert [record.exc_info is not None for record in logged(caplog)] == [True]
    connection.answer(ACCEPTED)  # Too late: that one has its answer.
    connection.answer(ServiceAnswer(6, Verdict.ACCEPTED))
    await asyncio.sleep(0)
    told = [(one.request, one.code) for one in wire.got if isinstance(one, ServiceAnswer)]
    assert told == [(5, None if answers else Code.INTERNAL), (6, None)]
    assert not connection.is_closed


@pytest.mark.expected_errors("unexpected: news were lost")
async def test_the_answer_for_who_fails_says_internal() -> None:
    def fails(event: ControlEvent) -> None:
        raise KeyError("nobody thought of it")

    wire, connection = await connected(fails, ASKED)
    answer = await wire.next(ServiceAnswer)
    assert isinstance(answer, ServiceAnswer)
    assert (answer.request, answer.verdict) == (5, Verdict.REFUSED)
    assert answer.code is Code.INTERNAL
    connection.answer(ACCEPTED)
    await asyncio.sleep(0)
    assert wire.got == []


@pytest.mark.parametrize("heartbeat", [0.1, 0.0, -1.0, float("nan")])
async def test_a_silent_relay_is_pinged_and_then_given_up(heartbeat: float) -> None:
    wire, connection = await connected(
        Events(), msgspec.structs.replace(CONFIRMED, heartbeat=heartbeat)
    )
    error = await asyncio.wait_for(connection.keep_alive(), 5)
    assert error.code is Code.HEARTBEAT_TIMEOUT
    assert isinstance(await wire.next(Ping), Ping)
    assert len(wire.got) < 5
    assert wire.aborted


def test_a_relay_that_does_not_answer_a_ping_is_given_up_soon() -> None:
    async def scene() -> tuple[list[float], float]:
        loop = asyncio.get_running_loop()
        wire, connection = await connected(Events())
        pings = []
        write = wire.write

        def noted(data: bytes) -> None:
            write(data)
            pings.append(loop.time())

        wire.write = noted  # type: ignore[method-assign]
        loop.call_later(20.0, wire.say, Pong(0))
        error = await connection.keep_alive()
        assert error.code is Code.HEARTBEAT_TIMEOUT
        return pings, loop.time()

    pings, end = run(scene())
    # A heartbeat of 15 s: pinged at 15, heard at 20, pinged once more at 35, given up 15 s
    # later: three of the round trips that are known.
    assert pings == pytest.approx([15.0, 35.0])
    assert end == pytest.approx(50.0)


async def test_a_stream_that_is_dead_is_a_relay_that_is_silent() -> None:
    wire, connection = await connected(Events())
    wire.hang_up(SILENT)
    assert (await connection.keep_alive()).code is Code.HEARTBEAT_TIMEOUT


async def test_what_the_relay_says_before_it_goes_down_is_kept() -> None:
    wire, connection = await connected(Events())
    assert connection.restarting is None
    wire.say(Restarting(1.0, 2.0))
    assert connection.restarting == Restarting(1.0, 2.0)


async def test_an_error_that_concerns_one_message_ends_nothing() -> None:
    wire, connection = await connected(Events())
    wire.say(Error(Code.UNKNOWN_REQUEST, "late"), Error(Code.UNKNOWN_TYPE, "what"))
    assert not connection.is_closed
    wire.hang_up("end of stream")
    error = await connection.keep_alive()
    assert isinstance(error, RoamRelayError)
    assert error.code is None


class Heard(Wire):
    """A stream whose kernel tells since when it has heard of nobody."""

    acknowledged = 0.0

    @property
    def silence(self) -> float | None:  # type: ignore[override]
        return asyncio.get_running_loop().time() - self.acknowledged


def test_a_connection_whose_kernel_hears_of_nobody_is_doubted_and_pinged() -> None:
    async def scene() -> list[float]:
        loop, doubts = asyncio.get_running_loop(), []
        wire, connection = await connected(Events(), wire=Heard())
        loop.call_later(2.0, setattr, wire, "acknowledged", 2.0)
        assert await connection.doubted()
        doubts.append(loop.time())
        assert connection.heard == pytest.approx(2.0)
        assert (await wire.next(Ping)).ping == 0  # type: ignore[attr-defined]
        wire.acknowledged = loop.time()
        wire.say(Pong(0))
        loop.call_later(1.0, wire.hang_up)
        assert not await connection.doubted(), "it has ended, and was heard before"
        return doubts

    # 15 s and seven signs of life in them: every second one, and 1.25 s more.
    assert run(scene()) == pytest.approx([5.25], abs=0.01)
