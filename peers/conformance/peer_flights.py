"""What a peer does with sealed flights: what stands before TLS on a session's next path.

They are sealed and opened here from docs/protocol.md alone, and not by what the peers of this
library use: a fault of one must not hide that of the other.
"""

import os
from dataclasses import dataclass
from typing import Any

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from peers.conformance.credentials import own
from peers.conformance.end import ABORT, ACK, DATA, PART
from peers.conformance.faults import Fault, NotTried
from peers.conformance.peer_stage import PEER, Called, Listener, PeerStage, path_on, server_on
from peers.conformance.pipes import EarlyPipe, Pipe, SocketPipe, TlsPipe
from peers.conformance.played_relay import signed_by
from peers.conformance.subjects import came_back, came_back_once, in_second
from peers.conformance.talk import Map, Talk, packed

__all__: list[str] = []

FEATURES = ["session-2", "first-flight"]
_HEAD = b"RR\x01\x01"
_ID, _RANDOM, _LENGTH = 16, 32, 2
_WHOLE_HEAD = len(_HEAD) + _ID + _RANDOM + _LENGTH
_TAG, _MOST = 16, 16_384
_DIALER, _DIALED, _DIALER_ANSWERS, _DIALED_ANSWERS = 1, 2, 3, 4
_TLS = 0x16


@dataclass(frozen=True)
class _Secret:
    """What both sides have taken from the TLS of a path."""

    exported: bytes

    def seal(self, part: int, plain: bytes) -> bytes:
        """Return a sealed flight."""
        random = os.urandom(_RANDOM)
        size = (len(plain) + _TAG).to_bytes(_LENGTH, "big")
        head = _HEAD + self.exported[:_ID] + random + size
        return head + self._cipher(part, random).encrypt(bytes(12), plain, head)

    def open(self, part: int, flight: bytes, answered: bytes = b"") -> bytes:
        """Return what a flight says; `answered` is the one that it answers.

        Raises:
            Fault: it is not sealed as it should be.
        """
        head, at = flight[:_WHOLE_HEAD], len(_HEAD)
        if head[at : at + _ID] != self.exported[:_ID]:
            raise Fault("a flight under another key's id than that of the last path (R10.52)")
        random = _random_in(answered) + _random_in(flight)
        try:
            return self._cipher(part, random).decrypt(bytes(12), flight[_WHOLE_HEAD:], head)
        except InvalidTag:
            raise Fault("a flight that its key does not open (R10.54)") from None

    def _cipher(self, part: int, salt: bytes) -> ChaCha20Poly1305:
        info = b"roam-relay/1 first flight\0" + bytes((part,))
        return ChaCha20Poly1305(HKDF(SHA256(), 32, salt, info).derive(self.exported[_ID:]))


def _random_in(flight: bytes) -> bytes:
    return flight[len(_HEAD) + _ID :][:_RANDOM]


def _secret_of(end: Called) -> _Secret:
    tls = end.path.pipe
    if not isinstance(tls, TlsPipe):
        raise Fault("the session of the kit has no path of its own")
    return _Secret(tls.export(b"EXPORTER-roam-relay/1 first flight", 48, end.id))


