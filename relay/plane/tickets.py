"""The tickets of planes, and of the next plane of a session that has one.

Pure: each call is an event, its result says what is to be done. A ticket admits its owner once. The
plane's second leg joins it; a leg that was admitted and does not come ends it. A leg that comes is
given a ticket for the session's next plane, good for one use until some time after the plane's end:
who has moved comes back with it at once, without a control connection.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from protocol.errors import Code, RoamRelayError
from protocol.messages import Mode
from relay.limits import Bounds, Cause, PlaneBudget, Shares

__all__ = ["Admission", "Plane", "PlaneState", "Purpose", "TicketRefused", "Tickets"]

_RESUME_LIFETIME = 600.0
"""Seconds for which a ticket for the next plane is good after its plane has ended."""
_MAX_REMEMBERED = 65_536
"""Tickets that were used or have expired, remembered to say so: beyond it the oldest goes. And
tickets for the next plane whose plane has ended: beyond it the oldest goes of who has most."""


class TicketRefused(RoamRelayError):
    """A ticket does not admit its bearer; `code` says why."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """Whom a plane joins, and for which session."""

    session: bytes
    caller: str
    callee: str
    service: str
    mode: Mode

    @property
    def reversed(self) -> "Purpose":
        """The same, asked for by the other side."""
        return Purpose(self.session, self.callee, self.caller, self.service, self.mode)


class PlaneState(Enum):
    """Where a plane is in its life."""

    WAITING = "waiting"
    """For one leg, or both."""
    JOINED = "joined"
    ENDED = "ended"


@dataclass(eq=False, slots=True)
class Plane:
    """A plane, and which legs have come."""

    purpose: Purpose
    cause: Cause
    """Who has asked for it."""
    tickets: tuple[str, str]
    """The caller's and the callee's."""
    resumes: tuple[str, str]
    """Theirs for the next plane."""
    expires: float
    state: PlaneState = field(init=False, default=PlaneState.WAITING)
    admitted: set[str] = field(init=False, default_factory=set)
    """Tickets that were used."""
    legs: list[str] = field(init=False, default_factory=list)
    """Tickets whose legs have come, in that order."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The right to one leg of a plane."""

    plane: Plane
    ticket: str
    presented: str
    """The ticket that was shown: another one where it was for the next plane."""

    @property
    def resume(self) -> str:
        """The ticket for the next plane, which the leg is told as it comes."""
        return self.plane.resumes[self.plane.tickets.index(self.ticket)]

    @property
    def asks_other(self) -> bool:
        """Whether the other peer knows nothing of this plane yet, and has to be asked for its
        leg."""
        return self.presented != self.ticket


