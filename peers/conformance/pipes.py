"""Byte streams as a check needs them: read what comes, write anything, end or cut them at will.

A socket, the frames of a WebSocket over one, and TLS between two peers over either. They are the
kit's own: what is tested has others, and a fault of one must not hide that of the other.
"""

import asyncio
import socket
import ssl
import struct
from abc import ABC, abstractmethod

from cryptography import x509
from OpenSSL import SSL

from peers.conformance.credentials import Credentials
from peers.conformance.faults import Fault, within
from peers.conformance.frames import Kind, WebSocketFrames

__all__ = ["Dials", "EarlyPipe", "Pipe", "SocketPipe", "TlsPipe", "WebSocketPipe"]

_READ = 65_536
_RESET = struct.pack("ii", 1, 0)


class Pipe(ABC):
    """A stream of bytes."""

    was_reset = False
    """Whether the other side has cut it, in place of ending it."""
    ended_in_order = True
    """Whether the other side has said its end, where the stream has a word for that."""

    @abstractmethod
    async def receive(self) -> bytes:
        """Return what has come next; nothing once the stream is over."""

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Write bytes; a stream that is over takes them and forgets them."""

    @abstractmethod
    async def flush(self) -> None:
        """Wait until the system has taken what was written."""

    @abstractmethod
    def close(self) -> None:
        """End it in order, behind what was written."""

    @abstractmethod
    def abort(self) -> None:
        """Cut it."""

    async def end(self, what: str = "end of the stream") -> bytes:
        """Wait until the other side has ended it; return what came before that.

        Raises:
            Fault: it does not in time.
        """
        pieces = []
        async with within(what):
            while data := await self.receive():
                pieces.append(data)
        return b"".join(pieces)


class SocketPipe(Pipe):
    """A TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._given_back = b""

    async def receive(self) -> bytes:
        if self._given_back:
            data, self._given_back = self._given_back, b""
            return data
        try:
            return await self._reader.read(_READ)
        except OSError:
            self.was_reset = True
            return b""

    async def head(self) -> str:
        """Return what stands before the first empty line: the head of a request or an answer.

        Raises:
            Fault: the stream ends before.
        """
        data = b""
        async with within("whole HTTP head"):
            while b"\r\n\r\n" not in data:
                piece = await self.receive()
                if not piece:
                    raise Fault(f"the connection ended in an HTTP head: {data[:200]!r}")
                data += piece
        head, _, self._given_back = data.partition(b"\r\n\r\n")
        return head.decode("latin-1")

    def send(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)

    async def flush(self) -> None:
        try:
            await self._writer.drain()
        except OSError:
            self.was_reset = True

    def close(self) -> None:
        if not self._writer.is_closing() and self._writer.can_write_eof():
            try:
                self._writer.write_eof()
            except OSError:
                self.was_reset = True

    def abort(self) -> None:
        taken = self._writer.get_extra_info("socket")
        if taken is not None and not self._writer.is_closing():
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()


