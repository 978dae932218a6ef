"""For how long a path may be quiet: what both agree on, what a network teaches, and who is pinged
when. The clock is the test's."""

import pytest

from protocol.session import Keepalive, Keepalives, SessionSettings, agreed_quiet
from protocol.session.events import PathDead
from tests.protocol.test_session import Pair, frames

SAFE, LIMIT = 2.0, 120.0
WISHES = SessionSettings(idle_interval=LIMIT)


@pytest.mark.parametrize(
    ("here", "there", "agreed"),
    [(0, 0, 0), (60, 0, 60), (0, 60, 60), (60, 20, 20), (0, 3600, 300), (3600, 1800, 1800)],
)
def test_who_wishes_nothing_bears_five_minutes(here: float, there: float, agreed: float) -> None:
    assert agreed_quiet(here, there) == agreed_quiet(there, here) == agreed


def test_the_interval_begins_at_what_is_safe_and_grows_while_paths_live() -> None:
    network, seen = Keepalive(), []
    for _ in range(14):
        seen.append(interval := network.interval(SAFE, LIMIT))
        network.survived(interval)
    assert seen[:4] == [2.0, 3.0, 4.5, 6.75]
    assert seen[-1] == LIMIT
    assert network.interval(SAFE, 10.0) == 10.0, "another session agreed on less"
    assert network.interval(20.0, 10.0) == 20.0, "nobody is pinged more often than usual"


def test_after_a_death_of_quiet_it_falls_back_and_stays_below() -> None:
    network = Keepalive()
    for _ in range(9):
        interval = network.interval(SAFE, LIMIT)
        if interval > 20.0:
            network.died(interval)
        else:
            network.survived(interval)
    assert 10.0 < network.interval(SAFE, LIMIT) < 20.0
    assert "died after" in network.why(15.0, SAFE)


def test_one_that_died_shorter_than_others_lived_counts() -> None:
    network = Keepalive()
    network.survived(60.0)
    network.died(30.0)
    assert network.interval(SAFE, LIMIT) < 30.0
    network.died(1.0)
    assert network.interval(SAFE, LIMIT) == SAFE


def test_a_death_may_have_been_an_accident() -> None:
    network = Keepalive()
    network.survived(20.0)
    network.died(30.0)
    for _ in range(20):
        interval = network.interval(SAFE, LIMIT)
        assert interval <= 25.0
        network.survived(interval)
    assert network.interval(SAFE, LIMIT) > 30.0


def test_networks_are_remembered_up_to_a_bound() -> None:
    known = Keepalives()
    first = known.at("10.0.0.1")
    first.survived(60.0)
    for number in range(63):
        known.at(f"10.0.1.{number}")
    assert known.at("10.0.0.1") is first
    known.at("10.0.2.1")
    assert known.at("10.0.0.1") is first
    for number in range(64):
        known.at(f"10.0.3.{number}")
    assert known.at("10.0.0.1") is not first


def quiet_pair() -> tuple[Pair, Keepalive]:
    pair, network = Pair(WISHES), Keepalive()
    pair.run()
    pair.a.be_quiet(LIMIT, network)
    pair.b.be_quiet(LIMIT, Keepalive())
    return pair, network


def test_a_quiet_path_is_pinged_less_and_less_often() -> None:
    pair, network = quiet_pair()
    pair.wait(3600.0)
    assert pair.a.attached
    assert pair.b.attached
    assert network.interval(SAFE, LIMIT) == LIMIT
    assert "every 120 s" in pair.a.keepalive_shown
    due = pair.a.next_timeout()
    assert due is not None
    assert pair.now < due <= pair.now + LIMIT


def test_what_nobody_agreed_on_is_pinged_as_ever() -> None:
    pair = Pair(WISHES)
    pair.run()
    pair.wait(600.0)
    due = pair.a.next_timeout()
    assert due is not None
    assert due <= pair.now + 2.0
    assert "nothing longer was agreed" in pair.a.keepalive_shown


def test_a_path_that_does_not_answer_after_quiet_dies_as_soon_and_teaches() -> None:
    pair, network = quiet_pair()
    pair.wait(60.0)
    interval = network.interval(SAFE, LIMIT)
    assert interval > 10.0
    due = pair.a.next_timeout()
    assert due is not None
    pair.now = due
    pair.a.handle_timeout(due)
    assert frames(pair.a.data_to_send(due))[0][0] == 4
    gives_up = pair.a.next_timeout()
    assert gives_up is not None
    pair.a.handle_timeout(gives_up)
    while pair.a.attached:
        gives_up = pair.a.next_timeout()
        assert gives_up is not None
        pair.a.data_to_send(gives_up)
        pair.a.handle_timeout(gives_up)
    assert gives_up - due == pytest.approx(4.0), "as long after its ping as ever"
    assert isinstance(pair.a.events()[-1], PathDead)
    assert network.interval(SAFE, LIMIT) < interval / 1.1
    pair.b.detach(gives_up)
    pair.attach()
    pair.run()
    assert "every 2 s" in pair.a.keepalive_shown, "what was agreed was for that path"


def test_what_is_said_after_quiet_and_reset_teaches_too() -> None:
    pair, network = quiet_pair()
    pair.wait(60.0)
    interval = network.interval(SAFE, LIMIT)
    due = pair.a.next_timeout()
    assert due is not None
    pair.now = due - 1.0
    pair.a.send(b"x")
    pair.a.data_to_send(pair.now)
    pair.a.detach(pair.now)
    assert network.interval(SAFE, LIMIT) < interval - 1.0


def test_a_path_that_ends_while_it_talks_teaches_nothing() -> None:
    pair, network = quiet_pair()
    pair.wait(60.0)
    interval = network.interval(SAFE, LIMIT)
    pair.run()
    pair.a.send(b"x")
    pair.run()
    pair.a.send(b"y")
    pair.a.data_to_send(pair.now)
    pair.a.detach(pair.now)
    assert network.interval(SAFE, LIMIT) >= interval


def test_what_a_neighbour_survives_says_nothing_against_a_death() -> None:
    network = Keepalive()
    network.survived(60.0)
    network.died(100.0)
    # Of one network, but with no NAT between.
    network.survived(300.0)
    assert network.interval(SAFE, 300.0) < 100.0
