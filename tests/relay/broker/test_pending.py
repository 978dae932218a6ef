"""The table of requests that wait: who takes one out owes the response, and does so once."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.messages import Mode, ServiceRequestFrom, ServiceRequestTo
from relay.broker.pending import PATIENCE, Pending, PendingRequests
from relay.broker.reply import Reply
from relay.metrics import Metrics
from tests.relay.fakes import FakeAttachment

SESSION = b"s" * 16


def waiting(
    table: PendingRequests,
    caller: FakeAttachment,
    callee: FakeAttachment,
    now: float = 0.0,
    timeout: float = 5.0,
) -> Pending:
    """Have one request wait."""
    message = ServiceRequestTo(1, callee.guid, "chat", Mode.CENTRAL, SESSION, (), timeout)
    number = table.next_number()
    forward = ServiceRequestFrom(number, caller.guid, "chat", Mode.CENTRAL, SESSION, (), timeout)
    pending = Pending(Reply(caller, message, Metrics()), forward, callee, now + timeout, now)
    table.add(pending)
    return pending


def test_who_takes_one_out_is_the_only_one() -> None:
    table = PendingRequests(4)
    pending = waiting(table, FakeAttachment(), FakeAttachment())
    assert table.find(pending.forward.request) is pending
    assert table.take(pending)
    assert not table.take(pending)
    assert table.find(pending.forward.request) is None
    assert list(table.expired(1e9)) == []
    assert len(table) == 0


def test_each_caller_has_its_own_room() -> None:
    table = PendingRequests(2)
    alice, carol, bob = FakeAttachment(), FakeAttachment(), FakeAttachment()
    first, _ = waiting(table, alice, bob), waiting(table, alice, bob)
    assert not table.has_room(alice)
    assert table.has_room(carol)
    table.take(first)
    assert table.has_room(alice)


def test_what_a_connection_has_asked_and_was_asked() -> None:
    table = PendingRequests(4)
    alice, bob = FakeAttachment(), FakeAttachment()
    asked, answers = waiting(table, alice, bob), waiting(table, bob, alice)
    assert table.of_caller(alice) == [asked]
    assert table.of_callee(alice) == [answers]


def test_one_is_late_at_its_own_deadline() -> None:
    table = PendingRequests(4)
    alice, bob = FakeAttachment(), FakeAttachment()
    late, early = waiting(table, alice, bob, timeout=9.0), waiting(table, alice, bob, timeout=3.0)
    assert list(table.expired(2.9)) == []
    assert list(table.expired(3.0)) == [early]
    assert list(table.expired(8.9)) == []
    assert list(table.expired(20.0)) == [late]


def test_a_callee_is_looked_at_after_a_while() -> None:
    table = PendingRequests(4)
    alice, bob, other = FakeAttachment(), FakeAttachment(), FakeAttachment()
    pending = waiting(table, alice, bob)
    assert list(table.unheard(PATIENCE - 0.1)) == []
    assert list(table.unheard(PATIENCE)) == [pending]
    assert list(table.unheard(PATIENCE + 9)) == [], "once each time"
    table.forwarded(pending, other, 2.0)
    assert (pending.callee, pending.tried) == (other, (bob, other))
    other.heard = 2.5
    assert list(table.unheard(9.0)) == [], "it has said something since"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "take", "expire", "unheard"]),
            st.integers(0, 3),
            st.floats(0.1, 9.0),
        ),
        max_size=60,
    )
)
def test_every_request_leaves_once(events: list[tuple[str, int, float]]) -> None:
    table = PendingRequests(100)
    callers = [FakeAttachment() for _ in range(4)]
    bob = FakeAttachment()
    now, inside, left = 0.0, [], []
    for event, index, seconds in events:
        match event:
            case "add":
                inside.append(waiting(table, callers[index], bob, now, seconds))
                table.forwarded(inside[-1], bob, now)
            case "take" if inside:
                pending = inside[index % len(inside)]
                inside.remove(pending)
                assert table.take(pending)
                left.append(pending)
            case "expire":
                now += seconds
                for pending in table.expired(now):
                    assert pending.deadline <= now
                    inside.remove(pending)
                    left.append(pending)
            case "unheard":
                assert set(table.unheard(now)) <= set(inside)
        assert len(table) == len(inside)
        assert len({one.forward.request for one in inside}) == len(inside)
    assert set(table.expired(1e9)) == set(inside)
    assert len(table) == 0
    assert all(not table.take(one) for one in left + inside)
    assert all(not table.of_caller(caller) for caller in callers)


class Seen:
    """A response that says how often it was asked whose it is."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.asked = 0

    @property
    def caller(self) -> object:
        self.asked += 1
        return self._reply.caller


def test_the_end_of_a_connection_does_not_walk_the_requests_of_others() -> None:
    table = PendingRequests(1000)
    bob, carol = FakeAttachment(), FakeAttachment()
    others = [waiting(table, FakeAttachment(), bob) for _ in range(60)]
    seen = [Seen(one.reply) for one in others]
    for one, reply in zip(others, seen, strict=True):
        one.reply = reply  # type: ignore[assignment]
    own = waiting(table, carol, bob)
    assert table.of_caller(carol) == [own]
    assert table.of_callee(carol) == []
    assert not sum(reply.asked for reply in seen)


def test_a_request_that_goes_over_another_flow_is_that_flows() -> None:
    table = PendingRequests(4)
    alice, bob, other = FakeAttachment(), FakeAttachment(), FakeAttachment()
    pending = waiting(table, alice, bob)
    table.forwarded(pending, bob, 0.0)
    table.forwarded(pending, other, 1.0)
    assert table.of_callee(bob) == []
    assert table.of_callee(other) == [pending]
    assert table.take(pending)
    assert table.of_callee(other) == table.of_caller(alice) == []
    table.forwarded(pending, bob, 2.0)
    assert table.of_callee(bob) == [], "it was taken out before"
