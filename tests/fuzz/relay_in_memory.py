"""A relay without a network: everything but the listening socket is the real one.

Each connection is a pair of sockets, one of which the relay accepts as it does others: from an
address that the test names. The loop turns when it is told to.
"""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Callable, Iterator
from typing import Any

from protocol.errors import Code
from relay.config import DnsConfig, RelayConfig
from relay.server import RelayServer
from tests.relay.dns.asking import ZONE

__all__ = ["Line", "MemoryRelay", "close_relay", "the_relay"]

_MANY = 1_000_000_000
_TURNS = 2_000
"""Turns of the loop after which something that was waited for does not come."""


class _Loop(asyncio.SelectorEventLoop):
    """Keeps who accepts what comes to listening sockets."""

    def __init__(self) -> None:
        super().__init__()
        self.accepts: list[Callable[[Any], None]] = []

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        if args and isinstance(args[0], socket.socket) and _listens(args[0]):
            self.accepts.append(callback)
        super().add_reader(fd, callback, *args)


def _listens(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


class _Accepted(socket.socket):
    """One of a pair of sockets, which has no options of TCP."""

    def setsockopt(self, level: int, *option: Any) -> None:
        if level != socket.IPPROTO_TCP:
            super().setsockopt(level, *option)


class _Listening:
    """A listening socket with one connection that waits."""

    def __init__(self, sock: socket.socket, host: str) -> None:
        self._waiting = [(sock, (host, 4711))]

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if not self._waiting:
            raise BlockingIOError
        return self._waiting.pop()


class Line:
    """One connection, at its client's end."""

    def __init__(self, relay: "MemoryRelay", sock: socket.socket) -> None:
        sock.setblocking(False)
        self._relay = relay
        self._socket = sock
        self._said = b""

    def feed(self, data: bytes) -> None:
        """Say something. Who is not read, or was hung up on, says no more."""
        with contextlib.suppress(OSError):
            while data:
                sent = self._socket.send(data[:16_384])
                data = data[sent:]
                self._relay.turn(1)

    def said(self) -> bytes:
        """Return what the relay has said since."""
        said, self._said = self._said, b""
        with contextlib.suppress(OSError):
            while data := self._socket.recv(1 << 16):
                said += data
        return said

    def wait(self, until: Callable[[bytes], bool]) -> bytes:
        """Return what the relay has said as soon as it is enough."""
        said = b""
        for _ in range(_TURNS):
            said += self.said()
            if until(said):
                return said
            self._relay.turn(1)
        raise AssertionError(f"the relay has said {said!r} and no more")

    def lose(self) -> None:
        """Go away."""
        self._socket.close()


class MemoryRelay:
    """The relay, and the loop that it is on."""

    def __init__(self) -> None:
        self.loop = _Loop()
        self._hosts = _addresses()
        rates = {"connects_per_second": 1e9, "connects_burst": _MANY, "requests_burst": _MANY}
        dns = DnsConfig(
            zone=ZONE,
            port=0,
            addresses="127.0.0.1",
            made_per_second=1e9,
            updates_per_second=1e9,
            updates_burst=_MANY,
        )
        self.server = RelayServer(RelayConfig(port=0, dns=dns, max_offline=100, **rates))  # type: ignore[arg-type]
        self.loop.run_until_complete(self.server.__aenter__())
        self._accept = self._entrance()

    def connect(self) -> Line:
        """Open a connection, each from another network."""
        here, pair = socket.socketpair()
        there = _Accepted(fileno=pair.detach())

        async def come() -> None:
            self._accept(_Listening(there, next(self._hosts)))

        self.loop.run_until_complete(come())
        return Line(self, here)

    def upgraded(self) -> Line:
        """Open a control connection on the raw carrier; nothing is said on it yet."""
        line = self.connect()
        line.feed(
            b"GET /v1/control HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\n"
            b"Upgrade: roam-relay/1\r\n\r\n"
        )
        head = line.wait(lambda said: said.endswith(b"\r\n\r\n"))
        assert head.startswith(b"HTTP/1.1 101 "), head
        return line

    def turn(self, times: int = 4) -> None:
        """Let everybody do what can be done now."""

        async def turns() -> None:
            for _ in range(times):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    def check_left(self) -> None:
        """Nobody is here any more, and nothing of theirs."""
        server = self.server
        for _ in range(_TURNS):
            left = {
                "connections": len(server.connections),
                "places": server.doorkeeper.inside,
                "newcomers": server.doorkeeper.newcomers,
                "requests": server.broker.pending,
                "watches": len(server.watches),
                "planes": server.planes.live,
                "failures": server.metrics.closes[Code.INTERNAL.value],
            }
            if not any(left.values()):
                return
            self.turn(1)
        raise AssertionError(f"left behind: {left}")

    def close(self) -> None:
        """End it."""
        self.loop.run_until_complete(self.server.__aexit__(None, None, None))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def _entrance(self) -> Callable[[Any], None]:
        """Return who accepts for HTTP: the zone's TCP is served by asyncio itself."""
        (accept,) = (
            one for one in self.loop.accepts if type(getattr(one, "__self__", None)) is not _Loop
        )
        return accept


def _addresses() -> Iterator[str]:
    for number in itertools.count():
        yield f"10.{number >> 16 & 255}.{number >> 8 & 255}.{1 + number % 200}"


_made: list[MemoryRelay] = []


def the_relay() -> MemoryRelay:
    """Return the one relay of this process: to start one takes longer than a thousand inputs."""
    if not _made:
        _made.append(MemoryRelay())
    return _made[0]


def close_relay() -> None:
    """End it, if there is one."""
    while _made:
        _made.pop().close()
