"""How a connection begins, step by step, and every way in which it does not."""

import asyncio

import msgspec
import pytest

from peers.control import handshake as handshakes
from peers.control.account import Account, Line
from peers.control.connection import ControlConnection, RelaySucceeded, RequestArrived
from peers.control.handshake import Handshake
from peers.control.pin import Pin
from protocol.errors import Code, ProtocolViolation, RelayUnavailable, RoamRelayError, WrongIdentity
from protocol.features import CONTROL_FEATURES
from protocol.identity import CONTEXT_REGISTER, Identity, public_key_of, verify
from protocol.invitation import Token, opened
from protocol.messages import (
    Error,
    Hello,
    LocationRecord,
    Message,
    Mode,
    Ping,
    Pong,
    Register,
    Registered,
    ServiceAnswer,
    ServiceRequestFrom,
    Verdict,
)
from protocol.succession import link
from tests.peers.control.scripted import (
    ACCOUNT,
    CONFIRMED,
    LINE,
    PEER,
    RELAY,
    Events,
    Seven,
    Wire,
    connected,
)

REQUEST = ServiceRequestFrom(5, RELAY.guid, "chat", Mode.P2P, b"s" * 16)


def begin(
    wire: Wire, line: Line = LINE, timeout: float = 5.0, tell: Events | None = None
) -> "asyncio.Task[object]":
    handshake = Handshake(ACCOUNT, line, Events() if tell is None else tell)
    return asyncio.create_task(handshake.register(wire, Seven(), timeout))


async def test_a_connection_has_what_it_has() -> None:
    wire, connection = await connected(Events())
    assert connection.registration == CONFIRMED
    assert connection.relay == (LINE.address, RELAY.guid, frozenset())
    assert (connection.local_host, connection.source) == ("192.0.2.1", "192.0.2.1")
    assert not connection.is_closed
    connection.close()
    assert wire.closed


async def test_of_what_the_relay_knows_only_what_both_have_named_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handshakes, "CONTROL_FEATURES", ("one", "two"))
    wire = Wire()
    registering = begin(wire)
    hello = await wire.next(Hello)
    assert isinstance(hello, Hello)
    assert hello.features == ("one", "two")
    wire.got.append(hello)
    await wire.challenge(features=("two", "three", "x" * 32))
    await wire.next(Register)
    wire.say(CONFIRMED)
    connection = await registering
    assert isinstance(connection, ControlConnection)
    assert connection.relay.features == {"two"}


async def test_the_peer_proves_itself_to_this_relay() -> None:
    wire = Wire()
    registering = begin(wire)
    hello = await wire.next(Hello)
    assert isinstance(hello, Hello)
    assert (hello.guid, hello.instance, hello.flow) == (PEER.guid, bytes(16), 1)
    wire.got.append(hello)
    await wire.challenge()
    register = await wire.next(Register)
    assert isinstance(register, Register)
    verify(
        PEER.guid,
        register.signature,
        CONTEXT_REGISTER,
        public_key_of(RELAY.guid),
        b"n" * 32,
        PEER.public_key,
        bytes(16),
        register.location,
    )
    wire.say(CONFIRMED)
    await registering


async def test_what_comes_in_the_packet_that_confirms_is_for_the_connection() -> None:
    events = Events()
    wire, connection = await connected(events, REQUEST, Ping(3))
    assert events == [RequestArrived(connection, REQUEST)]
    assert await wire.next(Pong) == Pong(3)


async def test_what_is_asked_of_it_before_it_is_registered_waits_until_it_is() -> None:
    """The first relays pass on at once what has waited for a flow that is replaced."""
    asked = [msgspec.structs.replace(REQUEST, request=number) for number in range(100)]
    events = Events()
    wire, connection = await connected(events, REQUEST, early=tuple(asked))
    assert events == [RequestArrived(connection, one) for one in (*asked[:64], REQUEST)]
    connection.answer(ServiceAnswer(3, Verdict.ACCEPTED))
    assert (await wire.next(ServiceAnswer)).request == 3  # type: ignore[attr-defined]
    connection.close()


async def test_pings_are_answered_before_it_is_registered() -> None:
    wire = Wire()
    registering = begin(wire)
    await wire.challenge()
    wire.say(Ping(9))
    assert await wire.next(Pong) == Pong(9)
    wire.say(CONFIRMED)
    await registering


@pytest.mark.parametrize("challenged", [False, True])
@pytest.mark.parametrize(
    ("said", "code", "match"),
    [
        (Error(Code.SUPERSEDED, "another"), Code.SUPERSEDED, "another"),
        (Error(Code.UNKNOWN_TYPE, "what"), None, "hung"),
        (None, None, "hung"),
    ],
)
async def test_a_refusal_has_its_code_and_a_relay_that_hangs_up_has_none(
    challenged: bool, said: Message | None, code: Code | None, match: str
) -> None:
    wire = Wire()
    registering = begin(wire)
    if challenged:
        await wire.challenge()
        await wire.next(Register)
    else:
        await wire.next(Hello)
    if said is not None:
        wire.say(said)
    wire.hang_up("hung up")
    with pytest.raises(RelayUnavailable, match=match) as refused:
        await registering
    assert refused.value.code is code
    assert wire.aborted


