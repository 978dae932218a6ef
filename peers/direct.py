"""Direct paths: the sockets where callers reach this peer, and the race to reach another.

The race is that of RFC 8305: attempts start one stagger apart or as soon as the one before has
failed, and the first whose other end proves to be the wanted peer is used.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from peers.path import Path, PathKind
from peers.paths import Paths
from peers.streams import RawStream, Stream
from protocol.endpoint import Endpoint
from protocol.errors import PathFailed, RoamRelayError, WrongIdentity

__all__ = ["DirectServer", "open_direct", "race"]

_T = TypeVar("_T")
_MAX_UNPROVEN = 1024
"""Incoming streams whose identity is not proven yet; further ones are dropped at once."""


class DirectServer:
    """The listening sockets of a peer: one port, IPv4 and IPv6 where the host has them."""

    def __init__(self) -> None:
        self.port = 0
        self._servers: list[asyncio.Server] = []
        self._unproven = 0

    async def start(
        self,
        hosts: Sequence[str],
        port: int,
        serve: Callable[[Stream], Coroutine[Any, Any, None]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """Listen. `serve` gets each incoming stream, in a task of its own.

        Raises:
            PathFailed: the port is taken, or no address can be used.
        """

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
        self.port = port
        failure: OSError | None = None
        for host in hosts:
            try:
                bound = _bind(host, self.port)
            except OSError as error:
                failure = error
                continue
            self.port = bound.getsockname()[1]
            self._servers.append(await loop.create_server(accept, sock=bound))
        if not self._servers:
            raise PathFailed(f"cannot listen on {', '.join(hosts)} port {port}: {failure}")

    def close(self) -> None:
        """Stop listening. Established paths live on."""
        for server in self._servers:
            server.close()
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


async def open_direct(
    endpoint: Endpoint,
    guid: str,
    paths: Paths,
    timeout: float,
    *,
    source: str | None = None,
) -> Path:
    """Make one direct path to `guid` at `endpoint`, from the local address `source` (None: the
    route's). Both sides are proven then, and nothing is said yet.

    Raises:
        PathFailed: nothing answered there, or no peer.
        WrongIdentity: another peer answered.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            _, stream = await loop.create_connection(
                RawStream,
                endpoint.host,
                endpoint.port,
                local_addr=(source, 0) if source else None,
            )
    except TimeoutError:
        raise PathFailed(f"{endpoint}: no answer within {timeout:g} s") from None
    except OSError as error:
        raise PathFailed(f"{endpoint}: {error.strerror or error}") from None
    path = paths.make(stream, PathKind.DIRECT, server=False)
    await path.prove(guid, timeout)
    return path


async def race(
    attempts: Sequence[Callable[[], Coroutine[Any, Any, _T]]],
    *,
    stagger: float,
    discard: Callable[[_T], None],
) -> _T:
    """Return the result of the first attempt that succeeds; cancel and `discard` the others.

    Raises:
        WrongIdentity: the only thing that any attempt met was another peer.
        PathFailed: none succeeded; lists what each said. A single attempt's own error is raised
            as it is.
    """
    errors: list[RoamRelayError] = []
    won: list[_T] = []
    changed = asyncio.Event()

    async def attempt(make: Callable[[], Coroutine[Any, Any, _T]]) -> None:
        try:
            result = await make()
        except RoamRelayError as error:
            errors.append(error)
        else:
            if won:
                discard(result)
            else:
                won.append(result)
        changed.set()

    try:
        async with asyncio.TaskGroup() as tasks:
            running: list[asyncio.Task[None]] = []
            for make in attempts:
                changed.clear()
                running.append(tasks.create_task(attempt(make)))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(stagger):
                        await changed.wait()
                if won:
                    break
            while not won and len(errors) < len(running):
                changed.clear()
                await changed.wait()  # Each attempt has a timeout of its own.
            for task in running:
                task.cancel()
    except BaseException:
        for result in won:
            discard(result)
        raise
    if won:
        return won[0]
    if len(errors) == 1 or (errors and all(isinstance(error, WrongIdentity) for error in errors)):
        raise errors[0]
    raise PathFailed("no endpoint could be reached", tuple(error.reason for error in errors))
