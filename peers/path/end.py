"""One end of a path: a byte stream between two peers, under their own lock, with the hello.

A path proves both identities, says which session it is for, and then carries the bytes of one
session until either ends. It knows nothing of how its stream was made.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Protocol

from peers.config import PathKind
from peers.path.noise import NoiseChannel
from peers.path.path import Path
from peers.path.tls import TlsChannel
from peers.transport import Stream
from protocol.codec import MessageDecoder, UnknownType, encode
from protocol.errors import (
    Code,
    PathFailed,
    ProtocolViolation,
    RoamRelayError,
    WrongIdentity,
    error_for,
)
from protocol.first_bytes import FirstBytes
from protocol.first_flight import EXPORTED_BYTES, EXPORTER_LABEL
from protocol.lock import Lock
from protocol.messages import Message, PathHello, PathReject, PathWelcome
from protocol.session import EARLY_BYTES, NO_EARLY, Early, Keepalive
from protocol.tables import ON_PATH

__all__ = ["FINISH_TIMEOUT", "Flight", "PathEnd", "PathUser"]

FINISH_TIMEOUT = 2.0
"""Seconds for which a closed path waits until the other side has closed too, so that no reset
overtakes the last bytes."""

_BEHIND_WELCOME = 1 << 20
"""Bytes of the session that may arrive, behind the welcome, before it takes the path."""


class PathUser(Protocol):
    """What a session is for its path. None of these may raise."""

    def path_data(self, path: "PathEnd", data: bytes) -> None:
        """Bytes of the session arrived."""

    def path_heard(self, path: "PathEnd") -> None:
        """Bytes arrived, of a record that is not whole yet."""

    def path_writable(self, path: "PathEnd") -> None:
        """The path takes bytes again."""

    def path_lost(self, path: "PathEnd", reason: str) -> None:
        """The path is gone. Called once, and not after `finish`."""


class Flight(Protocol):
    """What leaves before the TLS of a path, sealed under what another path has left. None of these
    may raise."""

    @property
    def data(self) -> bytes:
        """All of it."""

    def answered(self, data: bytes) -> None:
        """The other side says this before its own TLS."""

    def failed(self) -> None:
        """The path has ended without the other side's proof: it may be that somebody there, or on
        the way, bears nothing before TLS."""


class _Stage(Enum):
    HANDSHAKE = "handshake"
    """TLS, then the hello."""
    CARRYING = "carrying"
    FINISHING = "finishing"
    """Closed here; waiting for the other side."""
    GONE = "gone"


class PathEnd(Path):
    """One end of a path. `open_paths.Paths` makes them.

    Await either `prove` and `ask`, or `accept` and `welcome`, then `carry`. On every error the
    path has already closed itself.
    """

    def __init__(
        self,
        stream: Stream,
        channel: TlsChannel | NoiseChannel,
        kind: PathKind,
        on_closed: Callable[["PathEnd"], None],
        keepalive: Keepalive | None = None,
    ) -> None:
        """`keepalive` says what its network bears, of a direct path."""
        super().__init__(kind, stream.local, stream.remote, channel.lock)
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._channel = channel
        self._on_closed = on_closed
        self.keepalive = keepalive
        """What the network at this end was seen to bear; None of a relayed path."""
        self._stage = _Stage.HANDSHAKE
        self._decoder: MessageDecoder | None = MessageDecoder(ON_PATH)
        """Reads the head; None when a session has the path."""
        self._proven: asyncio.Future[None] = self._loop.create_future()
        self._head: asyncio.Future[Any] = self._loop.create_future()
        """The message at the head."""
        self._lost = ""
        self._early = bytearray()
        """What has arrived behind the head, until a session has the path."""
        self.early = NO_EARLY
        """What has left from here behind the hello."""
        self._answered = 0.0
        """When the first bytes arrived."""
        bears = channel.lock is Lock.TLS and not channel.is_client
        self._first: FirstBytes | None = FirstBytes() if bears else None
        """Reads what may stand before TLS; None once that has begun, or where nothing may."""
        self._take_flight: Callable[[bytes], bytes] = _no_answer
        self._user: PathUser | None = None
        self._finish_timer: asyncio.TimerHandle | None = None
        self.usual_round_trip: float | None = None
        """How long one usually takes, in seconds, at either end: the kernel's word where there is
        nothing between the two, else the handshake's, with what the other end computed."""

    @property
    def paused(self) -> bool:
        """Whether the user should hold its bytes back."""
        return self._stream.paused

    @property
    def is_gone(self) -> bool:
        """Whether it carries nothing any more."""
        return self._stage is _Stage.GONE

    async def prove(self, guid: str, timeout: float, flight: Flight | None = None) -> float:
        """Prove both sides, as TLS client; return the seconds of the handshake's round trip. A
        `flight` leaves before it.

        Raises:
            WrongIdentity: another key than `guid` answered.
            PathFailed: no TLS, no answer in time, or the stream ended.
        """
        with self._ending(f"{self.remote}: no answer within {timeout:g} s"):
            async with asyncio.timeout(timeout):
                began = self._channel.began or time.perf_counter()
                if flight is not None:
                    self._first, self._take_flight = FirstBytes(), _answered_by(flight)
                await self._start(flight.data if flight is not None else b"")
                if self.remote_guid != guid:
                    raise WrongIdentity(guid, self.remote_guid, self.remote)
                # To the first byte of the answer: what the handshake computes is no delay.
                self._round_trip = self._answered - began
                self.usual_round_trip = self.usual_round_trip or self._round_trip
                return self._round_trip

    async def ask(
        self,
        make_hello: Callable[["PathEnd"], PathHello],
        timeout: float,
        make_early: Callable[[], Early] = lambda: NO_EARLY,
    ) -> PathWelcome:
        """Ask for the session, on a path that is proven.

        `make_hello` is called now, so that the hello is true at the moment when it leaves; what it
        raises ends the path. What `make_early` returns leaves with it.

        Raises:
            PathFailed: no answer in time, or the stream ended.
            RoamRelayError: the other side rejected the hello; `code` and `reason` are its own.
        """
        with self._ending(f"{self.remote}: no answer to the hello within {timeout:g} s"):
            async with asyncio.timeout(timeout):
                hello, self.early = make_hello(self), make_early()
                # Each frame in a record of its own, so that none waits for the packets of the next.
                for piece in (encode(hello), *self.early.frames):
                    self._channel.send(piece)
                self._stream.write(self._channel.to_send())
                answer: Message = await self._head
                match answer:
                    case PathWelcome():
                        return answer
                    case PathReject():
                        raise error_for(answer.code, answer.reason)
                    case _:
                        raise PathFailed("the other side did not answer the hello")

    async def accept(
        self, timeout: float, take_flight: Callable[[bytes], bytes] | None = None
    ) -> PathHello:
        """Prove both sides, as TLS server, and return what the other asks for. A sealed flight that
        stands before that goes to `take_flight`, which must not raise; what it returns answers.

        Raises:
            PathFailed: no TLS, no hello in time, or the stream ended.
        """
        with self._ending(f"{self.remote}: no hello within {timeout:g} s"):
            async with asyncio.timeout(timeout):
                self._take_flight = take_flight or _no_answer
                await self._start()
                hello: Message = await self._head
                if not isinstance(hello, PathHello):
                    raise PathFailed("the other side did not begin with a hello")
                return hello

    def welcome(self, answer: PathWelcome) -> None:
        """Accept the hello."""
        self._send_head(answer)

    def reject(self, code: Code, reason: str) -> None:
        """Refuse the hello and close the path."""
        self._send_head(PathReject(code, reason[:512]))
        self.finish()

    def carry(self, user: PathUser) -> None:
        """Give the path to a session; what has arrived meanwhile is delivered at once."""
        early, self._early = bytes(self._early), bytearray()
        self._decoder = None
        lives = self._stage is _Stage.HANDSHAKE
        self._head = self._proven  # The head need not be held for as long as the path.
        if lives:
            self._stream.settled()
            self._stage = _Stage.CARRYING
            self._user = user
        if early:
            # Also on a path that has ended: who answers for a closed session hangs up behind it.
            user.path_data(self, early)
        if not lives:
            user.path_lost(self, self._lost or "closed")

    def hand_to(self, user: PathUser) -> None:
        """Give a path that carries bytes to another user; nothing if it has ended."""
        if self._stage is _Stage.CARRYING:
            self._user = user

    def send(self, data: bytes) -> None:
        """Send bytes of the session. Look at `paused` first."""
        if self._stage in (_Stage.HANDSHAKE, _Stage.CARRYING):
            self._channel.send(data)
            self._stream.write(self._channel.to_send())

    def export(self, context: bytes) -> bytes:
        """Return the secret that both ends of this proven path have, for a session's flights; empty
        where its lock gives none."""
        if isinstance(self._channel, NoiseChannel):
            return b""
        return self._channel.export(EXPORTER_LABEL, EXPORTED_BYTES, context)

    def finish(self) -> None:
        """Close the path after all that was sent has arrived: both sides do, in either order."""
        if self._stage in (_Stage.FINISHING, _Stage.GONE):
            return
        self._stage = _Stage.FINISHING
        self._user = None
        self._early.clear()
        other_ended = self._channel.ended
        self._channel.end()
        self._stream.write(self._channel.to_send())
        if other_ended:
            self._stream.close()
        else:
            self._finish_timer = self._loop.call_later(FINISH_TIMEOUT, self.abort)

    def abort(self) -> None:
        """Drop the path at once. Its user is not told."""
        self._user = None
        self._gone(PathFailed("closed here"))
        self._stream.abort()

    # -- the stream's side ----------------------------------------------------------------------

    def stream_data(self, data: bytes) -> None:
        if self._stage is _Stage.GONE:
            return
        try:
            if not self._answered:
                self._answered = time.perf_counter()
            if self._first is not None:
                data = self._before_tls(self._first, data)
                if not data:
                    return
            plain = self._channel.receive(data)
            if self._stage is not _Stage.CARRYING:
                self._stream.write(self._channel.to_send())
            if self._channel.established and not self._proven.done():
                self.usual_round_trip = self._measured()
                self._proven.set_result(None)
            if plain:
                self._receive(plain)
            elif self._user is not None:
                self._user.path_heard(self)
        except (PathFailed, ProtocolViolation) as error:
            self._fail(error)
            return
        if self._channel.ended:
            self._other_ended()

    def stream_writable(self) -> None:
        if self._user is not None:
            self._user.path_writable(self)

    def stream_lost(self, reason: str) -> None:
        self._cancel_timer()
        self._gone(PathFailed(f"{self.remote}: {reason}"))
        self._on_closed(self)

    def _other_ended(self) -> None:
        if self._stage is _Stage.FINISHING:
            self._cancel_timer()
            self._stream.close()
        elif self._stage is not _Stage.GONE:
            self._fail(PathFailed("the other side closed the path"))

    # -- inside ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _ending(self, late: str) -> Iterator[None]:
        """Whatever goes wrong inside ends the path; `late` says that the time was over."""
        try:
            yield
        except TimeoutError:
            self.abort()
            raise PathFailed(late) from None
        except BaseException:
            self.abort()
            # What was raised holds the frames that it came through, and these hold this path.
            self._proven, self._head = self._failed(), self._failed()
            raise

    async def _start(self, before: bytes = b"") -> None:
        self._stream.set_owner(self)
        if self._channel.is_client and not self._channel.began and self._stage is _Stage.HANDSHAKE:
            self._channel.start()
            self._stream.write(before + self._channel.to_send())
        await self._proven
        self._remote_guid = self._channel.remote_guid

    def _before_tls(self, first: FirstBytes, data: bytes) -> bytes:
        """Take off what stands before TLS, and return what is left for that."""
        data = first.receive(data)
        if first.done:
            take_flight, self._first, self._take_flight = self._take_flight, None, _no_answer
            if first.flight is not None:
                self._stream.write(take_flight(first.flight))
        return data

    def _measured(self) -> float | None:
        known = self._stream.round_trip if self.kind is PathKind.DIRECT else None
        if known is not None:
            return known
        # A server has answered the first bytes at once, and these are what came back.
        return None if self._channel.is_client else time.perf_counter() - self._answered

    def _receive(self, plain: bytes) -> None:
        if self._user is not None:
            self._user.path_data(self, plain)
            return
        if self._stage is not _Stage.HANDSHAKE:
            return
        decoder = self._decoder
        if decoder is not None and not self._head.done():
            for message in decoder.receive(plain):
                if isinstance(message, UnknownType):
                    raise ProtocolViolation(f"unknown type {message.type!r} at the head of a path")
                self._head.set_result(message)
                plain = decoder.rest()
                break
            else:
                return
        self._early += plain
        if len(self._early) > (_BEHIND_WELCOME if self._channel.is_client else EARLY_BYTES):
            raise ProtocolViolation("too much before the hello was answered")

    def _send_head(self, message: Message) -> None:
        self._channel.send(encode(message))
        self._stream.write(self._channel.to_send())

    def _fail(self, error: RoamRelayError) -> None:
        self._gone(error)
        self._stream.abort()

    def _gone(self, error: RoamRelayError) -> None:
        if self._stage is _Stage.GONE:
            return
        self._stage = _Stage.GONE
        self._cancel_timer()
        self._take_flight = _no_answer  # Who takes one may hold this path.
        self._lost = error.reason
        for waiter in (self._proven, self._head):
            if not waiter.done():
                waiter.set_exception(error)
                waiter.exception()  # Nobody may be waiting; then it is not an error unseen.
        user, self._user = self._user, None
        if user is not None:
            user.path_lost(self, error.reason)

    def _failed(self) -> "asyncio.Future[Any]":
        """Return what stands for what will not come."""
        future = self._loop.create_future()
        future.set_exception(PathFailed(self._lost))
        future.exception()
        return future

    def _cancel_timer(self) -> None:
        if self._finish_timer is not None:
            self._finish_timer.cancel()
            self._finish_timer = None


def _no_answer(flight: bytes) -> bytes:
    return b""


def _answered_by(flight: Flight) -> Callable[[bytes], bytes]:
    def take(answer: bytes) -> bytes:
        flight.answered(answer)
        return b""

    return take
