"""What one connection pays, and who pays where that turns out to be somebody else."""

from collections import Counter

from relay.limits import Cause, Toll, cause_of

NEAR, FAR = cause_of("127.0.0.1"), cause_of("192.0.2.1")


class _Purses:
    def __init__(self) -> None:
        self.paid: Counter[Cause] = Counter()
        self.wait = 0.0

    def charge(self, cause: Cause, cost: float) -> float:
        if self.wait and cost > 0:
            return self.wait
        self.paid[cause] += int(cost)
        return 0.0


def test_who_really_pays_pays_for_all_and_the_other_gets_it_back() -> None:
    purses = _Purses()
    toll = Toll(purses.charge, NEAR)
    assert not toll.take(5)
    assert not toll.take(7)
    assert not toll.pass_on(FAR, 12)
    assert (purses.paid[NEAR], purses.paid[FAR]) == (0, 12 + 32)
    assert not toll.take(32)
    assert purses.paid[FAR] == 12 + 32, "it has its own purse"
    assert not toll.take(1)
    assert (purses.paid[NEAR], toll.cause) == (0, FAR)


def test_who_has_nothing_left_waits_and_nobody_else_pays() -> None:
    purses = _Purses()
    toll = Toll(purses.charge, NEAR)
    assert not toll.take(12)
    purses.wait = 0.5
    assert toll.pass_on(FAR, 12) == 0.5
    assert purses.paid == {NEAR: 0}
    assert toll.take(1) == 0.5
