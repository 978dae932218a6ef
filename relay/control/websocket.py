"""What carries a control connection in the binary frames of a WebSocket (RFC 6455).

A carrier like the raw one, whose bytes have frames around them. aiohttp's reader takes them off,
below its `WebSocketResponse`: that one has a queue, two tasks and a turn of the loop for each
message, which cost ten times as much as the message. What was written in one turn of the loop
leaves as one frame.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from aiohttp import WSCloseCode, WSMsgType
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http import WebSocketReader

from protocol.errors import Code
from protocol.messages import MAX_MESSAGE_BYTES
from relay.control.carriers import Carrier, CarrierLimits, CarrierUser, RawCarrier, State
from relay.limits import BYTE, EVENT, Toll

__all__ = ["WebSocketCarrier"]

_MAX_FRAMES = 2 * MAX_MESSAGE_BYTES
"""Bytes of one message of the WebSocket."""
_PIECE = 8192
"""Bytes of frames that are paid for and read at once: 1,400 of the smallest, 0.5 ms."""
_MAX_LATE = 65_536
"""Bytes that are read behind the relay's own close, to find the peer's: nobody is charged then."""
_CHARGED_AT_ONCE = 2
"""Frames without bytes in one turn of the loop: then others have theirs."""
_A_BINARY, _A_CLOSE, _A_PONG = 0x82, 0x88, 0x8A
# Python 3.11 looks an enum's member up slowly, beside a frame that costs half a microsecond.
_BINARY, _PING, _PONG, _CLOSE = (
    WSMsgType.BINARY,
    WSMsgType.PING,
    WSMsgType.PONG,
    WSMsgType.CLOSE,
)
_OPEN, _CLOSING, _LOST = State


class _Inbox(WebSocketDataQueue):
    """Takes what the reader has found, in place of the queue of a `WebSocketResponse`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # It pauses no transport: nothing is ever queued.
        super().__init__(cast(Any, None), _MAX_FRAMES, loop=loop)
        self.pieces: list[bytes] = []
        self.unpaid = 0
        """Frames that are charged one by one: without bytes, pings, pongs."""
        self.pinged: bytes | None = None
        """What the last ping said that was not answered: of several, the last one is
        (RFC 6455 §5.5.3)."""
        self.ended: int | None = None
        """The close code that the reading ends with."""
        self.by_peer = False
        """Whether the peer has ended it in order."""

    def feed_data(self, data: Any, size: int) -> None:
        """One message is whole."""
        kind = data[0]
        if self.ended is not None:
            return
        if kind is _BINARY and data[1]:
            self.pieces.append(data[1])
        elif kind in (_BINARY, _PONG):
            self.unpaid += 1
        elif kind is _PING:
            self.unpaid += 1
            self.pinged = data[1]
        elif kind is _CLOSE:
            self.ended, self.by_peer = WSCloseCode.OK, True
        else:
            self.ended = WSCloseCode.UNSUPPORTED_DATA

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """What came is no WebSocket's."""
        if self.ended is None:
            self.ended = getattr(exc, "code", WSCloseCode.PROTOCOL_ERROR)


