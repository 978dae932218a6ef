"""User planes: legs that are admitted by a ticket, their joining and their end.

A plane lives from its tickets to the end of its bytes. Bytes that come before the other leg wait in
TCP, not here. Who is admitted, and what ends with what, is decided in tickets.py; bytes move by
splice.py (two plain sockets) or legs.py.
"""

import asyncio
import base64
import binascii
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from protocol.errors import Code, ProtocolViolation, RoamRelayError
from protocol.identity import CONTEXT_PLANE, verify
from relay.limits import Cause, cause_of
from relay.log import guarded, log
from relay.metrics import Metrics
from relay.plane.legs import Leg, SocketLeg, copy_between, tuned
from relay.plane.limits import PlaneLimits
from relay.plane.pacing import Pacer, Paces
from relay.plane.splice import Pipes, SocketPlane
from relay.plane.tickets import Admission, Plane, PlaneState, Purpose, TicketRefused, Tickets
from relay.tally import Figures

__all__ = ["Planes", "Seat"]


_AT_ONCE = 50
"""Planes that are looked at in one turn of the loop: some 1 ms."""


@dataclass(eq=False, slots=True)
class _Joint:
    """What a plane joins."""

    plane: Plane
    legs: list[Leg] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    """Where each leg comes from."""
    early: list[bytes] = field(default_factory=list)
    """What each leg has brought with its request."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    sockets: SocketPlane | None = None
    joined: float = 0.0
    """When its legs were joined."""
    copied: float = 0.0
    """When bytes were last copied, where there are no sockets."""
    by_copy: list[int] = field(default_factory=lambda: [0, 0])
    """Bytes that were copied from each leg."""
    told: tuple[int, int] | None = None
    """Bytes from the caller and the callee that the tally has been told of; None: nothing yet."""
    reason: str = ""
    """Why the relay has ended it."""

    @property
    def bearers(self) -> list[tuple[str, str]]:
        """Both peers' GUIDs, and where the leg of each comes from; empty where it has not come."""
        purpose, tickets, came = self.plane.purpose, self.plane.tickets, self.plane.legs
        hosts = dict(zip(came, self.hosts, strict=False))
        return [
            (guid, hosts.get(ticket, ""))
            for guid, ticket in zip((purpose.caller, purpose.callee), tickets, strict=True)
        ]

    @property
    def senders(self) -> tuple[Cause, Cause]:
        """Who sends on the first leg that has come, and on the second."""
        (caller, host), (callee, other) = self.bearers
        causes = cause_of(host, caller), cause_of(other, callee)
        return causes if self.plane.legs[0] == self.plane.tickets[0] else causes[::-1]

    @property
    def idle_since(self) -> float:
        """When bytes last moved."""
        return self.copied if self.sockets is None else self.sockets.idle_since

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes from the caller and from the callee that have left by the other leg."""
        first, second = self.by_copy
        if self.sockets is not None:
            spliced = self.sockets.moved
            first, second = first + spliced[0], second + spliced[1]
        is_callers = self.plane.legs[0] == self.plane.tickets[0]
        return (first, second) if is_callers else (second, first)

    def untold(self) -> Iterator[tuple[str, Figures]]:
        """Yield what either peer has had since this was asked last."""
        planes = int(self.told is None)
        from_caller, from_callee = self.moved
        before_caller, before_callee = self.told or (0, 0)
        self.told = from_caller, from_callee
        there, back = from_caller - before_caller, from_callee - before_callee
        if planes or there or back:
            purpose = self.plane.purpose
            yield purpose.caller, Figures(there, back, planes)
            yield purpose.callee, Figures(back, there, planes)

    def end(self, reason: str) -> None:
        """End a plane that is joined."""
        self.reason = reason
        if self.sockets is not None:
            self.sockets.close(reason)
        else:
            self.abort()

    def abort(self) -> None:
        for leg in self.legs:
            with guarded("closing a leg"):
                leg.abort()


class Seat:
    """An admitted leg that has still to come. Where it has not come when the block ends, it will
    not, and its plane ends: the other leg does not wait for nothing."""

    def __init__(self, planes: "Planes", admission: Admission, host: str) -> None:
        self._planes = planes
        self._admission = admission
        self._host = host

    def __enter__(self) -> "Seat":
        return self

    def __exit__(self, *_: object) -> None:
        self.give_up("reset")

    @property
    def resume(self) -> str:
        """The ticket for the session's next plane, for whoever takes the seat."""
        return self._admission.resume

    @property
    def asks_other(self) -> bool:
        """Whether the other peer has to be asked for its leg: it knows nothing of this plane."""
        return self._admission.asks_other

    @property
    def purpose(self) -> Purpose:
        """What the plane is for."""
        return self._admission.plane.purpose

    @property
    def cause(self) -> Cause:
        """Who has asked for the plane."""
        return self._admission.plane.cause

    @property
    def tickets(self) -> tuple[str, str]:
        """The caller's, and the callee's."""
        return self._admission.plane.tickets

    def give_up(self, reason: str) -> None:
        """The leg will not come; nothing happens where it has."""
        self._planes._give_up(self._admission, reason)

    def attach(self, leg: Leg, early: bytes = b"") -> None:
        """The leg is here; the second one joins its plane. `early` goes to the other leg before
        anything else."""
        self._planes._attach(self._admission, leg, self._host, early)

    async def stay(self, leg: Leg) -> None:
        """Wait until the plane is over. No timeout: a plane that moves nothing ends by itself."""
        try:
            await self._planes._ended(self._admission.plane)
        finally:
            leg.abort()


