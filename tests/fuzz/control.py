"""The dialogue of a control connection, in each state: at the relay, and at a peer."""

import asyncio
import contextlib
import itertools
import os
from typing import TypeVar

from peers.control.handshake import Handshake
from protocol.codec import MessageDecoder, UnknownType, encode, encode_location
from protocol.endpoint import Entry, Phase, Provenance, sign_entry
from protocol.errors import RoamRelayError
from protocol.features import RELAY_FEATURES
from protocol.identity import CONTEXT_REGISTER, Identity, public_key_of
from protocol.messages import (
    Challenge,
    Hello,
    LocationRecord,
    Message,
    Mode,
    Register,
    Registered,
    ServiceRecord,
    ServiceRequestFrom,
    ServiceRequestTo,
    Watch,
)
from protocol.tables import FROM_RELAY
from tests.fuzz.draws import Draw
from tests.fuzz.findings import nothing_logged
from tests.fuzz.relay_in_memory import Line, MemoryRelay, the_relay
from tests.peers.control.scripted import ACCOUNT, CONFIRMED, LINE, Events, Seven, Wire

__all__ = ["at_the_peer", "at_the_relay", "close_loop"]

HONEST = Identity.from_seed(b"h" * 32)
SESSION = b"s" * 16
_M = TypeVar("_M", bound=Message)
_INSTANCE = b"i" * 16
_numbers = itertools.count(1)


class _Party:
    """A peer on a connection in memory, as far as the relay is to be led by an honest one."""

    def __init__(self, relay: MemoryRelay, identity: Identity) -> None:
        self.relay = relay
        self.identity = identity
        self.line: Line = relay.upgraded()
        self._decoder = MessageDecoder(FROM_RELAY)

    def say(self, message: Message) -> None:
        self.line.feed(encode(message))
        self.relay.turn(2)

    def heard(self) -> list[Message | UnknownType]:
        """Return what the relay has said since: every byte of it must be a message."""
        return list(self._decoder.receive(self.line.said()))

    def expect(self, kind: type[_M]) -> _M:
        """Return the message of this kind that comes next."""
        found: list[_M] = []

        def is_there(said: bytes) -> bool:
            messages = MessageDecoder(FROM_RELAY).receive(said)
            found[:] = [message for message in messages if isinstance(message, kind)]
            return bool(found)

        self.line.wait(is_there)
        return found[0]

    def hello(self) -> Challenge:
        self.say(Hello(self.identity.guid, _INSTANCE, os.urandom(32), features=RELAY_FEATURES))
        return self.expect(Challenge)

    def register(self) -> None:
        challenge = self.hello()
        seq = next(_numbers)
        entry = Entry(seq, "chat", "192.0.2.1", 9, Phase.PREFERRED, 120, Provenance.INTERFACE)
        services = (ServiceRecord("chat", (sign_entry(self.identity, entry),)),)
        location = encode_location(LocationRecord(seq, services))
        signature = self.identity.sign(
            CONTEXT_REGISTER,
            public_key_of(challenge.guid),
            challenge.nonce,
            self.identity.public_key,
            _INSTANCE,
            location,
        )
        self.say(Register(location, signature))
        self.expect(Registered)


def at_the_relay(data: bytes) -> None:
    """A stranger's bytes before its hello, before its registration, as a peer, and as one that an
    honest peer asks, with each mode, and watches."""
    draw = Draw(data)
    state, mode = draw.number(8), list(Mode)[draw.number(4)]
    size = draw.number()
    stream = draw.rest()
    relay = the_relay()
    with nothing_logged():
        # What it has said of where it is would hold the next time: it is always somebody else.
        who = Identity.from_seed(next(_numbers).to_bytes(32, "big"))
        stranger = _Party(relay, who)
        honest: _Party | None = None
        if state == 1:
            stranger.hello()
        elif state > 1:
            stranger.register()
        if state > 2:
            honest = _Party(relay, HONEST)
            honest.register()
            honest.say(ServiceRequestTo(7, who.guid, "chat", mode, SESSION, (), 5.0))
            if state > 4:
                honest.say(Watch(who.guid, True))
        step = size or len(stream) or 1
        for start in range(0, len(stream), step):
            stranger.line.feed(stream[start : start + step])
            if start < 64 * step:
                relay.turn(1)
        relay.turn(2)
        stranger.heard()
        stranger.line.lose()
        relay.turn()
        if honest is not None:
            honest.heard()
            honest.line.lose()
        relay.check_left()


def at_the_peer(data: bytes) -> None:
    """A relay's bytes before its challenge, before it confirms, and after that, while the peer
    waits for answers."""
    draw = Draw(data)
    state, size = draw.number(3), draw.number()
    stream = draw.rest()
    step = size or len(stream) or 1
    pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
    with nothing_logged():
        _loop().run_until_complete(_at_the_peer(state, pieces))


async def _at_the_peer(state: int, pieces: list[bytes]) -> None:
    wire, events = Wire(), Events()
    work = asyncio.ensure_future(Handshake(ACCOUNT, LINE, events).register(wire, Seven(), 60.0))
    await wire.next(Hello)
    waiting: list[asyncio.Future[object]] = []
    if state:
        # The hello was taken from what came already: the challenge is signed for its nonce.
        work.cancel()
        await asyncio.wait([work])
        wire, events = Wire(), Events()
        work = asyncio.ensure_future(Handshake(ACCOUNT, LINE, events).register(wire, Seven(), 60.0))
        await wire.challenge()
        await wire.next(Register)
    if state == 2:
        wire.say(CONFIRMED)
        connection = await work
        request = ServiceRequestTo(0, HONEST.guid, "chat", Mode.AUTO, SESSION, (), 5.0)
        waiting = [
            asyncio.ensure_future(connection.request(request)),
            asyncio.ensure_future(connection.ping(5.0)),
            asyncio.ensure_future(connection.dns_key(bytes(32), bytes(64), 5.0)),
            asyncio.ensure_future(connection.update(LocationRecord(8), 5.0)),
            asyncio.ensure_future(connection.keep_alive()),
        ]
        await asyncio.sleep(0)
    for piece in pieces:
        if not wire.aborted:
            wire.owner.stream_data(piece)
    await asyncio.sleep(0)
    for event in events:
        assert isinstance(getattr(event, "request", None), ServiceRequestFrom) or event
    if not wire.aborted:
        wire.hang_up()
    for one in (work, *waiting):
        with contextlib.suppress(RoamRelayError):
            await one
    assert not any(isinstance(message, UnknownType) for message in wire.got)


_loops: list[asyncio.AbstractEventLoop] = []


def _loop() -> asyncio.AbstractEventLoop:
    if not _loops:
        _loops.append(asyncio.new_event_loop())
    return _loops[0]


def close_loop() -> None:
    """End the loop of this process, if there is one."""
    while _loops:
        _loops.pop().close()
