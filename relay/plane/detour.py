"""A leg that has come to another node than its plane is at, and is led there: by peers that do not
know of nodes, and with tickets for a next plane. Its bytes pass this node too, so it is the
exception: who knows better is told where the plane is.
"""

import asyncio
import base64
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Protocol
from urllib.parse import quote, urlencode, urlsplit

from protocol.errors import Code
from protocol.messages import CODE_HEADER, EARLY_HEADER, RESUME_HEADER, UPGRADE_TOKEN
from relay.limits import Bounds, Cause, Shares, Toll, cause_of
from relay.log import log
from relay.metrics import Metrics
from relay.plane.legs import Leg, copy_between
from relay.plane.limits import DetourLimits
from relay.plane.tickets import TicketRefused
from relay.tasks import Spawn

__all__ = ["NODE_HEADER", "Detour", "Detours", "Nodes", "Wanted"]

NODE_HEADER = "Roam-Relay-Node"
"""From which address a leg has come to the node that leads it here (`-`: that is not known), and
the proof that it is a node of ours which says so."""
_MAX_HEAD = 8192
"""Bytes of an answer's head."""
NOBODY = cause_of("")


class Headers(Protocol):
    """The headers of a request."""

    def get(self, key: str, default: str, /) -> str:
        """Return the first line of a header."""

    def __contains__(self, key: object, /) -> bool:
        """Whether there is one."""


class Nodes(Protocol):
    """The other nodes of the cluster."""

    def node_of(self, ticket: str) -> tuple[str, ...]:
        """Return where the node is reached whose plane a ticket is for, if that is another one."""

    def name_of(self, ticket: str) -> str:
        """Return the name of that node; empty where it is this one, or has gone."""

    def origin(self, ticket: str, host: str) -> str:
        """Return the proof that the bearer of a ticket has come from an address."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A leg that is asked for."""

    ticket: str
    guid: str
    signature: str
    early: bytes
    """What it brings for the other leg."""
    host: str
    """Where it comes from."""
    cause: Cause


class _StreamLeg:
    """The connection to the other node."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.toll = Toll(lambda *_: 0.0, NOBODY)  # The peer there pays at its own node.

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

    def __init__(self, detours: "Detours") -> None:
        self._detours = detours
        self._there: _StreamLeg | None = None
        """None before the other node has answered."""
        self.resume = ""
        """The ticket for the session's next plane."""
        self._is_taken = False
        self._ended = asyncio.Event()

    def __enter__(self) -> "Detour":
        return self

    def __exit__(self, *_: object) -> None:
        self.give_up("reset")

    def come(self, there: _StreamLeg, resume: str) -> bool:
        """The other node has let it in; False where it has ended meanwhile."""
        if self._ended.is_set():
            there.abort()
            return False
        self._there, self.resume = there, resume
        return True

    def give_up(self, reason: str) -> None:
        """The leg will not come; nothing happens where it has."""
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
        if self._there is not None:
            await copy_between(leg, self._there, count, idle)

    def abort(self) -> None:
        """End it now."""
        if self._there is not None:
            self._there.abort()
        self._ended.set()


class Detours:
    """All of one node."""

    def __init__(
        self,
        nodes: Nodes | None,
        limits: DetourLimits,
        metrics: Metrics,
        spawn: Spawn,
    ) -> None:
        """`nodes` is None for a relay that is alone."""
        self._nodes = nodes
        self._limits = limits
        self._metrics = metrics
        self._spawn = spawn
        self._open: Shares[Detour] = Shares(Bounds.of(limits.most))
        """Those that are asked for, and those that are open."""
        self._tls: ssl.SSLContext | None = None

    def __len__(self) -> int:
        return len(self._open)

    def node_of(self, ticket: str, headers: Headers) -> str:
        """Return where the node is that a leg is led to; empty where that is this one. What
        another node has led here goes no further."""
        if self._nodes is None or NODE_HEADER in headers:
            return ""
        return next(iter(self._nodes.node_of(ticket)), "")

    def name_of(self, ticket: str) -> str:
        """Return the name of the node that a ticket's plane is at; empty where that is this one."""
        return "" if self._nodes is None else self._nodes.name_of(ticket)

    def host_of(self, ticket: str, headers: Headers, host: str) -> str:
        """Return where a leg has come from that another node has led here; else `host`."""
        told, _, proof = headers.get(NODE_HEADER, "").partition(" ")
        if self._nodes is None or not proof:
            return host
        told = "" if told == "-" else told
        return told if compare_digest(proof, self._nodes.origin(ticket, told)) else host

    async def open(self, url: str, wanted: Wanted) -> Detour:
        """Ask another node for a leg.

        Raises:
            TicketRefused: it refuses it, or cannot be reached.
        """
        if self._nodes is None:
            raise TicketRefused("this relay is alone", code=Code.CLUSTER_UNAVAILABLE)
        detour = Detour(self)
        displaced = self._open.add(wanted.cause, detour)
        for other in displaced or ():
            other.abort()
        if displaced is None:
            self._metrics.limited["plane"] += 1
            raise TicketRefused("too many legs to other nodes", code=Code.LIMIT_EXCEEDED)
        try:
            there, resume = await self._asked(self._nodes, url, wanted)
            if not detour.come(there, resume):
                raise TicketRefused("too many legs to other nodes", code=Code.LIMIT_EXCEEDED)
        except BaseException:
            self.over(detour)
            raise
        return detour

    async def _asked(self, nodes: Nodes, url: str, wanted: Wanted) -> tuple[_StreamLeg, str]:
        """Return the leg at the other node, and the ticket for the session's next plane."""
        try:
            async with asyncio.timeout(self._limits.connecting):
                reader, writer = await self._connect(url)
                try:
                    proof = nodes.origin(wanted.ticket, wanted.host)
                    writer.write(_request(url, wanted, proof))
                    head = await reader.readuntil(b"\r\n\r\n")
                except BaseException:
                    writer.transport.abort()
                    raise
        except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError) as error:
            log.warning("a node cannot be reached for a leg", url=url, reason=str(error))
            raise TicketRefused(
                "the node of this plane cannot be reached", code=Code.CLUSTER_UNAVAILABLE
            ) from None
        status, headers = _read(head)
        there = _StreamLeg(reader, writer)
        if status != 101:
            there.abort()
            code = Code(headers.get(CODE_HEADER.lower(), Code.INTERNAL.value))
            raise TicketRefused(f"the node of this plane says: {code.value}", code=code)
        return there, headers.get(RESUME_HEADER.lower(), "")

    async def _connect(self, url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        if is_tls and self._tls is None:
            # All authorities of the system are read: some 25 ms, and not on the loop.
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        return await asyncio.open_connection(
            parts.hostname,
            parts.port or (443 if is_tls else 80),
            ssl=self._tls if is_tls else None,
            limit=_MAX_HEAD,
        )

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


def _request(url: str, wanted: Wanted, proof: str) -> bytes:
    query = urlencode({"guid": wanted.guid, "signature": wanted.signature})
    early = base64.b64encode(wanted.early).decode()
    lines = (
        f"GET /v1/plane/{quote(wanted.ticket, safe='')}?{query} HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        "Connection: Upgrade",
        f"Upgrade: {UPGRADE_TOKEN}",
        f"{NODE_HEADER}: {wanted.host or '-'} {proof}",
        *([f"{EARLY_HEADER}: {early}"] if early else []),
    )
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def _read(head: bytes) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of an answer."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split()
    status = int(words[1]) if len(words) > 1 and words[1].isdecimal() else 0
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return status, headers
