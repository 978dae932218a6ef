"""Shares on the peers' side: each key has its own, and where all is used, who has most loses."""

from hypothesis import given
from hypothesis import strategies as st

from peers.roaming.crowd import Crowd, window_for


def test_each_has_a_share() -> None:
    crowd: Crowd[int] = Crowd(in_all=10, each=2)
    assert [crowd.add("alice", number) for number in range(2)] == [None, None]
    assert not crowd.has_room("alice")
    assert crowd.has_room("bob")
    assert list(crowd.of("alice")) == [0, 1]
    assert crowd.remove("alice", 0)
    assert not crowd.remove("alice", 0)
    assert crowd.has_room("alice")


def test_where_all_is_used_who_has_most_loses_the_oldest() -> None:
    crowd: Crowd[int] = Crowd(in_all=3, each=3)
    for number, guid in enumerate(["alice", "alice", "bob"]):
        crowd.add(guid, number)
    assert not crowd.has_room("alice"), "nobody has more"
    assert crowd.has_room("bob")
    assert crowd.add("carol", 3) == 0
    assert not crowd.remove("alice", 0)
    assert len(crowd) == 3
    assert crowd.add("dave", 4) == 1, "of keys that have one each, the oldest"


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=60))
def test_who_has_nothing_always_gets_in(events: list[tuple[str, bool]]) -> None:
    crowd: Crowd[int] = Crowd(in_all=4, each=2)
    held: dict[int, str] = {}
    for number, (guid, adds) in enumerate(events):
        own = [thing for thing, owner in held.items() if owner == guid]
        assert list(crowd.of(guid)) == own
        if not adds:
            if own:
                assert crowd.remove(guid, own[0])
                del held[own[0]]
            continue
        room = crowd.has_room(guid)
        assert room or own
        if room:
            displaced = crowd.add(guid, number)
            held[number] = guid
            if displaced is not None:
                del held[displaced]
        assert len(crowd) == len(held) <= 4


def test_windows_get_smaller_and_never_nothing() -> None:
    held, windows = 0, []
    for _ in range(100):
        windows.append(window_for(8 << 20, held, 64 << 20))
        held += windows[-1]
    assert windows[0] == 8 << 20
    assert windows[-1] == 1 << 16
    assert windows == sorted(windows, reverse=True)
    assert held < (64 << 20) + 100 * (1 << 16)
