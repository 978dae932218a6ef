"""The sockets where callers reach this peer directly."""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Self

from peers.transport.stream import Stream
from peers.transport.tcp import RawStream
from protocol.errors import PathFailed

__all__ = ["DirectServer"]

_MAX_UNPROVEN = 1024
"""Incoming streams whose identity is not proven yet; further ones are dropped at once."""


class DirectServer:
    """The listening sockets of a peer: one port, IPv4 and IPv6 where the host has them."""

    def __init__(self, bound: Sequence[socket.socket], port: int) -> None:
        self._bound = list(bound)
        self._servers: list[asyncio.Server] = []
        self._unproven = 0
        self.port = port
        """The one port of all of them."""

    @classmethod
    def bind(cls, hosts: Sequence[str], port: int) -> Self:
        """Take the port at each of these addresses that the host has; 0 is any free one. What comes
        before `start` waits in the kernel.

        Raises:
            PathFailed: the port is taken, or no address can be used.
        """
        bound: list[socket.socket] = []
        failure: OSError | None = None
        taken = port
        for host in hosts:
            try:
                listening = _bind(host, taken)
            except OSError as error:
                failure = error
                continue
            bound.append(listening)
            taken = listening.getsockname()[1]
        if not bound:
            raise PathFailed(f"cannot listen on {', '.join(hosts)} port {port}: {failure}")
        return cls(bound, taken)

    async def start(
        self,
        serve: Callable[[Stream], Coroutine[Any, Any, None]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """Accept. `serve` gets each incoming stream, in a task of its own."""

        async def counted(stream: Stream) -> None:
            try:
                await serve(stream)
            finally:
                self._unproven -= 1

        def accept() -> RawStream:
            return _Incoming(on_stream)

        def on_stream(stream: RawStream) -> None:
            if self._unproven >= _MAX_UNPROVEN:
                stream.abort()
                return
            self._unproven += 1
            spawn(counted(stream))

        loop = asyncio.get_running_loop()
        while self._bound:
            # Whoever is cancelled here leaves no server that `close` does not know.
            server = await loop.create_server(accept, sock=self._bound[0], start_serving=False)
            self._servers.append(server)
            del self._bound[0]
            await server.start_serving()

    def close(self) -> None:
        """Stop listening. Established paths live on."""
        for listening in self._bound:
            listening.close()
        for server in self._servers:
            server.close()
        self._bound.clear()
        self._servers.clear()


class _Incoming(RawStream):
    """An accepted stream: announces itself once it has a transport."""

    def __init__(self, on_stream: Callable[[RawStream], None]) -> None:
        super().__init__()
        self._on_stream = on_stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._on_stream(self)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        listening.listen(256)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening
