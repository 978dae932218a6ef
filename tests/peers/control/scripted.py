"""A relay that says what a test tells it to, on a stream in memory."""

import asyncio
import logging

import pytest

from peers.control.account import Account, Line
from peers.control.connection import ControlConnection, ControlEvent, Tell
from peers.control.handshake import Handshake
from peers.transport import RelayAddress
from peers.transport.stream import StreamOwner
from protocol.codec import MessageDecoder, encode
from protocol.errors import RoamRelayError
from protocol.identity import CONTEXT_CHALLENGE, Identity, public_key_of
from protocol.messages import Challenge, Hello, LocationRecord, Message, Register, Registered
from protocol.tables import FROM_PEER

RELAY = Identity.from_seed(bytes(32))
PEER = Identity.from_seed(bytes(range(32)))
ACCOUNT = Account(PEER, bytes(16))
LINE = Line(RelayAddress("http://127.0.0.1:9"), "192.0.2.1", flow=1)
CONFIRMED = Registered(7, "198.51.100.1", 4711, heartbeat=15.0, lease=120.0)


class Wire:
    """A stream, and the relay at its other end: what it got is in `got`."""

    local, remote = "192.0.2.1:5000", "127.0.0.1:9"
    silence: float | None = None
    round_trip: float | None = None

    def __init__(self) -> None:
        self.paused = False
        self.got: list[Message] = []
        self.aborted = self.closed = self.lost = False
        self._decoder = MessageDecoder(FROM_PEER)
        self._owner: StreamOwner | None = None
        self._heard = asyncio.Event()

    def set_owner(self, owner: StreamOwner) -> None:
        self._owner = owner

    def settled(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        if not (self.aborted or self.closed):
            for message in self._decoder.receive(data):
                assert isinstance(message, Message)
                self.got.append(message)
            self._heard.set()

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    @property
    def owner(self) -> StreamOwner:
        assert self._owner is not None
        return self._owner

    def say(self, *messages: Message) -> None:
        """Send messages to the peer, in one packet."""
        self.owner.stream_data(b"".join(encode(message) for message in messages))

    def hang_up(self, reason: str = "end of stream") -> None:
        """End the connection from the other side."""
        self.lost = True
        self.owner.stream_lost(reason)

    async def next(self, kind: type[Message]) -> Message:
        """Return the next message of a kind; what came before it is forgotten."""
        async with asyncio.timeout(60):
            while True:
                while self.got:
                    message = self.got.pop(0)
                    if isinstance(message, kind):
                        return message
                self._heard.clear()
                await self._heard.wait()

    async def challenge(
        self,
        identity: Identity = RELAY,
        features: tuple[str, ...] = (),
        *,
        invitation: bool = False,
        succession: tuple[bytes, ...] = (),
    ) -> None:
        """Answer the hello; `invitation` says that one is asked for."""
        hello = await self.next(Hello)
        assert isinstance(hello, Hello)
        nonce = b"n" * 32
        key = public_key_of(hello.guid)
        signature = identity.sign(CONTEXT_CHALLENGE, key, hello.nonce, nonce)
        self.say(
            Challenge(
                identity.guid,
                nonce,
                signature,
                features=features,
                invitation=invitation,
                succession=succession,
            )
        )


class Seven:
    """Writes records with the number 7, and keeps what comes of them."""

    refusal: RoamRelayError | None = None

    def __init__(self) -> None:
        self.advanced: list[int] = []
        self.taken: list[LocationRecord] = []
        self.not_taken: list[LocationRecord] = []

    def record(self, local_host: str) -> LocationRecord:
        return LocationRecord(7)

    def advance(self, seq: int) -> bool:
        self.advanced.append(seq)
        return seq > 7

    def accepted(self, record: LocationRecord) -> None:
        self.taken.append(record)

    def refused(self, record: LocationRecord, error: RoamRelayError) -> None:
        self.not_taken.append(record)


async def connected(
    tell: Tell, *also: Message, wire: Wire | None = None, early: tuple[Message, ...] = ()
) -> tuple[Wire, ControlConnection]:
    """Return a registered connection; `early` came before it was confirmed, and `also` in the
    packet that did so."""
    wire = wire or Wire()
    async with asyncio.TaskGroup() as tasks:
        registering = tasks.create_task(Handshake(ACCOUNT, LINE, tell).register(wire, Seven(), 5.0))
        await wire.challenge()
        await wire.next(Register)
        wire.say(*early, CONFIRMED, *also)
    return wire, registering.result()


class Events(list[ControlEvent]):
    """Keeps what it is told."""

    def __call__(self, event: ControlEvent) -> None:
        self.append(event)


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what the library has logged: a busy machine makes asyncio log too."""
    return [record for record in caplog.records if record.name == "peers"]
