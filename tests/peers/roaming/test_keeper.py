"""When a session looks for a second path: the machine alone."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.roaming.keeper import Keeper, KeeperState, Looked


def keeper(*, is_caller: bool = True) -> Keeper:
    return Keeper(is_caller=is_caller, stagger=0.25)


def looking(one: Keeper, now: float = 0.0) -> Keeper:
    one.wanted(now)
    due = one.next_timeout()
    assert due is not None
    assert one.time(due)
    return one


def test_a_short_session_looks_for_none() -> None:
    one = keeper()
    assert one.next_timeout() is None
    one.wanted(10.0)
    assert one.next_timeout() == 11.0
    assert not one.time(10.9)
    one.unwanted()
    assert (one.next_timeout(), one.time(20.0)) == (None, False)


def test_the_callee_looks_later() -> None:
    one = keeper(is_caller=False)
    one.wanted(10.0)
    assert one.next_timeout() == 12.0
    one.changed(10.0)
    assert one.next_timeout() == 11.0


@pytest.mark.parametrize(
    ("event", "pause", "state"),
    [
        (Keeper.changed, 0.25, KeeperState.LOOKING_HURRIED),
        (Keeper.told, 1.0, KeeperState.LOOKING_TOLD),
    ],
)
def test_a_change_is_looked_at_at_once_and_after_a_pause(
    event: Callable[[Keeper, float], None], pause: float, state: KeeperState
) -> None:
    one = looking(keeper())
    one.looked(Looked.NOTHING, 1.1)
    assert one.next_timeout() is None
    event(one, 10.0)
    assert one.time(10.0)
    event(one, 10.1)
    event(one, 10.15)
    assert one.state is state
    one.looked(Looked.STANDS, 10.2)
    assert one.next_timeout() == 10.0 + pause


def test_a_new_network_of_this_host_waits_for_nobody_s_word() -> None:
    """A look has just been made, as when the session has gone over to the other network."""
    one = looking(keeper())
    one.looked(Looked.NOTHING, 1.1)
    one.told(1.2)
    assert one.next_timeout() == 2.0
    one.changed(1.4)
    assert one.next_timeout() == 1.4
    assert one.time(1.4)
    one.told(1.5)
    one.changed(1.5)
    one.told(1.6)
    one.looked(Looked.NOTHING, 1.7)
    assert one.next_timeout() == 1.7


def test_what_fails_is_repeated_later_each_time() -> None:
    one = looking(keeper())
    now, pauses = 1.0, []
    for _ in range(12):
        one.looked(Looked.FAILED, now)
        due = one.next_timeout()
        assert due is not None
        pauses.append(due - now)
        now = due
        assert one.time(now)
    assert pauses[:5] == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert pauses[-1] == 512.0


def test_one_that_is_gone_is_followed_by_another() -> None:
    one = looking(keeper())
    one.looked(Looked.STANDS, 1.0)
    one.gone(100.0)
    assert one.next_timeout() == 101.0
    one.time(101.0)
    one.looked(Looked.STANDS, 101.0)
    one.gone(102.0)  # It did not stand for long.
    assert one.next_timeout() == 104.0


def test_what_happens_while_none_is_wanted_changes_nothing() -> None:
    one = keeper()
    one.changed(1.0)
    one.gone(1.0)
    one.looked(Looked.FAILED, 1.0)
    assert (one.state, one.next_timeout()) == (KeeperState.OFF, None)


_STEPS = st.sampled_from(["wanted", "unwanted", "changed", "told", "gone", *Looked])


@given(st.lists(st.tuples(_STEPS, st.floats(0, 5)), max_size=60), st.booleans())
def test_whatever_happens_there_is_a_pause_between_looks(
    steps: list[tuple[str | Looked, float]], is_caller: bool
) -> None:
    one, now, last, hurried = keeper(is_caller=is_caller), 0.0, float("-inf"), False
    for step, seconds in steps:
        now += seconds
        if one.time(now):
            assert now >= last + (0.25 if hurried else 1.0)
            hurried = False
            last = now
        match step:
            case "wanted":
                one.wanted(now)
            case "unwanted":
                one.unwanted()
            case "changed":
                one.changed(now)
                hurried = True
            case "told":
                one.told(now)
            case "gone":
                one.gone(now)
            case Looked():
                hurried = hurried or step is Looked.FAILED
                one.looked(step, now)
            case _:
                pytest.fail(f"{step}")
        due = one.next_timeout()
        assert (due is not None) == (one.state is KeeperState.WAITING)
