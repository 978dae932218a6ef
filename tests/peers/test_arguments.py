"""What a program hands over is checked where it does: every public call, by its signature, with
every wrong kind. Nothing is sent, the peer stays registered, and its other sessions go on.
"""

import asyncio
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

import peers
from peers import (
    ConfigError,
    DdnsConfig,
    Dial,
    Identity,
    IdentityError,
    Listener,
    Mode,
    Peer,
    PeerConfig,
    RelayUnavailable,
    RoamRelayError,
    Session,
    SessionSettings,
    UnknownService,
    blocking,
)
from peers.config import Settings
from peers.control import ControlConnection
from peers.control.message_stream import MessageStream
from protocol.errors import Code
from protocol.messages import (
    DnsKeyResponse,
    Message,
    PeerEvent,
    Ping,
    Pong,
    ServiceResponse,
    Update,
)
from relay.config import DnsConfig, RelayConfig
from relay.server import RelayServer
from tests.support.sessions import pair

NO_KEY = "a" * 51 + "b"
GUID = Identity.generate().guid

WRONG: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    3.5,
    70_000,
    math.nan,
    math.inf,
    -math.inf,
    "",
    "a",
    "p2pp",
    "a" * 64,
    "not a name",
    "nul\0",
    "half \ud800",
    b"bytes",
    bytearray(2 << 20),
    GUID.upper(),
    [],
    ["short"],
    [None],
    (GUID, 7),
    {},
    {"a": 1},
    object(),
    len,
    asyncio.sleep,
)

Fits = Callable[[Any], bool]


def nothing(value: Any) -> bool:
    return value is None