class Tickets:
    """All tickets of one relay.

    A plane is counted for who has asked for it. Where there are as many as may be, one of who has
    most has to give way: `take_displaced` says which.
    """

    def __init__(
        self,
        *,
        lifetime: float,
        budget: PlaneBudget,
        new_ticket: Callable[[], str],
        choose: Callable[[Iterable[Plane]], Plane],
    ) -> None:
        """`new_ticket` returns one that nobody can guess; `choose` says which joined plane of one
        key is missed least."""
        self._lifetime = lifetime
        self._budget = budget
        self._new_ticket = new_ticket
        self._choose = choose
        self._planes: dict[str, Plane] = {}
        """By each ticket, as long as the plane waits."""
        self._waiting: OrderedDict[Plane, None] = OrderedDict()
        """Oldest first."""
        self._waiting_shares: Shares[Plane] = Shares(budget.waiting)
        self._at_callee: dict[str, Shares[Plane]] = {}
        """Those of them for which each callee is asked."""
        self._joined: Shares[Plane] = Shares(budget.joined)
        self._displaced: list[Plane] = []
        self._spent: OrderedDict[str, Code] = OrderedDict()
        self._resumes: dict[str, Purpose] = {}
        """What each ticket for a next plane is for; its owner is the caller there."""
        self._released: OrderedDict[str, float] = OrderedDict()
        """When the plane of such a ticket has ended, earliest first."""
        self._released_shares: Shares[str] = Shares(Bounds.of(_MAX_REMEMBERED))

    @property
    def waiting(self) -> int:
        """Planes that wait for a leg."""
        return len(self._waiting)

    @property
    def resumes(self) -> int:
        """Tickets for next planes that are good, or will be."""
        return len(self._resumes)

    @property
    def joined(self) -> int:
        """Planes that are joined."""
        return len(self._joined)

    def create(self, purpose: Purpose, cause: Cause, now: float) -> Plane | None:
        """Make a plane that waits for its legs; None where its cause has too many."""
        at_callee = self._at_callee.get(purpose.callee)
        if at_callee is None:
            at_callee = Shares(self._budget.at_one)
        shares = (self._waiting_shares, at_callee)
        rooms = [one.room(cause) for one in shares]
        if None in rooms or not self._joined.has_room(cause):
            return None
        plane = Plane(
            purpose,
            cause,
            (self._new_ticket(), self._new_ticket()),
            (self._new_ticket(), self._new_ticket()),
            now + self._lifetime,
        )
        for ticket in plane.tickets:
            self._planes[ticket] = plane
        for ticket, goal in zip(plane.resumes, (purpose, purpose.reversed), strict=True):
            self._resumes[ticket] = goal
        self._waiting[plane] = None
        self._at_callee[purpose.callee] = at_callee
        for one in shares:
            if not any(rooms):  # As nearly always: nothing gives way.
                one.put(cause, plane)
                continue
            for other in one.add(cause, plane) or ():
                self._displace(other, now)
        return plane

    def take_displaced(self) -> list[Plane]:
        """Return the planes that had to give way since this was called last: they are over."""
        displaced, self._displaced = self._displaced, []
        return displaced

    def owner(self, ticket: str) -> str:
        """Return the GUID of the peer that a ticket admits. Nothing is used up by this.

        Raises:
            TicketRefused: it admits nobody: unknown, used or expired.
        """
        if ticket in self._resumes:
            return self._resumes[ticket].caller
        plane = self._planes.get(ticket)
        if plane is None or ticket in plane.admitted:
            code = Code.TICKET_USED if plane else self._spent.get(ticket, Code.TICKET_UNKNOWN)
            raise TicketRefused(code.value.replace("_", " "), code=code)
        caller, _ = plane.tickets
        return plane.purpose.caller if ticket == caller else plane.purpose.callee

    def admit(self, ticket: str, cause: Cause, now: float) -> Admission:
        """Let the owner of a ticket, who is its cause, take its leg: the ticket is used up by this.

        Raises:
            TicketRefused: as `owner`; or too many planes wait for a leg.
        """
        self.owner(ticket)
        purpose = self._resumes.get(ticket)
        if purpose is None:
            plane, own = self._planes[ticket], ticket
        else:
            made = self.create(purpose, cause, now)
            if made is None:
                raise TicketRefused("too many planes are being joined", code=Code.LIMIT_EXCEEDED)
            plane, own = made, made.tickets[0]
            self._forget_resume(ticket)
        plane.admitted.add(own)
        return Admission(plane, own, ticket)

    def came(self, admission: Admission, now: float) -> PlaneState:
        """The leg of an admission is here. Return how its plane stands: where that is `JOINED`, the
        two are to be joined; where it is `ENDED`, the leg is to be closed."""
        plane = admission.plane
        if plane.state is PlaneState.WAITING and admission.ticket not in plane.legs:
            plane.legs.append(admission.ticket)
            if len(plane.legs) == 2:
                plane.state = PlaneState.JOINED
                self._stop_waiting(plane, Code.TICKET_USED)
                displaced = self._joined.add(plane.cause, plane, self._choose)
                for other in (plane,) if displaced is None else displaced:
                    self._displace(other, now)
        return plane.state

    def failed(self, admission: Admission, now: float) -> bool:
        """The leg of an admission will not come. A ticket for a next plane is good again. Return
        whether the plane ended by this: then a leg that has come is to be closed."""
        plane = admission.plane
        if admission.ticket in plane.legs or plane.state is PlaneState.ENDED:
            return False
        if admission.asks_other:
            self._resumes[admission.presented] = plane.purpose
            self._release(admission.presented, plane.cause, now)
        return self.end(plane, now)

    def discard(self, ticket: str, now: float) -> Plane | None:
        """End the waiting plane that nobody will join; None where there is none."""
        plane = self._planes.get(ticket)
        return plane if plane is not None and self.end(plane, now) else None

    def end(self, plane: Plane, now: float) -> bool:
        """A plane is over; False where it was before. Its tickets for the next one age from now;
        those that nobody was told are dropped."""
        if plane.state is PlaneState.ENDED:
            return False
        if plane.state is PlaneState.WAITING:
            self._stop_waiting(plane, Code.TICKET_EXPIRED)
        plane.state = PlaneState.ENDED
        self._joined.remove(plane)
        for ticket, resume in zip(plane.tickets, plane.resumes, strict=True):
            if ticket in plane.legs:
                self._release(resume, plane.cause, now)
            else:
                self._forget_resume(resume)
        return True

    def sweep(self, now: float) -> list[Plane]:
        """Forget what is too old; return the planes that ended because a leg did not come."""
        return [plane for plane in self.sweeping(now) if plane is not None]

    def sweeping(self, now: float) -> Iterator[Plane | None]:
        """Do so one by one; others may come and go between two."""
        while self._released:
            ticket, since = next(iter(self._released.items()))
            if now - since < _RESUME_LIFETIME:
                break
            self._forget_resume(ticket)
            yield None
        while self._waiting and (plane := next(iter(self._waiting))).expires <= now:
            self.end(plane, now)
            yield plane

    def end_all(self, now: float) -> list[Plane]:
        """End all planes that wait; return them."""
        ended = list(self._waiting)
        for plane in ended:
            self.end(plane, now)
        return ended

    def _displace(self, plane: Plane, now: float) -> None:
        if self.end(plane, now):
            self._displaced.append(plane)

    def _stop_waiting(self, plane: Plane, code: Code) -> None:
        del self._waiting[plane]
        self._waiting_shares.remove(plane)
        at_callee = self._at_callee[plane.purpose.callee]
        at_callee.remove(plane)
        if not at_callee:
            del self._at_callee[plane.purpose.callee]
        for ticket in plane.tickets:
            del self._planes[ticket]
            self._spent[ticket] = Code.TICKET_USED if ticket in plane.admitted else code
        while len(self._spent) > _MAX_REMEMBERED:
            self._spent.popitem(last=False)

    def _release(self, resume: str, cause: Cause, now: float) -> None:
        if resume in self._resumes:
            self._released_shares.remove(resume)
            for ticket in self._released_shares.push(cause, resume):
                self._forget_resume(ticket)
            self._released[resume] = now
            self._released.move_to_end(resume)

    def _forget_resume(self, ticket: str) -> None:
        self._resumes.pop(ticket, None)
        self._released.pop(ticket, None)
        self._released_shares.remove(ticket)
