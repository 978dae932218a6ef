"""The registration's machine: walked by hand, then through whatever order things may come in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peers.dns.events import (
    NOTHING,
    Action,
    Begin,
    Changed,
    Confirm,
    Conflict,
    End,
    Failed,
    Followed,
    Found,
    GiveUp,
    Look,
    NotRegistered,
    Refused,
    Registered,
    Remove,
    Taken,
    Update,
    Withdraw,
)
from peers.dns.registration import Registration
from peers.dns.states import State
from protocol.dns_records import ZoneRecord
from protocol.errors import NameServerUnavailable, Superseded, UpdateRefused

OURS, THEIRS = "aa" * 16, "bb" * 16
SILENCE = NameServerUnavailable("silence")
REFUSED = UpdateRefused("REFUSED")


def record(seq: int, instance: str = OURS) -> ZoneRecord:
    return ZoneRecord(seq, ("chat",), instance)


def followed(seq: int, instance: str = OURS) -> Followed:
    return Followed.of(record(seq, instance))


def machine() -> Registration:
    return Registration(OURS, refresh=900.0, random=lambda: 1.0)


def held(seq: int = 10) -> Registration:
    """One whose record the zone holds, since 0 s, as its attempt 2."""
    one = machine()
    one.handle(Begin(), 0)
    one.handle(Found(1, NOTHING), 0)
    assert one.sending(2, record(seq))
    assert one.handle(Taken(2), 0) == [Registered(record(seq))]
    return one


def updating() -> Registration:
    """One whose update, its attempt 2 under the number 10, is under way."""
    one = machine()
    one.handle(Begin(), 0)
    one.handle(Found(1, NOTHING), 0)
    assert one.sending(2, record(10))
    return one


# -- walked ---------------------------------------------------------------------------------------


def test_it_looks_before_it_updates_and_holds_what_was_taken() -> None:
    one = machine()
    assert not one.is_settled
    assert one.handle(Begin(), 0) == [Look(1)]
    assert one.next_timeout() is None
    assert one.handle(Found(1, followed(7, THEIRS)), 1) == [Update(2, followed(7, THEIRS), 7)]
    assert one.sending(2, record(8))
    assert one.handle(Taken(2), 2) == [Registered(record(8))]
    assert one.state is State.HELD
    assert one.is_settled
    assert one.failure is None


def test_what_is_held_is_said_again_from_time_to_time() -> None:
    one = held()
    assert one.next_timeout() == 900.0
    assert one.handle_timeout(899.9) == []
    assert one.handle_timeout(900.0) == [Update(3, followed(10), 10)]


def test_a_change_of_what_is_held_follows_it_without_asking() -> None:
    one = held()
    assert one.handle(Changed(), 1) == [Update(3, followed(10), 10)]
    assert not one.is_settled


def test_a_change_gives_up_what_is_under_way_and_asks_anew() -> None:
    one = updating()
    assert one.handle(Changed(), 1) == [GiveUp(), Look(3)]
    assert one.handle(Changed(), 1) == [GiveUp(), Look(4)]
    assert one.handle(Found(3, NOTHING), 1) == [], "an answer to what was given up"
    assert one.handle(Taken(2), 1) == []
    assert one.state is State.LOOKING
    # The update that was given up may have been made.
    assert one.handle(Found(4, followed(10)), 2) == [Update(5, followed(10), 10)]


def test_an_update_that_was_given_up_before_it_was_sent_is_not_sent() -> None:
    one = machine()
    one.handle(Begin(), 0)
    one.handle(Found(1, NOTHING), 0)
    one.handle(Changed(), 0)
    assert not one.sending(2, record(10))
    assert one.handle(Withdraw(), 1) == [GiveUp()], "there is nothing to take back"


def test_failures_are_followed_by_growing_pauses_up_to_a_bound() -> None:
    one = machine()
    one.handle(Begin(), 0)
    now, waits = 0.0, []
    for attempt in range(1, 12):
        assert one.handle(Failed(attempt, SILENCE), now) == [NotRegistered(SILENCE)]
        assert one.is_settled
        assert one.failure is SILENCE
        due = one.next_timeout()
        assert due is not None
        waits.append(due - now)
        now = due
        assert one.handle_timeout(now) == [Look(attempt + 1)]
    assert waits[:4] == [0.25, 0.5, 1.0, 2.0]
    assert max(waits) == 30.0


def test_a_change_ends_the_pause_and_success_makes_the_next_one_short() -> None:
    one = machine()
    one.handle(Begin(), 0)
    one.handle(Failed(1, SILENCE), 0)
    assert one.handle(Changed(), 0.1) == [Look(2)]
    one.handle(Failed(2, SILENCE), 1)
    assert one.next_timeout() == 1.5
    one.handle(Changed(), 1)
    one.handle(Found(3, NOTHING), 1)
    assert one.sending(4, record(1))
    one.handle(Taken(4), 1)
    assert one.failure is None
    one.handle(Changed(), 2)
    one.handle(Failed(5, SILENCE), 2)
    assert one.next_timeout() == 2.25


def test_three_conflicts_in_a_row_are_a_failure() -> None:
    one = updating()
    assert one.handle(Conflict(2, "ns said NXRRSET"), 0) == [Look(3)]
    one.handle(Found(3, followed(3, THEIRS)), 0)
    assert one.sending(4, record(11))
    assert one.handle(Conflict(4, "ns said NXRRSET"), 0) == [Look(5)]
    one.handle(Found(5, followed(4, THEIRS)), 0)
    assert one.sending(6, record(12))
    (told,) = one.handle(Conflict(6, "ns said NXRRSET"), 0)
    assert isinstance(told, NotRegistered)
    assert told.failure.reason == "ns said NXRRSET 3 times"
    one.handle_timeout(1)
    one.handle(Found(7, NOTHING), 1)
    assert one.sending(8, record(13))
    assert one.handle(Conflict(8, "ns said NXRRSET"), 1) == [Look(9)], "counted anew"
    for attempt in (9, 11):
        one.handle(Found(attempt, NOTHING), 1)
        assert one.sending(attempt + 1, record(attempt + 10))
        one.handle(Conflict(attempt + 1, "ns said NXRRSET"), 1)
    assert one.state is State.FAILED


def test_a_later_record_of_another_instance_is_the_end() -> None:
    one = held(10)
    one.handle(Changed(), 1)
    assert one.sending(3, record(11))
    one.handle(Conflict(3, "ns said NXRRSET"), 1)
    assert one.handle(Found(4, followed(11, THEIRS)), 1) == [Confirm(5, 10)]
    (told,) = one.handle(Found(5, followed(11, THEIRS), confirmed=True, proven=True), 1)
    assert isinstance(told, NotRegistered)
    assert type(told.failure) is Superseded
    assert one.state is State.SUPERSEDED
    assert one.is_settled
    assert one.is_over
    for event in (Changed(), Withdraw(), End(), Taken(5), Found(5, NOTHING)):
        assert one.handle(event, 2) == []
    assert one.next_timeout() is None


@pytest.mark.parametrize("said", [followed(99, THEIRS), followed(7, THEIRS), NOTHING])
def test_a_later_record_that_nobody_has_signed_is_no_end(said: Followed) -> None:
    """It was forged on the way, and the server says something else; or in the zone."""
    one = held(10)
    one.handle(Changed(), 1)
    assert one.sending(3, record(11))
    one.handle(Conflict(3, "ns said NXRRSET"), 1)
    assert one.handle(Found(4, followed(98, THEIRS)), 1) == [Confirm(5, 10)]
    assert one.handle(Found(4, followed(98, THEIRS)), 1) == [], "of what was asked before"
    answer = Found(5, said, confirmed=True, proven=False)
    assert one.handle(answer, 1) == [Update(6, said, max(11, said.record.seq))]


def test_what_is_in_the_way_is_told_and_tried_again() -> None:
    one = machine()
    one.handle(Begin(), 0)
    alias = Followed(NOTHING.record, "", obstacle="NAME is an alias")
    assert one.handle(Found(1, alias), 0) == [Confirm(2, 0)], "anybody may have said so"
    (told,) = one.handle(Found(2, alias, confirmed=True), 0)
    assert isinstance(told, NotRegistered)
    assert told.failure.reason == "NAME is an alias"
    assert isinstance(told.failure, UpdateRefused)
    assert one.handle_timeout(1) == [Look(3)]
    assert one.handle(Found(3, NOTHING), 1) == [Update(4, NOTHING, 0)]


def test_what_is_said_to_be_in_the_way_and_is_not_holds_nothing_up() -> None:
    one = machine()
    one.handle(Begin(), 0)
    forged = Followed(NOTHING.record, "", obstacle="NAME is an alias")
    one.handle(Found(1, forged), 0)
    assert one.handle(Found(2, NOTHING, confirmed=True), 0) == [Update(3, NOTHING, 0)]


@pytest.mark.parametrize(
    "found", [NOTHING, Followed(NOTHING.record, "", ('"x"',), obstacle="NAME has another's TXT")]
)
def test_what_may_be_there_is_taken_back_whatever_stands_at_the_name(found: Followed) -> None:
    one = updating()
    one.handle(Withdraw(), 100)
    (remove,) = one.handle(Found(3, found, confirmed=True), 101)
    assert isinstance(remove, Remove)
    assert remove.followed.record.services == ("chat",)
    assert (remove.followed.text, remove.followed.others) == (found.text, found.others)


@pytest.mark.parametrize(
    "found",
    [
        followed(9, THEIRS),  # Registered before this one.
        followed(10, THEIRS),  # Our number 10 was sent without an answer: only above it is later.
        followed(99),  # This very instance's.
        NOTHING,
    ],
)
def test_other_records_are_followed(found: Followed) -> None:
    one = updating()
    one.handle(Failed(2, SILENCE), 0)
    one.handle_timeout(1)
    assert one.handle(Found(3, found), 1) == [Update(4, found, max(10, found.record.seq))]


def test_whoever_has_sent_nothing_is_not_superseded() -> None:
    one = machine()
    one.handle(Begin(), 0)
    assert one.handle(Found(1, followed(99, THEIRS)), 0) == [Update(2, followed(99, THEIRS), 99)]


def test_what_was_refused_does_not_count_as_put_into_the_zone() -> None:
    one = updating()
    assert one.handle(Refused(2, REFUSED), 0) == [NotRegistered(REFUSED)]
    one.handle_timeout(1)
    assert one.handle(Found(3, followed(99, THEIRS)), 1) == [Update(4, followed(99, THEIRS), 99)]
    assert one.handle(Withdraw(), 1) == [GiveUp()]
    assert one.state is State.GONE


def test_a_number_that_does_not_grow_is_a_fault() -> None:
    one = updating()
    one.handle(Changed(), 0)
    one.handle(Found(3, NOTHING), 0)
    with pytest.raises(ValueError, match="not above"):
        one.sending(4, record(10))


def test_what_is_held_is_taken_back_at_once() -> None:
    one = held()
    assert one.handle(Withdraw(), 100) == [Remove(3, followed(10))]
    assert one.next_timeout() == 103
    assert one.handle(Changed(), 100) == []
    assert one.handle(Withdraw(), 100) == []
    assert one.handle(Taken(3), 101) == []
    assert one.state is State.GONE


def test_what_may_be_there_is_looked_for_and_taken_back_within_three_seconds_in_all() -> None:
    one = updating()
    assert one.handle(Withdraw(), 100) == [GiveUp(), Look(3)]
    assert one.handle(Found(3, followed(10)), 102) == [Remove(4, followed(10))]
    assert one.next_timeout() == 103
    assert one.handle_timeout(103) == [GiveUp()]
    assert one.state is State.GONE


def test_what_is_anothers_is_left() -> None:
    one = updating()
    one.handle(Withdraw(), 100)
    assert one.handle(Found(3, followed(11, THEIRS)), 101) == [Confirm(4, 10)]
    found = Found(4, followed(11, THEIRS), confirmed=True, proven=True)
    assert not [act for act in one.handle(found, 101) if isinstance(act, Remove)]
    assert one.state is State.GONE


@pytest.mark.parametrize("make", [machine, updating, held])
def test_whoever_cannot_wait_ends_it_anywhere(make: object) -> None:
    one = make()  # type: ignore[operator]
    one.handle(End(), 1)
    assert one.state is State.GONE
    assert one.handle(Begin(), 1) == []
    assert one.is_settled


# -- in any order ---------------------------------------------------------------------------------


class World:
    """A registration, the server, and the network between them. What must always hold is asserted
    at every step."""

    def __init__(self) -> None:
        self.now = 0.0
        self.machine = machine()
        self.zone = NOTHING
        self.work: Look | Confirm | Update | Remove | None = None
        self.sent: ZoneRecord | None = None
        """The record of the update that is under way."""
        self.on_the_way: list[tuple[Followed, Followed]] = []
        """Updates that were given up or got no answer: they may arrive, or not."""
        self.numbers: list[int] = []
        self.attempts: list[int] = []
        self.changed = False
        """Whether something has changed since the last update was made."""
        self.withdrawn = False
        self.possible = {0}
        """The numbers of this instance that the zone may have held."""
        self.do(self.machine.handle(Begin(), self.now))

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case GiveUp():
                    assert self.work is not None
                    self.lose()
                case Look() | Confirm() | Update() | Remove():
                    self.begin(action)
                case Registered():
                    assert self.zone == Followed.of(action.record)
                    assert not self.changed
                case NotRegistered():
                    assert self.machine.failure is action.failure
        one = self.machine
        if one.state is State.HELD:
            assert not self.changed
        if one.is_over:
            assert self.work is None
        elif one.next_timeout() is None:
            assert self.work is not None, "something goes on, or will"
        assert one.is_settled == (one.state in (State.HELD, State.FAILED) or one.is_over)

    def begin(self, action: Look | Confirm | Update | Remove) -> None:
        assert self.work is None, "two at a time"
        assert not self.machine.is_over
        assert action.attempt not in self.attempts
        self.attempts.append(action.attempt)
        self.work = action
        if isinstance(action, Update):
            assert not self.withdrawn
            self.sent = record(action.above + 1)
            assert self.machine.sending(action.attempt, self.sent)
            assert not self.numbers or self.sent.seq > self.numbers[-1]
            self.numbers.append(self.sent.seq)
            self.possible.add(self.sent.seq)
            self.changed = False

    def lose(self) -> None:
        """Nobody will hear of what is under way."""
        if isinstance(self.work, Update):
            assert self.sent is not None
            self.on_the_way.append((self.work.followed, Followed.of(self.sent)))
        elif isinstance(self.work, Remove):
            self.on_the_way.append((self.work.followed, NOTHING))
        self.work = None

    def arrive(self, follows: Followed, new: Followed) -> bool:
        if self.zone != follows:
            return False
        self.zone = new
        return True

    # -- what may happen -----------------------------------------------------------------------

    def change(self) -> None:
        self.changed = True
        self.do(self.machine.handle(Changed(), self.now))

    def answer(self) -> None:
        work, self.work = self.work, None
        match work:
            case Look():
                self.do(self.machine.handle(Found(work.attempt, self.zone), self.now))
                assert self.later() == isinstance(self.work, Confirm)
                if self.withdrawn:
                    assert self.work is not None
            case Confirm():
                assert work.above == max(self.possible)
                found, proven = self.zone, self.later()
                answer = Found(work.attempt, found, confirmed=True, proven=proven)
                self.do(self.machine.handle(answer, self.now))
                assert proven == (self.machine.state is State.SUPERSEDED) or self.withdrawn
                if self.withdrawn:
                    assert (self.work is None) == proven
            case Update():
                assert self.sent is not None
                done = self.arrive(work.followed, Followed.of(self.sent))
                if not done:
                    self.possible.discard(self.sent.seq)
                event = Taken(work.attempt) if done else Conflict(work.attempt, "ns said NXRRSET")
                self.do(self.machine.handle(event, self.now))
                assert (self.machine.state is State.HELD) == done
            case Remove():
                done = self.arrive(work.followed, NOTHING)
                event = Taken(work.attempt) if done else Conflict(work.attempt, "ns said NXRRSET")
                self.do(self.machine.handle(event, self.now))

    def later(self) -> bool:
        """Whether the zone holds another instance's later record."""
        found, highest = self.zone.record, max(self.possible)
        return found.instance == THEIRS and found.seq > highest > 0

    def refuse(self) -> None:
        work = self.work
        if isinstance(work, Update | Remove):
            self.work = None
            if isinstance(work, Update) and self.sent is not None:
                self.possible.discard(self.sent.seq)
            self.do(self.machine.handle(Refused(work.attempt, REFUSED), self.now))

    def silence(self) -> None:
        work = self.work
        if work is not None:
            self.lose()
            self.do(self.machine.handle(Failed(work.attempt, SILENCE), self.now))

    def late(self) -> None:
        """An update that was given up reaches the server after all."""
        if self.on_the_way:
            self.arrive(*self.on_the_way.pop(0))

    def late_answers(self) -> None:
        """What was asked long ago is answered: nothing may come of it."""
        current = self.work.attempt if self.work else None
        for attempt in [0, *self.attempts]:
            if attempt != current:
                for event in (
                    Found(attempt, followed(10**6, THEIRS)),
                    Taken(attempt),
                    Conflict(attempt, "x"),
                    Refused(attempt, REFUSED),
                    Failed(attempt, SILENCE),
                ):
                    assert self.machine.handle(event, self.now) == []
                assert not self.machine.sending(attempt, record(10**6))

    def another(self) -> None:
        """Another instance registers: above what the zone holds, as every instance does."""
        self.zone = followed(self.zone.record.seq + 1, THEIRS)

    def clock(self) -> None:
        due = self.machine.next_timeout()
        if due is not None:
            self.now = max(self.now, due)
            self.do(self.machine.handle_timeout(self.now))

    def early(self) -> None:
        due = self.machine.next_timeout()
        if due is None or due > self.now:
            assert self.machine.handle_timeout(self.now) == []

    def withdraw(self) -> None:
        self.withdrawn = True
        self.do(self.machine.handle(Withdraw(), self.now))
        if max(self.possible) == 0:
            assert self.machine.state is State.GONE

    def end(self) -> None:
        self.withdrawn = True
        self.do(self.machine.handle(End(), self.now))
        assert self.machine.is_over


HAPPENINGS = [
    World.answer,
    World.change,
    World.silence,
    World.refuse,
    World.late,
    World.late_answers,
    World.another,
    World.clock,
    World.early,
]
steps = st.lists(st.sampled_from(HAPPENINGS), max_size=40)


@settings(max_examples=400)
@given(steps, st.sampled_from([World.withdraw, World.end]), steps)
def test_whatever_comes_in_whatever_order(
    before: list[object], close: object, after: list[object]
) -> None:
    world = World()
    for step in (*before, close, *after):
        step(world)  # type: ignore[operator]
    world.clock()
    world.clock()
    assert world.machine.is_over


@given(steps)
def test_left_alone_by_all_it_is_registered_or_superseded_in_the_end(before: list[object]) -> None:
    world = World()
    for step in before:
        step(world)  # type: ignore[operator]
    world.on_the_way.clear()
    for _ in range(8):
        if world.machine.state in (State.HELD, State.SUPERSEDED):
            break
        world.answer()
        if world.machine.state is State.FAILED:
            world.clock()
    assert world.machine.state in (State.HELD, State.SUPERSEDED)
