"""A TCP proxy that holds every byte back for a while, each way: a far address on loopback."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import cast

from tests.support.servers import close_server


class _End(asyncio.Protocol):
    """One of the two connections of a pair."""

    def __init__(self, proxy: "DelayProxy", other: "_End | None" = None) -> None:
        self.proxy = proxy
        self.other = other
        self.early: list[bytes] = []
        self.way = "back"
        self.transport: asyncio.Transport | None = None
        self.last = 0.0
        self.flights: list[str] = other.flights if other is not None else []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.proxy.ends.add(self)
        if self.other is None:
            self.proxy.connections += 1
            self.proxy.flights.append(self.flights)
            self.way = "there"
            self.other = _End(self.proxy, self)
            self.proxy.spawn(self.other)
        for data in self.early:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self.flights[-1:] != [self.way]:
            if len(self.flights) >= self.proxy.most_flights:
                return
            if not self.flights:
                self.proxy.first.append(data)
            self.flights.append(self.way)
        self._later(self._write, data)

    def connection_lost(self, error: Exception | None) -> None:
        self.proxy.ends.discard(self)
        self._later(self._close)

    def _later(self, call: Callable[..., None], *arguments: object) -> None:
        # What comes later never overtakes, however the delay jitters.
        loop = asyncio.get_running_loop()
        self.last = max(self.last, loop.time() + self.proxy.delay())
        loop.call_at(self.last, call, *arguments)

    def _write(self, data: bytes) -> None:
        assert self.other is not None
        if self.other.transport is None:
            self.other.early.append(data)
        elif not self.other.transport.is_closing():
            self.other.transport.write(data)

    def _close(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class DelayProxy:
    """`delay` gives the seconds each way, for each piece; it may be replaced."""

    def __init__(self, delay: Callable[[], float]) -> None:
        self.delay = delay
        self.connections = 0
        self.flights: list[list[str]] = []
        """Of each connection the ways that bytes went, `there` and `back` in turn: how often one
        side has waited for the other."""
        self.first: list[bytes] = []
        """What each connection brought first from who has opened it, as one piece."""
        self.most_flights = sys.maxsize
        """What comes after so many of them is swallowed."""
        self.ends: set[_End] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, end: _End) -> None:
        """Connect the other end."""

        async def connect() -> None:
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().create_connection(lambda: end, *self.target)

        self._tasks.add(asyncio.get_running_loop().create_task(connect()))

    @contextlib.asynccontextmanager
    async def run(self, host: str, target: tuple[str, int]) -> AsyncIterator["DelayProxy"]:
        """Listen at `host`, on the target's own port."""
        self.target = target
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _End(self), host, target[1])
        try:
            yield self
        finally:
            await close_server(server)
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for end in list(self.ends):
                if end.transport is not None:
                    end.transport.abort()
            async with asyncio.timeout(60):
                while self.ends:
                    await asyncio.sleep(0)
