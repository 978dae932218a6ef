"""Bytes a second: what moves when, and whose turn it is."""

from dataclasses import dataclass, field

import pytest

from relay.limits import Pace, PaceRates, cause_of

RATE = 1_000_000
STEP = 0.01


@dataclass(eq=False)
class Sender:
    """Something that always has bytes to move, or as many as are left."""

    host: str
    key: str
    left: float = float("inf")
    moved: int = field(default=0)


class Run:
    """Senders at one pace, on a clock of the test's own."""

    def __init__(self, key: float | None = None, in_all: float | None = None) -> None:
        self.pace: Pace[Sender] = Pace(PaceRates(key, in_all))
        self.now = 1000.0

    def begin(self, *senders: Sender) -> None:
        for sender in senders:
            self.go_on(sender)

    def go_on(self, sender: Sender, granted: int = 0) -> None:
        cause = cause_of(sender.host, sender.key)
        for _ in range(10_000):
            granted = granted or self.pace.ask(sender, cause, self.now)
            if not granted:
                return
            moves = int(min(granted, sender.left))
            sender.moved += moves
            sender.left -= moves
            self.pace.give_back(cause, granted - moves)
            granted = 0
            if not sender.left:
                return
        raise AssertionError("without an end")

    def wait(self, seconds: float) -> None:
        """Let time pass, and give turns when they are due."""
        end = self.now + seconds
        while (due := self.pace.next_timeout(self.now)) is not None and due <= end:
            self.now = max(self.now, due)
            while (found := self.pace.next(self.now)) is not None:
                self.go_on(*found)
            self.now += 1e-9
        self.now = end


def test_without_a_limit_nothing_waits() -> None:
    pace: Pace[Sender] = Pace(PaceRates())
    assert not pace.is_on
    sender = Sender("192.0.2.1", "alice")
    for _ in range(100):
        assert pace.ask(sender, cause_of("192.0.2.1", "alice"), 0.0) > 0
    assert pace.next_timeout(0.0) is None
    assert len(pace) == 0


@pytest.mark.parametrize("rate", [20_000, RATE, 1_000_000_000])
def test_a_key_sends_no_more_than_its_rate_however_much_it_opens(rate: int) -> None:
    run = Run(key=rate)
    alice = [Sender("192.0.2.1", "alice") for _ in range(5)]
    run.begin(*alice[:1])
    assert rate * 0.9 <= alice[0].moved <= rate * 1.05 or rate < 1 << 15, "a second's at once"
    run.begin(*alice[1:])
    run.wait(10)
    total = sum(one.moved for one in alice)
    assert rate * 10.5 <= total <= rate * 11.1 + (1 << 14)
    assert min(one.moved for one in alice) > total / 10, "each of them goes on"


def test_keys_do_not_wait_for_one_another() -> None:
    run = Run(key=RATE)
    alice, bob = Sender("192.0.2.1", "alice"), Sender("192.0.2.1", "bob")
    run.begin(alice, bob)
    run.wait(5)
    assert alice.moved == pytest.approx(6 * RATE, rel=0.05)
    assert bob.moved == pytest.approx(6 * RATE, rel=0.05)


def test_all_together_send_no_more_than_that_and_networks_have_equal_turns() -> None:
    run = Run(in_all=RATE)
    crowd = [Sender("192.0.2.66", f"key {number}") for number in range(200)]
    quiet = Sender("198.51.100.1", "quiet")
    run.begin(*crowd)
    run.wait(5)
    newcomer = Sender("203.0.113.1", "newcomer")
    run.begin(quiet, newcomer)
    before = sum(one.moved for one in crowd)
    run.wait(30)
    total = sum(one.moved for one in (*crowd, quiet, newcomer))
    assert total == pytest.approx(36 * RATE, rel=0.05)
    of_crowd = sum(one.moved for one in crowd) - before
    assert quiet.moved == pytest.approx(10 * RATE, rel=0.1)
    assert newcomer.moved == pytest.approx(10 * RATE, rel=0.1)
    assert of_crowd == pytest.approx(10 * RATE, rel=0.1)
    each = [one.moved for one in crowd[1:]]  # The first one was alone for a moment.
    assert max(each) < 3 * min(each) + (1 << 17)


