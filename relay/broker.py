"""What a service request leads to, in each of the draft's three modes (§4.2.1–4.2.3) and in auto.

Synchronous: a request is looked up, decided and passed on within one call. Requests that wait for
a callee's answer are kept here, with a deadline each, and end in exactly one response.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol, assert_never

from protocol.endpoint import SignedEntry
from protocol.errors import Code
from protocol.messages import (
    Message,
    Mode,
    PeerState,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)
from relay.metrics import Metrics
from relay.registry import Flow, Registration, Registry
from relay.resumes import Resume

__all__ = ["Broker", "Connection", "Planes"]


class Connection(Flow, Protocol):
    """A registered control connection."""

    waiting: int
    """Its requests that wait for an answer."""


class Planes(Protocol):
    """Where user planes are made."""

    def create(
        self, session: bytes, caller: str, callee: str, service: str, mode: Mode
    ) -> tuple[str, str] | None:
        """Return the tickets of the caller and the callee; None where there are too many."""

    def discard(self, ticket: str) -> None:
        """Take a plane back that nobody will join."""


_RELAYED = (Mode.CENTRAL, Mode.AUTO)
"""The modes in which a plane is made."""
_LEG_TIMEOUT = 10.0
"""Seconds for a peer to answer for its leg of a session's next plane."""
_PATIENCE = 1.0
"""Seconds after which a request goes over the callee's next flow too, when nothing was heard on the
one before: a flow may be dead without anybody knowing yet."""


@dataclass(slots=True, eq=False)
class _Pending:
    """A request that waits for its callee."""

    caller: Connection
    callee: Flow
    message: ServiceRequestTo
    forward: ServiceRequestFrom
    caller_ticket: str | None
    deadline: float
    forwarded: float
    """When it was forwarded last."""
    tried: list[Flow] = field(default_factory=list)
    """The callee's flows that it was forwarded over."""


class _Absent:
    """Stands for a caller that has no control connection just now: nothing is sent to it."""

    def __init__(self, guid: str) -> None:
        self.guid = guid
        self.instance = b""
        self.flow = 0
        self.observed_host = ""
        self.heard = 0.0
        self.waiting = 0

    def send(self, message: Message) -> None:
        return


