"""One control connection: the handshake, then messages to whom they concern.

The handshake's states are a table; what is not in it is answered with an error and the end.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from protocol.codec import MessageDecoder, UnknownType, decode_location, encode
from protocol.errors import Code, ProtocolViolation, StaleSequence
from protocol.messages import (
    DnsKeyRequest,
    EndpointQuery,
    Error,
    Hello,
    LocationRecord,
    Message,
    PeerEvent,
    Ping,
    Pong,
    Register,
    Restarting,
    ServiceAnswer,
    ServiceRequestTo,
    ServiceResponse,
    Update,
    Watch,
)
from protocol.tables import FROM_PEER
from relay.admission import Refusal
from relay.broker import Broker
from relay.control.admittance import Admittance
from relay.control.carriers import Carrier
from relay.control.doubt import Doubt, Verdict
from relay.control.handshake import NOBODY, check_register, confirmation
from relay.control.mail import MAIL, Mail, serve_mail
from relay.control.reception import Reception
from relay.control.replies import dns_key, endpoint_refusal
from relay.control.source import Source
from relay.control.states import State
from relay.limits import BYTE, EVENT, MESSAGE, REQUEST, SIGNATURE, cause_of
from relay.log import guarded, log, short
from relay.presence import Presence
from relay.refusals import UNPROVEN
from relay.tally import Account

__all__ = ["ControlConnection"]

# Python 3.11 looks an enum's member up in 0.3 µs: these are asked for with every message.
_REGISTERED, _CLOSED = State.REGISTERED, State.CLOSED
_PURSE = 100.0
"""Units of work that a connection takes at once from what its cause may have: some 1 ms. Taking
each by itself would cost as much as a look-up."""
_NONE: Iterator[float] = iter(())
_TURN = 2
"""How often in one turn of the loop: then others have theirs."""


class ControlConnection:
    """A peer's control connection, on whatever carries it."""

    def __init__(
        self,
        carrier: Carrier,
        source: Source,
        presence: Presence,
        broker: Broker,
        reception: Reception,
    ) -> None:
        self._carrier = carrier
        self._source = source
        self._presence = presence
        self._broker = broker
        self._reception = reception
        self._metrics = reception.metrics
        self._decoder = MessageDecoder(FROM_PEER)
        self._claim = NOBODY
        self._left_by_peer = False
        self._admittance = Admittance(reception, self.refuse)
        self.asks: dict[Any, None] = {}
        self.asked: dict[Any, None] = {}
        self._purse = 0.0
        """Units of work that are paid for; below 0 where the next step is not yet."""
        self._earned = 0
        """How often it was filled in this turn of the loop."""
        self._steps: Iterator[float] | None = None
        """What is under way while nothing is read."""
        self._backlog: list[bytes] = []
        """What arrived meanwhile."""
        self.state = State.AWAITING_HELLO
        self._handlers = _HANDLERS[self.state]
        self.guid = ""
        self.instance = b""
        self.flow = 0
        self.features: frozenset[str] = frozenset()
        self.observed_host, self.observed_port = source.host, source.port
        self.cause = cause_of(source.host)
        """Who is charged: the source's network, and the key as soon as it is proven."""
        self.had = Account()
        self.opened = self.heard = self.pinged = reception.clock()
        self._doubt: Doubt | None = None
        self._round_trip = 0.0  # Seconds that the peer took for its last answer.
        reception.connections.add(self)
        self._metrics.connections[source.carrier] += 1

    @property
    def is_closed(self) -> bool:
        """Whether the connection is over."""
        return self.state is _CLOSED

    @property
    def is_registered(self) -> bool:
        """Whether its peer is admitted and its record in force."""
        return self.state is _REGISTERED

    @property
    def has_proven_key(self) -> bool:
        """Whether its GUID is its peer's, admitted or not yet."""
        return self.state in (_REGISTERED, State.AWAITING_ADMISSION)

    def send(self, message: Message) -> None:
        """Queue a message; never waits, and never raises: whoever sends may be about another
        peer's business."""
        try:
            data = encode(message)
            self._carrier.write(data)
        except Exception as error:
            log.error("a message cannot be sent", peer=short(self.guid), exc_info=error)
            self._carrier.abort(Code.INTERNAL.value)
            return
        self._metrics.messages_out += 1
        self.had.received += len(data)

    def end(self, code: Code, reason: str, seq: int | None = None) -> None:
        """Tell the peer why, and close. `seq` is the number of its record in force, where that is
        why."""
        self._say_and_close(Error(code, reason[:512], seq=seq), code)

    def refuse(self, refusal: Refusal) -> None:
        """Tell the peer that it is not admitted, or not any more, and close."""
        said = Error(refusal.code, refusal.reason[:512], refusal.retry_after)
        self._say_and_close(said, refusal.code)

    def restart(self, said: Restarting) -> None:
        """Tell the peer that the relay goes down, and close."""
        self._say_and_close(said, Code.RESTARTING)

    def abort(self, reason: str) -> None:
        """Drop the connection now."""
        self._leave(reason)
        self._carrier.abort(reason)

    def doubt(self, now: float) -> None:
        """A request to the peer stays unanswered: ping it, once until something is heard, and see
        what is (doubt.py). Who asks has paid for the request."""
        if self.state is _REGISTERED and self._doubt is None:
            self._doubt = Doubt(now, self._round_trip)
            self.send(Ping(0))

    def watch_time(self, now: float) -> None:
        """End a connection that is late, and ping one that is silent: call it every second."""
        config = self._reception.config
        if self.state is _REGISTERED:
            silent = now - self.heard
            if self._is_dead(now) or silent >= 2 * config.heartbeat:
                self._leave(Code.HEARTBEAT_TIMEOUT.value)
                self._carrier.abort(Code.HEARTBEAT_TIMEOUT.value)
            elif silent >= config.heartbeat and now - self.pinged >= config.heartbeat:
                self.pinged = now
                self.send(Ping(0))
            self._admittance.watch_time(now)
        elif self.state is State.AWAITING_ADMISSION or self._steps is not None:
            return  # Who decides has a timeout of its own; or it is the relay that lets it wait.
        elif self.state is not _CLOSED and now - self.opened >= config.handshake_timeout:
            self.end(
                Code.HANDSHAKE_TIMEOUT, f"no registration within {config.handshake_timeout:g} s"
            )

    # -- the carrier's side ---------------------------------------------------------------------

    def carrier_data(self, data: bytes) -> None:
        if self.state is _CLOSED:
            return
        self.heard = now = self._reception.clock()
        self.had.sent += len(data)
        if self._steps is not None:
            self._backlog.append(data)
            return
        messages = self._decoder.receive(data)
        self._earned = 0
        self._purse -= EVENT + len(data) * BYTE
        if self._purse < 0 and not self._earn():
            self._steps = self._take(messages)
            return
        began = self._metrics.loop.clock()
        try:
            for message in messages:
                self._metrics.messages_in += 1
                handler, cost = self._handlers.get(type(message), _UNEXPECTED)
                self._purse -= cost
                if self._purse < 0 and not self._earn():
                    self._steps = self._take(messages, self._handle(handler, message))
                    return
                steps = handler(self, message, now)
                if steps is not None:
                    self._go_on(self._take(messages, steps))
                    return
                if self.state is _CLOSED:
                    return
        except Exception as error:
            self._fault(error)
        finally:
            self._metrics.loop.served("control", self.guid or self.observed_host, began)

    def carrier_lost(self, reason: str) -> None:
        self._left_by_peer = reason == "peer_closed"
        self._leave(reason)

    def _is_dead(self, now: float) -> bool:
        """Whether a doubt has become certain."""
        if (doubt := self._doubt) is None:
            return False
        verdict = doubt.judge(self.heard, now)
        if verdict is Verdict.UNFOUNDED:
            self._round_trip, self._doubt = self.heard - doubt.since, None
        elif verdict is Verdict.UNANSWERED:
            self._broker.unanswered(self, now)
        return verdict is Verdict.DEAD

    def _fault(self, error: Exception) -> None:
        """End the connection by what its peer, or the relay, has done wrong."""
        if isinstance(error, ProtocolViolation):
            known = error.known if isinstance(error, StaleSequence) else None
            self.end(error.code or Code.BAD_MESSAGE, error.reason, known)
        else:
            log.error("a connection failed", peer=short(self.guid), exc_info=error)
            self.end(Code.INTERNAL, "the relay failed at this message")

    def carrier_resumed(self) -> None:
        steps = self._steps
        if steps is None:
            return
        self.heard = self._reception.clock()
        self._earned = 0
        if self._purse >= 0 or self._earn():
            self._steps = None
            self._go_on(steps)

    # -- what its messages cost -----------------------------------------------------------------

    def _go_on(self, steps: Iterator[float]) -> None:
        """Take steps, each of which is paid for before; the rest of them when they can be."""
        began = self._metrics.loop.clock()
        try:
            for cost in steps:
                self._purse -= cost
                if self._purse < 0 and not self._earn():
                    self._steps = steps
                    return
        except Exception as error:
            self._fault(error)
        finally:
            self._metrics.loop.served("control", self.guid or self.observed_host, began)

    def _earn(self) -> bool:
        """Fill the purse; else nothing is read until there is more, or others had their turn."""
        if wait := self._reception.charge(self.cause, _PURSE - self._purse):
            self._carrier.pause(wait)
            return False
        self._purse = _PURSE
        self._earned += 1
        wait = self._reception.pace(self.cause, self.had.unpaced())
        if wait or self._earned > _TURN:
            self._carrier.pause(wait)
            return False
        return True

    def _handle(
        self, handler: Callable[..., Iterator[float] | None], message: Message | UnknownType
    ) -> Iterator[float]:
        """Do what is paid for already, when it is its turn."""
        yield from handler(self, message, self.heard) or _NONE

    def _take(
        self, messages: Iterator[Message | UnknownType], steps: Iterator[float] = _NONE
    ) -> Iterator[float]:
        """Go through messages, after the steps of one before them. Yields the cost of each step."""
        yield from steps
        while self.state is not _CLOSED:
            for message in messages:
                self._metrics.messages_in += 1
                handler, cost = self._handlers.get(type(message), _UNEXPECTED)
                yield cost
                yield from handler(self, message, self.heard) or _NONE
                if self.state is _CLOSED:
                    return
            if not self._backlog:
                return
            data = self._backlog.pop(0)
            messages = self._decoder.receive(data)
            yield EVENT + len(data) * BYTE

    # -- the handshake --------------------------------------------------------------------------

    def _hello(self, hello: Hello, now: float) -> None:
        self._claim, answer = self._reception.challenge(hello)
        self.guid, self.instance, self.flow = hello.guid, hello.instance, hello.flow
        self.features = self._claim.features
        self._enter(State.AWAITING_REGISTER)
        self.pinged = now
        self.send(answer)

    def _register(self, register: Register, now: float) -> Iterator[float]:
        record = check_register(self._claim, register)
        self.cause = cause_of(self.observed_host, self.guid)
        self._round_trip = now - self.pinged
        if register.invitation:
            yield 2 * SIGNATURE
        self._enter(State.AWAITING_ADMISSION)
        if self._admittance.ask(
            self._claim, register.invitation, self.observed_host, lambda: self._admitted(record)
        ):
            yield from self._keep(record)

    def _admitted(self, record: LocationRecord) -> None:
        """Keep what a peer registers that was admitted when others had been asked; behind what it
        has said meanwhile. It may have gone."""
        if self.state is not State.AWAITING_ADMISSION:
            return
        steps = self._take(iter(()), self._keep(record))
        if self._steps is not None:
            self._steps = itertools.chain(self._steps, steps)
        else:
            self._earned = 0
            self._go_on(steps)

    def _keep(self, record: LocationRecord) -> Iterator[float]:
        services = yield from self._presence.checking(self, record)
        # Others had their turn meanwhile, the operator too.
        if refusal := self._reception.admission.judge(self.guid, self.observed_host):
            self.refuse(refusal)
            return
        superseded = self._presence.register(self, record, self.heard, services)
        self._enter(_REGISTERED)
        self._source.proven(self.guid)
        self._metrics.registrations += 1
        # Before anything else is said: a peer that is not registered takes no request.
        self._confirm(record.seq)
        for old in superseded:
            # Its requests find the new connection in the registry.
            old.end(
                Code.SUPERSEDED,
                "the same peer has connected again"
                if old.instance == self.instance
                else "another program with the same key has connected",
            )
        log.info(
            "registered",
            peer=short(self.guid),
            source=self.observed_host or "unknown",
            **({"proxy": self._source.proxy} if self._source.proxy else {}),
            carrier=self._source.carrier,
            services=len(record.services),
        )

    # -- registered -----------------------------------------------------------------------------

    def _update(self, update: Update, now: float) -> Iterator[float]:
        record = decode_location(update.location)
        try:
            services = yield from self._presence.checking(self, record)
            self._presence.update(self, record, self.heard, services)
        except StaleSequence as stale:
            self.send(Error(Code.STALE_SEQUENCE, stale.reason, seq=stale.known))
            return
        self._confirm(record.seq)

    def _request(self, request: ServiceRequestTo, now: float) -> None:
        self.had.requests += 1
        mode, wait, code = request.mode, 0.0, Code.REFUSED
        if not self._admittance.allows(mode):
            reason = f"this relay does not admit this peer's sessions in mode {mode.value}"
        elif wait := self._reception.requests.take(self.guid, now, self._admittance.cost):
            code, reason = Code.LIMIT_EXCEEDED, "too many requests"
        else:
            self._broker.request(self, request, now)
            if request.resume:
                self._presence.watches.asks(self, request.guid)
            return
        self.had.refusals += 1
        self._metrics.requests[mode.value, code.value] += 1
        self.send(ServiceResponse(request.request, code, reason, retry_after=wait or None))

    def _answer(self, answer: ServiceAnswer, now: float) -> None:
        if not self._broker.answer(self, answer, now):
            self.send(Error(Code.UNKNOWN_REQUEST, f"no request {answer.request} waits for you"))

    def _watch(self, watch: Watch, now: float) -> None:
        watches = self._presence.watches
        if not watch.watching:
            watches.unwatch(self, watch.guid)
        elif self._reception.requests.take(self.guid, now):
            self.had.refusals += 1
            self.send(PeerEvent(watch.guid, code=Code.LIMIT_EXCEEDED))
        else:
            watches.watch(self, watch.guid, now)

    def _endpoint_query(self, query: EndpointQuery, now: float) -> Iterator[float] | None:
        if refusal := endpoint_refusal(self._reception, self._claim, query, now):
            self.send(refusal)
            return None
        return self._presence.ask(self, query, now)

    def _dns_key(self, request: DnsKeyRequest, now: float) -> None:
        self.send(dns_key(self._reception, self._claim, request, now))

    def _mail(self, message: Mail, now: float) -> None:
        serve_mail(self, self._reception, self._claim.features, message)

    def _ping(self, ping: Ping, now: float) -> None:
        self.send(Pong(ping.ping))

    def _ignore(self, message: Message, now: float) -> None:
        return

    def _confirm(self, seq: int) -> None:
        name = self._reception.domain_name(self.guid)
        self.send(confirmation(self._reception, self._source, seq, name))

    def _unexpected(self, message: Message | UnknownType, now: float) -> None:
        if isinstance(message, UnknownType):
            self.send(Error(Code.UNKNOWN_TYPE, f"unknown type {message.type!r}"))
        else:
            raise ProtocolViolation(
                f"{type(message).__name__} in state {self.state.value}",
                code=Code.UNEXPECTED_MESSAGE,
            )

    def _enter(self, state: State) -> None:
        self.state = state
        self._handlers = _HANDLERS[state]

    def _say_and_close(self, last: Message, code: Code) -> None:
        if self.state is not _CLOSED:
            self.send(last)
            self._leave(code.value)
            self._carrier.close(code.value)

    def _leave(self, reason: str) -> None:
        """Take the connection out of everything. Only the first reason counts."""
        if self.state is _CLOSED:
            return
        was_registered = self.state is _REGISTERED
        if reason in UNPROVEN and not was_registered:
            self._metrics.refusals.add(reason, self._source.text)
        if self.has_proven_key and (had := self.had.take()):
            self._metrics.tally.add(self.guid, had)
        self._steps = None
        self._backlog.clear()
        self._admittance.end()
        self._enter(_CLOSED)
        self._reception.leave(self)
        self._metrics.closes[reason] += 1
        if was_registered:
            now = self._reception.clock()
            with guarded("leaving the registry"):
                self._presence.leave(self, now, closed=self._left_by_peer)
            with guarded("leaving the broker"):
                self._broker.connection_lost(self, now)
            log.info("connection ended", peer=short(self.guid), reason=reason)


