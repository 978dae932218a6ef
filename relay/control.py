"""One control connection: the handshake, then messages to whom they concern.

The handshake's states are a table; what is not in it is answered with an error and the end.
"""

import os
from collections.abc import Callable
from enum import Enum
from typing import Any

from protocol.codec import MessageDecoder, UnknownType, decode_location, encode
from protocol.dns_records import peer_name
from protocol.errors import Code, IdentityError, ProtocolViolation
from protocol.identity import (
    CONTEXT_CHALLENGE,
    CONTEXT_DNS_KEY,
    CONTEXT_REGISTER,
    Identity,
    public_key_of,
    verify,
)
from protocol.messages import (
    FROM_PEER,
    VERSION,
    Challenge,
    DnsKeyRequest,
    DnsKeyResponse,
    Error,
    Hello,
    Limits,
    Message,
    PeerEvent,
    Ping,
    Pong,
    Register,
    Registered,
    Restarting,
    ServiceAnswer,
    ServiceRequestTo,
    ServiceResponse,
    Update,
    Watch,
)
from protocol.sealing import seal
from relay.broker import Broker
from relay.carriers import Carrier
from relay.config import RelayConfig
from relay.dns_server import DnsServer
from relay.log import guarded, log, short
from relay.metrics import Metrics
from relay.proofs import Proofs
from relay.rates import Rates
from relay.registry import Registry
from relay.watches import Watches

__all__ = ["ControlConnection", "Node", "State"]


class State(Enum):
    """Where a control connection is in its life."""

    AWAITING_HELLO = "awaiting hello"
    AWAITING_REGISTER = "awaiting register"
    REGISTERED = "registered"
    CLOSED = "closed"


