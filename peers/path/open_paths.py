"""The paths of one identity: where they are made, and that none is left when their peer goes."""

import asyncio
import contextlib
from dataclasses import dataclass

from peers.config import PathKind
from peers.path.end import FINISH_TIMEOUT, PathEnd
from peers.path.noise import NoiseChannel
from peers.path.tls import TlsChannel, TlsContext
from peers.transport import Stream
from protocol.hosts import host_in
from protocol.identity import Identity
from protocol.lock import LockSide
from protocol.session import Keepalives

__all__ = ["Begun", "Paths"]


@dataclass(frozen=True, slots=True)
class Begun:
    """A lock that has begun before its stream."""

    channel: TlsChannel | NoiseChannel
    flight: bytes
    """What the other end must get first."""


class Paths:
    """Makes paths, and knows those whose stream is still open."""

    def __init__(self, identity: Identity) -> None:
        self._tls = TlsContext(identity)
        self._keepalives = Keepalives()
        self._open: set[PathEnd] = set()
        self._none_open = asyncio.Event()
        self._on_closed = self._closed  # Made once: at every path it would be an object of its own.

    def begin(self, side: LockSide | None = None) -> Begun:
        """Begin as a client before there is a stream: TLS, or Noise as the `side` of a lock."""
        channel = self._tls.channel(server=False) if side is None else NoiseChannel(side)
        channel.start()
        return Begun(channel, channel.to_send())

    def make(
        self,
        stream: Stream,
        kind: PathKind,
        *,
        server: bool,
        begun: Begun | None = None,
        side: LockSide | None = None,
    ) -> PathEnd:
        """Return a path over a stream, as TLS server or as TLS client; or one that has `begun`,
        whose first flight is on its way already; or the `side` of one that is locked by Noise."""
        if begun is not None:
            channel = begun.channel
        elif side is not None:
            channel = NoiseChannel(side)
        else:
            channel = self._tls.channel(server=server)
        at = host_in(stream.local)
        keepalive = self._keepalives.at(at) if kind is PathKind.DIRECT else None
        path = PathEnd(stream, channel, kind, self._on_closed, keepalive)
        self._open.add(path)
        return path

    async def close(self, patience: float = FINISH_TIMEOUT) -> None:
        """Let the paths that are being closed finish, for so many seconds at most; then drop all
        that are left, and return when they are gone."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._until_none()
        await self.abort()

    async def abort(self) -> None:
        """Drop all paths, and return when they are gone."""
        for path in list(self._open):
            path.abort()
        await self._until_none()  # Aborted streams end within one turn of the loop.

    async def _until_none(self) -> None:
        while self._open:
            self._none_open.clear()
            await self._none_open.wait()

    def _closed(self, path: PathEnd) -> None:
        self._open.discard(path)
        if not self._open:
            self._none_open.set()
