"""What a service request leads to, in each of the draft's three modes (§4.2.1–4.2.3) and in auto.

Synchronous: a request is looked up, decided and passed on within one call. Each ends in exactly one
response, and with one that fails its plane ends too, whatever raises on the way.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import structs

from protocol.endpoint import SignedEntry
from protocol.errors import Code, ProtocolViolation
from protocol.features import OFFER
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
from relay.backplane import ALONE, Backplane, Question
from relay.broker.pending import Pending, PendingRequests
from relay.broker.reply import NOT_TOLD, Asker, Elsewhere, Reply, told_of
from relay.limits import Cause, Windows
from relay.log import guarded
from relay.metrics import Metrics
from relay.plane import Purpose
from relay.presence import Attachment, RegisteredPeer, Registry
from relay.tally import Figures

__all__ = ["Broker", "BrokerLimits", "Leg", "PlaneMaker"]


class PlaneMaker(Protocol):
    """Where user planes are made."""

    def create(self, purpose: Purpose, cause: Cause) -> tuple[str, str] | None:
        """Return the tickets of the caller and the callee; None where its cause has too many."""

    def discard(self, ticket: str) -> None:
        """Take a plane back that nobody will join."""


# Python 3.11 looks an enum's member up in 0.3 µs, and a request takes 5.
_P2P, _CENTRAL, _AUTO = Mode.P2P, Mode.CENTRAL, Mode.AUTO
_ACCEPTED = Verdict.ACCEPTED
_RELAYED = (_CENTRAL, _AUTO)
"""The modes in which a plane is made."""
_LEG_TIMEOUT = 10.0
"""Seconds for a peer to answer for its leg of a session's next plane."""


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """What callers may have at once."""

    pending: int
    """Requests of one connection that wait for an answer."""
    per_second: float
    burst: int
    """Requests of one wide network to one callee, sustained and at once: what one peer may have."""


@dataclass(frozen=True, slots=True)
class Leg:
    """The callee's leg of a plane: what admits it, and where it is opened; empty: here."""

    ticket: str | None
    url: str = ""


_NO_LEG = Leg(None)


class _Absent:
    """Stands for a caller that has no control connection just now: nothing is sent to it."""

    def __init__(self, guid: str, cause: Cause) -> None:
        self.guid = guid
        self.observed_host, self.observed_port = "", 0
        self.features: frozenset[str] = frozenset()
        self.cause = cause
        self.asks: dict[Any, None] = {}
        self.had = Figures()

    def send(self, message: Message) -> None:
        return


