"""The tickets' machine, walked: state by input, and in every order that hypothesis thinks of."""

from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from protocol.errors import Code
from protocol.messages import Mode
from relay.limits import Bounds, Cause, PlaneBudget, cause_of
from relay.plane.tickets import Admission, Plane, PlaneState, Purpose, TicketRefused, Tickets
from tests.support.scale import of

PURPOSE = Purpose(b"s" * 16, "alice", "bob", "chat", Mode.CENTRAL)
LIFETIME = 30.0
RESUME_LIFETIME = 600.0


ALICE, CAROL = cause_of("192.0.2.1", "alice"), cause_of("198.51.100.1", "carol")


def even(count: int) -> Bounds:
    """So many in all, and anybody may have them all."""
    return Bounds(count, count, count, count)


def new(waiting: int = 4, joined: int = 100, at_one: int = 100) -> Tickets:
    numbers = count(1)
    return Tickets(
        lifetime=LIFETIME,
        budget=PlaneBudget(even(waiting), even(at_one), even(joined), 0),
        new_ticket=lambda: f"t{next(numbers)}",
        choose=lambda planes: list(planes)[-1],
    )


def created(tickets: Tickets, now: float = 0.0, cause: Cause = ALICE) -> Plane:
    plane = tickets.create(PURPOSE, cause, now)
    assert plane is not None
    return plane


def joined(tickets: Tickets) -> tuple[Plane, tuple[str, str]]:
    """Return a plane that is joined, and the tickets for the next one."""
    plane = created(tickets)
    seats = [tickets.admit(ticket, ALICE, 1.0) for ticket in plane.tickets]
    assert [tickets.came(seat, 1.0) for seat in seats] == [PlaneState.WAITING, PlaneState.JOINED]
    return plane, (seats[0].resume, seats[1].resume)


def refusal(tickets: Tickets, ticket: str, now: float = 1.0) -> Code | None:
    with pytest.raises(TicketRefused) as caught:
        tickets.admit(ticket, ALICE, now)
    return caught.value.code


def test_each_ticket_is_of_one_peer_and_for_one_use() -> None:
    tickets = new()
    plane = created(tickets)
    assert [tickets.owner(ticket) for ticket in plane.tickets] == ["alice", "bob"]
    first = tickets.admit(plane.tickets[0], ALICE, 1.0)
    assert not first.asks_other
    assert refusal(tickets, plane.tickets[0]) is Code.TICKET_USED
    assert refusal(tickets, "nobody's") is Code.TICKET_UNKNOWN
    assert tickets.owner(plane.tickets[1]) == "bob", "the other one is as good as before"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_legs_join_in_any_order(order: tuple[int, int]) -> None:
    tickets = new()
    plane = created(tickets)
    seats = [tickets.admit(plane.tickets[index], ALICE, 1.0) for index in order]
    assert tickets.came(seats[0], 1.0) is PlaneState.WAITING
    assert tickets.came(seats[0], 1.0) is PlaneState.WAITING, "twice is once"
    assert tickets.waiting == 1
    assert tickets.came(seats[1], 1.0) is PlaneState.JOINED
    assert tickets.waiting == 0
    for ticket in plane.tickets:
        assert refusal(tickets, ticket) is Code.TICKET_USED
    assert tickets.end(plane, 2.0)
    assert not tickets.end(plane, 2.0)
    assert tickets.came(seats[1], 1.0) is PlaneState.ENDED


def test_a_plane_whose_second_leg_does_not_come_expires() -> None:
    tickets = new()
    plane, later = created(tickets), created(tickets, 10.0)
    seat = tickets.admit(plane.tickets[0], ALICE, 1.0)
    tickets.came(seat, 1.0)
    assert tickets.sweep(LIFETIME - 0.1) == []
    assert tickets.sweep(LIFETIME) == [plane]
    assert refusal(tickets, plane.tickets[0]) is Code.TICKET_USED
    assert refusal(tickets, plane.tickets[1]) is Code.TICKET_EXPIRED
    assert tickets.waiting == 1
    assert later.state is PlaneState.WAITING
    # Who came has the ticket for the next plane; the other one has never been told of his.
    assert tickets.owner(seat.resume) == "alice"
    assert refusal(tickets, plane.resumes[1]) is Code.TICKET_UNKNOWN


def test_a_leg_that_fails_ends_its_plane() -> None:
    tickets = new()
    plane = created(tickets)
    waits, fails = (tickets.admit(ticket, ALICE, 1.0) for ticket in plane.tickets)
    tickets.came(waits, 1.0)
    assert tickets.failed(fails, 2.0)
    assert not tickets.failed(fails, 2.0)
    assert tickets.came(fails, 1.0) is PlaneState.ENDED, "it came after all: too late"
    assert tickets.waiting == 0


def test_a_leg_that_came_does_not_fail() -> None:
    tickets = new()
    plane = created(tickets)
    seat = tickets.admit(plane.tickets[0], ALICE, 1.0)
    tickets.came(seat, 1.0)
    assert not tickets.failed(seat, 2.0)
    assert plane.state is PlaneState.WAITING


def test_a_plane_is_discarded_by_its_ticket_as_long_as_it_waits() -> None:
    tickets = new()
    plane = created(tickets)
    assert tickets.discard(plane.tickets[0], 1.0) is plane
    assert tickets.discard(plane.tickets[0], 1.0) is None
    assert refusal(tickets, plane.tickets[1]) is Code.TICKET_EXPIRED
    plane, _ = joined(tickets)
    assert tickets.discard(plane.tickets[0], 1.0) is None
    assert plane.state is PlaneState.JOINED


def test_too_many_that_wait() -> None:
    tickets = new(waiting=1)
    plane, (resume, _) = joined(tickets)
    tickets.end(plane, 2.0)
    first = created(tickets)
    assert tickets.create(PURPOSE, ALICE, 2.0) is None
    assert refusal(tickets, resume) is Code.LIMIT_EXCEEDED
    tickets.discard(first.tickets[0], 3.0)
    assert tickets.admit(resume, ALICE, 3.0).asks_other, "the ticket was not used up"


@pytest.mark.parametrize("who", [0, 1])
def test_either_comes_back_with_its_ticket_and_the_other_is_asked(who: int) -> None:
    tickets = new()
    plane, resumes = joined(tickets)
    assert tickets.owner(resumes[who]) == ("alice", "bob")[who]
    seat = tickets.admit(resumes[who], ALICE, 2.0)
    assert seat.asks_other
    assert seat.plane is not plane
    assert seat.plane.purpose == (PURPOSE if who == 0 else PURPOSE.reversed)
    assert seat.plane.tickets[0] == seat.ticket
    assert refusal(tickets, resumes[who]) is Code.TICKET_UNKNOWN
    other = tickets.admit(seat.plane.tickets[1], ALICE, 2.0)
    assert not other.asks_other
    tickets.came(seat, 1.0)
    assert tickets.came(other, 1.0) is PlaneState.JOINED
    assert plane.state is PlaneState.JOINED, "the old one ends by itself"


def test_a_ticket_is_given_back_once() -> None:
    tickets = new()
    _, (resume, _) = joined(tickets)
    seat = tickets.admit(resume, ALICE, 2.0)
    tickets.failed(seat, 2.0)
    again = tickets.admit(resume, ALICE, 2.0)
    assert not tickets.failed(seat, 2.0)
    assert refusal(tickets, resume) is Code.TICKET_UNKNOWN
    assert tickets.sweep(2.0 + LIFETIME) == [again.plane]
    assert not tickets.failed(again, 40.0), "its plane was over before"
    assert refusal(tickets, resume) is Code.TICKET_UNKNOWN


def test_who_comes_back_and_fails_may_come_again() -> None:
    tickets = new()
    _, (resume, _) = joined(tickets)
    for _ in range(3):
        seat = tickets.admit(resume, ALICE, 2.0)
        assert tickets.failed(seat, 2.0)
        assert seat.plane.state is PlaneState.ENDED
    assert tickets.owner(resume) == "alice"


def test_tickets_for_the_next_plane_age_when_their_plane_has_ended() -> None:
    tickets = new()
    plane, (first, second) = joined(tickets)
    tickets.sweep(1e6)
    assert tickets.owner(first) == "alice", "as long as the plane lives"
    tickets.end(plane, 1e6)
    tickets.sweep(1e6 + RESUME_LIFETIME - 1)
    assert tickets.owner(second) == "bob"
    tickets.sweep(1e6 + RESUME_LIFETIME)
    assert refusal(tickets, first) is refusal(tickets, second) is Code.TICKET_UNKNOWN
    assert tickets.resumes == 0


def test_a_peer_that_asks_itself_leaves_no_ticket_behind() -> None:
    tickets = new()
    own = Purpose(b"s" * 16, "alice", "alice", "chat", Mode.CENTRAL)
    plane = tickets.create(own, ALICE, 0.0)
    assert plane is not None
    for ticket in plane.tickets:
        tickets.came(tickets.admit(ticket, ALICE, 1.0), 1.0)
    tickets.end(plane, 2.0)
    tickets.sweep(2.0 + RESUME_LIFETIME)
    assert tickets.resumes == 0


def test_all_that_wait_end_at_once() -> None:
    tickets = new()
    planes = [created(tickets), created(tickets)]
    live, _ = joined(tickets)
    assert tickets.end_all(1.0) == planes
    assert tickets.waiting == 0
    assert live.state is PlaneState.JOINED


def test_where_too_many_wait_the_oldest_of_who_has_most_gives_way() -> None:
    tickets = new(waiting=3)
    planes = [created(tickets) for _ in range(3)]
    seat = tickets.admit(planes[0].tickets[0], ALICE, 1.0)
    tickets.came(seat, 1.0)
    assert tickets.create(PURPOSE, ALICE, 1.0) is None, "nobody has more than she"
    created(tickets, 1.0, CAROL)
    assert tickets.take_displaced() == [planes[0]]
    assert tickets.take_displaced() == []
    assert planes[0].state is PlaneState.ENDED
    assert refusal(tickets, planes[0].tickets[1]) is Code.TICKET_EXPIRED
    assert tickets.waiting == 3


def test_one_callee_is_asked_for_so_many() -> None:
    tickets = new(waiting=100, at_one=2)
    first, _ = created(tickets), created(tickets)
    assert tickets.create(PURPOSE, ALICE, 0.0) is None
    other = Purpose(b"s" * 16, "alice", "dave", "chat", Mode.CENTRAL)
    assert tickets.create(other, ALICE, 0.0) is not None
    created(tickets, 0.0, CAROL)
    assert tickets.take_displaced() == [first]
    tickets.end_all(1.0)
    created(tickets)


def test_where_too_many_are_joined_the_one_that_is_missed_least_gives_way() -> None:
    tickets = new(waiting=100, joined=3)
    planes = [joined(tickets)[0] for _ in range(3)]
    assert tickets.create(PURPOSE, ALICE, 0.0) is None, "she could not join it"
    plane = created(tickets, 1.0, CAROL)
    for ticket in plane.tickets:
        tickets.came(tickets.admit(ticket, CAROL, 1.0), 1.0)
    assert plane.state is PlaneState.JOINED
    assert tickets.take_displaced() == [planes[-1]]
    assert tickets.joined == 3


def test_one_that_finds_no_room_when_its_legs_have_come_ends() -> None:
    tickets = new(waiting=100, joined=1)
    first, second = created(tickets), created(tickets)
    states = [
        tickets.came(tickets.admit(ticket, ALICE, 1.0), 1.0)
        for plane in (first, second)
        for ticket in plane.tickets
    ]
    assert states[1::2] == [PlaneState.JOINED, PlaneState.ENDED]
    assert tickets.take_displaced() == [second]
    assert tickets.waiting == 0


@settings(max_examples=of(60, 1000), stateful_step_count=30, deadline=None)
class AnyOrder(RuleBasedStateMachine):
    """Legs come in any order, fail, expire, are discarded, come back, and all of it twice."""

    given_out = Bundle("given_out")
    seats = Bundle("seats")

    def __init__(self) -> None:
        super().__init__()
        self.tickets = new(waiting=3, joined=2)
        self.now = 0.0
        self.planes: list[Plane] = []
        self.over: set[Plane] = set()
        self.used: dict[str, int] = {}
        self.refusals: set[Code | None] = set()

    def ended(self, planes: list[Plane]) -> None:
        for plane in planes:
            assert plane not in self.over, "a plane ends once"
            self.over.add(plane)

    @rule(target=given_out)
    def create(self) -> object:
        cause = ALICE if len(self.planes) % 3 else CAROL
        plane = self.tickets.create(PURPOSE, cause, self.now)
        self.ended(self.tickets.take_displaced())
        if plane is None:
            assert self.tickets.waiting == 3 or self.tickets.joined == 2
            return multiple()
        self.planes.append(plane)
        return multiple(*plane.tickets)

    @rule(target=seats, ticket=given_out)
    def admit(self, ticket: str) -> object:
        try:
            owner = self.tickets.owner(ticket)
            seat = self.tickets.admit(ticket, ALICE, self.now)
        except TicketRefused as refused:
            self.refusals.add(refused.code)
            assert not self.tickets.take_displaced()
            return multiple()
        self.ended(self.tickets.take_displaced())
        assert owner in ("alice", "bob")
        self.used[ticket] = self.used.get(ticket, 0) + 1
        assert self.used[ticket] == 1, "a ticket admits once"
        if seat.asks_other:
            self.planes.append(seat.plane)
        assert seat.plane.state is PlaneState.WAITING
        return seat

    @rule(target=given_out, seat=seats)
    def come(self, seat: Admission) -> object:
        state = self.tickets.came(seat, 1.0)
        assert state is seat.plane.state
        self.ended(self.tickets.take_displaced())
        tickets = [seat.resume] if state is not PlaneState.ENDED else []
        return multiple(*tickets, *seat.plane.tickets)

    @rule(seat=seats)
    def fail(self, seat: Admission) -> None:
        came = seat.ticket in seat.plane.legs
        over = seat.plane.state is PlaneState.ENDED
        if self.tickets.failed(seat, self.now):
            assert not came
            self.ended([seat.plane])
        if seat.asks_other and not came and not over:
            self.used[seat.presented] = 0

    @rule(ticket=consumes(given_out))
    def discard(self, ticket: str) -> None:
        plane = self.tickets.discard(ticket, self.now)
        if plane is not None:
            self.ended([plane])

    @precondition(lambda self: self.planes)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        plane = data.draw(st.sampled_from(self.planes))
        if self.tickets.end(plane, self.now):
            self.ended([plane])

    @rule(seconds=st.sampled_from([0.0, 1.0, LIFETIME, RESUME_LIFETIME]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.ended(self.tickets.sweep(self.now))

    @invariant()
    def what_is_over_is_over(self) -> None:
        waiting = [plane for plane in self.planes if plane.state is PlaneState.WAITING]
        assert self.tickets.waiting == len(waiting)
        joined = [plane for plane in self.planes if plane.state is PlaneState.JOINED]
        assert self.tickets.joined == len(joined) <= 2
        assert self.over == {plane for plane in self.planes if plane.state is PlaneState.ENDED}
        for plane in self.planes:
            assert (plane.state is PlaneState.JOINED) <= (len(plane.legs) == 2)

    def teardown(self) -> None:
        for plane in self.planes:
            self.tickets.end(plane, self.now)
        self.tickets.sweep(self.now + RESUME_LIFETIME)
        assert self.tickets.waiting == self.tickets.resumes == 0, "nothing is held for ever"
        assert self.refusals <= {
            Code.TICKET_UNKNOWN,
            Code.TICKET_USED,
            Code.TICKET_EXPIRED,
            Code.LIMIT_EXCEEDED,
        }


TestAnyOrder = AnyOrder.TestCase
