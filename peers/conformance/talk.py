"""MessagePack values on a stream, as a check sends and awaits them."""

import asyncio
from typing import Any

import msgpack

from peers.conformance.faults import QUIET, Fault, ended, within
from peers.conformance.pipes import Pipe

__all__ = ["Map", "Talk", "packed"]

Map = dict[str, Any]

_LARGEST = 1 << 22
"""Bytes of one value: far above what the protocol allows, so that what is too large is seen."""


def packed(value: Any) -> bytes:
    """Return the MessagePack bytes of a value."""
    data: bytes = msgpack.packb(value)
    return data


class Talk:
    """One stream of values each way."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=_LARGEST)
        self._read = 0
        self._at = 0
        self.size = 0
        """Bytes of the value that was returned last."""
        self.over = False
        """Whether the stream has ended."""

    def say(self, kind: str, **fields: Any) -> None:
        """Send a message."""
        self.pipe.send(packed({"type": kind, **fields}))

    def put(self, *values: Any) -> None:
        """Send values, together."""
        self.pipe.send(b"".join(map(packed, values)))

    async def next(self, what: str, seconds: float | None = None) -> Any:
        """Return the next value.

        Raises:
            Fault: none comes in time, the stream ends, or what comes is no MessagePack.
        """
        async with within(what, seconds):
            value = await self._value()
        if self.over:
            raise ended(what)
        return value

    async def expect(self, kind: str, seconds: float | None = None) -> Map:
        """Return the next message, which must be of this type; pings are answered on the way.

        Raises:
            Fault: another one comes, or none.
        """
        while True:
            message = await self.next(f"`{kind}`", seconds)
            match message:
                case {"type": "ping"} if kind != "ping":
                    self.say("pong", ping=message.get("ping", 0))
                case {"type": str(given)} if given == kind:
                    return dict(message)
                case _:
                    raise Fault(f"{_shown(message)} where `{kind}` should have come")

    async def find(self, kind: str, seconds: float | None = None, **fields: Any) -> Map:
        """Return the next message of this type with these fields; others are passed over.

        Raises:
            Fault: none comes in time.
        """
        async with within(f"`{kind}`", seconds):
            while True:
                message = await self.next(f"`{kind}`", seconds)
                if not isinstance(message, dict):
                    raise Fault(f"{message!r} is no message")
                if message.get("type") == "ping" and kind != "ping":
                    self.say("pong", ping=message.get("ping", 0))
                if message.get("type") == kind and fields.items() <= message.items():
                    return dict(message)

    async def silence(self, what: str, seconds: float = QUIET) -> None:
        """Nothing may come for a while.

        Raises:
            Fault: something does; or the stream ends.
        """
        try:
            async with asyncio.timeout(seconds):
                value = await self._value()
        except TimeoutError:
            return
        if self.over:
            raise ended(f"nothing ({what})")
        raise Fault(f"{_shown(value)} where nothing should have come ({what})")

    async def closed(self, what: str, seconds: float | None = None) -> list[Any]:
        """Wait until the other side ends the stream; return what came before that.

        Raises:
            Fault: it does not in time.
        """
        values: list[Any] = []
        async with within(f"end of the stream ({what})", seconds):
            while True:
                value = await self._value()
                if self.over:
                    return values
                values.append(value)

    def rest(self) -> bytes:
        """Return the bytes that were read and belong to no value yet, and forget them."""
        rest: bytes = self._unpacker.read_bytes(_LARGEST)
        return rest

    async def _value(self) -> Any:
        while True:
            try:
                value = self._unpacker.unpack()
            except msgpack.OutOfData:
                data = b"" if self.over else await self.pipe.receive()
                if not data:
                    self.over = True
                    return None
                self._unpacker.feed(data)
                continue
            except (ValueError, TypeError) as error:
                raise Fault(f"what comes is no MessagePack: {error}") from None
            at = self._unpacker.tell()
            self.size, self._at = at - self._at, at
            return value


def _shown(message: Any) -> str:
    if isinstance(message, dict) and "type" in message:
        code = f" ({message['code']})" if message.get("code") else ""
        return f"`{message['type']}`{code}"
    return repr(message)[:120]
