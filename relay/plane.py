"""User planes: tickets, the legs that present them, and their joining.

A plane lives from its tickets to the end of its bytes. Bytes that come before the other leg wait in
TCP, not here. How bytes are moved is `relay.splice`'s (two plain sockets) or `relay.legs`'.
"""

import asyncio
import base64
import binascii
import os
import socket
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from protocol.errors import Code, RoamRelayError
from protocol.identity import CONTEXT_PLANE, verify
from protocol.messages import Mode
from relay.legs import Leg, SocketLeg, copy_between
from relay.log import short
from relay.metrics import Metrics
from relay.resumes import Resume, Resumes
from relay.splice import SocketPlane

__all__ = ["Plane", "Planes", "TicketRefused"]

_log = structlog.get_logger("relay")

_MAX_REMEMBERED = 65_536
"""Tickets that were used or have expired, remembered to say so."""


class TicketRefused(RoamRelayError):
    """A ticket does not admit its bearer; `code` says why."""


@dataclass(eq=False, slots=True)
class Plane:
    """A plane, and which legs have come."""

    session: bytes
    guids: dict[str, str]
    """Whose leg each ticket is."""
    expires: float
    resumes: dict[str, str]
    """The ticket of each peer for the session's next plane."""
    early: list[bytes] = field(default_factory=list)
    """What each leg has brought with its request."""
    legs: list[Leg] = field(default_factory=list)
    attached: set[str] = field(default_factory=set)
    ended: asyncio.Future[str] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """Done when the plane is over."""
    joined: SocketPlane | None = None