class _FirstBytes(EarlyPipe):
    """A stream without the flight that stands before TLS."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__(pipe, b"")
        self.flight: bytes | None = None
        """Empty where none stood there; None before that is known."""

    async def receive(self) -> bytes:
        if self.flight is not None:
            return await super().receive()
        held = b""
        while len(held) < _size_of(held):
            piece = await super().receive()
            if not piece:
                return b""
            held += piece
            if held[0] == _TLS:
                self.flight = b""
                return held
            if not held.startswith(_HEAD[: len(held)]):
                raise Fault(f"{held[:4].hex()} before TLS is nothing that is known (R10.50)")
        self.flight, self._early = held[: _size_of(held)], held[_size_of(held) :]
        return await super().receive()


def _size_of(flight: bytes) -> int:
    """Return the bytes of the flight that begins so, at least."""
    sealed = int.from_bytes(flight[_WHOLE_HEAD - _LENGTH : _WHOLE_HEAD], "big")
    if sealed > _MOST:
        raise Fault(f"a flight of {sealed} bytes (R10.51)")
    return _WHOLE_HEAD + sealed


async def _named(end: Called) -> _Secret:
    """Go over to a path on which both sides name sealed flights; return its secret."""
    if end.peer is not None:
        end.peer.need_direct()
    await end.move(features=FEATURES)
    if "first-flight" not in end.welcome.get("features", ()):
        raise NotTried("the peer does not name `first-flight`")
    return _secret_of(end)


async def _dialed(end: Called, begin: bytes) -> SocketPipe:
    """Dial the peer, and write this first."""
    if end.peer is None:
        raise Fault("the session of the kit has no peer")
    pipe = await end.peer.dials.dial(*end.peer.at_relay.endpoint(end.service))
    pipe.send(begin)
    return pipe


async def _behind(end: Called, pipe: SocketPipe) -> bytes:
    """Go on with TLS and hello on a stream that began with a flight; return what has answered it
    before TLS, if anything has."""
    if end.peer is None:
        raise Fault("the session of the kit has no peer")
    first = _FirstBytes(pipe)
    await end.take(Talk(await path_on(first, own(end.caller), end.peer.guid)), features=FEATURES)
    return first.flight or b""


def _flight(end: Called, secret: _Secret, *frames: list[Any], part: int = _DIALER) -> bytes:
    said = (end.hello(features=FEATURES), [ACK, end.received, end.consumed, 0], *frames)
    return secret.seal(part, b"".join(map(packed, said)))


async def _cut(end: Called) -> _Secret:
    """One message has come back, and the session has no path."""
    secret = await _named(end)
    end.send(b"one")
    await came_back(end, 1)
    end.path.pipe.abort()
    end.number += 1
    return secret


@in_second("R10.55", "takes what a sealed flight brings, before TLS")
@in_second("R10.60", "welcomes with the numbers that a sealed flight has made true")
@in_second("R10.54", "seals its answer to a flight under a key of its own")
@in_second("R10.59", "answers a flight with an `ack` first")
async def brought(end: Called) -> None:
    secret = await _cut(end)
    end.send(b"two", written=False)
    flight = _flight(end, secret, [DATA, 2, [b"two"]])
    answer = await _behind(end, await _dialed(end, flight))
    if answer:
        frames = secret.open(_DIALED_ANSWERS, answer, answered=flight)
        # An array of four, and the kind of an `ack`.
        if not frames.startswith(bytes((0x94, ACK))):
            raise Fault("an answer to a flight that does not begin with an `ack`")
    if end.welcome.get("received", 0) != 2:
        raise Fault(f"welcomes with {end.welcome.get('received', 0)} messages where 2 have come")
    await came_back_once(end, 2)


@in_second("R10.57", "takes a flight once, and goes on with the TLS behind its replay")
async def replayed(end: Called) -> None:
    secret = await _cut(end)
    end.send(b"two", written=False)
    flight = _flight(end, secret, [DATA, 2, [b"two"]])
    await _behind(end, await _dialed(end, flight))
    end.path.pipe.abort()
    end.number += 1
    if await _behind(end, await _dialed(end, flight)):
        raise Fault("answers a flight that has come before")
    await came_back_once(end, 2)


@in_second("R10.57", "passes over a flight that does not open, and goes on with the TLS behind it")
async def does_not_open(end: Called) -> None:
    secret = await _cut(end)
    for number, flight in enumerate(
        (
            _flight(end, secret, [DATA, 2, [b"of another key"]], part=_DIALED),
            _flight(end, _Secret(os.urandom(48)), [DATA, 2, [b"of no key"]]),
            _flight(end, secret, [DATA, 2, [b"changed"]])[:-1] + b"\0",
        )
    ):
        if number:
            end.path.pipe.abort()
            end.number += 1
        if await _behind(end, await _dialed(end, flight)):
            raise Fault("answers a flight that does not open")
        if end.welcome.get("received", 0) != 1:
            raise Fault("takes what a flight brings that is not sealed under its key (R10.54)")
    end.send(b"two")
    await came_back_once(end, 2)


@in_second("R10.57", "takes no flight of an old path's number")
async def old_number(end: Called) -> None:
    secret = await _cut(end)
    end.send(b"two", written=False)
    end.number -= 1
    flight = _flight(end, secret, [DATA, 2, [b"two"]])
    end.number += 1
    await _behind(end, await _dialed(end, flight))
    if end.welcome.get("received", 0) != 1:
        raise Fault("takes what a flight brings whose number is old")
    end.again(2)
    await came_back_once(end, 2)


@in_second("R10.58", "takes what a flight brings and leaves the session on its path")
async def moves_nothing(end: Called) -> None:
    secret = await _named(end)
    end.send(b"one")
    await came_back(end, 1)
    end.send(b"two", written=False)
    end.number += 1
    flight = _flight(end, secret, [DATA, 2, [b"two"]])
    end.number -= 1
    pipe = await _dialed(end, flight)
    # Answered on the path that lives: the session is still there.
    end.again(2)
    end.send(b"three")
    await came_back_once(end, 3)
    pipe.abort()


@in_second("R10.58", "passes over what a flight may not bring, and ends nothing")
async def not_in_a_flight(end: Called) -> None:
    secret = await _cut(end)
    flight = _flight(end, secret, [ABORT, "refused", "in a flight"], [DATA, 9, [b"a gap"]])
    await _behind(end, await _dialed(end, flight))
    end.send(b"two")
    await came_back_once(end, 2)


@in_second("R10.51", "ends a path that begins with what it does not know, and not the session")
async def unknown_first_bytes(end: Called) -> None:
    secret = await _named(end)
    whole = _flight(end, secret)
    too_large = whole[: _WHOLE_HEAD - 2] + b"\xff\xff"
    for begin in (
        b"RR\x01\x7f" + whole[4:],
        b"RR\x7f\x01" + whole[4:],
        b"RX" + whole[2:],
        too_large,
    ):
        pipe = await _dialed(end, begin)
        if said := await pipe.end(f"end of a path that begins with {begin[:4].hex()}"):
            raise Fault(f"answers first bytes that nobody knows, with {len(said)} bytes")
    end.send(b"one")
    await came_back(end, 1)


async def _called_back(listener: Listener, end: Called) -> tuple[bytes, Map]:
    """Go over to the next path, which the peer dials by itself, up to its hello. Return that, and
    the flight before it, if one came."""
    first = _FirstBytes(await listener.next())
    end.talk, _ = await server_on(first, own(end.caller))
    return first.flight or b"", await end.talk.expect("path_hello")


def _welcome(end: Called, hello: Map, features: list[str]) -> None:
    end.path.say("path_welcome", **(end.numbers() | {"features": features}))
    end.begin(end.path, hello)


async def _met(stage: PeerStage, listener: Listener, features: list[str]) -> Called:
    """A session on a path that the peer has dialed by itself, so that it has met the kit there."""
    peer = await stage.standing()
    peer.need_direct()
    end = peer.called(revised=True)
    entry = signed_by(end.caller, "chat", listener.port)
    await end.take(await peer.path(end.caller, end), entries=[entry], features=features)
    secret = _secret_of(end)
    end.acks = False
    end.send(b"one")
    await came_back(end, 1)
    _forget_one(end)
    end.path.pipe.abort()
    flight, hello = await _called_back(listener, end)
    end.acks = True
    if flight and "first-flight" not in features:
        raise Fault("sends a flight to who has not named `first-flight`")
    if flight and (frames := _frames_of(secret.open(_DIALED, flight), hello)[1:]):
        raise Fault(f"sends {frames} where the key was not met before (R10.56)")
    _welcome(end, hello, features)
    await came_back(end, 1)
    return end


def _forget_one(end: Called) -> None:
    """As if the last message had not arrived."""
    end.inbox.pop()
    end.received -= 1


async def _over(end: Called) -> None:
    end.put([ABORT, "refused", "the check is over"])
    await end.path.closed("behind an abort")


@PEER("R10.50", "begins with TLS towards who has not named `first-flight`")
async def none_unnamed(stage: PeerStage) -> None:
    async with Listener() as listener:
        end = await _met(stage, listener, ["session-2"])
        end.path.pipe.abort()
        flight, hello = await _called_back(listener, end)
        if flight:
            raise Fault("sends a flight to who has not named `first-flight`")
        _welcome(end, hello, ["session-2"])
        await _over(end)


@PEER("R10.53", "writes its flight as it should be written")
@PEER(
    "R10.56", "sends a flight with the hello of the path, an `ack`, and the oldest that is missing"
)
async def sends_one(stage: PeerStage) -> None:
    async with Listener() as listener:
        end = await _met(stage, listener, FEATURES)
        secret = _secret_of(end)
        end.acks = False
        end.send(b"two")
        await came_back(end, 2)
        _forget_one(end)
        end.path.pipe.abort()
        flight, hello = await _called_back(listener, end)
        end.acks = True
        try:
            if not flight:
                raise NotTried("the peer sends no flight, which it may")
            _check_flight(end, secret.open(_DIALER, flight), hello)
        finally:
            _welcome(end, hello, FEATURES)
            await _over(end)


def _frames_of(plain: bytes, hello: Map) -> list[Any]:
    """Return the frames of a flight, behind the hello of its path: an `ack`, and messages."""
    unpacker = msgpack.Unpacker(raw=False)
    unpacker.feed(plain)
    unpacked: list[Any] = list(unpacker)
    first, *frames = unpacked
    if not isinstance(first, dict):
        raise Fault("a flight that does not begin with a hello (R10.55)")
    for name in ("session", "path", "service", "resume"):
        if first.get(name) != hello.get(name):
            raise Fault(
                f"`{name}` is {first.get(name)!r} in a flight, and other in the hello (R10.55)"
            )
    kinds = [frame[0] for frame in frames]
    if kinds[:1] != [ACK] or set(kinds[1:]) - {DATA, PART}:
        raise Fault(f"frames {kinds} in a flight (R10.55)")
    return frames


def _check_flight(end: Called, plain: bytes, hello: Map) -> None:
    frames = _frames_of(plain, hello)
    if not frames[1:] or frames[1][1] != end.received + 1:
        raise Fault(
            f"{frames[1:]} in a flight where message {end.received + 1} is missing (R10.55)"
        )
