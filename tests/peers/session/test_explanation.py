"""Why a session's path is what it is: a trace with a bound, as facts and as text."""

import dataclasses

import pytest

from peers.choice import Candidate
from peers.config import PathKind
from peers.session import Explanation, Trace
from protocol.endpoint import Endpoint
from tests.support.fake_path import FakePath


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_is_noted_is_kept_with_its_time_since_the_beginning() -> None:
    clock = Clock()
    trace = Trace(clock)
    clock.now = 101.5
    candidate = Candidate(Endpoint("192.0.2.1", 9), "10.0.0.1")
    trace.note("proven", candidate, round_trip=0.0123, reason="it answered")
    (event,) = trace.events
    assert (event.at, event.where) == (1.5, "192.0.2.1:9 from 10.0.0.1")
    assert str(event).split() == [
        *("1.500", "s", "proven", "192.0.2.1:9", "from", "10.0.0.1"),
        *("12.3", "ms", "it", "answered"),
    ]


def test_the_last_choice_is_the_rule_and_nothing_else_is() -> None:
    trace = Trace(Clock())
    for what, reason in (("chosen", "one"), ("failed", "two"), ("chosen", "three"), ("kept", "4")):
        trace.note(what, reason=reason)
    assert trace.rule == "three"


def test_the_oldest_events_go() -> None:
    trace = Trace(Clock())
    for number in range(300):
        trace.note("kept", number)
    assert [event.where for event in trace.events] == [str(number) for number in range(44, 300)]


@pytest.mark.parametrize("old", [None, FakePath().path])
@pytest.mark.parametrize("dialed_here", [True, False])
def test_a_path_that_is_taken_is_told_in_words(old: FakePath | None, dialed_here: bool) -> None:
    trace = Trace(Clock())
    path = FakePath(PathKind.RELAYED, remote="198.51.100.1:80")
    why = trace.path_taken(path.path, old, dialed_here=dialed_here)  # type: ignore[arg-type]
    assert why == ("a better path" if old is not None else "a new path")
    assert trace.events[-1].where == "relayed, 198.51.100.1:80"
    assert trace.rule == ("" if dialed_here else "the other side has dialed")


def test_the_text_says_what_is_and_why() -> None:
    trace = Trace(Clock())
    trace.note("chosen", "192.0.2.1:9", reason="the least delay")
    told = Explanation(
        mode="p2p",
        select="fastest",
        policy="only ipv4",
        path="direct, 192.0.2.1:9",
        round_trip=0.0251,
        rule="the least delay",
        pinned=True,
        events=trace.events,
    )
    lines = str(told).splitlines()
    assert lines[:3] == [
        "path      direct, 192.0.2.1:9, 25.1 ms",
        "because   the least delay",
        "mode      p2p, select fastest, policy 'only ipv4', pinned",
    ]
    assert lines[3:5] == ["standby   none", "lock      none"]
    assert len(lines) == 6
    bare = dataclasses.replace(told, policy="", round_trip=None, rule="", pinned=False, events=())
    assert str(bare).splitlines() == [
        "path      direct, 192.0.2.1:9",
        "because   there is none",
        "mode      p2p, select fastest",
        "standby   none",
        "lock      none",
    ]
