"""Control messages on one byte stream, both ways. What they mean is not known here."""

import asyncio
from typing import Protocol

from peers.transport import FORGOTTEN, SILENT, Stream
from protocol.codec import MessageDecoder, UnknownType, encode
from protocol.errors import (
    Code,
    ConnectionClosed,
    ProtocolViolation,
    RelayUnavailable,
    RoamRelayError,
)
from protocol.hosts import host_in
from protocol.messages import Error, Message, Ping, Pong
from protocol.tables import FROM_RELAY

__all__ = ["FlowLost", "MessageReader", "MessageStream"]

_OUTBOX_LIMIT = 4 << 20
"""Bytes that may wait for a relay that does not read, before it is given up."""
_MAX_REASON = 512


class FlowLost(RelayUnavailable):
    """The connection has ended without a word of the relay: what was asked over it may be asked
    again over another one."""


class MessageReader(Protocol):
    """Who reads a stream of messages."""

    def receive(self, message: Message) -> None:
        """A message has come; pings are answered already.

        Raises:
            ProtocolViolation: it has no place here.
        """

    def ended(self, error: RoamRelayError) -> None:
        """Nothing more comes or leaves. Called once; must not raise."""


class MessageStream:
    """Messages to and from a relay. `begin` it; the `reader` may be replaced at any time.

    `closed` is done when it is over; its result is the error that ended it.
    """

    def __init__(self, stream: Stream) -> None:
        self._loop = asyncio.get_running_loop()
        self.stream = stream
        self._decoder = MessageDecoder(FROM_RELAY)
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._announced: RoamRelayError | None = None
        self.reader: MessageReader = _Nobody()
        self.heard = self._loop.time()
        """When anything came last."""
        self.closed: asyncio.Future[RoamRelayError] = self._loop.create_future()
        self.local_host = host_in(stream.local)
        """The source address: one of this host's own."""
        port = stream.local.rpartition(":")[2]
        self.local_port = int(port) if port.isascii() and port.isdigit() else 0
        """The source port; 0 where the stream does not tell."""
        self.was_forgotten = False
        """Whether it has ended as the other end knew nothing of it any more."""

    @property
    def is_closed(self) -> bool:
        """Whether it is over."""
        return self.closed.done()

    def begin(self, reader: MessageReader) -> None:
        """Read. What has come meanwhile is read at once."""
        self.reader = reader
        self.stream.set_owner(self)

    def send(self, message: Message) -> None:
        """Send a message; never blocks. Does nothing when it is over."""
        if self.is_closed:
            return
        # The messages of one turn of the loop leave in one write.
        data = encode(message)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > _OUTBOX_LIMIT:
            self.end(RelayUnavailable("the relay does not read", code=Code.SLOW_CONSUMER))

    def announce(self, error: RoamRelayError) -> None:
        """Note why the other side is about to close."""
        self._announced = error

    def end(self, error: RoamRelayError) -> None:
        """End it at once."""
        self._finish(error)
        self.stream.abort()

    def abandon(self, error: RoamRelayError) -> None:
        """End it here; the stream stays open, unread, until its owner aborts it."""
        self._finish(error)

    def close(self) -> None:
        """End it; what was written still leaves."""
        if not self.is_closed:
            self._flush()
            self._finish(ConnectionClosed("closed here"))
            self.stream.close()

    # -- the stream's side ----------------------------------------------------------------------

    def stream_data(self, data: bytes) -> None:
        if self.is_closed:
            return
        self.heard = self._loop.time()
        try:
            for message in self._decoder.receive(data):
                match message:
                    case Ping():
                        self.send(Pong(message.ping))
                    case UnknownType():
                        pass  # A newer relay may say what we do not know.
                    case Message():
                        self.reader.receive(message)
                if self.is_closed:
                    return
        except ProtocolViolation as violation:
            self.send(Error(violation.code or Code.BAD_MESSAGE, violation.reason[:_MAX_REASON]))
            self._flush()
            self.end(RelayUnavailable(f"the relay broke the protocol: {violation}"))

    def stream_writable(self) -> None:
        self._flush()

    def stream_lost(self, reason: str) -> None:
        told = f"the connection to the relay ended: {reason}"
        self.was_forgotten = reason == FORGOTTEN
        silent = Code.HEARTBEAT_TIMEOUT if reason == SILENT else None
        self._finish(self._announced or FlowLost(told, code=silent))

    # -- inside ---------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._out and not self.stream.paused:
            data = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            self.stream.write(data)

    def _finish(self, error: RoamRelayError) -> None:
        if not self.is_closed:
            self.closed.set_result(error)
            self.reader.ended(error)


class _Nobody:
    """Reads a stream that has not begun."""

    def receive(self, message: Message) -> None:
        return

    def ended(self, error: RoamRelayError) -> None:
        return
