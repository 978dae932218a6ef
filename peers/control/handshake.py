"""How a connection begins: hello and challenge, register and registered.

Each step waits for one message; what stands between them is a phase of its own, so that a
connection that is there has everything that a connection has.
"""

import asyncio
import os
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from peers.control.account import Account, KnownRelay, Line
from peers.control.connection import ControlConnection, RelaySucceeded, Tell
from peers.control.message_stream import MessageStream
from peers.control.refusal import REFUSES_RECORD, Phase, StaleRecord, refusal
from peers.control.tell import tell_safely
from peers.transport import Stream
from protocol.codec import encode_location
from protocol.errors import (
    Code,
    ProtocolViolation,
    RelayUnavailable,
    RoamRelayError,
    WrongIdentity,
)
from protocol.features import CONTROL_FEATURES, shared
from protocol.identity import CONTEXT_CHALLENGE, CONTEXT_REGISTER, public_key_of, verify
from protocol.messages import (
    Challenge,
    Error,
    Hello,
    LocationRecord,
    Message,
    Register,
    Registered,
    ServiceRequestFrom,
)

__all__ = ["Handshake", "Records", "follow"]

_T = TypeVar("_T")
_MAX_EARLY = 64
"""Requests that are kept until this peer is registered; their callers ask again for the others."""


class Records(Protocol):
    """Who writes this peer's location records."""

    def record(self, local_host: str) -> LocationRecord:
        """Return the record of now, under a higher `seq` than any before; `local_host` is the
        source address of the connection that it is for."""

    def advance(self, seq: int) -> bool:
        """Give the next record a number above this one, if it is not beyond all clocks; return
        whether it is newer than it would have been."""

    def accepted(self, record: LocationRecord) -> None:
        """A relay has put this record in force."""

    def refused(self, record: LocationRecord, error: RoamRelayError) -> None:
        """A relay cannot take this record. The next one is another, as far as there is one."""

    @property
    def refusal(self) -> RoamRelayError | None:
        """Why the records are not of all that is offered; None where they are."""


@dataclass(slots=True)
class Handshake:
    """Makes one registered connection. `tell` gets its news, from the first message on."""

    account: Account
    line: Line
    tell: Tell
    phase: Phase = field(default=Phase.UNPROVEN, init=False)
    """How far it has come."""

    async def register(self, stream: Stream, records: Records, timeout: float) -> ControlConnection:
        """Shake hands on a stream and register. The stream is dropped where that fails.

        Raises:
            RelayUnavailable: the relay refused (see `code`), hung up or did not answer in time.
            WrongIdentity: the relay is not the one that was expected.
            ProtocolViolation: the relay has not proven who it is.
        """
        try:
            messages = MessageStream(stream)
            record = records.record(messages.local_host)
            try:
                async with asyncio.timeout(timeout):
                    connection = await self._register(messages, record)
                records.accepted(record)
                return connection
            except RelayUnavailable as error:
                if self.phase is Phase.HANDSHAKE:
                    _heed(error, records, record)
                raise
        except TimeoutError:
            stream.abort()
            raise RelayUnavailable(
                f"the relay did not finish the handshake in {timeout:g} s"
            ) from None
        except BaseException:
            stream.abort()
            raise

    async def _register(self, messages: MessageStream, record: LocationRecord) -> ControlConnection:
        identity, instance = self.account.identity, self.account.instance
        nonce, expected = os.urandom(32), self.line.expected_relay
        challenged = _Challenged(messages)
        messages.begin(challenged)
        messages.send(
            Hello(
                identity.guid,
                instance,
                nonce,
                flow=self.line.flow,
                agent=self.account.agent,
                features=CONTROL_FEATURES,
                relay=expected,
            )
        )
        challenge = await challenged.result()
        self._check(challenge, nonce, expected)
        self.phase = Phase.HANDSHAKE
        features = shared(CONTROL_FEATURES, challenge.features)
        relay = KnownRelay(self.line.address, challenge.guid, features)
        confirmed = _Confirmed(messages, self, relay)
        messages.reader = confirmed
        location = encode_location(record)
        signature = identity.sign(
            CONTEXT_REGISTER,
            public_key_of(challenge.guid),
            challenge.nonce,
            identity.public_key,
            instance,
            location,
        )
        messages.send(Register(location, signature, self._invitation(challenge)))
        return await confirmed.result()

    def _invitation(self, challenge: Challenge) -> bytes:
        """Return what the relay asks for, which is of use to that relay alone, for this peer and
        this challenge; nothing where it asks for nothing."""
        token = self.account.invitation
        if token is None or not challenge.invitation:
            return b""
        return token.present(challenge.guid, challenge.nonce, self.account.identity.guid)

    def _check(self, challenge: Challenge, nonce: bytes, expected: str | None) -> None:
        """Check that the relay is the one that was asked for. Another flow may have learned of its
        next key meanwhile: then what this one says of that is no news."""
        verify(
            challenge.guid,
            challenge.signature,
            CONTEXT_CHALLENGE,
            self.account.identity.public_key,
            nonce,
            challenge.nonce,
        )
        if expected is not None and challenge.guid != expected:
            raise WrongIdentity(expected, challenge.guid, "the relay")
        # Behind the signature of the key that is expected, and of no other.
        pin = self.line.pin
        if expected == pin.guid and pin.learn(challenge.succession) and pin.guid is not None:
            tell_safely(self.tell, RelaySucceeded(pin.guid))


