"""The sockets where callers reach this peer directly."""

import asyncio
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Self

from peers.tasks import Spawn
from peers.transport.sockets import share_port
from peers.transport.stream import Stream
from peers.transport.tcp import RawStream, expect_answers
from protocol.errors import PathFailed
from protocol.hosts import host_in

__all__ = ["DirectServer"]

_BACKLOG = 256
"""Connections that the kernel keeps for us; it drops the SYN of a further one."""
_MAX_UNPROVEN = 1024
"""Incoming streams whose identity is not proven yet; further ones are dropped at once."""
_MAX_FROM_ONE_NETWORK = 256
"""The share of one stranger in them."""

Serve = Callable[[Stream], Coroutine[Any, Any, None]]


class DirectServer:
    """The listening sockets of a peer: one port, IPv4 and IPv6 where the host has them."""

    def __init__(self, bound: Sequence[socket.socket], port: int) -> None:
        self._bound = list(bound)
        self._servers: list[asyncio.Server] = []
        self._unproven: Counter[str] = Counter()
        self.port = port
        """The one port of all of them."""

    @classmethod
    def bind(cls, hosts: Sequence[str], port: int) -> Self:
        """Take the port at each of these addresses that the host has; 0 is any free one. Who comes
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

    @property
    def unproven(self) -> int:
        """Streams that are being served, and are not proven yet."""
        return self._unproven.total()

    async def start(self, serve: Serve, spawn: Spawn) -> None:
        """Accept. `serve` gets each incoming stream, in a task of its own; a stream whose `serve`
        raises, is cancelled or never begins is dropped."""
        loop = asyncio.get_running_loop()

        def accept(stream: RawStream) -> None:
            self._accept(stream, serve, spawn)

        while self._bound:
            # Whoever is cancelled here leaves no server that `close` does not know.
            server = await loop.create_server(
                lambda: _Incoming(accept),
                sock=self._bound[0],
                backlog=_BACKLOG,
                start_serving=False,
            )
            self._servers.append(server)
            del self._bound[0]
            await server.start_serving()

    def close(self) -> None:
        """Stop listening. Established paths live on."""
        for listening in self._bound:
            listening.close()
        for server in self._servers:
            _end(server)
        self._bound.clear()
        self._servers.clear()

    # -- inside ---------------------------------------------------------------------------------

    def _accept(self, stream: RawStream, serve: Serve, spawn: Spawn) -> None:
        network = _network_of(host_in(stream.remote))
        if self.unproven >= _MAX_UNPROVEN or self._unproven[network] >= _MAX_FROM_ONE_NETWORK:
            stream.abort()
            return
        task = None
        self._unproven[network] += 1
        try:
            task = spawn(_serving(stream, serve))
        finally:
            if task is None:
                self._release(network)
                stream.abort()
        if task is not None:
            # A task's end comes also where it never began.
            task.add_done_callback(lambda ended: self._ended(ended, network, stream))

    def _ended(self, task: "asyncio.Task[None]", network: str, stream: RawStream) -> None:
        self._release(network)
        if task.cancelled():
            stream.abort()

    def _release(self, network: str) -> None:
        self._unproven[network] -= 1
        if not self._unproven[network]:
            del self._unproven[network]


def _end(server: asyncio.Server) -> None:
    """Close a server behind whoever it has accepted. asyncio accepts in one turn of the loop and
    makes the transport in the next: closed between the two, it would leave the socket open."""
    loop = server.get_loop()
    if not isinstance(loop, asyncio.SelectorEventLoop):
        server.close()
        return
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    loop.call_soon(server.close)


async def _serving(stream: Stream, serve: Serve) -> None:
    try:
        await serve(stream)
    except BaseException:
        stream.abort()
        raise


class _Incoming(RawStream):
    """An accepted stream: announces itself once it has a transport."""

    def __init__(self, on_stream: Callable[[RawStream], None]) -> None:
        super().__init__()
        self._on_stream = on_stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._on_stream(self)


def _network_of(host: str) -> str:
    """Return what one stranger has of the Internet: an IPv4 address, or an IPv6 network of /64."""
    if ":" not in host:
        return host
    return str(ipaddress.IPv6Network((host.partition("%")[0], 64), strict=False))


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        expect_answers(listening)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        share_port(listening)  # After the bind: who takes a port that is taken is told so.
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening
