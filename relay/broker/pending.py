"""Service requests that wait for their callee's answer.

Pure: no I/O and no clock. Whoever takes a request out of the table owes its caller the response:
nothing is in it twice, and nothing leaves it unseen.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from protocol.messages import ServiceRequestFrom
from relay.broker.reply import Asker, Reply
from relay.limits import Bounds, Shares
from relay.presence import Attachment

__all__ = ["Pending", "PendingRequests"]

AT_ONE = Bounds(in_all=1024, wide=768, network=512, key=128)
"""Requests that may wait for one callee, and the shares of those who ask."""
_NUMBERS = 2**32 - 1
_FEW = 64
"""Where no more wait for a callee, nobody asks who has how many."""

PATIENCE = 1.0
"""Seconds after which a flow is doubted where nothing was heard since a request went over it, and
the request goes over the callee's next flow too. It may be dead without anybody knowing yet."""


@dataclass(slots=True, eq=False)
class Pending:
    """A request that waits for its callee."""

    reply: Reply
    forward: ServiceRequestFrom
    """What the callee is asked; its number is the request's here."""
    callee: Attachment
    """The flow that it was forwarded over last."""
    deadline: float
    forwarded: float
    """When that was."""
    before: tuple[Attachment, ...] = ()
    """The flows that it was forwarded over before: mostly none."""

    @property
    def tried(self) -> tuple[Attachment, ...]:
        """All flows that it was forwarded over."""
        return (*self.before, self.callee)


class PendingRequests:
    """All of one relay."""

    def __init__(self, per_caller: int) -> None:
        self._per_caller = per_caller
        self._requests: dict[int, Pending] = {}
        self._crowds: dict[int, Shares[Pending]] = {}
        """What waits for a flow, with its causes: by its identity, where more than a few do."""
        self._young: list[Pending] = []
        """What has begun to wait since somebody looked at the times. Nearly all is answered by
        then, and costs nothing more."""
        self._deadlines: list[tuple[float, int]] = []
        self._unheard: deque[tuple[float, int]] = deque()
        """When to look whether a callee is heard of, earliest first."""
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Pending]:
        return iter(list(self._requests.values()))

    def has_room(self, caller: Asker) -> bool:
        """Whether one more request of a caller may wait."""
        return len(caller.asks) < self._per_caller

    def make_room(self, caller: Asker, callee: Attachment) -> tuple[Pending, ...] | None:
        """Make room for one more request to a callee: return those that have to give way to it, for
        the caller to take out and answer; None where its cause has its share."""
        waiting = callee.asked
        if len(waiting) < _FEW:
            return ()
        crowd = self._crowds.get(id(callee))
        if crowd is None:
            crowd = self._crowds[id(callee)] = Shares(AT_ONE)
            for pending in waiting:
                crowd.add(pending.reply.caller.cause, pending)
        return crowd.room(caller.cause)

    def next_number(self) -> int:
        """Return a number that no request has that waits."""
        number = next(self._numbers) & _NUMBERS
        while number in self._requests:
            number = next(self._numbers) & _NUMBERS
        return number

    def add(self, pending: Pending) -> None:
        """A request begins to wait, forwarded over its flow."""
        self._requests[pending.forward.request] = pending
        pending.reply.caller.asks[pending] = None
        pending.callee.asked[pending] = None
        if self._crowds:
            self._join_crowd(pending, pending.callee)
        self._young.append(pending)

    def find(self, number: int) -> Pending | None:
        """Return the request with this number; None where none waits."""
        return self._requests.get(number)

    def take(self, pending: Pending) -> bool:
        """Take a request out, to answer it; False where somebody has."""
        if self._requests.pop(pending.forward.request, None) is None:
            return False
        del pending.reply.caller.asks[pending]
        del pending.callee.asked[pending]
        if self._crowds:
            self._leave_crowd(pending)
        return True

    def forwarded(self, pending: Pending, flow: Attachment, now: float) -> None:
        """A request went over another flow."""
        self._unheard.append((now + PATIENCE, pending.forward.request))
        if pending.callee is not flow and pending.forward.request in self._requests:
            del pending.callee.asked[pending]
            self._leave_crowd(pending)
            flow.asked[pending] = None
            self._join_crowd(pending, flow)
        pending.before = pending.tried
        pending.callee, pending.forwarded = flow, now

    def of_caller(self, flow: Asker) -> list[Pending]:
        """Return the requests that came over a flow."""
        return list(flow.asks)

    def of_callee(self, flow: Attachment) -> list[Pending]:
        """Return the requests that a flow was asked last."""
        return list(flow.asked)

    def unheard(self, now: float) -> Iterator[Pending]:
        """Find the requests whose callee has said nothing on its flow since, for long enough."""
        self._grow_up()
        while self._unheard and self._unheard[0][0] <= now:
            pending = self._requests.get(self._unheard.popleft()[1])
            if pending is not None and pending.callee.heard <= pending.forwarded:
                yield pending

    def expired(self, now: float) -> Iterator[Pending]:
        """Take the requests out whose time is over, one by one: it is answered before the next."""
        self._grow_up()
        while self._deadlines and self._deadlines[0][0] <= now:
            pending = self._requests.get(heapq.heappop(self._deadlines)[1])
            if pending is not None and pending.deadline <= now and self.take(pending):
                yield pending

    def _grow_up(self) -> None:
        """Keep the times of what still waits."""
        young, self._young = self._young, []
        for pending in young:
            number = pending.forward.request
            if self._requests.get(number) is pending:
                self._unheard.append((pending.forwarded + PATIENCE, number))
                heapq.heappush(self._deadlines, (pending.deadline, number))

    def _join_crowd(self, pending: Pending, flow: Attachment) -> None:
        """A request waits for a flow, among more than a few."""
        if (crowd := self._crowds.get(id(flow))) is not None:
            crowd.push(pending.reply.caller.cause, pending)

    def _leave_crowd(self, pending: Pending) -> None:
        flow = pending.callee
        if (crowd := self._crowds.get(id(flow))) is not None:
            crowd.remove(pending)
            if not flow.asked:
                del self._crowds[id(flow)]