class Planes:
    """All planes of one relay."""

    def __init__(
        self,
        relay_key: bytes,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        lifetime: float,
        idle: float,
        max_pending: int,
    ) -> None:
        self._relay_key = relay_key
        self._metrics = metrics
        self._clock = clock
        self._spawn = spawn
        self._lifetime = lifetime
        self._idle = idle
        self._max_pending = max_pending
        self._tickets: dict[str, Plane] = {}
        self._pending: OrderedDict[int, Plane] = OrderedDict()
        self._spent: OrderedDict[str, Code] = OrderedDict()
        self._resumes = Resumes()
        self.ask_other: Callable[[Resume, str, str], bool] = lambda resume, own, other: False
        """Asks the other peer of a session for its leg, given both tickets; False where it is not
        here."""
        self.live: set[Plane] = set()
        """Planes whose legs are joined."""

    @property
    def pending(self) -> int:
        """Planes that wait for a leg."""
        return len(self._pending)

    def create(
        self, session: bytes, caller: str, callee: str, service: str, mode: Mode
    ) -> tuple[str, str] | None:
        """Return the tickets of the caller and the callee; None where there are too many."""
        if len(self._pending) >= self._max_pending:
            return None
        tickets = os.urandom(16).hex(), os.urandom(16).hex()
        resumes = {
            guid: self._resumes.issue(Resume(guid, other, session, service, mode))
            for guid, other in ((caller, callee), (callee, caller))
        }
        plane = Plane(
            session,
            dict(zip(tickets, (caller, callee), strict=True)),
            self._clock() + self._lifetime,
            resumes,
        )
        for ticket in tickets:
            self._tickets[ticket] = plane
        self._pending[id(plane)] = plane
        return tickets

    def discard(self, ticket: str) -> None:
        """Take a plane back that nobody will join."""
        plane = self._tickets.get(ticket)
        if plane is not None:
            self._end(plane, "discarded", Code.TICKET_EXPIRED)

    def admit(self, ticket: str, guid: str, signature: str) -> Plane:
        """Let the bearer of a ticket take its leg: the ticket is used up by this.

        `signature` is base64url without padding, over the plane context, the relay's key and the
        ticket.

        Raises:
            TicketRefused: unknown, used, expired, somebody else's (that one stays good), or
                malformed.
        """
        resume = self._resumes.find(ticket)
        if resume is not None:
            self._check_bearer(ticket, resume.guid, guid, signature)
            return self._resume(ticket, resume)
        plane = self._tickets.get(ticket)
        if plane is None or ticket in plane.attached:
            code = self._spent.get(ticket, Code.TICKET_UNKNOWN)
            if plane is not None:
                code = Code.TICKET_USED
            raise TicketRefused(code.value.replace("_", " "), code=code)
        self._check_bearer(ticket, plane.guids[ticket], guid, signature)
        plane.attached.add(ticket)
        return plane

    def is_resume(self, ticket: str) -> bool:
        """Whether a ticket asks for a session's next plane."""
        return self._resumes.find(ticket) is not None

    def _resume(self, ticket: str, resume: Resume) -> Plane:
        """Make the next plane of a session, whose other peer is asked for its leg."""
        made = self.create(resume.session, resume.guid, resume.other, resume.service, resume.mode)
        if made is None:
            raise TicketRefused("too many planes are being joined", code=Code.LIMIT_EXCEEDED)
        own, other = made
        plane = self._tickets[own]
        if not self.ask_other(resume, own, other):
            self._end(plane, "discarded", Code.TICKET_EXPIRED)
            # The ticket stays good: the other one may come back.
            raise TicketRefused("the other peer is not here now", code=Code.PEER_OFFLINE)
        self._resumes.spend(ticket)
        plane.attached.add(own)
        return plane

    def _check_bearer(self, ticket: str, owner: str, guid: str, signature: str) -> None:
        try:
            proof = base64.b64decode(signature + "==", altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise TicketRefused("the signature is not base64url", code=Code.BAD_MESSAGE) from None
        try:
            if guid != owner:
                raise TicketRefused("the ticket is somebody else's", code=Code.TICKET_FOREIGN)
            verify(guid, proof, CONTEXT_PLANE, self._relay_key, ticket.encode())
        except RoamRelayError as error:
            raise TicketRefused(error.reason, code=Code.TICKET_FOREIGN) from None

    def attach(self, plane: Plane, leg: Leg, early: bytes = b"") -> None:
        """Give an admitted leg to its plane; the second one joins them. `early` goes to the other
        leg before anything else."""
        if plane.ended.done():
            leg.abort()
            return
        plane.legs.append(leg)
        plane.early.append(early)
        if len(plane.legs) < 2:
            return
        self._spend(plane, Code.TICKET_USED)
        self.live.add(plane)
        self._metrics.planes_opened += 1
        caller, callee = plane.guids.values()
        _log.info("plane joined", caller=short(caller), callee=short(callee))
        first, second = plane.legs
        if isinstance(first, SocketLeg) and isinstance(second, SocketLeg):
            for target, data in ((second, plane.early[0]), (first, plane.early[1])):
                if not data:
                    continue
                if not target.send_first(data):
                    first.abort()
                    second.abort()
                    self._ended(plane, "reset")
                    return
                self._count("copy", len(data))
            plane.joined = SocketPlane(
                _tuned(first.socket),
                _tuned(second.socket),
                count=self._count,
                on_end=lambda _, reason: self._ended(plane, reason),
            )
            plane.joined.start()
        else:
            self._spawn(self._copy(plane, first, second))

    def sweep(self, now: float) -> None:
        """End planes whose second leg did not come, or that are idle: call it every second."""
        self._resumes.sweep(now)
        while self._pending:
            plane = next(iter(self._pending.values()))
            if plane.expires > now:
                break
            self._end(plane, "expired", Code.TICKET_EXPIRED)
        for plane in list(self.live):
            if plane.joined is not None and now - plane.joined.idle_since > self._idle:
                plane.joined.close("idle")

    def close(self, reason: str) -> None:
        """End all planes now."""
        for plane in list(self._pending.values()):
            self._end(plane, reason, Code.TICKET_EXPIRED)
        for plane in list(self.live):
            if plane.joined is not None:
                plane.joined.close(reason)
            else:
                for leg in plane.legs:
                    leg.abort()

    async def _copy(self, plane: Plane, first: Leg, second: Leg) -> None:
        reason = "aborted"
        try:
            for target, data in ((second, plane.early[0]), (first, plane.early[1])):
                if data:
                    await target.write(data)
                    self._count("copy", len(data))
            reason = await copy_between(
                first, second, lambda size: self._count("copy", size), self._idle
            )
        finally:
            self._ended(plane, reason)

    def _count(self, way: str, size: int) -> None:
        self._metrics.plane_bytes_by_way[way] += size

    def _end(self, plane: Plane, reason: str, code: Code) -> None:
        """End a plane that was not joined."""
        self._spend(plane, code)
        self._release(plane)
        for leg in plane.legs:
            leg.abort()
        self._metrics.planes_closed[reason] += 1
        if not plane.ended.done():
            plane.ended.set_result(reason)

    def _ended(self, plane: Plane, reason: str) -> None:
        self.live.discard(plane)
        self._release(plane)
        self._metrics.planes_closed[reason] += 1
        caller, callee = plane.guids.values()
        _log.info("plane ended", caller=short(caller), callee=short(callee), reason=reason)
        if not plane.ended.done():
            plane.ended.set_result(reason)

    def _release(self, plane: Plane) -> None:
        for ticket in plane.resumes.values():
            self._resumes.release(ticket, self._clock())

    def _spend(self, plane: Plane, code: Code) -> None:
        self._pending.pop(id(plane), None)
        for ticket in plane.guids:
            self._tickets.pop(ticket, None)
            self._spent[ticket] = Code.TICKET_USED if ticket in plane.attached else code
        while len(self._spent) > _MAX_REMEMBERED:
            self._spent.popitem(last=False)


def _tuned(leg: socket.socket) -> socket.socket:
    """Set what a plane's socket needs: small records leave at once, a dead peer is noticed."""
    leg.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    leg.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        leg.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
    return leg