class Node:
    """What the connections of one relay share."""

    def __init__(
        self,
        *,
        config: RelayConfig,
        identity: Identity,
        registry: Registry,
        broker: Broker,
        watches: Watches,
        proofs: Proofs,
        dns: DnsServer | None,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self.config = config
        self.identity = identity
        self.registry = registry
        self.broker = broker
        self.watches = watches
        self.proofs = proofs
        self.dns = dns
        self.metrics = metrics
        self.clock = clock
        self.requests = Rates(config.requests_per_second, config.requests_burst)
        self.connections: set[ControlConnection] = set()
        self.limits = Limits(
            pending_requests=config.pending_requests,
            heartbeat=config.heartbeat,
            lease=config.lease,
        )


class ControlConnection:
    """A peer's control connection, on whatever carries it."""

    def __init__(self, node: Node, carrier: Carrier, kind: str, host: str, port: int) -> None:
        self._node = node
        self._carrier = carrier
        self._decoder = MessageDecoder(FROM_PEER)
        self._nonce = b""
        self._peer_key = b""
        self._kind = kind
        self._left_by_peer = False
        self.state = State.AWAITING_HELLO
        self.guid = ""
        self.instance = b""
        self.flow = 0
        self.observed_host = host
        self.observed_port = port
        self.opened = self.heard = node.clock()
        self.pinged = self.heard
        node.connections.add(self)
        node.metrics.connections[kind] += 1

    @property
    def is_closed(self) -> bool:
        """Whether the connection is over."""
        return self.state is State.CLOSED

    def send(self, message: Message) -> None:
        """Queue a message; never waits, and never raises: whoever sends may be about another
        peer's business."""
        try:
            self._carrier.write(encode(message))
        except Exception as error:
            log.error("a message cannot be sent", peer=short(self.guid), exc_info=error)
            self._carrier.abort(Code.INTERNAL.value)
            return
        self._node.metrics.messages_out += 1

    def end(self, code: Code, reason: str) -> None:
        """Tell the peer why, and close."""
        if self.state is not State.CLOSED:
            self.send(Error(code, reason[:512]))
            self._leave(code.value)
            self._carrier.close(code.value)

    def restart(self, delay: float, spread: float) -> None:
        """Tell the peer that the relay goes down, and close."""
        if self.state is not State.CLOSED:
            self.send(Restarting(delay, spread))
            self._leave(Code.RESTARTING.value)
            self._carrier.close(Code.RESTARTING.value)

    def abort(self, reason: str) -> None:
        """Drop the connection now."""
        self._leave(reason)
        self._carrier.abort(reason)

    def watch_time(self, now: float) -> None:
        """End a connection that is late, and ping one that is silent: call it every second."""
        config = self._node.config
        if self.state is State.REGISTERED:
            silent = now - self.heard
            if silent >= 2 * config.heartbeat:
                self._leave(Code.HEARTBEAT_TIMEOUT.value)
                self._carrier.abort(Code.HEARTBEAT_TIMEOUT.value)
            elif silent >= config.heartbeat and now - self.pinged >= config.heartbeat:
                self.pinged = now
                self.send(Ping(0))
        elif self.state is not State.CLOSED and now - self.opened >= config.handshake_timeout:
            self.end(
                Code.HANDSHAKE_TIMEOUT, f"no registration within {config.handshake_timeout:g} s"
            )

    # -- the carrier's side ---------------------------------------------------------------------

    def carrier_data(self, data: bytes) -> None:
        if self.state is State.CLOSED:
            return
        node = self._node
        self.heard = now = node.clock()
        try:
            for message in self._decoder.receive(data):
                node.metrics.messages_in += 1
                handler = _HANDLERS[self.state].get(type(message))
                if handler is None:
                    self._unexpected(message)
                else:
                    handler(self, message, now)
                if self.is_closed:
                    return
        except ProtocolViolation as violation:
            self.end(violation.code or Code.BAD_MESSAGE, violation.reason)
        except Exception as error:
            log.error("a connection failed", peer=short(self.guid), exc_info=error)
            self.end(Code.INTERNAL, "the relay failed at this message")

    def carrier_lost(self, reason: str) -> None:
        self._left_by_peer = reason == "peer_closed"
        self._leave(reason)

    # -- the handshake --------------------------------------------------------------------------

    def _hello(self, hello: Hello, now: float) -> None:
        if hello.version != VERSION:
            raise ProtocolViolation(
                f"version {VERSION} is spoken here", code=Code.VERSION_UNSUPPORTED
            )
        self._peer_key = _key_of(hello.guid)
        self.guid, self.instance, self.flow = hello.guid, hello.instance, hello.flow
        self._nonce = os.urandom(32)
        identity = self._node.identity
        signature = identity.sign(CONTEXT_CHALLENGE, self._peer_key, hello.nonce, self._nonce)
        self.state = State.AWAITING_REGISTER
        self.send(Challenge(identity.guid, self._nonce, signature, self._node.limits))

    def _register(self, register: Register, now: float) -> None:
        node = self._node
        verify(
            self.guid,
            register.signature,
            CONTEXT_REGISTER,
            node.identity.public_key,
            self._nonce,
            self._peer_key,
            self.instance,
            register.location,
        )
        record = decode_location(register.location)
        superseded = node.registry.register(self, record, now)
        self.state = State.REGISTERED
        node.metrics.registrations += 1
        node.watches.changed(self.guid, now)
        node.proofs.consider(self.guid)
        for old in superseded:
            assert isinstance(old, ControlConnection)
            # Its requests find the new connection in the registry.
            old.end(
                Code.SUPERSEDED,
                "the same peer has connected again"
                if old.instance == self.instance
                else "another program with the same key has connected",
            )
        self._confirm(record.seq)
        log.info(
            "registered",
            peer=short(self.guid),
            source=self.observed_host,
            carrier=self._kind,
            services=len(record.services),
        )

    # -- registered -----------------------------------------------------------------------------

    def _update(self, update: Update, now: float) -> None:
        record = decode_location(update.location)
        try:
            self._node.registry.update(self, record, now)
        except ProtocolViolation as violation:
            if violation.code is not Code.STALE_SEQUENCE:
                raise
            self.send(Error(Code.STALE_SEQUENCE, violation.reason))
            return
        self._node.watches.changed(self.guid, now)
        self._node.proofs.consider(self.guid)
        self._confirm(record.seq)

    def _request(self, request: ServiceRequestTo, now: float) -> None:
        wait = self._node.requests.take(self.guid, now)
        if wait:
            self._node.metrics.requests[request.mode.value, Code.LIMIT_EXCEEDED.value] += 1
            self.send(
                ServiceResponse(
                    request.request,
                    Code.LIMIT_EXCEEDED,
                    "too many requests",
                    retry_after=wait,
                )
            )
        else:
            self._node.broker.request(self, request, now)

    def _answer(self, answer: ServiceAnswer, now: float) -> None:
        if not self._node.broker.answer(self, answer, now):
            self.send(Error(Code.UNKNOWN_REQUEST, f"no request {answer.request} waits for you"))

    def _watch(self, watch: Watch, now: float) -> None:
        watches = self._node.watches
        if not watch.watching:
            watches.unwatch(self, watch.guid)
        elif self._node.requests.take(self.guid, now):
            self.send(PeerEvent(watch.guid, code=Code.LIMIT_EXCEEDED))
        else:
            watches.watch(self, watch.guid, now)

    def _dns_key(self, request: DnsKeyRequest, now: float) -> None:
        node = self._node
        relay_key = node.identity.public_key
        verify(self.guid, request.signature, CONTEXT_DNS_KEY, relay_key, request.public)
        if wait := node.requests.take(self.guid, now):
            reason = f"too many requests: come back in {wait:.1f} s"
            self.send(DnsKeyResponse(request.request, Code.LIMIT_EXCEEDED, reason))
        elif node.dns is None:
            reason = "this relay serves no DNS zone"
            self.send(DnsKeyResponse(request.request, Code.REFUSED, reason))
        else:
            context = CONTEXT_DNS_KEY + relay_key + self._peer_key
            sealed = seal(request.public, node.dns.keys.secret(self.guid), context)
            zone = node.dns.zone.name
            self.send(DnsKeyResponse(request.request, zone=zone, port=node.dns.port, sealed=sealed))

    def _ping(self, ping: Ping, now: float) -> None:
        self.send(Pong(ping.ping))

    def _ignore(self, message: Message, now: float) -> None:
        return

    def _confirm(self, seq: int) -> None:
        config, dns = self._node.config, self._node.dns
        self.send(
            Registered(
                seq,
                self.observed_host,
                self.observed_port,
                config.heartbeat,
                config.lease,
                fqdn=peer_name(self.guid, dns.zone.name) if dns is not None else "",
            )
        )

    def _unexpected(self, message: Message | UnknownType) -> None:
        if isinstance(message, UnknownType):
            self.send(Error(Code.UNKNOWN_TYPE, f"unknown type {message.type!r}"))
        else:
            raise ProtocolViolation(
                f"{type(message).__name__} in state {self.state.value}",
                code=Code.UNEXPECTED_MESSAGE,
            )

    def _leave(self, reason: str) -> None:
        """Take the connection out of everything. Only the first reason counts."""
        if self.state is State.CLOSED:
            return
        was_registered = self.state is State.REGISTERED
        self.state = State.CLOSED
        node = self._node
        node.connections.discard(self)
        node.metrics.closes[reason] += 1
        if was_registered:
            now = node.clock()
            with guarded("leaving the registry"):
                node.registry.remove(self, now, closed=self._left_by_peer)
            with guarded("leaving the broker"):
                node.broker.connection_lost(self, now)
            with guarded("leaving the watches"):
                node.watches.connection_lost(self)
                node.watches.changed(self.guid, now)
            log.info("connection ended", peer=short(self.guid), reason=reason)


def _key_of(guid: str) -> bytes:
    try:
        return public_key_of(guid)
    except IdentityError as error:
        raise ProtocolViolation(str(error), code=Code.BAD_GUID) from None


_Handler = Callable[[ControlConnection, Any, float], None]
_ALWAYS: dict[type, _Handler] = {
    Ping: ControlConnection._ping,
    Pong: ControlConnection._ignore,
    Error: ControlConnection._ignore,
}
_HANDLERS: dict[State, dict[type, _Handler]] = {
    State.AWAITING_HELLO: {Hello: ControlConnection._hello, Error: ControlConnection._ignore},
    State.AWAITING_REGISTER: {Register: ControlConnection._register, **_ALWAYS},
    State.REGISTERED: {
        Update: ControlConnection._update,
        ServiceRequestTo: ControlConnection._request,
        ServiceAnswer: ControlConnection._answer,
        Watch: ControlConnection._watch,
        DnsKeyRequest: ControlConnection._dns_key,
        **_ALWAYS,
    },
    State.CLOSED: {},
}