def number(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= 86_400


def name(value: Any) -> bool:
    return value in ("a", "p2pp")


def empty(value: Any) -> bool:
    return isinstance(value, list | dict) and not value


FITS: dict[str, Fits] = {
    "accept": lambda value: nothing(value) or callable(value),
    "address": lambda value: False,
    "addresses": nothing,
    "allow": lambda value: nothing(value) or empty(value),
    "blocked": lambda value: value is True,
    "config": nothing,
    "ddns": nothing,
    "dial": nothing,
    "disclose": empty,
    "error": nothing,
    "guid": lambda value: False,
    "handler": callable,
    "identity": lambda value: False,
    "leaving": lambda value: value is True,
    "located": lambda value: False,
    "max_sessions": lambda value: type(value) is int and value > 0,
    "message": lambda value: isinstance(value, bytes),
    "metadata": lambda value: isinstance(value, bytes),
    "mode": nothing,
    "number": nothing,
    "pinned": lambda value: value is True,
    "policy": lambda value: value in (None, ""),
    "port": lambda value: False,
    "reason": lambda value: isinstance(value, str),
    "relay": lambda value: value in (None, ""),
    "select": lambda value: nothing(value) or callable(value),
    "service": name,
    "settings": lambda value: False,
    "store": lambda value: isinstance(value, str) and value not in ("", "nul\0", "half \ud800"),
    "timeout": lambda value: nothing(value) or number(value),
    "wait": lambda value: value is True,
}
"""By the name of a parameter: what it takes of all that."""

GOOD: dict[str, Any] = {
    "address": "192.0.2.1",
    "guid": GUID,
    "handler": asyncio.sleep,
    "identity": Identity.generate(),
    "located": None,
    "message": b"",
    "port": 80,
    "service": "a",
    "store": "store.db",
}
"""For parameters that have no default, where another one is tried."""

INSIDE = {"discloses_to", "offer", "refusal"}
"""What the library itself calls of a listener."""


@dataclass
class World:
    """A peer in the midst of a session, and how much it has said to its relay."""

    peer: Peer
    session: Session
    listener: Listener
    sent: list[Any]
    there: Session

    def owner(self, cls: type) -> Any:
        return {Peer: self.peer, Session: self.session, Listener: self.listener}[cls]

    async def lives(self) -> None:
        """Fail unless nothing was sent, the session goes on and the peer is registered."""
        assert self.sent == []
        async with asyncio.timeout(60):
            await self.session.send(b"still here")
            assert await self.there.receive() == b"still here"
            assert self.peer.relay_guid is not None
            await self.peer.published()
        self.sent.clear()


@pytest.fixture
async def world(
    relay: RelayServer, alice: Peer, bob: Peer, monkeypatch: pytest.MonkeyPatch
) -> World:
    session, there = await pair(alice, bob, Mode.COMBINED)
    listener = bob.listen("sibling")
    await bob.published()
    sent: list[Any] = []
    send = MessageStream.send

    def spy(stream: MessageStream, message: Any) -> None:
        if not isinstance(message, Update | Ping | Pong):
            sent.append(message)
        send(stream, message)

    monkeypatch.setattr(MessageStream, "send", spy)
    return World(bob, session, listener, sent, there)


def calls() -> list[tuple[type, str, str]]:
    """Every public method of what an open peer gives, with each of its parameters."""
    found = []
    for cls in (Peer, Session, Listener):
        for method, function in inspect.getmembers(cls, inspect.isfunction):
            if method.startswith("_") or method in INSIDE:
                continue
            for parameter in list(inspect.signature(function).parameters)[1:]:
                found.append((cls, method, parameter))
    return found


def test_every_parameter_is_known() -> None:
    """Who adds a parameter says what it takes."""
    assert {parameter for _, _, parameter in calls()} <= FITS.keys()


async def outcome(call: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Make a call to its end, whichever kind of function it is."""
    result = call(**arguments)
    if inspect.isawaitable(result):
        async with asyncio.timeout(60):
            await result
    elif inspect.isasyncgen(result):
        await result.aclose()


@pytest.mark.parametrize("cls", [Peer, Session, Listener])
async def test_a_wrong_argument_is_refused_at_once(world: World, cls: type) -> None:
    for method, parameter in [call[1:] for call in calls() if call[0] is cls]:
        call = getattr(world.owner(cls), method)
        needed = {
            one.name: GOOD[one.name]
            for one in inspect.signature(call).parameters.values()
            if one.default is one.empty and one.name != parameter
        }
        for value in WRONG:
            if FITS[parameter](value):
                continue
            where = f"{method}({parameter}={value!r:.40})"
            with pytest.raises((TypeError, ValueError, RoamRelayError)) as caught:
                await outcome(call, needed | {parameter: value})
            said = str(caught.value)
            known = isinstance(caught.value, RoamRelayError) or "message" in said
            assert known or parameter in said, where
        assert world.sent == [], f"{method}, {parameter}"
    await world.lives()


@pytest.mark.parametrize("service", ["", "a" * 64, "Chat", "-a", "a b", "../etc"])
async def test_a_name_from_a_stranger_is_no_service(world: World, service: str) -> None:
    """As a web application has it from a URL: it may tell this from the others, or not."""
    for call in (world.peer.connect, world.peer.locate):
        with pytest.raises(ValueError, match="1 to 63"):
            await call(GUID, service)
        with pytest.raises(UnknownService):
            await call(GUID, service)
    await world.lives()


async def test_what_is_allowed_is_said(world: World) -> None:
    with pytest.raises(ValueError, match=r"'p2p', 'central', 'combined' or 'auto'.*'p2pp'"):
        await world.peer.connect(GUID, "chat", mode="p2pp")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timeout is a number of seconds"):
        await world.peer.connect(GUID, "chat", timeout="a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout is above 0"):
        await world.peer.locate(GUID, "chat", timeout=0)
    with pytest.raises(IdentityError, match="not a GUID"):
        world.peer.listen("more", allow=["nobody"])
    with pytest.raises(TypeError, match="allow is a collection of GUIDs"):
        world.peer.listen("more", allow=GUID)
    with pytest.raises(ValueError, match="1048576"):
        await world.session.send(bytes(2 << 20))
    await world.lives()


async def test_a_message_that_is_too_large_does_not_wait_for_room(alice: Peer, bob: Peer) -> None:
    session, _ = await pair(alice, bob, Mode.P2P)
    for _ in range(8):
        await session.send(bytes(1 << 20))
    with pytest.raises(ValueError, match="1048576"):
        await asyncio.wait_for(session.send(bytes((1 << 20) + 1)), 60)


@pytest.mark.parametrize(
    "parameter", [*inspect.signature(Peer).parameters, *Settings.__annotations__]
)
def test_a_peer_is_not_made_of_what_does_not_fit(parameter: str) -> None:
    arguments = {"identity": GOOD["identity"], "relay": "http://127.0.0.1:1"}
    for value in WRONG:
        if FITS[parameter](value):
            continue
        with pytest.raises((TypeError, ValueError, RoamRelayError)) as caught:
            Peer(**arguments | {parameter: value})
        assert parameter in str(caught.value), value


@pytest.mark.parametrize("make", [Peer, blocking.Peer])
def test_whom_a_peer_dials_is_said_where_it_is_made(make: Any) -> None:
    """And goes before what is configured."""
    relay, identity = "http://127.0.0.1:1", Identity.generate()
    config = PeerConfig(dial=Dial.OPEN)
    for dial, found in [(None, Dial.OPEN), ("proven", Dial.PROVEN), (Dial.CAREFUL, Dial.CAREFUL)]:
        peer = make(identity, relay, dial=dial, config=config)
        assert getattr(peer, "_peer", peer).config.dial is found
    for wrong in ("Proven", "all", ""):
        with pytest.raises(ValueError, match="dial is 'open', 'careful' or 'proven'"):
            make(identity, relay, dial=wrong)


def test_a_relay_is_refused_where_it_is_named() -> None:
    for text in ("nowhere", "ftp://relay.example", "dns:no domain", "http://"):
        with pytest.raises(RelayUnavailable, match="not a relay"):
            Peer(Identity.generate(), relay=text)


@pytest.mark.parametrize("value", [5, 0, True, None, b"\xff", object()])
def test_a_key_file_has_a_path(value: Any) -> None:
    """A number would be somebody's descriptor."""
    for read in (Identity.load, Identity.load_or_create):
        with pytest.raises((TypeError, IdentityError)):
            read(value)
    with pytest.raises(IdentityError, match="cannot"):
        Identity.load("nul\0")
    with pytest.raises(IdentityError, match="cannot"):
        Identity.load_or_create("nul\0")


CONFIGS: tuple[tuple[type[msgspec.Struct], dict[str, Any]], ...] = (
    (PeerConfig, {}),
    (SessionSettings, {}),
    (DdnsConfig, {"zone": "a.example"}),
    (RelayConfig, {}),
    (DnsConfig, {"zone": "a.example"}),
)
KEYS = [(cls, good, one) for cls, good in CONFIGS for one in msgspec.structs.fields(cls)]


@pytest.mark.parametrize(
    ("cls", "good", "field"),
    KEYS,
    ids=[f"{cls.__name__}.{field.name}" for cls, _, field in KEYS],
)
def test_every_key_of_every_configuration(
    cls: type[msgspec.Struct], good: dict[str, Any], field: msgspec.structs.FieldInfo
) -> None:
    for value in WRONG:
        try:
            fits = msgspec.convert(value, field.type)
        except (msgspec.ValidationError, UnicodeEncodeError):
            with pytest.raises(ValueError, match=field.name):
                cls(**good | {field.name: value})
        else:
            if isinstance(fits, float):
                assert not math.isnan(fits)
            if isinstance(fits, str) and "\0" in fits:
                with pytest.raises(ValueError, match=field.name):
                    cls(**good | {field.name: value})


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("guids", {NO_KEY: "p2p"}, "not a GUID"),
        ("policies", {"Not a name": "only direct"}, "neither a service nor a GUID"),
        ("policies", {GUID.upper(): "only direct"}, "neither a service nor a GUID"),
        ("selects", {"a" * 64: "latest"}, "neither a service nor a GUID"),
        ("relay_guid", NO_KEY, "not a GUID"),
        ("sources", ["eth0"], "not an IP address"),
        ("advertise", ["relay.example"], "not an IP address"),
        ("listen_hosts", ["nonsense"], "not an IP address"),
    ],
)
def test_what_is_no_name_no_key_and_no_address_is_named(key: str, value: Any, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as told:
        PeerConfig(**{key: value})
    assert key in str(told.value)


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"tls_key": "key.pem"}, "needed together"),
        ({"dns": {"zone": "no zone"}}, "dns"),
        ({"dns": {"zone": "a.example", "addresses": "nowhere"}}, "dns"),
    ],
)
def test_a_relay_that_is_embedded_is_told_what_a_file_is(values: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        RelayConfig(**values)


@pytest.mark.parametrize("wrong", [None, {}, "relay.toml", PeerConfig()])
def test_a_relay_is_made_of_its_configuration(wrong: Any) -> None:
    with pytest.raises(TypeError, match="config"):
        RelayServer(wrong)
    if wrong is not None:
        with pytest.raises(TypeError, match="identity"):
            RelayServer(RelayConfig(), wrong)


def test_no_file_has_such_a_name() -> None:
    with pytest.raises(ConfigError, match="null"):
        PeerConfig.load("nul\0")


def test_a_session_shows_a_program_what_is_for_programs() -> None:
    """What its paths and whoever looks for them need is at `SessionEnd`."""
    found = {name: getattr(Session, name) for name in dir(Session) if not name.startswith("_")}
    # A slot is an attribute of the session, which its class has none of.
    shown = {name for name, one in found.items() if not inspect.ismemberdescriptor(one)}
    calls = {"abort", "close", "events", "explain", "finish", "pin", "receive", "send"}
    calls |= {"acknowledged", "figures"}
    facts = {"is_over", "mode", "outstanding", "path", "remote", "round_trip", "service", "standby"}
    facts |= {"state"}
    assert shown - calls - facts == {"usual_round_trip", "window"}
    assert all(inspect.getdoc(getattr(Session, name)) for name in shown)


def test_nothing_public_is_left_out() -> None:
    """What the package exports beside exceptions, words and facts is among what is tried here."""
    tried = {Peer, Session, Listener, Identity, *(cls for cls, _ in CONFIGS)}
    for cls in (getattr(peers, name) for name in peers.__all__):
        if not inspect.isclass(cls) or issubclass(cls, BaseException) or cls in tried:
            continue
        methods = [
            function
            for name, function in inspect.getmembers(cls, inspect.isfunction)
            if not name.startswith("_") and len(inspect.signature(function).parameters) > 1
        ]
        apart = {"DdnsKey", "Path", "Conversation", "Message"}  # The last two: conversations/.
        assert not methods or cls.__name__ in apart, cls


async def test_whatever_the_relay_answers_to_one_request_ends_that_request_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = ControlConnection.receive
    codes: list[Code] = []

    def altered(connection: ControlConnection, message: Message) -> None:
        if isinstance(message, ServiceResponse | DnsKeyResponse):
            message = msgspec.structs.replace(message, code=codes[-1], reason="as a test says")
        elif isinstance(message, PeerEvent):
            message = msgspec.structs.replace(message, code=codes[-1])
        receive(connection, message)

    monkeypatch.setattr(ControlConnection, "receive", altered)
    for code in Code:
        codes.append(code)
        with pytest.raises(RoamRelayError):
            await world.peer.connect(GUID, "a", mode="central")
        with pytest.raises(RoamRelayError):
            await world.peer.locate(GUID, "a")
        with pytest.raises(RoamRelayError):
            await world.peer.ddns_key()
        with pytest.raises(RoamRelayError):
            await anext(world.peer.watch(GUID))
    world.sent.clear()
    await world.lives()