async def test_who_confirms_before_it_was_asked_breaks_the_protocol() -> None:
    wire = Wire()
    registering = begin(wire)
    await wire.next(Hello)
    wire.say(CONFIRMED)
    with pytest.raises(RelayUnavailable, match="broke the protocol"):
        await registering


async def test_another_relay_than_the_expected_one() -> None:
    wire = Wire()
    other = Identity.from_seed(b"o" * 32)
    registering = begin(wire, Line(LINE.address, pin=Pin(other.guid)))
    await wire.challenge()
    with pytest.raises(WrongIdentity):
        await registering
    assert wire.aborted


async def test_what_another_flow_has_learned_meanwhile_does_not_end_this_one() -> None:
    """It has asked for the key of before, and is answered under that; and what is said then is no
    news."""
    wire, events = Wire(), Events()
    pin, new = Pin(RELAY.guid), Identity.from_seed(b"o" * 32)
    registering = begin(wire, Line(LINE.address, pin=pin), tell=events)
    hello = await wire.next(Hello)
    assert isinstance(hello, Hello)
    assert hello.relay == RELAY.guid
    wire.got.append(hello)
    assert pin.learn([link(RELAY, new)])
    await wire.challenge(features=CONTROL_FEATURES, succession=(link(RELAY, new),))
    await wire.next(Register)
    wire.say(CONFIRMED)
    await registering
    assert events == []
    assert pin.guid == new.guid


async def test_a_relay_says_that_it_has_another_key_now() -> None:
    wire, events = Wire(), Events()
    pin, new = Pin(RELAY.guid), Identity.from_seed(b"o" * 32)
    registering = begin(wire, Line(LINE.address, pin=pin), tell=events)
    await wire.challenge(features=CONTROL_FEATURES, succession=(link(RELAY, new),))
    await wire.next(Register)
    wire.say(CONFIRMED)
    await registering
    assert events == [RelaySucceeded(new.guid)]


async def test_a_relay_that_does_not_prove_itself() -> None:
    wire = Wire()
    registering = begin(wire)
    hello = await wire.next(Hello)
    assert isinstance(hello, Hello)
    wire.got.append(Hello(RELAY.guid, hello.instance, hello.nonce))  # It signs for another peer.
    await wire.challenge()
    with pytest.raises(ProtocolViolation) as violation:
        await registering
    assert violation.value.code is Code.BAD_SIGNATURE
    assert wire.aborted


async def test_a_relay_that_says_nothing() -> None:
    wire = Wire()
    with pytest.raises(RelayUnavailable, match=r"handshake in 0\.05 s"):
        await begin(wire, timeout=0.05)
    assert wire.aborted


@pytest.mark.parametrize("error", [KeyError("unthought of"), RoamRelayError("no port")])
async def test_a_record_that_cannot_be_written_leaves_no_stream(error: Exception) -> None:
    class Failing:
        def record(self, local_host: str) -> LocationRecord:
            raise error

    wire = Wire()
    with pytest.raises(type(error)):
        await Handshake(ACCOUNT, LINE, Events()).register(wire, Failing(), 5.0)
    assert wire.aborted


@pytest.mark.parametrize("turns", range(1, 9))
async def test_cancelled_at_any_moment_it_leaves_no_stream(turns: int) -> None:
    wire = Wire()
    registering = begin(wire)

    async def relay() -> None:
        await wire.challenge()
        await wire.next(Register)
        wire.say(Registered(7, "198.51.100.1", 1, 15.0, 120.0))

    answering = asyncio.create_task(relay())
    for _ in range(turns):
        await asyncio.sleep(0)
    registering.cancel()
    await asyncio.wait({registering})
    answering.cancel()
    await asyncio.wait({answering})
    assert wire.aborted is registering.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("asks", [True, False])
async def test_an_invitation_is_shown_to_who_asks_for_it(asks: bool) -> None:
    token = Token.make(RELAY, bytes(32), expires=2_000_000_000)
    account = Account(PEER, bytes(16), invitation=token)
    assert token.text not in repr(account)
    wire = Wire()
    async with asyncio.TaskGroup() as tasks:
        handshake = Handshake(account, LINE, Events())
        registering = tasks.create_task(handshake.register(wire, Seven(), 5.0))
        await wire.challenge(invitation=asks)
        register = await wire.next(Register)
        wire.say(CONFIRMED)
    assert isinstance(register, Register)
    registering.result().close()
    if not asks:
        assert register.invitation == b""
        return
    key = RELAY.public_key
    found = opened(register.invitation, (key,), key, b"n" * 32, PEER.guid)
    assert found == token.invitation
    # The secret itself is not in it.
    assert bytes(32) not in register.invitation
