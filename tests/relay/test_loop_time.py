"""Who held the loop, on clocks of the test's own; and one who really does."""

import asyncio
import logging
from time import thread_time

import pytest

from protocol.messages import Ping
from relay.loop_time import HELD, LoopTime
from relay.server import RelayServer
from tests.relay.client import registered


class Clocks:
    """The clock on the wall, and the time that the thread has had."""

    def __init__(self) -> None:
        self.wall = 100.0
        self.cpu = 5.0
        self.time = LoopTime(lambda: self.wall, lambda: self.cpu)

    def works(self, seconds: float) -> None:
        self.wall += seconds
        self.cpu += seconds

    def stops(self, seconds: float) -> None:
        """SIGSTOP, or a machine that is busy with others."""
        self.wall += seconds

    def serves(self, who: str, *, works: float = 0.0, stops: float = 0.0) -> None:
        began = self.time.clock()
        self.works(works)
        self.stops(stops)
        self.time.served("control", who, began)


def beats(clocks: Clocks, due: float, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Let the beat come now; return the lines that it has logged."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "relay"):
        clocks.time.beat(due)
    return [record.getMessage() for record in caplog.records]


def test_the_largest_lag_is_kept_for_a_scrape() -> None:
    clocks = Clocks()
    lags = []
    # A beat is late by half a second once; what it is each second thereafter.
    for second in range(40):
        clocks.wall = 100.0 + second
        late = 0.5 if second == 5 else 0.01
        clocks.time.beat(clocks.wall - late)
        lags.append(clocks.time.lag)
    assert max(lags[:5]) == pytest.approx(0.01)
    assert lags[5:15] == pytest.approx([0.5] * 10)
    assert max(lags[25:]) == pytest.approx(0.01)


def test_who_is_served_shortly_costs_one_look_at_the_clock() -> None:
    asked = []
    time = LoopTime(lambda: 1.0, lambda: asked.append(0) or 0.0)  # type: ignore[func-returns-value]
    for _ in range(100):
        time.served("control", "alice", time.clock())
    assert len(asked) == 1
    assert not time.holds


def test_who_holds_the_loop_is_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    due = clocks.wall
    clocks.serves("alice", works=0.004)
    clocks.serves("mallory", works=0.3)
    clocks.serves("bob", works=0.006)
    (line,) = beats(clocks, due, caplog)
    assert clocks.time.holds == {"control": 2}
    assert "who='mallory'" in line
    assert "who_milliseconds=300" in line
    assert "milliseconds=310" in line
    assert clocks.time.late["work"] == pytest.approx(0.31)


def test_nobody_is_blamed_for_a_process_that_was_stopped(caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    due = clocks.wall
    clocks.serves("alice", works=0.001, stops=30.0)
    assert beats(clocks, due, caplog) == []
    assert not clocks.time.holds
    assert clocks.time.late == pytest.approx({"work": 0.001, "system": 30.0})


def test_many_who_each_take_little_are_many(caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    due = clocks.wall
    for number in range(100):
        clocks.serves(f"peer {number}", works=HELD / 2)
    assert beats(clocks, due, caplog) == []
    assert clocks.time.late["work"] == pytest.approx(0.25)
    due = clocks.wall
    for number in range(300):
        clocks.serves(f"peer {number}", works=HELD / 2)
    (line,) = beats(clocks, due, caplog)
    assert "serving='many'" in line
    assert not clocks.time.holds


def test_the_log_is_not_flooded(caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    said = []
    for _ in range(100):
        due = clocks.wall
        clocks.serves("mallory", works=0.06)
        said += beats(clocks, due, caplog)
        clocks.wall += 0.1
    assert len(said) == 2
    assert "before=0" in said[0]
    assert "before=62" in said[1]
    assert clocks.time.holds == {"control": 100}


def test_a_beat_in_time_is_not_late(caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    assert beats(clocks, clocks.wall + 0.01, caplog) == []
    assert clocks.time.late == {"work": 0.0, "system": 0.0}


async def test_a_peer_whose_message_takes_long_is_named(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with registered(relay.url) as one:
        loop = relay.metrics.loop
        seen = asyncio.Event()
        told = loop.beat

        def beat(due: float) -> None:
            told(due)
            if "the loop was held" in caplog.text:
                seen.set()

        monkeypatch.setattr(loop, "beat", beat)
        with caplog.at_level(logging.WARNING, "relay"):
            served = loop.served

            def slow(serving: str, who: str, began: float) -> None:
                until = thread_time() + (0.1 if serving == "control" else 0.0)
                while thread_time() < until:
                    pass
                served(serving, who, began)

            monkeypatch.setattr(loop, "served", slow)
            one.send(Ping(1))
            async with asyncio.timeout(60):
                await seen.wait()
        assert f"who='{one.identity.guid}'" in caplog.text
        assert loop.holds["control"]