class Broker:
    """Passes service requests to callees and their answers back."""

    def __init__(
        self,
        registry: Registry,
        planes: PlaneMaker,
        metrics: Metrics,
        limits: BrokerLimits,
        backplane: Backplane = ALONE,
    ) -> None:
        self._registry = registry
        self._backplane = backplane
        self._elsewhere: dict[Asker, dict[Question, None]] = {}
        """What waits for the answer of another node."""
        self._planes = planes
        self._metrics = metrics
        self._per_caller = limits.pending
        self._requests = PendingRequests(limits.pending)
        seconds = max(1.0, limits.burst / limits.per_second)
        self._to_one = Windows(limits.burst, seconds)
        """Requests to each callee."""

    @property
    def pending(self) -> int:
        """Requests that wait for an answer."""
        return len(self._requests)

    def request(self, caller: Asker, message: ServiceRequestTo, now: float) -> None:
        """Take a service request; the response comes now or when the callee has answered.

        Raises:
            ProtocolViolation: the caller's request is malformed; it is answered too.
        """
        reply = Reply(caller, message, self._metrics)
        try:
            self._decide(reply, now)
        except BaseException as error:
            self._give_up(reply, error, Code.BAD_MESSAGE)
            raise
        finally:
            if reply.ticket is not None:
                self._settle(reply)

    def ask_for_leg(
        self, purpose: Purpose, cause: Cause, tickets: tuple[str, str], now: float
    ) -> bool:
        """Ask the other peer of a session for its leg of the next plane, whose two tickets these
        are; return False where that peer is not here."""
        callee = self._registry.get(purpose.callee)
        flow = callee.primary if callee is not None else None
        if flow is None and self._backplane.home(purpose.callee) is None:
            return False
        message = ServiceRequestTo(
            0,
            purpose.callee,
            purpose.service,
            purpose.mode,
            purpose.session,
            (),
            _LEG_TIMEOUT,
            True,
        )
        own, other = tickets
        reply = Reply(_Absent(purpose.caller, cause), message, self._metrics, own)
        try:
            if flow is None:
                self._ask_elsewhere(reply, now, other)
            else:
                self._ask(reply, flow, (), Leg(other), now)
        except BaseException as error:
            self._give_up(reply, error)
            raise
        finally:
            if reply.ticket is not None:
                self._settle(reply)
        return True

    def asked(
        self, caller: Elsewhere, message: ServiceRequestTo, leg: Leg | None, now: float
    ) -> None:
        """Take a request from another node; it is answered here, or not at all. With a `leg` the
        plane is made there already."""
        reply = Reply(caller, message, self._metrics)
        try:
            callee = self._registry.get(message.guid)
            flow = callee.primary if callee is not None else None
            if leg is not None and flow is not None:
                self._forward(reply, flow, now, leg)
            else:
                self._decide(reply, now)
        except BaseException as error:
            self._give_up(reply, error, Code.BAD_MESSAGE)
            raise
        finally:
            if reply.ticket is not None:
                self._settle(reply)

    def answer(self, callee: Attachment, answer: ServiceAnswer, now: float) -> bool:
        """Pass a callee's answer on. Return False where nothing of that peer waits for it.

        Raises:
            ProtocolViolation: the callee's answer is malformed; the caller is told that it failed.
        """
        pending = self._requests.find(answer.request)
        if pending is None or pending.callee.guid != callee.guid:
            return False
        self._requests.take(pending)
        reply = pending.reply
        took = now - (pending.deadline - reply.request.timeout)
        self._metrics.answers.add(reply.request.mode._value_, took)
        try:
            if answer.verdict is _ACCEPTED:
                offer = answer.offer if pending.forward.offer else b""
                self._accepted(reply, answer, offer, callee, now)
            else:
                reply.fail(answer.code or Code.REFUSED, answer.reason)
        except BaseException as error:
            self._give_up(reply, error)
            raise
        finally:
            if reply.ticket is not None:
                self._settle(reply)
        return True

    def connection_lost(self, flow: Attachment, now: float) -> None:
        """Forget the requests of a connection that ended, and move those that it should answer."""
        for pending in self._requests.of_caller(flow):
            with self._taking("dropping a request", pending):
                self._requests.take(pending)
                pending.reply.drop()
        for question in self._elsewhere.pop(flow, ()):
            self._backplane.drop(question)
        for pending in self._requests.of_callee(flow):
            with self._taking("moving a request", pending):
                callee = self._registry.get(flow.guid)
                other = callee.primary if callee is not None else None
                if other is not None:
                    self._pass_on(pending, other, now)
                    continue
                self._requests.take(pending)
                if self._backplane.home(flow.guid) is not None and not isinstance(
                    pending.reply.caller, Elsewhere
                ):
                    self._ask_elsewhere(pending.reply, now, pending.forward.ticket)
                    continue
                gone = self._registry.gone(flow.guid)
                if gone is None:
                    pending.reply.fail(Code.PEER_OFFLINE, "the peer has gone")
                else:
                    pending.reply.offline(self._registry.state(gone, now), gone.last_seen(now))

    def unanswered(self, flow: Attachment, now: float) -> None:
        """Answer the requests that wait for a flow on which nothing is heard any more."""
        for pending in self._requests.of_callee(flow):
            with self._taking("giving a request up", pending):
                self._requests.take(pending)
                callee = self._registry.get(flow.guid)
                last_seen = callee.last_seen(now) if callee is not None else now - flow.heard
                pending.reply.offline(PeerState.SUSPECT, last_seen)

    def expire(self, now: float) -> None:
        """Answer the requests whose time is over, doubt a flow that may be dead, and forward again
        what has gone there."""
        for _ in self.expiring(now):
            pass

    def expiring(self, now: float) -> Iterator[None]:
        """Do so one by one; others may come and go between two: begin it a few times a second."""
        for pending in self._requests.unheard(now):
            with self._taking("passing a request on", pending):
                pending.callee.doubt(now)
                callee = self._registry.get(pending.callee.guid)
                flows = reversed(callee.flows.values()) if callee is not None else ()
                tried = pending.tried
                other = next((flow for flow in flows if flow not in tried), None)
                if other is not None:
                    self._pass_on(pending, other, now)
            yield
        for pending in self._requests.expired(now):
            with self._taking("ending a request", pending):
                timeout = pending.reply.request.timeout
                pending.reply.fail(
                    Code.REQUEST_TIMEOUT, f"the callee did not answer within {timeout:g} s"
                )
            yield

    # -- asking ---------------------------------------------------------------------------------

    def _decide(self, reply: Reply, now: float) -> None:
        """Answer a request, or pass it on."""
        message = reply.request
        callee = self._registry.get(message.guid)
        flow = callee.primary if callee is not None else None
        if callee is None or flow is None:
            self._absent(reply, now)
        elif message.resume:
            # Either side may have moved, and only one of them offers the service: who is asked
            # decides, in every mode.
            self._forward(reply, flow, now)
        elif message.service not in callee.services:
            reply.fail(Code.UNKNOWN_SERVICE, "the peer offers no such service")
        elif message.mode is _P2P:
            _look_up(reply, callee, now)
        else:
            self._forward(reply, flow, now)

    def _absent(self, reply: Reply, now: float) -> None:
        """The callee is not here."""
        if not isinstance(reply.caller, Elsewhere) and self._ask_elsewhere(reply, now):
            return
        gone = self._registry.gone(reply.request.guid)
        if gone is None:
            unknown = self._registry.unknown(now)
            reply.fail(Code.UNKNOWN_PEER, unknown.reason, unknown.retry_after)
        else:
            reply.offline(self._registry.state(gone, now), gone.last_seen(now))

    def _ask_elsewhere(self, reply: Reply, now: float, ticket: str | None = None) -> bool:
        """Ask the callee's home, if that is another node; `ticket` is the callee's, of a plane that
        is made already."""
        if self._backplane is ALONE:
            return False
        message, caller = reply.request, reply.caller
        waiting = self._elsewhere.get(caller, {})
        if len(waiting) + len(caller.asks) >= self._per_caller:
            self._limit(reply, f"{self._per_caller} requests already wait for an answer")
            return True
        home = self._backplane.home(message.guid)
        own = self._registry.get(caller.guid)
        entries: tuple[SignedEntry, ...] = ()
        if home is not None and own is not None and message.mode is not _CENTRAL:
            entries = own.filter(message.service, message.entries, home.host)

        def answered(response: ServiceResponse) -> None:
            waiting.pop(question, None)
            if not waiting:
                self._elsewhere.pop(caller, None)
            reply.pass_on(response)
            if reply.ticket is not None:
                self._settle(reply)

        request = structs.replace(message, entries=entries)
        question = Question(caller.guid, caller.observed_host, request, answered, ticket)
        waiting[question] = None
        self._elsewhere[caller] = waiting
        if self._backplane.ask(question, now):
            return True
        waiting.pop(question)
        if not waiting:
            del self._elsewhere[caller]
        return False

    def _forward(
        self, reply: Reply, callee: Attachment, now: float, leg: Leg | None = None
    ) -> None:
        """Ask the callee (draft §4.2.2, §4.2.3), for a `leg` of a plane that is made already or of
        one that is made now."""
        message, caller = reply.request, reply.caller
        if not self._requests.has_room(caller):
            self._limit(reply, f"{self._per_caller} requests already wait for an answer")
            return
        if wait := self._to_one.take(message.guid, caller.cause, now):
            self._limit(reply, "too many requests to this peer", wait)
            return
        if (displaced := self._requests.make_room(caller, callee)) is None:
            self._limit(reply, "too many requests already wait for this peer")
            return
        entries: tuple[SignedEntry, ...] = ()
        if message.entries and message.mode is not _CENTRAL:
            own = self._registry.get(caller.guid)
            if own is not None:
                entries = own.filter(message.service, message.entries, callee.observed_host)
            elif isinstance(caller, Elsewhere):
                entries = message.entries  # They were filtered where it is.
        if message.mode in _RELAYED and leg is None:
            tickets = self._planes.create(
                Purpose(message.session, caller.guid, callee.guid, message.service, message.mode),
                caller.cause,
            )
            if tickets is None:
                reply.fail(Code.LIMIT_EXCEEDED, "too many planes of yours", retry_after=1.0)
                return
            reply.ticket, leg = tickets[0], Leg(tickets[1])
        for pending in displaced:
            with self._taking("letting a request give way", pending):
                self._requests.take(pending)
                self._limit(pending.reply, "others have waited for this peer with fewer requests")
        self._ask(reply, callee, entries, leg, now)

    def _limit(self, reply: Reply, reason: str, retry_after: float = 1.0) -> None:
        """Somebody has his share."""
        self._metrics.limited["request"] += 1
        reply.fail(Code.LIMIT_EXCEEDED, reason, retry_after)

    def _ask(
        self,
        reply: Reply,
        callee: Attachment,
        entries: tuple[SignedEntry, ...],
        leg: Leg | None,
        now: float,
    ) -> None:
        message, caller = reply.request, reply.caller
        offer = message.offer
        if offer and not (OFFER in caller.features and OFFER in callee.features):
            offer = b""
        leg = leg or _NO_LEG
        forward = ServiceRequestFrom(
            self._requests.next_number(),
            caller.guid,
            message.service,
            message.mode,
            message.session,
            entries,
            message.timeout,
            leg.ticket,
            message.resume,
            leg.url,
            offer,
            *(told_of(caller, message.mode, entries, offer) if offer else NOT_TOLD),
        )
        pending = Pending(reply, forward, callee, now + message.timeout, now)
        self._requests.add(pending)
        try:
            callee.send(forward)
        except BaseException:
            self._requests.take(pending)
            raise

    def _pass_on(self, pending: Pending, flow: Attachment, now: float) -> None:
        self._requests.forwarded(pending, flow, now)
        flow.send(pending.forward)

    # -- answering ------------------------------------------------------------------------------

    def _accepted(
        self, reply: Reply, answer: ServiceAnswer, offer: bytes, flow: Attachment, now: float
    ) -> None:
        message = reply.request
        callee = self._registry.get(message.guid)
        if callee is None:
            reply.fail(Code.PEER_OFFLINE, "the peer has just gone")
            return
        entries: tuple[SignedEntry, ...] = ()
        if message.mode is not _CENTRAL:
            # In a session that goes on, the one that is asked may have been its caller, who offers
            # no service: then what it sends is what it discloses.
            offered = message.service in callee.services
            if callee.may_learn(message.service, reply.caller.guid) if offered else message.resume:
                asker = reply.caller.observed_host
                entries = callee.filter(message.service, answer.entries, asker)
            if not entries and message.mode is not _AUTO:
                reply.fail(
                    Code.NO_ENDPOINT,
                    "the peer disclosed no proven endpoint; mode central works without one",
                )
                return
        reply.succeed(callee, now, entries, offer, flow)

    @contextlib.contextmanager
    def _taking(self, what: str, pending: Pending) -> Iterator[None]:
        """One step at a request that waits. What raises in it fails the request, is logged, and
        keeps no other from its turn."""
        reply = pending.reply
        with guarded(what):
            try:
                yield
            except BaseException as error:
                self._requests.take(pending)
                self._give_up(reply, error)
                raise
            finally:
                if reply.ticket is not None:
                    self._settle(reply)

    def _give_up(self, reply: Reply, error: BaseException, malformed: Code = Code.INTERNAL) -> None:
        """Something was raised: the request has failed, with `malformed` where it was what a peer
        has sent."""
        if isinstance(error, ProtocolViolation):
            reply.fail(malformed, error.reason)
        else:
            reply.fail(Code.INTERNAL, "the relay failed at this request")

    def _settle(self, reply: Reply) -> None:
        """Discard the plane of a request that has failed."""
        if reply.failed and reply.ticket is not None:
            self._planes.discard(reply.ticket)


def _look_up(reply: Reply, callee: RegisteredPeer, now: float) -> None:
    """Answer from the registry: the callee is not asked (draft §4.2.1)."""
    service = reply.request.service
    if not callee.may_learn(service, reply.caller.guid):
        reply.fail(
            Code.REFUSED,
            "the peer does not disclose its addresses to you; mode central works without them",
        )
        return
    entries = callee.disclosable(service, reply.caller.observed_host)
    if entries:
        reply.succeed(callee, now, entries)
    else:
        reply.fail(Code.NO_ENDPOINT, "the peer has no proven endpoint")