class WebSocketCarrier(RawCarrier):
    """A control connection in frames, on its transport, once the upgrade is agreed."""

    __slots__ = ("_has_said_close", "_inbox", "_late", "_reader", "_rest", "_toll")

    def __init__(
        self,
        make_user: Callable[[Carrier], CarrierUser],
        limits: CarrierLimits,
        on_lost: Callable[[], None],
        toll: Toll,
    ) -> None:
        """As the raw one; `toll` is paid for what arrives, and what of it is the user's is given
        back: it is charged there."""
        super().__init__(make_user, limits, on_lost)
        self._inbox = _Inbox(self._loop)
        self._reader = WebSocketReader(self._inbox, _MAX_FRAMES, compress=False, decode_text=False)
        self._rest = b""
        """What has arrived and waits for its turn."""
        self._has_said_close = False
        self._late = 0
        self._toll = toll

    def data_received(self, data: bytes) -> None:
        if self._rest or self._pause is not None:
            self._rest += data
        else:
            self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest = b""
        super().connection_lost(exc)

    def abort(self, reason: str) -> None:
        self._rest = b""
        super().abort(reason)

    def _take(self, data: bytes) -> None:
        """Read frames, a piece at a time, until all is read or somebody asks for a pause."""
        inbox, user, at = self._inbox, self._user, 0
        if self._state is _CLOSING and self._transport is not None:
            self._late += len(data)
            if self._late > _MAX_LATE:
                self._transport.close()
                return
        while at < len(data) and user is not None:
            piece = data[at : at + _PIECE]
            if self._state is _OPEN and (wait := self._toll.take(EVENT + len(piece) * BYTE)):
                self._rest = data[at:]
                self.pause(wait)
                return
            self._reader.feed_data(piece)
            at += _PIECE
            if inbox.pieces:
                pieces, inbox.pieces = inbox.pieces, []
                payload = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                self._toll.give_back(len(payload) * BYTE)
                if self._state is _OPEN:
                    user.carrier_data(payload)
            if inbox.ended is not None:
                self._ended(inbox.ended)
                return
            if inbox.pinged is not None and not self._out and not self._paused:
                self._loop.call_soon(self._flush)
            if inbox.unpaid:
                self.pause(0.0)
            if self._pause is not None:
                self._rest = data[at:]
                return

    def _resume(self) -> None:
        self._pause = None
        user, inbox, transport = self._user, self._inbox, self._transport
        if user is None or transport is None:
            return
        user.carrier_resumed()
        for _ in range(min(_CHARGED_AT_ONCE, inbox.unpaid)):
            if self._pause is None:
                inbox.unpaid -= 1
                user.carrier_data(b"")
        if inbox.unpaid:
            self.pause(0.0)
        # Any of it may have asked for the next pause, or ended the connection.
        if self._pause is None and self._rest:
            rest, self._rest = self._rest, b""
            self._take(rest)
        if self._pause is None and not transport.is_closing():
            transport.resume_reading()

    def _flush(self) -> None:
        transport, pinged = self._transport, self._inbox.pinged
        if self._paused or transport is None or transport.is_closing():
            return
        frames = []
        if self._out:
            frames.append(_framed(_A_BINARY, b"".join(self._out)))
            self._out.clear()
            self._out_size = 0
        if pinged is not None:
            self._inbox.pinged = None
            frames.append(_framed(_A_PONG, pinged))
        if self._state is _CLOSING and not self._has_said_close:
            self._has_said_close = True
            ended = self._inbox.ended
            code = WSCloseCode.OK if ended is None else ended
            frames.append(_framed(_A_CLOSE, code.to_bytes(2, "big")))
        if frames:
            transport.write(b"".join(frames))
        if self._inbox.ended is not None:
            transport.close()

    def close(self, reason: str) -> None:
        """Say that it ends, behind what was queued; the peer's own word, or the write deadline,
        ends it."""
        if self._state is not _OPEN or self._transport is None:
            return
        self._reason = reason
        self._state = _CLOSING
        self._flush()
        self._start_deadline()

    def _ended(self, code: int) -> None:
        """The peer has said its last frame, or one that cannot be."""
        if self._state is _CLOSING:
            self._flush()
        elif self._inbox.by_peer:
            self.close("peer_closed")
        else:
            self.close(Code.BAD_MESSAGE.value)


def _framed(head: int, payload: bytes) -> bytes:
    """Return a whole frame, as a server sends it: unmasked."""
    size = len(payload)
    if size < 126:
        return bytes((head, size)) + payload
    if size < 65_536:
        return bytes((head, 126)) + size.to_bytes(2, "big") + payload
    return bytes((head, 127)) + size.to_bytes(8, "big") + payload
