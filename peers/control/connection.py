"""One registered conversation with a relay: requests, news, heartbeat. It does not come back.

It is made by `peers.control.handshake`; what brings it back, over and over, is
`peers.control.flow`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import msgspec

from peers.control.account import KnownRelay
from peers.control.doubt import PROBES, Signs, doubted_at, pong_due
from peers.control.message_stream import FlowLost, MessageStream
from peers.control.refusal import refusal
from peers.control.requests import Answers, Unanswered
from peers.control.tell import tell_safely
from peers.transport import RelayAddress, Stream, probe_idle
from protocol.codec import encode_location
from protocol.endpoint import Endpoint, SignedEntry
from protocol.errors import (
    Code,
    ProtocolViolation,
    RelayUnavailable,
    RequestTimeout,
    RoamRelayError,
)
from protocol.hosts import host_in
from protocol.lateness import Lateness
from protocol.mail import (
    Letter,
    LetterDone,
    LetterLeave,
    LetterResponse,
    LetterWindow,
    MailboxState,
    MailboxUpdate,
    PrekeyRequest,
    PrekeyResponse,
)
from protocol.messages import (
    Challenge,
    DnsKeyRequest,
    DnsKeyResponse,
    EndpointQuery,
    EndpointResponse,
    Error,
    LocationRecord,
    Message,
    PeerEvent,
    Ping,
    Pong,
    Registered,
    Restarting,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Update,
    Verdict,
    Watch,
)

__all__ = [
    "ControlConnection",
    "ControlEvent",
    "FlowReplaced",
    "LetterArrived",
    "PeerChanged",
    "RelayRestarting",
    "RelaySucceeded",
    "RequestArrived",
    "Tell",
]

_T = TypeVar("_T")

_SHORTEST_HEARTBEAT, _LONGEST_HEARTBEAT = 0.05, 86_400.0
"""Bounds in seconds on the heartbeat that a relay may ask for."""


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """Another peer asks for something. `connection.answer` answers, once; the same request may
    come over several connections."""

    connection: "ControlConnection"
    request: ServiceRequestFrom


@dataclass(frozen=True, slots=True)
class PeerChanged:
    """A watched peer has come, moved or gone."""

    event: PeerEvent


@dataclass(frozen=True, slots=True)
class LetterArrived:
    """A letter is handed over. `connection.say` says that it is done."""

    connection: "ControlConnection"
    letter: Letter


@dataclass(frozen=True, slots=True)
class RelayRestarting:
    """The relay has said that it goes down."""


@dataclass(frozen=True, slots=True)
class RelaySucceeded:
    """The relay has changed its key, and proven it by the old one."""

    relay: str
    """The GUID that is expected from now on."""


ControlEvent: TypeAlias = (
    RequestArrived | PeerChanged | LetterArrived | RelayRestarting | RelaySucceeded
)
MailQuestion: TypeAlias = MailboxUpdate | PrekeyRequest | LetterLeave
MailAnswer: TypeAlias = MailboxState | PrekeyResponse | LetterResponse
Tell: TypeAlias = Callable[[ControlEvent], None]
"""Takes the news of a connection. It must not block; what it raises is logged, and that one event
is lost."""


class FlowReplaced(FlowLost):
    """The relay answers on a new connection, which takes the place of this one."""


class ControlConnection:
    """A registered conversation with one relay, on one stream."""

    def __init__(
        self,
        messages: MessageStream,
        relay: KnownRelay,
        source: str | None,
        registration: Registered,
        tell: Tell,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._messages = messages
        self._tell = tell
        self.relay = relay
        self.registration = registration
        """What the relay has confirmed last."""
        self.source = source
        """The source address that was asked for; None where it was left to the routes."""
        self.restarting: Restarting | None = None
        """What the relay has said when it goes down; None while it has not."""
        self._responses = Answers[ServiceResponse](self._loop)
        self._dns_keys = Answers[DnsKeyResponse](self._loop)
        self._endpoints = Answers[EndpointResponse](self._loop)
        self._mail = Answers[MailAnswer](self._loop)
        self._updates = Answers[Registered](self._loop)
        # Heartbeats have the number 0.
        self._pongs = Answers[Pong](self._loop, first=1)
        self._unanswered = Unanswered()
        self._pinged: float | None = None
        """When the heartbeat's ping was sent that nothing came after yet."""
        self._measured = 0.0
        """Seconds of the last round trip that a message has made."""

    @property
    def address(self) -> RelayAddress:
        """Where the relay is."""
        return self.relay.address

    @property
    def relay_guid(self) -> str:
        """Who the relay has proven to be."""
        return self.relay.guid

    @property
    def local_host(self) -> str:
        """The source address of the connection: one of this host's own."""
        return self._messages.local_host

    @property
    def local_port(self) -> int:
        """The source port of the connection; 0 where it is not known."""
        return self._messages.local_port

    @property
    def local(self) -> Endpoint | None:
        """Both; None where they are not known."""
        return _endpoint(self.local_host, self.local_port)

    @property
    def second_port(self) -> Endpoint | None:
        """Where the relay tells who connects where it is seen: at the address at which it was met,
        as nobody else is to be dialed by its word. None where it does not."""
        return _endpoint(host_in(self._messages.stream.remote), self.registration.observe_port)

    @property
    def met_at(self) -> Endpoint | None:
        """The address and port at which the relay, or a proxy before it, was met."""
        host, _, port = self._messages.stream.remote.rpartition(":")
        return _endpoint(host.strip("[]"), int(port) if port.isascii() and port.isdigit() else 0)

    @property
    def observed(self) -> Endpoint | None:
        """Where the relay sees the connection come from; None where it does not know."""
        return _endpoint(self.registration.observed_host, self.registration.observed_port)

    @property
    def is_closed(self) -> bool:
        """Whether the connection is over."""
        return self._messages.is_closed

    @property
    def was_forgotten(self) -> bool:
        """Whether the connection has ended as the relay's host knew nothing of it any more."""
        return self._messages.was_forgotten

    @property
    def round_trip(self) -> float:
        """Seconds to the relay and back, as it was measured last; 0 where it is not known."""
        return max(self._measured, self._messages.stream.round_trip or 0.0)

    @property
    def heard(self) -> float:
        """When there was the last sign of life of the relay, or of its kernel."""
        silence, heard = self._messages.stream.silence, self._messages.heard
        return heard if silence is None else max(heard, self._loop.time() - silence)

    async def update(self, record: LocationRecord, timeout: float) -> Registered:
        """Replace the location record and wait until it is in force.

        Raises:
            RequestTimeout: the relay did not confirm it in time.
            RoamRelayError: the relay refused it, or the connection ended.
        """
        self._check_open()
        with self._updates.expect(record.seq) as (_, confirmed):
            self._messages.send(Update(encode_location(record)))
            return await _in_time(confirmed, timeout, "the relay did not confirm the update")

    async def request(self, request: ServiceRequestTo) -> ServiceResponse:
        """Send a service request and wait for its response, which may carry an error code. The
        request's number is set here.

        Cancelling it forgets the request here; the relay forgets it after the request's timeout.

        Raises:
            RequestTimeout: not even the relay answered within the request's timeout plus 1 s.
            RoamRelayError: the connection ended first.
        """
        self._check_open()
        with self._responses.expect() as (number, response):
            self._messages.send(msgspec.structs.replace(request, request=number))
            return await _in_time(response, request.timeout + 1.0, _NO_ANSWER)

    async def dns_key(self, public: bytes, signature: bytes, timeout: float) -> DnsKeyResponse:
        """Ask for the key of this peer's name in the relay's DNS zone, sealed for `public`.

        Raises:
            RequestTimeout: the relay did not answer in time.
            RoamRelayError: the connection ended first.
        """
        self._check_open()
        with self._dns_keys.expect() as (number, response):
            self._messages.send(DnsKeyRequest(number, public, signature))
            return await _in_time(response, timeout, _NO_ANSWER)

    async def endpoint_query(
        self, guid: str, entry: SignedEntry, timeout: float
    ) -> EndpointResponse:
        """Ask whether the relay has met a peer's key where the peer's entry says. Only of a relay
        that has named the feature.

        Raises:
            RequestTimeout: the relay did not answer in time.
            RoamRelayError: the connection ended first.
        """
        self._check_open()
        with self._endpoints.expect() as (number, response):
            self._messages.send(EndpointQuery(number, guid, entry))
            return await _in_time(response, timeout, _NO_ANSWER)

    async def mail(self, question: MailQuestion, timeout: float) -> MailAnswer:
        """Ask something of the mailbox, and return the answer, which may carry an error code. Only
        of a relay that has named the feature. The question's number is set here.

        Raises:
            RequestTimeout: the relay did not answer in time.
            RoamRelayError: the connection ended first.
        """
        self._check_open()
        with self._mail.expect() as (number, response):
            self._messages.send(msgspec.structs.replace(question, request=number))
            return await _in_time(response, timeout, _NO_ANSWER)

    def say(self, message: LetterWindow | LetterDone) -> None:
        """Say what nothing answers. Does nothing on a connection that ended."""
        self._messages.send(message)

    def answer(self, answer: ServiceAnswer) -> None:
        """Answer a request from another peer. Does nothing where it has an answer already, or on a
        connection that ended."""
        if self._unanswered.take(answer.request):
            self._messages.send(answer)

    def watch(self, watch: Watch) -> None:
        """Ask to be told of a peer, or no more. Does nothing on a connection that ended."""
        self._messages.send(watch)

    async def ping(self, timeout: float) -> float:
        """Return the round-trip time to the relay in seconds.

        Raises:
            RequestTimeout: no answer in time.
            RoamRelayError: the connection ended first.
        """
        self._check_open()
        with self._pongs.expect() as (number, pong):
            began = self._loop.time()
            self._messages.send(Ping(number))
            await _in_time(pong, timeout, "the relay did not answer a ping")
            self._measured = self._loop.time() - began
            return self._measured

    async def keep_alive(self) -> RoamRelayError:
        """Ping when the relay was silent for a heartbeat; end the connection where nothing comes of
        it for as long as `pong_due` says.

        Returns when the connection has ended: what has ended it.
        """
        messages, lateness = self._messages, Lateness()
        due = self._loop.time()
        while not messages.is_closed:
            now = self._loop.time()
            if (turn := lateness.turn(due, now)) is not None:
                due = now + turn
                await asyncio.wait({messages.closed}, timeout=turn)
                continue
            heartbeat = _within_bounds(self.registration.heartbeat)
            self._note_answer()
            if now - messages.heard >= heartbeat:
                self._ping_once(now)
            due = messages.heard + heartbeat
            if self._pinged is not None:
                due = self._pinged + pong_due(heartbeat, self.round_trip)
                if now >= due:
                    self._end(RelayUnavailable("the relay is silent", code=Code.HEARTBEAT_TIMEOUT))
                    break
            await asyncio.wait({messages.closed}, timeout=max(due - now, 0.0))
        return messages.closed.result()

    async def doubted(self) -> bool:
        """Wait until there is no sign of life where one is due (doubt.py), and ping then. Returns
        whether that is so: False where the connection has ended."""
        messages = self._messages
        while not messages.is_closed:
            now, silence = self._loop.time(), messages.stream.silence
            self._note_answer()
            heartbeat = _within_bounds(self.registration.heartbeat)
            acknowledged = None if silence is None else now - silence
            on_the_way = messages.stream.round_trip or 0.0
            signs = Signs(messages.heard, acknowledged, self._pinged, self.round_trip, on_the_way)
            due = doubted_at(signs, heartbeat, probe_idle(heartbeat / PROBES))
            if now >= due:
                self._ping_once(now)
                return True
            await self.ended_within(due - now)
        return False

    async def ended_within(self, seconds: float) -> bool:
        """Wait for so long; return whether the connection has ended."""
        await asyncio.wait({self._messages.closed}, timeout=seconds)
        return self.is_closed

    def drop(self, reason: str) -> None:
        """End the connection at once: it leads nowhere any more."""
        self._end(RelayUnavailable(reason))

    def replace(self) -> Stream:
        """End the connection here: the relay answers on a new one, and not on this. Returns its
        stream, still open: who asked for this peer waits at the relay until the new connection is
        registered, and would be told that it is away if the stream ended sooner (R5.30)."""
        replaced = "the relay answers on a new connection, and not on this one"
        self._messages.abandon(FlowReplaced(replaced))
        return self._messages.stream

    def close(self) -> None:
        """End the connection; what was written still leaves."""
        self._messages.close()

    # -- what the relay says --------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        """Take a message."""
        match message:
            case ServiceResponse():
                self._responses.answer(message.request, message)
            case DnsKeyResponse():
                self._dns_keys.answer(message.request, message)
            case EndpointResponse():
                self._endpoints.answer(message.request, message)
            case MailboxState() | PrekeyResponse() | LetterResponse():
                self._mail.answer(message.request, message)
            case Letter():
                tell_safely(self._tell, LetterArrived(self, message))
            case ServiceRequestFrom():
                self._asked(message)
            case PeerEvent():
                tell_safely(self._tell, PeerChanged(message))
            case Pong():
                self._pongs.answer(message.ping, message)
            case Registered():
                self.registration = message
                self._updates.answer(message.seq, message)
            case Restarting():
                self.restarting = message
                tell_safely(self._tell, RelayRestarting())
            case Error():
                self._receive_error(message)
            case Challenge():
                pass  # It has been answered.
            case _:
                raise ProtocolViolation("a message that only peers send")

    def ended(self, error: RoamRelayError) -> None:
        """Tell everybody that waits."""
        self._responses.fail(error)
        self._dns_keys.fail(error)
        self._endpoints.fail(error)
        self._mail.fail(error)
        self._updates.fail(error)
        self._pongs.fail(error)

    def _asked(self, request: ServiceRequestFrom) -> None:
        self._unanswered.arrived(request.request)
        if not tell_safely(self._tell, RequestArrived(self, request)):
            reason = "the other side has failed"
            self.answer(ServiceAnswer(request.request, Verdict.REFUSED, reason, code=Code.INTERNAL))

    def _receive_error(self, message: Error) -> None:
        error = refusal(message)
        if message.code is Code.STALE_SEQUENCE:
            self._updates.fail(error)
        elif message.code not in (Code.UNKNOWN_TYPE, Code.UNKNOWN_REQUEST):
            # The relay closes the connection behind it.
            self._messages.announce(error)

    # -- inside ---------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.is_closed:
            raise self._messages.closed.result()

    def _ping_once(self, now: float) -> None:
        """Ping, unless a ping has no answer yet."""
        if self._pinged is None:
            self._messages.send(Ping(0))
            self._pinged = now

    def _note_answer(self) -> None:
        if self._pinged is not None and self._messages.heard >= self._pinged:
            self._measured = self._messages.heard - self._pinged
            self._pinged = None

    def _end(self, error: RoamRelayError) -> None:
        self._messages.end(error)


_NO_ANSWER = "the relay did not answer the request"


def _endpoint(host: str, port: int) -> Endpoint | None:
    try:
        return Endpoint.parse(host, port)
    except ProtocolViolation:
        return None


def _within_bounds(heartbeat: float) -> float:
    # In this order, what is no number (NaN) becomes the shortest too.
    return max(_SHORTEST_HEARTBEAT, min(heartbeat, _LONGEST_HEARTBEAT))


async def _in_time(answer: "asyncio.Future[_T]", timeout: float, otherwise: str) -> _T:
    loop, lateness = asyncio.get_running_loop(), Lateness()
    now, wait = loop.time(), timeout
    while True:
        due = now + wait
        await asyncio.wait({answer}, timeout=wait)
        if answer.done():
            return answer.result()
        now = loop.time()
        turn = lateness.turn(due, now)
        if turn is None:
            raise RequestTimeout(otherwise)
        wait = turn
