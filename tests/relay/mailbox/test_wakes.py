"""Whom the operator's endpoint is told of, and when: a machine, walked without a clock."""

from hypothesis import given
from hypothesis import strategies as st

from relay.mailbox.wakes import AT_ONCE, FIRST_AGAIN, LAST_AGAIN, PER_SECOND, Wakes


def all_due(wakes: Wakes, now: float) -> list[str]:
    found = []
    while (guid := wakes.take(now)) is not None:
        found.append(guid)
    return found


def test_a_peer_is_told_of_at_once_and_then_once_in_a_pause() -> None:
    wakes = Wakes(60.0)
    assert wakes.next_timeout(0.0) is None
    for _ in range(100):
        assert wakes.came("bob", 0.0)
    assert all_due(wakes, 0.0) == ["bob"]
    wakes.told("bob", 1.0)
    wakes.came("bob", 2.0)
    assert wakes.next_timeout(2.0) == 59.0
    assert all_due(wakes, 60.9) == []
    assert all_due(wakes, 61.0) == ["bob"]
    wakes.told("bob", 61.5)
    assert all_due(wakes, 200.0) == []
    assert len(wakes) == 0, "nothing is remembered of who has had its pause"


def test_who_fetches_its_letters_is_not_told_of() -> None:
    wakes = Wakes(60.0)
    wakes.came("bob", 0.0)
    wakes.read("bob")
    wakes.read("alice")
    assert all_due(wakes, 0.0) == []
    wakes.came("bob", 0.0)
    assert all_due(wakes, 0.0) == ["bob"]
    wakes.came("bob", 0.1)
    wakes.read("bob")
    wakes.failed("bob", 0.2, waits=False)
    assert all_due(wakes, 10_000.0) == []
    assert len(wakes) == 0


def test_failures_are_tried_again_ever_more_rarely_as_long_as_letters_wait() -> None:
    wakes = Wakes(1.0)
    wakes.came("bob", 0.0)
    now, pauses = 0.0, []
    for _ in range(12):
        assert all_due(wakes, now) == ["bob"]
        wakes.failed("bob", now, waits=True)
        wait = wakes.next_timeout(now)
        assert wait is not None
        assert all_due(wakes, now + wait - 0.001) == []
        pauses.append(wait)
        now += wait
    assert pauses[:3] == [FIRST_AGAIN, 2 * FIRST_AGAIN, 4 * FIRST_AGAIN]
    assert pauses[-1] == LAST_AGAIN
    assert all_due(wakes, now) == ["bob"]
    wakes.failed("bob", now, waits=False)
    assert all_due(wakes, now + LAST_AGAIN) == []


def test_strangers_cannot_have_the_endpoint_told_without_end() -> None:
    wakes = Wakes(60.0, most=1000)
    assert sum(wakes.came(f"peer {number}", 0.0) for number in range(5000)) == 1000
    assert len(all_due(wakes, 0.0)) == AT_ONCE
    wait = wakes.next_timeout(0.0)
    assert wait is not None
    assert 0 < wait <= 1 / PER_SECOND
    assert len(all_due(wakes, 2.0)) == 2 * PER_SECOND


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("came", "read", "take", "told", "failed")),
            st.sampled_from("abc"),
            st.floats(0, 40),
        ),
        max_size=60,
    )
)
def test_in_any_order_nobody_is_told_of_twice_in_a_pause_nor_forgotten(
    events: list[tuple[str, str, float]],
) -> None:
    wakes, now = Wakes(30.0), 0.0
    wants: dict[str, bool] = {}
    on_its_way: set[str] = set()
    last: dict[str, float] = {}
    for what, guid, later in events:
        now += later
        match what:
            case "came":
                assert wakes.came(guid, now)
                wants[guid] = True
            case "read":
                wakes.read(guid)
                wants[guid] = False
            case "take":
                for one in all_due(wakes, now):
                    assert one not in on_its_way
                    assert wants[one]
                    assert now - last.get(one, -100.0) >= 30.0
                    wants[one] = False
                    on_its_way.add(one)
            case "told" if guid in on_its_way:
                on_its_way.remove(guid)
                wakes.told(guid, now)
                last[guid] = now
            case "failed" if guid in on_its_way:
                on_its_way.remove(guid)
                wakes.failed(guid, now, waits=True)
                last[guid] = now
                wants[guid] = True
    for guid in on_its_way:
        wakes.told(guid, now)
    due = all_due(wakes, now + LAST_AGAIN + 30.0)
    assert sorted(due) == sorted(guid for guid, wanted in wants.items() if wanted)
    for guid in due:
        wakes.told(guid, now)
