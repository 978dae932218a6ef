"""A TCP proxy before a relay: it can be cut, be silent, be left behind, lead to another one, and do
to the records of a plane what a relay that lies would do.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.support.servers import close_server

__all__ = ["LIES", "Wire", "wire"]

_PIECE = 65_536
_BINARY = 0x82
LIES = ("changed", "left out", "replayed", "swapped", "cut short")
"""What can be done to a record on its way to who is behind the wire."""


@dataclass(eq=False)
class _Connection:
    """One connection through it."""

    ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    is_plane: bool = False
    """Whether it is a leg of a plane: else it is a control connection, or a look-up."""
    is_of_page: bool = False
    """Whether that is a WebSocket: peers of this library upgrade to bytes alone."""
    loud: asyncio.Event = field(default_factory=asyncio.Event)
    answers: bytes = b""
    """What the relay has sent, from the first message that is not whole."""
    is_upgraded: bool = False
    lie: str = ""
    """What is to be done to the next record."""
    held: bytes = b""
    """A message that is to be swapped with the next one."""

    def messages(self, data: bytes) -> list[bytes]:
        """Return the relay's messages that are whole with these bytes, as they stand on the wire: a
        WebSocket's, not masked; before them its answer to the request."""
        self.answers += data
        found = []
        while size := self._size():
            found.append(self.answers[:size])
            self.answers = self.answers[size:]
        return found

    def _size(self) -> int:
        held = self.answers
        if not self.is_upgraded:
            end = held.find(b"\r\n\r\n") + 4
            self.is_upgraded = end > 3
            return end if self.is_upgraded else 0
        if len(held) < 10:
            whole = len(held) >= 2 and held[1] < 126 and len(held) >= 2 + held[1]
            return 2 + held[1] if whole else 0
        width = {126: 2, 127: 8}.get(held[1], 0)
        size = 2 + width + (int.from_bytes(held[2 : 2 + width]) if width else held[1])
        return size if len(held) >= size else 0

    def cut(self) -> None:
        for writer in self.ends:
            writer.transport.abort()
        self.loud.set()


class Wire:
    """What goes to one port goes on to another, for as long as it is not cut."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._connections: set[_Connection] = set()
        self._is_silent = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self, *, planes: bool = True, control: bool = True) -> int:
        """Reset what goes over it; return how many connections."""
        found = [one for one in self._connections if (planes if one.is_plane else control)]
        for one in found:
            one.cut()
        return len(found)

    def silence(self) -> None:
        """Pass nothing on, and tell nobody."""
        self._is_silent = True
        for one in self._connections:
            one.loud.clear()

    def sound(self) -> None:
        """Pass on again; what was silenced is cut, as nobody could tell what it has missed."""
        self._is_silent = False
        self.cut()

    def leave(self) -> None:
        """Pass on nothing of what is connected now, and tell nobody: as after a move to another
        network, on which the next connections are as good as ever."""
        for one in self._connections:
            one.loud.clear()

    def lie(self, how: str) -> None:
        """Do that to the next record of each plane to a page."""
        assert how in LIES
        for one in self._connections:
            if one.is_of_page:
                one.lie = how

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            it = _Connection((writer, far_writer))
            if not self._is_silent:
                it.loud.set()
            try:
                self._connections.add(it)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._move(it, reader, far_writer))
                    both.create_task(self._answer(it, far_reader, writer))
            finally:
                self._connections.discard(it)
                far_writer.transport.abort()
        writer.transport.abort()

    async def _move(
        self, it: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                if data.startswith(b"GET /v1/plane/"):
                    it.is_plane = True
                    it.is_of_page = b"sec-websocket-key" in data.lower()
                await it.loud.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _answer(
        self, it: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                await it.loud.wait()
                if it.is_of_page:
                    data = b"".join(self._told(it, one) for one in it.messages(data))
                writer.write(data)
                await writer.drain()
        writer.close()

    def _told(self, it: _Connection, message: bytes) -> bytes:
        """Return what is told in place of a message."""
        if it.held:
            held, it.held = it.held, b""
            return message + held
        if not it.lie or message[0] != _BINARY or len(message) >= 1 << 16:
            return message
        lie, it.lie = it.lie, ""
        match lie:
            case "changed":
                return message[:-1] + bytes([message[-1] ^ 1])
            case "left out":
                return b""
            case "replayed":
                return message + message
            case "swapped":
                it.held = message
                return b""
            case _:
                # What was cut off a record is as if the next one had begun there.
                return _framed(message[4 if message[1] == 126 else 2 : -1])


def _framed(payload: bytes) -> bytes:
    size = len(payload)
    head = bytes([size]) if size < 126 else bytes([126]) + size.to_bytes(2)
    return bytes([_BINARY]) + head + payload


@contextlib.asynccontextmanager
async def wire(target: int) -> AsyncIterator[Wire]:
    """Run one until the block ends."""
    it = Wire(target)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(it.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        await close_server(server)
        it.sound()
        await asyncio.gather(*tasks, return_exceptions=True)