class Planes:
    """All planes of one relay."""

    def __init__(
        self,
        relay_keys: Sequence[bytes],
        limits: PlaneLimits,
        metrics: Metrics,
        clock: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._relay_keys = relay_keys
        """What a leg may be signed for: the relay's key, and those that it had before."""
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._spawn = spawn
        self._tickets = Tickets(
            lifetime=limits.lifetime,
            budget=limits.budget,
            new_ticket=lambda: limits.tag + os.urandom(16 - len(limits.tag) // 2).hex(),
            choose=self._most_idle,
        )
        self._pipes = Pipes(limits.budget.pipes, clock)
        self.pacer = Pacer(limits.pace, metrics, clock)
        """Where bytes wait for their turn, where there is a limit."""
        self._joints: dict[Plane, _Joint] = {}
        """Of planes that are not over, and have or had a leg."""
        self._live: set[_Joint] = set()

    @property
    def pending(self) -> int:
        """Planes that wait for a leg."""
        return self._tickets.waiting

    @property
    def live(self) -> int:
        """Planes whose legs are joined."""
        return len(self._live)

    @property
    def pipes(self) -> dict[str, int]:
        """Pipes that are open for them, or kept; and what is in memory in place of one."""
        return {"open": self._pipes.open, "spilled": self._pipes.spilled}

    def create(self, purpose: Purpose, cause: Cause) -> tuple[str, str] | None:
        """Return the tickets of the caller and the callee; None where its cause has too many."""
        plane = self._tickets.create(purpose, cause, self._clock())
        self._close_displaced()
        if plane is None:
            self._metrics.limited["plane"] += 1
        return None if plane is None else plane.tickets

    def discard(self, ticket: str) -> None:
        """Take a plane back that nobody will join."""
        plane = self._tickets.discard(ticket, self._clock())
        if plane is not None:
            self._close(plane, "discarded")

    def admit(self, ticket: str, guid: str, signature: str, host: str) -> Seat:
        """Let the bearer of a ticket, who comes from `host`, take its leg: the ticket is used up by
        this.

        `signature` is base64url without padding, over the plane context, the relay's key and the
        ticket. Where the seat `asks_other`, that is the caller's work.

        Raises:
            TicketRefused: unknown, used, expired, somebody else's (that one stays good), or
                malformed.
        """
        self._check_bearer(ticket, self._tickets.owner(ticket), guid, signature)
        cause = cause_of(host, guid)
        try:
            admission = self._tickets.admit(ticket, cause, self._clock())
        except TicketRefused as error:
            if error.code is Code.LIMIT_EXCEEDED:
                self._metrics.limited["plane"] += 1
                self._metrics.tally.add(guid, Figures(refusals=1))
            raise
        self._close_displaced()
        return Seat(self, admission, host)

    def sweep(self, now: float) -> None:
        """End planes whose second leg did not come, or that are idle."""
        for _ in self.sweeping(now):
            pass

    def sweeping(self, now: float) -> Iterator[None]:
        """Do so one by one; others may come and go between two: begin it every second."""
        for plane in self._tickets.sweeping(now):
            if plane is not None:
                self._close(plane, "expired")
            yield
        for joint in list(self._live):
            yield
            if joint.sockets is not None and now - joint.sockets.idle_since > self._limits.idle:
                with guarded("closing an idle plane"):
                    joint.sockets.close("idle")

    def close(self, reason: str) -> None:
        """End all planes now."""
        for plane in self._tickets.end_all(self._clock()):
            self._close(plane, reason)
        for joint in list(self._live):
            with guarded("closing a plane"):
                joint.end(reason)

    async def end_of(self, is_gone: Callable[[str, str], bool]) -> None:
        """End the planes of peers that have to go, by their GUIDs, and by where each leg comes from
        (empty where it has not come): those that are joined, and those that wait. Their tickets for
        the next one end with `PlaneRoute`, which asks again. Others have their turns meanwhile: a
        leg that comes then is asked about as it comes."""
        for number, joint in enumerate(list(self._joints.values()), 1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            if not any(is_gone(*leg) for leg in joint.bearers):
                continue
            with guarded("closing a plane"):
                if joint.sockets is not None:
                    joint.sockets.close("not_admitted")
                else:
                    joint.abort()

    def untold(self) -> Iterator[tuple[str, Figures]]:
        """Yield what peers have had through planes that are joined, since this was asked last. In
        the time of who asks: there may be many."""
        for joint in list(self._live):
            yield from joint.untold()

    def joined(self) -> Iterator[tuple[Purpose, tuple[int, int], float]]:
        """Yield whom each plane that is joined joins, the bytes from caller and callee, and since
        when, by the relay's clock. In the time of who asks: there may be many."""
        for joint in list(self._live):
            yield joint.plane.purpose, joint.moved, joint.joined

    async def finished(self) -> None:
        """Wait until all planes that are joined now are over."""
        for joint in list(self._live):
            await joint.ended.wait()

    # -- a seat's side --------------------------------------------------------------------------

    def _give_up(self, admission: Admission, reason: str) -> None:
        if self._tickets.failed(admission, self._clock()):
            self._close(admission.plane, reason)

    def _attach(self, admission: Admission, leg: Leg, host: str, early: bytes) -> None:
        state = self._tickets.came(admission, self._clock())
        if state is PlaneState.ENDED:
            leg.abort()
            self._close_displaced()
            return
        joint = self._joints.setdefault(admission.plane, _Joint(admission.plane))
        joint.legs.append(leg)
        joint.hosts.append(host)
        joint.early.append(early)
        if state is PlaneState.JOINED:
            # First: what gives way has the descriptors that the new one needs.
            self._close_displaced()
            self._join(joint)

    async def _ended(self, plane: Plane) -> None:
        joint = self._joints.get(plane)
        if joint is not None:
            await joint.ended.wait()

    # -- inside ---------------------------------------------------------------------------------

    def _check_bearer(self, ticket: str, owner: str, guid: str, signature: str) -> None:
        try:
            proof = base64.b64decode(signature + "==", altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise TicketRefused("the signature is not base64url", code=Code.BAD_MESSAGE) from None
        try:
            if guid != owner:
                raise TicketRefused("the ticket is somebody else's", code=Code.TICKET_FOREIGN)
            self._verify(guid, proof, ticket)
        except RoamRelayError as error:
            raise TicketRefused(error.reason, code=Code.TICKET_FOREIGN) from None

    def _verify(self, guid: str, proof: bytes, ticket: str) -> None:
        """One signature, but for who has signed for a former key, or wrongly."""
        refusal = ProtocolViolation("the relay has no key")
        for key in self._relay_keys:
            try:
                verify(guid, proof, CONTEXT_PLANE, key, ticket.encode())
            except ProtocolViolation as error:
                refusal = error
            else:
                return
        raise refusal

    def _most_idle(self, planes: Iterable[Plane]) -> Plane:
        """Return which of these moved no byte for the longest time."""
        return min(planes, key=self._idle_since)

    def _idle_since(self, plane: Plane) -> float:
        joint = self._joints.get(plane)
        return joint.idle_since if joint is not None else 0.0

    def _close_displaced(self) -> None:
        """Close what had to give way to others."""
        for plane in self._tickets.take_displaced():
            self._metrics.limited["plane_displaced"] += 1
            joint = self._joints.get(plane)
            with guarded("closing a plane that gives way"):
                if joint is not None and joint in self._live:
                    joint.end("displaced")
                else:
                    self._close(plane, "displaced")

    def _join(self, joint: _Joint) -> None:
        self._live.add(joint)
        joint.joined = joint.copied = self._clock()
        self._metrics.planes_opened += 1
        purpose = joint.plane.purpose
        log.info(
            "plane joined",
            caller=purpose.caller,
            callee=purpose.callee,
            service=purpose.service,
            mode=purpose.mode.value,
        )
        first, second = joint.legs
        paces = Paces(self.pacer, joint.senders)
        if not (isinstance(first, SocketLeg) and isinstance(second, SocketLeg)):
            self._spawn(self._copy(joint, first, second, paces))
            return
        try:
            for target, data in ((second, joint.early[0]), (first, joint.early[1])):
                if data:
                    target.send_first(data)
                    self._copied(joint, int(target is first), len(data))
            joint.sockets = SocketPlane(
                (tuned(first), tuned(second)),
                pipes=self._pipes,
                count=self._count,
                on_end=lambda _, reason: self._finish(joint, reason),
                paces=paces,
            )
            joint.sockets.start()
        except OSError:  # One of them is gone already.
            joint.abort()
            self._finish(joint, "reset")
        except BaseException:
            joint.abort()
            self._finish(joint, "failed")
            raise

    async def _copy(self, joint: _Joint, first: Leg, second: Leg, paces: Paces) -> None:
        reason = "aborted"
        try:
            reason = await copy_between(
                first,
                second,
                lambda number, size: self._copied(joint, number, size),
                self._limits.idle,
                paces,
                (joint.early[0], joint.early[1]),
            )
        finally:
            joint.abort()
            self._finish(joint, joint.reason or reason)

    def _copied(self, joint: _Joint, number: int, size: int) -> None:
        joint.copied = self._clock()
        joint.by_copy[number] += size
        self._count("copy", size)

    def _count(self, way: str, size: int) -> None:
        self._metrics.plane_bytes_by_way[way] += size

    def _finish(self, joint: _Joint, reason: str) -> None:
        """A joined plane is over."""
        self._live.discard(joint)
        if not self._live:
            self._pipes.close_kept()
        self._tickets.end(joint.plane, self._clock())
        for guid, figures in joint.untold():
            self._metrics.tally.add(guid, figures)
        purpose = joint.plane.purpose
        from_caller, from_callee = joint.moved
        log.info(
            "plane ended",
            caller=purpose.caller,
            callee=purpose.callee,
            service=purpose.service,
            mode=purpose.mode.value,
            reason=reason,
            seconds=round(self._clock() - joint.joined, 3),
            bytes_from_caller=from_caller,
            bytes_from_callee=from_callee,
        )
        self._over(joint.plane, reason)

    def _close(self, plane: Plane, reason: str) -> None:
        """A plane has ended that was not joined."""
        joint = self._joints.get(plane)
        if joint is not None:
            joint.abort()
        self._over(plane, reason)

    def _over(self, plane: Plane, reason: str) -> None:
        self._metrics.planes_closed[reason] += 1
        joint = self._joints.pop(plane, None)
        if joint is not None:
            joint.ended.set()
