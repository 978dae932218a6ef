"""The frames of a WebSocket (RFC 6455), without I/O: as a check wants them, right or wrong."""

import os
import struct
from collections.abc import Iterator
from enum import IntEnum

from peers.conformance.faults import Fault

__all__ = ["Kind", "WebSocketFrames"]


class Kind(IntEnum):
    """The opcode of a frame."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class WebSocketFrames:
    """Frames out, messages in."""

    def __init__(self, *, is_client: bool) -> None:
        self._is_client = is_client
        self._buffer = b""
        self._begun: tuple[Kind, bytes] | None = None

    def encode(self, kind: Kind, payload: bytes, *, last: bool = True) -> bytes:
        """Return one frame."""
        size = len(payload)
        mask = 0x80 if self._is_client else 0
        head = bytes([(0x80 if last else 0) | kind])
        if size < 126:
            head += bytes([mask | size])
        elif size < 65_536:
            head += bytes([mask | 126]) + struct.pack("!H", size)
        else:
            head += bytes([mask | 127]) + struct.pack("!Q", size)
        if not mask:
            return head + payload
        key = os.urandom(4)
        return head + key + _masked(payload, key)

    def feed(self, data: bytes) -> None:
        """Add what has come."""
        self._buffer += data

    def take(self) -> Iterator[tuple[Kind, bytes]]:
        """Yield the messages and control frames that are whole.

        Raises:
            Fault: they break RFC 6455.
        """
        while (frame := self._next()) is not None:
            last, kind, payload = frame
            if kind >= Kind.CLOSE:
                yield kind, payload
                continue
            if (kind is Kind.CONTINUATION) != (self._begun is not None):
                raise Fault("a WebSocket fragment that continues nothing")
            begun, before = self._begun or (kind, b"")
            self._begun = None if last else (begun, before + payload)
            if last:
                yield begun, before + payload

    def _next(self) -> tuple[bool, Kind, bytes] | None:
        data = self._buffer
        if len(data) < 2:
            return None
        size, at = data[1] & 0x7F, 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            if len(data) < 2 + wide:
                return None
            size, at = int.from_bytes(data[2 : 2 + wide], "big"), 2 + wide
        masked = bool(data[1] & 0x80)
        if masked == self._is_client:
            raise Fault("a WebSocket frame is masked by the client, and by nobody else")
        if data[0] & 0x70:
            raise Fault("a WebSocket extension is used, which nobody has asked for")
        key = data[at : at + 4] if masked else b""
        at += len(key) if masked else 0
        if len(data) < at + size or (masked and len(key) < 4):
            return None
        payload = data[at : at + size]
        self._buffer = data[at + size :]
        try:
            kind = Kind(data[0] & 0x0F)
        except ValueError:
            raise Fault(f"a WebSocket frame of kind {data[0] & 0x0F}") from None
        return bool(data[0] & 0x80), kind, _masked(payload, key) if masked else payload


def _masked(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    pad = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")