def test_what_others_leave_is_taken_by_who_wants_it() -> None:
    run = Run(in_all=RATE)
    alone, little = Sender("192.0.2.1", "alone"), Sender("192.0.2.2", "little", left=1000)
    run.begin(alone)
    run.wait(1)
    run.begin(little)
    run.wait(9)
    assert little.left == 0
    assert alone.moved == pytest.approx(11 * RATE, rel=0.05)


def test_both_limits_hold() -> None:
    run = Run(key=RATE, in_all=3 * RATE)
    senders = [Sender(f"192.0.2.{number}", f"key {number}") for number in range(6)]
    run.begin(*senders[:1])
    run.wait(10)
    assert senders[0].moved == pytest.approx(11 * RATE, rel=0.05)
    run.begin(*senders[1:])
    run.wait(20)
    total = sum(one.moved for one in senders)
    assert total <= 3 * RATE * 21 + 11 * RATE
    assert total >= 3 * RATE * 20
    assert all(one.moved >= RATE * 20 * 0.4 for one in senders[1:])


def test_small_messages_of_a_quiet_key_leave_at_once() -> None:
    run = Run(key=RATE, in_all=10 * RATE)
    for _ in range(50):
        one = Sender("192.0.2.1", "quiet", left=100)
        run.begin(one)
        assert one.left == 0
        run.wait(0.001)


def test_messages_are_charged_and_wait_for_their_own_key_alone() -> None:
    run = Run(key=RATE, in_all=RATE)
    cause = cause_of("192.0.2.1", "alice")
    assert run.pace.charge(cause, RATE // 2, run.now) == 0
    assert run.pace.charge(cause, RATE, run.now) == pytest.approx(0.5)
    assert run.pace.charge(cause, 50 * RATE, run.now) == 1.0, "no longer at once"
    assert run.pace.charge(cause_of("192.0.2.1", "bob"), 100, run.now) == 0
    bob = Sender("192.0.2.1", "bob")
    run.begin(bob)
    assert bob.moved == 0, "they count for all"


def test_who_leaves_gives_back_what_was_kept_for_it() -> None:
    run = Run(key=RATE, in_all=RATE)
    first, second = Sender("192.0.2.1", "alice"), Sender("192.0.2.1", "bob")
    third = Sender("192.0.2.1", "bob")
    run.begin(first, second, third)
    assert len(run.pace) == 3
    for one in (first, second, third, first):
        run.pace.leave(one)
    assert len(run.pace) == 0
    run.wait(5)
    assert run.pace.next_timeout(run.now) is None
    assert run.pace.next(run.now) is None
    again = Sender("192.0.2.1", "bob")
    run.begin(again)
    assert again.moved == pytest.approx(RATE, rel=0.05)


@pytest.mark.parametrize("before", [PaceRates(key=20_000), PaceRates(in_all=20_000)])
def test_other_limits_hold_from_now_on_for_who_waits_too(before: PaceRates) -> None:
    run = Run(before.key, before.in_all)
    senders = [Sender("192.0.2.1", f"key {number % 2}") for number in range(4)]
    run.begin(*senders)
    assert len(run.pace) == 4
    run.pace.allow(PaceRates(in_all=RATE), run.now)
    run.wait(10)
    assert sum(one.moved for one in senders) == pytest.approx(11 * RATE, rel=0.06)
    for one in senders:
        one.left = 1 << 20
    run.pace.allow(PaceRates(), run.now)
    run.wait(0.001)
    assert [one.left for one in senders] == [0] * 4
    assert not run.pace.is_on


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.limits.pace._MAX_KEYS", 10)
    run = Run(key=RATE)
    for number in range(100):
        run.begin(Sender("192.0.2.1", f"key {number}", left=10))
    assert len(run.pace._keys) == 10


def test_who_comes_and_leaves_again_and_again_leaves_nothing() -> None:
    run = Run(key=20_000)
    run.begin(Sender("192.0.2.1", "alice"))
    for _ in range(1000):
        one = Sender("192.0.2.1", "bob" if run.now % 2 else "alice")
        run.begin(one)
        run.pace.leave(one)
    assert len(run.pace._due) <= 2
