"""What the checks of a peer are made with: its process, a relay that the kit plays, and other peers
that it plays too.

One peer stays open and registered for all checks that leave it as it was; others are opened for one
check.
"""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from peers.conformance.adapter import Adapter
from peers.conformance.checks import Checks
from peers.conformance.faults import Fault, NotTried, within
from peers.conformance.opened import SERVICE, Called, Came, Opened, path_on, server_on, ways_of
from peers.conformance.pipes import Dials, SocketPipe
from peers.conformance.played_relay import PlayedRelay
from peers.conformance.talk import Map
from protocol.identity import Identity

__all__ = [
    "PEER",
    "SERVICE",
    "Called",
    "Listener",
    "Opened",
    "PeerStage",
    "path_on",
    "server_on",
]

_START = 30.0
"""Seconds for the adapter to answer first: a program has to start."""


class Listener(Came):
    """A port at which the kit is dialed."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self._server: asyncio.Server | None = None
        self._came: asyncio.Queue[SocketPipe] = asyncio.Queue()
        self._pipes: list[SocketPipe] = []

    async def __aenter__(self) -> "Listener":
        self._server = await asyncio.start_server(self._accept, self._host, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for pipe in self._pipes:
            pipe.abort()
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = SocketPipe(reader, writer)
        self._pipes.append(pipe)
        self._came.put_nowait(pipe)

    @property
    def port(self) -> int:
        """The port."""
        if self._server is None:
            raise Fault("the kit does not listen")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def next(self, seconds: float | None = None) -> SocketPipe:
        """Return the next connection."""
        async with within("connection to an endpoint of the kit", seconds):
            return await self._came.get()

    async def nobody(self, seconds: float) -> None:
        """Nobody may connect for a while."""
        try:
            async with asyncio.timeout(seconds):
                pipe = await self._came.get()
        except TimeoutError:
            return
        pipe.abort()
        raise Fault("the peer dials an endpoint that it must not")


class PeerStage:
    """Use it in an `async with`."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._names = (f"peer{number}" for number in itertools.count(1))
        self._open = AsyncExitStack()
        self._adapter: Adapter | None = None
        self._standing: Opened | None = None
        self._dials = Dials()
        self._carrier = ""
        """What its control connections are carried by, where a check wants no certain carrier."""

    async def __aenter__(self) -> "PeerStage":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._dials.cut()
        await self._open.aclose()

    async def enter(self) -> "PeerStage":
        """Begin the next check: what the last one has left is cut, and the process runs."""
        await self._dials.cut()
        if self._adapter is None or not self._adapter.is_alive:
            await self._open.aclose()
            self._standing = None
            self._adapter = await self._open.enter_async_context(Adapter(self._command))
        return self

    @property
    def adapter(self) -> Adapter:
        """The process of the peer under test."""
        if self._adapter is None:
            raise Fault("the peer's process does not run")
        return self._adapter

    async def standing(self) -> Opened:
        """Return the peer that is open and registered for all checks."""
        opened = self._standing
        if opened is None:
            relay = await self._open.enter_async_context(PlayedRelay())
            opened = await self._opened(relay)
            opened.control = await relay.registered(SERVICE)
            opened.ways = await ways_of(opened)
            self._standing = opened
        return opened

    @asynccontextmanager
    async def fresh(self, carrier: str = "", **more: str) -> AsyncIterator[Opened]:
        """A peer that was told to open, and that comes to a relay of its own; without `carrier` by
        the raw upgrade, where its adapter knows that. `more` is what else it is told."""
        async with PlayedRelay() as relay:
            opened = await self._opened(relay, carrier, **more)
            try:
                yield opened
            finally:
                if not opened.shut:
                    await self.adapter.ask("shut", peer=opened.name)

    @asynccontextmanager
    async def registered(self, carrier: str = "") -> AsyncIterator[Opened]:
        """The same, registered already."""
        ways = (await self.standing()).ways
        async with self.fresh(carrier) as opened:
            opened.control = await opened.relay.registered(SERVICE)
            opened.ways = ways
            yield opened

    async def _opened(self, relay: PlayedRelay, carrier: str = "", **more: str) -> Opened:
        if carrier or self._carrier:
            return await self._opened_by(relay, carrier or self._carrier, **more)
        try:
            opened = await self._opened_by(relay, "raw", **more)
            self._carrier = "raw"
        except NotTried as why:
            try:
                opened = await self._opened_by(relay, "websocket", **more)
            except NotTried:
                raise why from None
            self._carrier = "websocket"
        return opened

    async def _opened_by(self, relay: PlayedRelay, carrier: str, **more: str) -> Opened:
        seed = os.urandom(32)
        name = next(self._names)
        identity = Identity.from_seed(seed)
        told: Map = {"relay": relay.url, "key": seed.hex(), "carrier": carrier, "service": SERVICE}
        done = await self.adapter.ask("open", _START, peer=name, **told, **more)
        if done.get("guid") != identity.guid:
            raise Fault(f"the peer says that it is {done.get('guid')}, not {identity.guid} (R2.1)")
        return Opened(name, identity, relay, self.adapter, self._dials)


def response(request: Map, **fields: object) -> Map:
    """Return what a relay answers to a request."""
    return {"type": "service_response", "request": request["request"], **fields}


PEER: Checks[PeerStage] = Checks("peer")
"""All checks of a peer."""