class _Phase(Generic[_T]):
    """Waits for the one message that ends it."""

    def __init__(self, messages: MessageStream) -> None:
        self._messages = messages
        self._result: asyncio.Future[_T] = asyncio.get_running_loop().create_future()

    async def result(self) -> _T:
        """Return what the message brought. Its timeout is that of the whole handshake."""
        if self._messages.is_closed and not self._result.done():
            raise self._messages.closed.result()
        return await self._result

    def receive(self, message: Message) -> None:
        match message:
            case Registered():
                raise ProtocolViolation(
                    "registered before it was asked for", code=Code.UNEXPECTED_MESSAGE
                )
            case Error(Code.UNKNOWN_TYPE | Code.UNKNOWN_REQUEST):
                pass
            case Error():
                # The relay closes the connection behind it.
                self._messages.announce(self._meaning(message))
            case _:
                pass  # What concerns registered connections only.

    def _meaning(self, said: Error) -> RelayUnavailable:
        raise NotImplementedError

    def ended(self, error: RoamRelayError) -> None:
        if not self._result.done():
            self._result.set_exception(error)
            self._result.exception()  # Who waited may have left.


class _Challenged(_Phase[Challenge]):
    def _meaning(self, said: Error) -> RelayUnavailable:
        # A stranger's word: it says nothing of this peer.
        return RelayUnavailable(said.reason, code=said.code, retry_after=said.retry_after)

    def receive(self, message: Message) -> None:
        if not isinstance(message, Challenge):
            super().receive(message)
        elif not self._result.done():
            self._result.set_result(message)


class _Confirmed(_Phase[ControlConnection]):
    def __init__(self, messages: MessageStream, handshake: Handshake, relay: KnownRelay) -> None:
        super().__init__(messages)
        self._handshake = handshake
        self._relay = relay
        self._early: list[ServiceRequestFrom] = []
        """Requests of others: the first relays passed on at once what had waited for this peer."""

    def _meaning(self, said: Error) -> RelayUnavailable:
        return refusal(said)

    def receive(self, message: Message) -> None:
        if isinstance(message, ServiceRequestFrom):
            if len(self._early) < _MAX_EARLY:
                self._early.append(message)
        elif not isinstance(message, Registered):
            super().receive(message)
        elif not self._result.done():
            connection = ControlConnection(
                self._messages,
                self._relay,
                self._handshake.line.source,
                message,
                self._handshake.tell,
            )
            # What stands behind it in the same packet is for the connection.
            self._messages.reader = connection
            self._result.set_result(connection)
            for request in self._early:
                connection.receive(request)


def follow(stale: StaleRecord, records: Records) -> bool:
    """Go on above the number that a relay knows, as after a clock that ran fast. Return whether the
    next record is newer than it would have been."""
    return stale.known is not None and records.advance(stale.known)


def _heed(error: RelayUnavailable, records: Records, record: LocationRecord) -> None:
    """Do what the relay's word of a record asks for before the next one."""
    if isinstance(error, StaleRecord):
        follow(error, records)
    elif error.code in REFUSES_RECORD:
        records.refused(record, error)