class Broker:
    """Passes service requests to callees and their answers back."""

    def __init__(
        self, registry: Registry, planes: Planes, metrics: Metrics, *, pending_requests: int
    ) -> None:
        self._registry = registry
        self._planes = planes
        self._metrics = metrics
        self._max_pending = pending_requests
        self._pending: dict[int, _Pending] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._unheard: deque[tuple[float, int]] = deque()
        """When to look whether a callee with several flows is heard of, earliest first."""
        self._numbers = count(1)
        self._by_mode: dict[
            Mode, Callable[[Connection, ServiceRequestTo, Registration, float], None]
        ] = {
            Mode.P2P: self._p2p,
            Mode.CENTRAL: self._forward,
            Mode.COMBINED: self._forward,
            Mode.AUTO: self._forward,
        }

    @property
    def pending(self) -> int:
        """Requests that wait for an answer."""
        return len(self._pending)

    def request(self, caller: Connection, message: ServiceRequestTo, now: float) -> None:
        """Take a service request; the response comes now or when the callee has answered."""
        callee = self._registry.get(message.guid)
        if callee is None:
            self._fail(caller, message, Code.UNKNOWN_PEER, "nobody with this GUID has registered")
            return
        state = self._registry.state(callee, now)
        if state is not PeerState.ONLINE:
            self._offline(caller, message, callee, state, now)
        elif message.resume:
            # Either side may have moved, and only one of them offers the service: who is asked
            # decides, in every mode.
            self._forward(caller, message, callee, now)
        elif message.service not in callee.services:
            self._fail(caller, message, Code.UNKNOWN_SERVICE, "the peer offers no such service")
        else:
            self._by_mode[message.mode](caller, message, callee, now)

    def ask_for_leg(self, resume: Resume, own: str, other: str, now: float) -> bool:
        """Ask the other peer of a session for its leg of the next plane, whose two tickets these
        are; return False where that peer is not here."""
        callee = self._registry.get(resume.other)
        if callee is None or self._registry.state(callee, now) is not PeerState.ONLINE:
            return False
        message = ServiceRequestTo(
            0, resume.other, resume.service, resume.mode, resume.session, (), _LEG_TIMEOUT, True
        )
        self._ask(_Absent(resume.guid), message, callee, (), own, other, now)
        return True

    def answer(self, callee: Flow, answer: ServiceAnswer, now: float) -> bool:
        """Pass a callee's answer on. Return False where nothing of that peer waits for it."""
        pending = self._pending.get(answer.request)
        if pending is None or pending.callee.guid != callee.guid:
            return False
        self._remove(answer.request, pending)
        message = pending.message
        match answer.verdict:
            case Verdict.REFUSED:
                self._discard_plane(pending)
                code = answer.code or Code.REFUSED
                self._fail(pending.caller, message, code, answer.reason)
            case Verdict.ACCEPTED:
                self._accepted(pending, answer, now)
            case _:
                assert_never(answer.verdict)
        return True

    def connection_lost(self, flow: Flow, now: float) -> None:
        """Forget the requests of a connection that ended, and move those that it should answer."""
        lost = [
            (number, pending)
            for number, pending in self._pending.items()
            if pending.caller is flow or pending.callee is flow
        ]
        for number, pending in lost:
            if pending.caller is flow:
                self._remove(number, pending)
                self._discard_plane(pending)
                continue
            registration = self._registry.get(flow.guid)
            other = registration.primary if registration is not None else None
            if other is not None and registration is not None:
                self._forward_over(pending, number, other, now)
                continue
            self._remove(number, pending)
            self._discard_plane(pending)
            if registration is not None:
                state = self._registry.state(registration, now)
                self._offline(pending.caller, pending.message, registration, state, now)

    def expire(self, now: float) -> None:
        """Answer the requests whose time is over, and forward again what may have gone to a dead
        flow: call it a few times a second."""
        while self._unheard and self._unheard[0][0] <= now:
            _, number = self._unheard.popleft()
            pending = self._pending.get(number)
            registration = self._registry.get(pending.callee.guid) if pending else None
            if pending is None or registration is None or pending.callee.heard > pending.forwarded:
                continue
            flows = reversed(registration.flows.values())
            other = next((flow for flow in flows if flow not in pending.tried), None)
            if other is not None:
                self._forward_over(pending, number, other, now)
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number = heapq.heappop(self._deadlines)
            pending = self._pending.get(number)
            if pending is not None:
                self._remove(number, pending)
                self._discard_plane(pending)
                self._fail(
                    pending.caller,
                    pending.message,
                    Code.REQUEST_TIMEOUT,
                    f"the callee did not answer within {pending.message.timeout:g} s",
                )

    # -- the modes ------------------------------------------------------------------------------

    def _p2p(
        self, caller: Connection, message: ServiceRequestTo, callee: Registration, now: float
    ) -> None:
        """Answer from the registry: the callee is not asked (draft §4.2.1)."""
        if not callee.may_learn(message.service, caller.guid):
            self._fail(
                caller,
                message,
                Code.REFUSED,
                "the peer does not disclose its addresses to you; mode central works without them",
            )
            return
        entries = callee.disclosable(message.service)
        if not entries:
            self._fail(caller, message, Code.NO_ENDPOINT, "the peer has no proven endpoint")
            return
        self._succeed(caller, message, callee, now, entries, None)

    def _forward(
        self, caller: Connection, message: ServiceRequestTo, callee: Registration, now: float
    ) -> None:
        """Ask the callee (draft §4.2.2, §4.2.3)."""
        if caller.waiting >= self._max_pending:
            self._fail(
                caller,
                message,
                Code.LIMIT_EXCEEDED,
                f"{self._max_pending} requests already wait for an answer",
                retry_after=1.0,
            )
            return
        caller_ticket = callee_ticket = None
        entries: tuple[SignedEntry, ...] = ()
        if message.mode in _RELAYED:
            tickets = self._planes.create(
                message.session, caller.guid, callee.guid, message.service, message.mode
            )
            if tickets is None:
                self._fail(
                    caller,
                    message,
                    Code.LIMIT_EXCEEDED,
                    "too many planes are being joined",
                    retry_after=1.0,
                )
                return
            caller_ticket, callee_ticket = tickets
        if message.mode is not Mode.CENTRAL and message.entries:
            own = self._registry.get(caller.guid)
            assert own is not None
            entries = own.filter(message.service, message.entries)
        self._ask(caller, message, callee, entries, caller_ticket, callee_ticket, now)

    def _ask(
        self,
        caller: Connection,
        message: ServiceRequestTo,
        callee: Registration,
        entries: tuple[SignedEntry, ...],
        caller_ticket: str | None,
        callee_ticket: str | None,
        now: float,
    ) -> None:
        flow = callee.primary
        assert flow is not None
        number = next(self._numbers) % 2**32
        forward = ServiceRequestFrom(
            number,
            caller.guid,
            message.service,
            message.mode,
            message.session,
            entries,
            message.timeout,
            callee_ticket,
            message.resume,
        )
        deadline = now + message.timeout
        pending = _Pending(caller, flow, message, forward, caller_ticket, deadline, now)
        self._pending[number] = pending
        heapq.heappush(self._deadlines, (deadline, number))
        caller.waiting += 1
        self._forward_over(pending, number, flow, now)
        if len(callee.flows) > 1:
            self._unheard.append((now + _PATIENCE, number))

    def _forward_over(self, pending: _Pending, number: int, flow: Flow, now: float) -> None:
        if pending.tried:
            self._unheard.append((now + _PATIENCE, number))
        pending.callee, pending.forwarded = flow, now
        pending.tried.append(flow)
        flow.send(pending.forward)

    def _accepted(self, pending: _Pending, answer: ServiceAnswer, now: float) -> None:
        message = pending.message
        callee = self._registry.get(message.guid)
        assert callee is not None
        entries: tuple[SignedEntry, ...] = ()
        if message.mode is not Mode.CENTRAL:
            # In a session that goes on, the one that is asked may have been its caller, who offers
            # no service: then what it sends is what it discloses.
            offered = message.service in callee.services
            if (
                callee.may_learn(message.service, pending.caller.guid)
                if offered
                else message.resume
            ):
                entries = callee.filter(message.service, answer.entries)
            if not entries and message.mode is not Mode.AUTO:
                self._fail(
                    pending.caller,
                    message,
                    Code.NO_ENDPOINT,
                    "the peer disclosed no proven endpoint; mode central works without one",
                )
                return
        self._succeed(pending.caller, message, callee, now, entries, pending.caller_ticket)

    # -- responses ------------------------------------------------------------------------------

    def _succeed(
        self,
        caller: Connection,
        message: ServiceRequestTo,
        callee: Registration,
        now: float,
        entries: tuple[SignedEntry, ...],
        ticket: str | None,
    ) -> None:
        self._metrics.requests[message.mode.value, "ok"] += 1
        caller.send(
            ServiceResponse(
                message.request,
                state=PeerState.ONLINE,
                last_seen=callee.last_seen(now),
                entries=entries,
                ticket=ticket,
            )
        )

    def _offline(
        self,
        caller: Connection,
        message: ServiceRequestTo,
        callee: Registration,
        state: PeerState,
        now: float,
    ) -> None:
        last_seen = callee.last_seen(now)
        self._metrics.requests[message.mode.value, Code.PEER_OFFLINE.value] += 1
        caller.send(
            ServiceResponse(
                message.request,
                Code.PEER_OFFLINE,
                f"the peer is {state.value}: last seen {last_seen:.0f} s ago",
                state,
                last_seen,
            )
        )

    def _fail(
        self,
        caller: Connection,
        message: ServiceRequestTo,
        code: Code,
        reason: str,
        *,
        retry_after: float | None = None,
    ) -> None:
        self._metrics.requests[message.mode.value, code.value] += 1
        caller.send(ServiceResponse(message.request, code, reason, retry_after=retry_after))

    def _remove(self, number: int, pending: _Pending) -> None:
        del self._pending[number]
        pending.caller.waiting -= 1

    def _discard_plane(self, pending: _Pending) -> None:
        if pending.caller_ticket is not None:
            self._planes.discard(pending.caller_ticket)
