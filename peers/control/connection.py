"""One control connection to a relay: handshake, requests, heartbeat. It does not come back.

What brings it back, over and over, is `peers.registration`.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any, assert_never

from peers.transport import RelayAddress, Stream
from protocol.codec import MessageDecoder, UnknownType, encode, encode_location
from protocol.errors import (
    Code,
    ConnectionClosed,
    ProtocolViolation,
    RelayUnavailable,
    RequestTimeout,
    RoamRelayError,
    WrongIdentity,
)
from protocol.hosts import host_of
from protocol.identity import (
    CONTEXT_CHALLENGE,
    CONTEXT_REGISTER,
    Identity,
    public_key_of,
    verify,
)
from protocol.messages import (
    FROM_RELAY,
    Challenge,
    DnsKeyRequest,
    DnsKeyResponse,
    Error,
    Hello,
    LocationRecord,
    Message,
    PeerEvent,
    Ping,
    Pong,
    Register,
    Registered,
    Restarting,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Update,
    Watch,
)

__all__ = ["ControlConnection"]

_OUTBOX_LIMIT = 4 << 20
"""Bytes that may wait for a relay that does not read, before it is given up."""


class ControlConnection:
    """A registered conversation with one relay, on one stream.

    `on_request` is called for each service request from another peer; it must not block.
    `closed` is done when the connection is over; its result is the error that ended it.
    """

    def __init__(
        self,
        identity: Identity,
        instance: bytes,
        stream: Stream,
        *,
        flow: int,
        source: str | None,
        agent: str,
        on_request: Callable[["ControlConnection", ServiceRequestFrom], None],
        on_peer_event: Callable[[PeerEvent], None],
        address: RelayAddress,
        relay_guid: str | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._identity = identity
        self._instance = instance
        self._stream = stream
        self._flow = flow
        self._agent = agent
        self._on_request = on_request
        self._on_peer_event = on_peer_event
        self.address = address
        """Where this relay is."""
        self._expected_relay = relay_guid
        self._nonce = os.urandom(32)
        self._decoder = MessageDecoder(FROM_RELAY)
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._next_request = 0
        self._heard = loop.time()
        self._error: RoamRelayError | None = None
        self._challenge: asyncio.Future[Challenge] = loop.create_future()
        self._registered: asyncio.Future[Registered] = loop.create_future()
        self._updates: dict[int, asyncio.Future[Registered]] = {}
        self._pongs: dict[int, asyncio.Future[Pong]] = {}
        self._seq = -1
        self.closed: asyncio.Future[RoamRelayError] = loop.create_future()
        self.relay_guid: str = ""
        self.registration: Registered | None = None
        self.restarting: Restarting | None = None
        """Set when the relay has said that it goes down."""
        self.local_host = host_of(stream.local)
        """The source address of the connection: one of this host's own."""
        self.source = source
        """The source address that was asked for; None where it was left to the routes."""

    async def register(self, record: LocationRecord, timeout: float) -> Registered:
        """Shake hands and register. Call once.

        Raises:
            RelayUnavailable: the relay refused (see `code`), hung up or did not answer in time.
            WrongIdentity: the relay is not the one that was expected.
        """
        self._stream.set_owner(self)
        try:
            async with asyncio.timeout(timeout):
                self._send(
                    Hello(
                        self._identity.guid,
                        self._instance,
                        self._nonce,
                        flow=self._flow,
                        agent=self._agent,
                    )
                )
                challenge = await self._challenge
                self._check_relay(challenge)
                location = encode_location(record)
                signature = self._identity.sign(
                    CONTEXT_REGISTER,
                    public_key_of(challenge.guid),
                    challenge.nonce,
                    self._identity.public_key,
                    self._instance,
                    location,
                )
                self._seq = record.seq
                self._send(Register(location, signature))
                self.registration = await self._registered
                return self.registration
        except TimeoutError:
            raise RelayUnavailable(
                f"the relay did not finish the handshake in {timeout:g} s"
            ) from None

    async def update(self, record: LocationRecord, timeout: float) -> Registered:
        """Replace the location record and wait until it is in force.

        Raises:
            RequestTimeout: the relay did not confirm it in time.
            RoamRelayError: the relay refused it, or the connection ended.
        """
        self._check_open()
        self._seq = record.seq
        future: asyncio.Future[Registered] = self._loop.create_future()
        self._updates[record.seq] = future
        self._send(Update(encode_location(record)))
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise RequestTimeout("the relay did not confirm the update") from None
        finally:
            self._updates.pop(record.seq, None)

    async def request(self, make: Callable[[int], ServiceRequestTo]) -> ServiceResponse:
        """Send a service request and wait for its response, which may carry an error code.

        Cancelling it forgets the request here; the relay forgets it after the request's timeout.

        Raises:
            RequestTimeout: not even the relay answered within the request's timeout plus 1 s.
            RoamRelayError: the connection ended first.
        """
        message = make(self._next_request)
        response: ServiceResponse = await self._response(message, message.timeout + 1.0)
        return response

    async def dns_key(self, make: Callable[[int], DnsKeyRequest], timeout: float) -> DnsKeyResponse:
        """Ask for the key of this peer's name in the relay's DNS zone.

        Raises:
            RequestTimeout: the relay did not answer in time.
            RoamRelayError: the connection ended first.
        """
        response: DnsKeyResponse = await self._response(make(self._next_request), timeout)
        return response

    async def _response(self, message: ServiceRequestTo | DnsKeyRequest, timeout: float) -> Any:
        self._check_open()
        self._next_request = (message.request + 1) % 2**32
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pending[message.request] = future
        self._send(message)
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise RequestTimeout("the relay did not answer the request") from None
        finally:
            del self._pending[message.request]

    def answer(self, answer: ServiceAnswer) -> None:
        """Answer a request from another peer. Does nothing on a connection that ended."""
        if not self.closed.done():
            self._send(answer)

    def watch(self, watch: Watch) -> None:
        """Ask to be told of a peer, or no more. Does nothing on a connection that ended."""
        if not self.closed.done():
            self._send(watch)

    async def ping(self, timeout: float) -> float:
        """Return the round-trip time to the relay in seconds.

        Raises:
            RequestTimeout: no answer in time.
            RoamRelayError: the connection ended first.
        """
        self._check_open()
        number = self._next_request
        self._next_request = (number + 1) % 2**32
        future: asyncio.Future[Pong] = self._loop.create_future()
        self._pongs[number] = future
        began = self._loop.time()
        self._send(Ping(number))
        try:
            async with asyncio.timeout(timeout):
                await future
                return self._loop.time() - began
        except TimeoutError:
            raise RequestTimeout("the relay did not answer a ping") from None
        finally:
            del self._pongs[number]

    async def keep_alive(self) -> None:
        """Ping whenever the relay was silent for a heartbeat; end the connection after two.

        Returns when the connection has ended.
        """
        assert self.registration is not None
        heartbeat = self.registration.heartbeat
        while not self.closed.done():
            silent = self._loop.time() - self._heard
            if silent >= 2 * heartbeat:
                self._end(RelayUnavailable("the relay is silent", code=Code.HEARTBEAT_TIMEOUT))
                return
            if silent >= heartbeat:
                self._send(Ping(0))
            await asyncio.wait({self.closed}, timeout=heartbeat / 2)

    def drop(self, reason: str) -> None:
        """End the connection at once: it leads nowhere any more."""
        self._end(RelayUnavailable(reason))

    def close(self) -> None:
        """End the connection; what was written still leaves."""
        if not self.closed.done():
            self._flush()
            self._finish(ConnectionClosed("closed here"))
            self._stream.close()

    # -- the stream's side ----------------------------------------------------------------------

    def stream_data(self, data: bytes) -> None:
        if self.closed.done():
            return
        self._heard = self._loop.time()
        try:
            for message in self._decoder.receive(data):
                self._dispatch(message)
        except ProtocolViolation as violation:
            self._send(Error(violation.code or Code.BAD_MESSAGE, violation.reason[:512]))
            self._flush()
            self._end(RelayUnavailable(f"the relay broke the protocol: {violation}"))

    def stream_writable(self) -> None:
        self._flush()

    def stream_lost(self, reason: str) -> None:
        self._finish(
            self._error or RelayUnavailable(f"the connection to the relay ended: {reason}")
        )

    # -- inside ---------------------------------------------------------------------------------

    def _dispatch(self, message: Message | UnknownType) -> None:
        match message:
            case ServiceResponse() | DnsKeyResponse():
                future = self._pending.get(message.request)
                if future is not None and not future.done():
                    future.set_result(message)
            case ServiceRequestFrom():
                self._on_request(self, message)
            case PeerEvent():
                self._on_peer_event(message)
            case Ping():
                self._send(Pong(message.ping))
            case Pong():
                pong = self._pongs.get(message.ping)
                if pong is not None and not pong.done():
                    pong.set_result(message)
            case Challenge():
                if not self._challenge.done():
                    self._challenge.set_result(message)
            case Registered():
                first = not self._registered.done()
                self.registration = message
                waiter = self._registered if first else self._updates.get(message.seq)
                if waiter is not None and not waiter.done():
                    waiter.set_result(message)
            case Restarting():
                self.restarting = message
            case Error():
                self._receive_error(message)
            case UnknownType():
                pass  # A newer relay may say what we do not know.
            case Message():
                raise ProtocolViolation("a message that only peers send")
            case _:
                assert_never(message)

    def _receive_error(self, message: Error) -> None:
        error = RelayUnavailable(message.reason, code=message.code)
        if message.code is Code.STALE_SEQUENCE and self._registered.done():
            for waiter in self._updates.values():
                if not waiter.done():
                    waiter.set_exception(error)
        elif message.code not in (Code.UNKNOWN_TYPE, Code.UNKNOWN_REQUEST):
            # The relay closes the connection behind it.
            self._error = error

    def _check_relay(self, challenge: Challenge) -> None:
        verify(
            challenge.guid,
            challenge.signature,
            CONTEXT_CHALLENGE,
            self._identity.public_key,
            self._nonce,
            challenge.nonce,
        )
        if self._expected_relay is not None and challenge.guid != self._expected_relay:
            raise WrongIdentity(self._expected_relay, challenge.guid, "the relay")
        self.relay_guid = challenge.guid

    def _check_open(self) -> None:
        if self.closed.done():
            raise self.closed.result()

    def _send(self, message: Message) -> None:
        # The messages of one turn of the loop leave in one write.
        data = encode(message)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > _OUTBOX_LIMIT:
            self._end(RelayUnavailable("the relay does not read", code=Code.SLOW_CONSUMER))

    def _flush(self) -> None:
        if self._out and not self._stream.paused:
            data = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            self._stream.write(data)

    def _end(self, error: RoamRelayError) -> None:
        self._finish(error)
        self._stream.abort()

    def _finish(self, error: RoamRelayError) -> None:
        if self.closed.done():
            return
        self.closed.set_result(error)
        waiters: list[asyncio.Future[Any]] = [
            self._challenge,
            self._registered,
            *self._pending.values(),
            *self._updates.values(),
            *self._pongs.values(),
        ]
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)
                waiter.exception()  # Nobody may be waiting; then it is not an error unseen.
