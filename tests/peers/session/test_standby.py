"""A second path of a session, as the session has it: on a clock that jumps."""

import asyncio
import dataclasses

import msgpack
import pytest

from peers.config import StandbyWord
from peers.session import PathLost, SessionEnd, SessionNews, StandbyLost, Switched, Trace
from peers.session.standby import StandbyPath
from protocol.features import STANDBY
from protocol.messages import PathWelcome
from protocol.session import State
from protocol.session.frames import Frame
from tests.peers.roaming.fakes import CALLER, PATIENT, turns
from tests.support.fake_path import FakePath, linked
from tests.support.virtual_time import run

TERMS = dataclasses.replace(CALLER, standby=StandbyWord.AUTO)
THERE = PathWelcome(features=("session-2", "early-data", STANDBY))


def made(*, is_caller: bool = True) -> tuple[SessionEnd, list[SessionNews]]:
    told: list[SessionNews] = []
    terms = dataclasses.replace(TERMS, is_caller=is_caller)
    trace = Trace(asyncio.get_running_loop().time)
    return SessionEnd(b"s" * 16, terms, PATIENT, trace, told.append), told


class Two:
    """Both ends of a session, with a path and a second one that stands ready."""

    def __init__(self) -> None:
        self.here, self.told_here = made()
        self.there, self.told_there = made(is_caller=False)
        self.one, self.two = linked(), linked()
        for session, path, dialed in self._ends(self.one):
            session.take_path(path.path, 1, THERE, dialed_here=dialed)
        for session, path, dialed in self._ends(self.two):
            assert session.stand_by(path.path, "a test", dialed_here=dialed)

    def _ends(self, pair: tuple[FakePath, FakePath]) -> list[tuple[SessionEnd, FakePath, bool]]:
        return [(self.here, pair[0], True), (self.there, pair[1], False)]

    async def exchange(self) -> None:
        await self.here.send(b"from here")
        await self.there.send(b"from there")
        assert await self.there.receive() == b"from here"
        assert await self.here.receive() == b"from there"

    def end(self) -> None:
        self.here.abort()
        self.there.abort()


def test_a_session_goes_on_over_it_whatever_ends_its_own() -> None:
    async def scene(how: str) -> None:
        two = Two()
        await two.exchange()
        events = two.here.events()
        await anext(events)
        if how == "lost":
            two.one[0].lose("reset")
        elif how == "dropped":
            two.here.drop_path("its address is gone")
        else:
            assert two.here.switch("it is leaving")
        assert two.here.path is two.two[0].path
        assert two.here.standby is None
        assert not any(isinstance(news, PathLost) for news in two.told_here)
        assert isinstance(two.told_here[-1], Switched)
        changed = await anext(events)
        assert (changed.path, changed.standby) == (two.two[0].path, None)
        await two.exchange()
        assert two.there.path is two.two[1].path
        assert two.here.path_rank == two.there.path_rank == (2, True)
        assert two.here.number == two.there.number == 2
        assert two.here.figures().paths == two.there.figures().paths == 2
        await asyncio.sleep(2)
        assert how == "dropped" or two.one[1].end, "what was replaced is closed, a moment later"
        two.end()

    for how in ("lost", "dropped", "leaving"):
        run(scene(how))


def test_both_sides_may_go_over_at_once() -> None:
    async def scene() -> None:
        two = Two()
        await two.here.send(b"one")
        await two.there.send(b"two")
        two.one[0].lose("reset")
        two.one[1].lose("reset")
        assert await two.there.receive() == b"one"
        assert await two.here.receive() == b"two"
        await two.exchange()
        two.end()

    run(scene())


def test_a_path_that_acknowledges_nothing_is_helped_and_a_pinned_one_is_not() -> None:
    async def scene(pinned: bool) -> None:
        two = Two()
        for _ in range(5):
            await two.exchange()
            await asyncio.sleep(0.1)
        two.here.pin(pinned)
        two.one[0]._other = None  # From here on nothing arrives over the first path.
        await two.here.send(b"into the void")
        await asyncio.sleep(0.5)
        assert (two.here.path is two.two[0].path) != pinned
        if not pinned:
            assert await two.there.receive() == b"into the void"
            assert "acknowledged" in two.here.explain().rule
        two.end()

    run(scene(False))
    run(scene(True))


