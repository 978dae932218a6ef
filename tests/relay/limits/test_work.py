"""The relay's time: who waits, and for whom the others leave some."""

from relay.limits import Cause, Work, WorkRates, cause_of

RATES = WorkRates(key=0.2, network=0.5, wide=0.6, in_all=0.8)
CORE = 100_000.0
"""Units of one core in a second."""


def use_up(work: Work, cause: Cause, now: float, cost: float = 500.0) -> float:
    """Take what one can have at once; return how much that was."""
    taken = 0.0
    while not work.charge(cause, cost, now):
        taken += cost
        assert taken < 10 * CORE
    return taken


def test_a_key_has_its_part_of_a_core() -> None:
    work, alice = Work(RATES), cause_of("192.0.2.1", "alice")
    assert use_up(work, alice, 0.0) == 0.2 * CORE
    assert 0 < work.charge(alice, 1.0, 0.0) < 1
    assert use_up(work, alice, 0.5) == 0.1 * CORE, "half a second later, half of it"


def test_what_costs_more_than_one_may_save_is_paid_for_later() -> None:
    work, alice = Work(RATES), cause_of("192.0.2.1", "alice")
    assert work.charge(alice, 0.4 * CORE, 0.0) == 0.0
    assert work.charge(alice, 1.0, 0.9) > 0
    assert work.charge(alice, 1.0, 1.1) == 0.0


def test_a_thousand_keys_of_one_network_have_no_more_than_their_network() -> None:
    work = Work(RATES)
    taken = sum(
        use_up(work, cause_of(f"2001:db8::{number:x}", f"k{number}"), 0.0) for number in range(1000)
    )
    assert taken <= 2 * 0.5 * CORE + 1000, "twice: what it may save, and what it may owe"
    quiet = cause_of("198.51.100.1", "quiet")
    assert work.charge(quiet, 100.0, 0.0) == 0.0
    assert work.charge(cause_of("198.51.100.2"), 100.0, 0.0) == 0.0, "and a newcomer"


def test_where_all_is_used_up_the_quiet_go_on() -> None:
    work = Work(RATES)
    for number in range(8):
        use_up(work, cause_of(f"192.0.{number}.1", "k"), 0.0)
    heavy, quiet = cause_of("192.0.0.1", "k"), cause_of("203.0.113.1", "quiet")
    assert work.charge(heavy, 1.0, 0.0) > 0
    assert work.charge(quiet, 100.0, 0.0) == 0.0


def test_what_is_not_proven_is_charged_to_its_network() -> None:
    work = Work(RATES)
    assert use_up(work, cause_of("192.0.2.1"), 0.0) == 0.5 * CORE
    assert work.charge(cause_of("192.0.2.1"), 1.0, 0.0) > 0
    assert work.charge(cause_of("192.0.2.1", "alice"), 1.0, 0.0) == 0.0, "a key that was quiet"


def test_what_is_remembered_has_a_bound() -> None:
    work = Work(RATES, max_remembered=2)
    first = cause_of("192.0.2.1", "first")
    use_up(work, first, 0.0)
    for number in range(3):
        work.charge(cause_of(f"198.51.{number}.1", f"k{number}"), 1.0, 0.0)
    assert work.charge(first, 1.0, 0.0) == 0.0, "the longest unused is forgotten"


def test_who_has_gone_is_forgotten_within_a_minute_of_others_coming() -> None:
    work = Work(RATES)
    for second in range(600):
        work.charge(cause_of(f"192.0.{second % 250}.1", f"k{second}"), 1.0, float(second))
        assert len(work) <= 3 * 64 + 2
    use_up(work, cause_of("203.0.113.1", "heavy"), 601.0)
    work.charge(cause_of("192.0.2.1", "another"), 1.0, 601.5)
    assert work.charge(cause_of("203.0.113.1", "heavy"), 1.0, 601.5) == 0.0
    use_up(work, cause_of("203.0.113.1", "heavy"), 601.5)
    assert work.charge(cause_of("203.0.113.1", "heavy"), 1.0, 601.5) > 0, "who owes is not"


def test_what_is_given_back_is_so_also_to_whom_has_nothing_left() -> None:
    work = Work(RATES)
    cause = cause_of("192.0.2.1")
    while not work.charge(cause, 1_000.0, 0.0):
        pass
    assert not work.charge(cause, -2_000.0, 0.0)
    assert not work.charge(cause, 1.0, 0.0)