_Handler = tuple[Callable[[ControlConnection, Any, float], Iterator[float] | None], float]
"""What is done, and what that costs in units of work."""
_UNEXPECTED: _Handler = (ControlConnection._unexpected, MESSAGE)
_ALWAYS: dict[type, _Handler] = {
    Ping: (ControlConnection._ping, MESSAGE),
    Pong: (ControlConnection._ignore, MESSAGE),
    Error: (ControlConnection._ignore, MESSAGE),
}
_HANDLERS: dict[State, dict[type, _Handler]] = {
    State.AWAITING_HELLO: {
        Hello: (ControlConnection._hello, SIGNATURE),
        Error: (ControlConnection._ignore, MESSAGE),
    },
    State.AWAITING_REGISTER: {Register: (ControlConnection._register, SIGNATURE), **_ALWAYS},
    State.AWAITING_ADMISSION: _ALWAYS,
    State.REGISTERED: {
        Update: (ControlConnection._update, REQUEST),
        ServiceRequestTo: (ControlConnection._request, REQUEST),
        ServiceAnswer: (ControlConnection._answer, REQUEST),
        Watch: (ControlConnection._watch, REQUEST),
        EndpointQuery: (ControlConnection._endpoint_query, REQUEST),
        DnsKeyRequest: (ControlConnection._dns_key, 2 * SIGNATURE),
        **dict.fromkeys(MAIL, (ControlConnection._mail, REQUEST)),
        **_ALWAYS,
    },
    State.CLOSED: {},
}