def test_a_quiet_path_is_pinged_and_given_up() -> None:
    async def scene() -> None:
        two = Two()
        await asyncio.sleep(3600)
        assert two.here.standby is not None
        sent = len(two.two[0].sent) + len(two.two[1].sent)
        assert 100 <= sent <= 130, "a ping and its answer each minute, for both"
        two.two[0]._other = None
        await asyncio.sleep(70)
        assert two.here.standby is None
        assert isinstance(two.told_here[-1], StandbyLost)
        assert "no answer" in str(two.here.explain())
        await asyncio.sleep(0)
        assert two.here.path is two.one[0].path
        two.end()

    run(scene())


def test_what_it_may_not_carry_ends_it_and_not_the_session() -> None:
    async def scene() -> None:
        two = Two()
        two.two[0].arrives(msgpack.packb([Frame.DATA, 1, [b"x"]]))
        assert two.here.standby is None
        assert two.two[0].end == "aborted"
        await turns()
        assert two.there.standby is None
        await two.exchange()
        two.end()

    run(scene())


def test_a_word_with_an_old_number_ends_it() -> None:
    async def scene() -> None:
        two = Two()
        two.two[0].arrives(msgpack.packb([Frame.SWITCH, 1]))
        assert two.here.standby is None
        assert two.here.path is two.one[0].path
        await two.exchange()
        two.end()

    run(scene())


def test_a_session_without_a_path_takes_it_at_once() -> None:
    async def scene() -> None:
        here, told = made()
        here.take_path(FakePath().path, 1, THERE, dialed_here=True)
        here.drop_path("gone")
        assert isinstance(told[-1], PathLost)
        second = FakePath()
        assert here.stand_by(second.path, "a test", dialed_here=True)
        assert here.path is second.path
        assert isinstance(told[-1], Switched)
        here.abort()

    run(scene())


def test_of_two_that_of_the_caller_stays() -> None:
    async def scene(is_caller: bool) -> None:
        here, _ = made(is_caller=is_caller)
        here.take_path(FakePath().path, 1, THERE, dialed_here=is_caller)
        callers, callees, later = FakePath(), FakePath(), FakePath()
        assert here.stand_by(callees.path, "", dialed_here=not is_caller)
        assert here.stand_by(callers.path, "", dialed_here=is_caller)
        assert callees.end == "finished"
        assert not here.would_stand_by(dialed_here=not is_caller)
        assert not here.stand_by(later.path, "", dialed_here=not is_caller)
        assert (later.end, here.standby) == ("finished", callers.path)
        here.abort()
        assert callers.end == "finished"
        assert here.standby is None

    run(scene(True))
    run(scene(False))


@pytest.mark.parametrize("features", [(), ("session-2",), (STANDBY,)])
def test_none_stands_by_unless_both_have_named_it(features: tuple[str, ...]) -> None:
    async def scene() -> None:
        here, _ = made()
        here.take_path(FakePath().path, 1, PathWelcome(features=features), dialed_here=True)
        assert not here.may_stand_by
        path = FakePath()
        assert not here.stand_by(path.path, "", dialed_here=True)
        assert path.end == "finished"
        here.abort()

    run(scene())


def test_one_that_is_lost_at_once_is_none() -> None:
    async def scene() -> None:
        here, told = made()
        here.take_path(FakePath().path, 1, THERE, dialed_here=True)
        assert here.stand_by(FakePath(lost_at_once=True).path, "", dialed_here=True)
        assert here.standby is None
        assert isinstance(told[-1], StandbyLost)
        here.abort()

    run(scene())


def test_who_has_closed_needs_none() -> None:
    async def scene() -> None:
        two = Two()
        await two.here.close()
        await turns()
        assert two.here.state is two.there.state is State.CLOSED
        assert two.here.standby is two.there.standby is None
        assert {path.end for path in two.two} == {"finished", ""}

    run(scene())


def test_after_its_release_nobody_is_told() -> None:
    async def scene() -> None:
        here, told = made()
        path = FakePath()
        standby = StandbyPath(here, path.path, by_caller=True, dialed_here=True)
        standby.begin()
        standby.release()
        path.lose("gone")
        await asyncio.sleep(100)
        assert told == []

    run(scene())
