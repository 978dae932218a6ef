"""A leg that has come to another node than its plane is at, and is led there: by peers that do not
know of nodes, and with tickets for a next plane. Its bytes pass this node too, so it is the
exception: who knows better is told where the plane is.
"""

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from protocol.errors import Code
from protocol.messages import CODE_HEADER, EARLY_HEADER, RESUME_HEADER, UPGRADE_TOKEN
from relay.limits import Bounds, Cause, Shares, Toll
from relay.metrics import Metrics
from relay.plane.legs import Leg, copy_between
from relay.plane.tickets import TicketRefused

__all__ = ["NODE_HEADER", "Detour", "Detours", "Nodes"]

NODE_HEADER = "Roam-Relay-Node"
"""From which address a leg has come to the node that leads it here, and the proof that it is one."""
_MAX_HEAD = 8192
"""Bytes of an answer's head."""


class Nodes(Protocol):
    """The other nodes of the cluster."""

    def node_of(self, ticket: str) -> tuple[str, ...]:
        """Return where the node is reached whose plane a ticket is for, if that is another one."""

    def origin(self, ticket: str, host: str) -> str:
        """Return the proof that the bearer of a ticket has come from an address."""


@dataclass(frozen=True, slots=True)
class DetourLimits:
    """What the operator allows legs that are led on; times are seconds."""

    most: int
    connecting: float
    idle: float


class _StreamLeg:
    """The connection to the other node."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.toll = _NO_TOLL

    async def read(self) -> bytes:
        return await self._reader.read(1 << 18)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def write_end(self) -> None:
        if self._writer.can_write_eof():
            self._writer.write_eof()
        else:
            self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()


class Detour:
    """One leg that is led to another node; as a `Seat` it has still to come."""

    def __init__(self, detours: "Detours", there: _StreamLeg, resume: str) -> None:
        self._detours = detours
        self._there = there
        self.resume = resume
        """The ticket for the session's next plane."""
        self._is_taken = False
        self._ended = asyncio.Event()

    def __enter__(self) -> "Detour":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_taken:
            self.abort()
            self._detours.over(self)

    def attach(self, leg: Leg, early: bytes = b"") -> None:
        """The leg is here. What it has brought went with the request already."""
        self._is_taken = True
        self._detours.begin(self, leg)

    async def stay(self, leg: Leg) -> None:
        """Wait until it is over. No timeout: one that moves nothing ends by itself."""
        try:
            await self._ended.wait()
        finally:
            leg.abort()

    async def run(self, leg: Leg, count: Callable[[int, int], None], idle: float) -> None:
        """Move bytes both ways until the end."""
        await copy_between(leg, self._there, count, idle)

    def abort(self) -> None:
        """End it now."""
        self._there.abort()
        self._ended.set()


class Detours:
    """All of one node."""

    def __init__(
        self,
        nodes: Nodes | None,
        limits: DetourLimits,
        metrics: Metrics,
        spawn: Callable[[Coroutine[Any, Any, None], Callable[[], None]], None],
    ) -> None:
        """`nodes` is None for a relay that is alone."""
        self._nodes = nodes
        self._limits = limits
        self._metrics = metrics
        self._spawn = spawn
        self._open: Shares[Detour] = Shares(Bounds.of(limits.most))

    def __len__(self) -> int:
        return len(self._open)

    def node_of(self, ticket: str, headers: Mapping[str, str]) -> str:
        """Return where the node is that a leg is led to; empty where that is this one. What
        another node has led here goes no further."""
        if self._nodes is None or NODE_HEADER in headers:
            return ""
        return next(iter(self._nodes.node_of(ticket)), "")

    def host_of(self, ticket: str, headers: Mapping[str, str], host: str) -> str:
        """Return where a leg has come from that another node has led here; else `host`."""
        told, _, proof = headers.get(NODE_HEADER, "").partition(" ")
        if self._nodes is None or not proof or proof != self._nodes.origin(ticket, told):
            return host
        return told

    async def open(
        self, url: str, target: str, ticket: str, cause: Cause, headers: Mapping[str, str]
    ) -> Detour:
        """Ask another node for a leg, for who has come from `headers[NODE_HEADER]`.

        Raises:
            TicketRefused: it refuses it, or cannot be reached.
        """
        raise NotImplementedError

    def begin(self, detour: Detour, leg: Leg) -> None:
        """A leg is here: its bytes are moved from now on."""

        def ended() -> None:
            leg.abort()
            detour.abort()
            self.over(detour)

        self._spawn(detour.run(leg, self._count, self._limits.idle), ended)

    def over(self, detour: Detour) -> None:
        """It has ended."""
        self._open.remove(detour)

    def _count(self, number: int, size: int) -> None:
        self._metrics.plane_bytes_by_way["detour"] += size