class Dials:
    """The connections that the kit has opened, so that none is left behind."""

    def __init__(self) -> None:
        self._pipes: list[SocketPipe] = []

    async def dial(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> SocketPipe:
        """Open one.

        Raises:
            Fault: nobody answers there.
        """
        try:
            async with within(f"connection to {host}:{port}"):
                pipe = SocketPipe(*await asyncio.open_connection(host, port, ssl=tls))
        except OSError as error:
            raise Fault(f"cannot connect to {host}:{port}: {error.strerror or error}") from None
        self._pipes.append(pipe)
        return pipe

    async def cut(self) -> None:
        """Cut all that are open, and return when they are gone."""
        for pipe in self._pipes:
            pipe.abort()
        self._pipes.clear()
        await asyncio.sleep(0)


class EarlyPipe(Pipe):
    """A stream whose first bytes have come another way, as with the request for a leg."""

    def __init__(self, pipe: Pipe, early: bytes) -> None:
        self._pipe = pipe
        self._early = early

    async def receive(self) -> bytes:
        if self._early:
            data, self._early = self._early, b""
            return data
        data = await self._pipe.receive()
        self.was_reset = self._pipe.was_reset
        return data

    def send(self, data: bytes) -> None:
        self._pipe.send(data)

    async def flush(self) -> None:
        await self._pipe.flush()

    def close(self) -> None:
        self._pipe.close()

    def abort(self) -> None:
        self._pipe.abort()


class WebSocketPipe(Pipe):
    """The binary messages of a WebSocket that stands already."""

    def __init__(self, pipe: Pipe, *, is_client: bool) -> None:
        self._pipe = pipe
        self._is_client = is_client
        self.frames = WebSocketFrames(is_client=is_client)

    async def receive(self) -> bytes:
        while True:
            for kind, payload in self.frames.take():
                match kind:
                    case Kind.BINARY:
                        if payload:
                            return payload
                    case Kind.PING:
                        self._pipe.send(self.frames.encode(Kind.PONG, payload))
                    case Kind.CLOSE:
                        self._pipe.send(self.frames.encode(Kind.CLOSE, payload[:2]))
                        self._pipe.close()
                        return b""
                    case Kind.PONG:
                        continue
                    case Kind.TEXT | Kind.CONTINUATION:
                        raise Fault(f"a WebSocket message of kind {kind.name.lower()}")
            data = await self._pipe.receive()
            self.was_reset = self._pipe.was_reset
            if not data:
                return b""
            self.frames.feed(data)

    def send(self, data: bytes) -> None:
        self._pipe.send(self.frames.encode(Kind.BINARY, data))

    def send_frames(self, data: bytes) -> None:
        """Write the bytes of frames."""
        self._pipe.send(data)

    async def flush(self) -> None:
        await self._pipe.flush()

    def close(self, code: int = 1000, reason: str = "") -> None:
        self._pipe.send(self.frames.encode(Kind.CLOSE, struct.pack("!H", code) + reason.encode()))
        if not self._is_client:
            # A server is the first to end the connection below (RFC 6455 §7.1.1).
            self._pipe.close()

    def abort(self) -> None:
        self._pipe.abort()


class TlsPipe(Pipe):
    """TLS between two peers, on a stream. `prove` first."""

    def __init__(self, pipe: Pipe, credentials: Credentials, *, is_server: bool) -> None:
        self._pipe = pipe
        self._connection = SSL.Connection(credentials.context, None)
        if is_server:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
        self.ended_in_order = False
        self.refused = ""
        """What TLS says went wrong."""

    async def prove(self) -> x509.Certificate:
        """Do the handshake; return the certificate of the other side.

        Raises:
            Fault: it fails; `refused` says how.
        """
        async with within("whole TLS handshake"):
            while True:
                try:
                    self._connection.do_handshake()
                except SSL.WantReadError:
                    self._write()
                except SSL.Error as error:
                    self._write()
                    self.refused = repr(error)
                    raise Fault(f"the TLS handshake failed: {error!r}") from None
                else:
                    break
                data = await self._pipe.receive()
                if not data:
                    self.refused = "the stream ended"
                    raise Fault("the stream ended in the TLS handshake")
                self._feed(data)
        self._write()
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            raise Fault("the other side has shown no certificate")
        return certificate

    @property
    def version(self) -> str:
        """The version of TLS that is spoken."""
        return self._connection.get_protocol_version_name()

    def export(self, label: bytes, size: int, context: bytes) -> bytes:
        """Return what both ends can derive from it, once proven (RFC 8446 §7.5)."""
        return self._connection.export_keying_material(label, size, context)

    async def receive(self) -> bytes:
        while True:
            try:
                return self._connection.recv(_READ)
            except SSL.WantReadError:
                self._write()
            except SSL.ZeroReturnError:
                self.ended_in_order = True
                return b""
            except SSL.Error as error:
                self.refused = repr(error)
                return b""
            data = await self._pipe.receive()
            if not data:
                self.was_reset = self._pipe.was_reset
                return b""
            self._feed(data)

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._connection.send(view[:_READ]) :]
        self._write()

    async def flush(self) -> None:
        await self._pipe.flush()

    def close(self) -> None:
        try:
            self._connection.shutdown()
        except SSL.Error:
            return
        self._write()

    def abort(self) -> None:
        self._pipe.abort()

    def _feed(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._connection.bio_write(view) :]

    def _write(self) -> None:
        try:
            while True:
                self._pipe.send(self._connection.bio_read(_READ))
        except SSL.WantReadError:
            return
