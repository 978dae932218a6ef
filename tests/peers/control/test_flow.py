"""The shell of a flow, under a clock that jumps: what it does, and what it leaves."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from peers.config import PeerConfig
from peers.control import flow as shell
from peers.control.attempt import AttemptEnded, Home, Spare
from peers.control.connection import ControlConnection, FlowReplaced, Tell
from peers.control.flow import Awaited, Flow, FlowDown, FlowEvent, FlowUp
from peers.control.refusal import Phase
from peers.control.relay_address import RelayAddresses
from peers.tasks import Tasks
from peers.transport import FORGOTTEN
from protocol.errors import RelayUnavailable, RoamRelayError, Superseded
from protocol.messages import Pong, Restarting
from tests.peers.control.scripted import ACCOUNT, LINE, Events, Seven, Wire, connected, logged
from tests.support import virtual_time
from tests.support.doors import open_door

LOST = RelayUnavailable("lost")
FINAL = Superseded("another program")

Outcome = Exception | str
"""What an attempt comes to: it raises, or it is registered and what is named happens then."""


@dataclass
class World:
    """One flow, the outcomes of its attempts, and what it told; times are in seconds."""

    outcomes: list[Outcome]
    on_event: Callable[["World", FlowEvent], None] = lambda world, event: None
    tasks: Tasks = field(default_factory=Tasks)
    awaited: Awaited = field(default_factory=Awaited)
    told: list[FlowEvent] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    beside: Callable[["World"], None] | None = None
    """What happens when one is opened beside the connection that is kept; None: nobody answers."""
    tried_beside: list[float] = field(default_factory=list)
    spares: list[Wire] = field(default_factory=list)
    used: list[Spare] = field(default_factory=list)
    open_still: list[bool] = field(default_factory=list)
    """Of each spare that was used, whether what it replaces was open when the attempt began."""
    running: int = 0
    phase: Phase = Phase.HANDSHAKE
    """How far the attempts come that fail."""

    def __post_init__(self) -> None:
        relay = RelayAddresses("http://127.0.0.1:9")
        home = Home(ACCOUNT, relay, PeerConfig(), Seven(), self.tasks, open_door())
        self.flow = Flow(0, None, home, self.awaited, self.tell)
        self.enough = asyncio.Event()

    def tell(self, event: FlowEvent) -> None:
        self.told.append(event)
        self.on_event(self, event)

    async def attempt(
        self, home: Home, flow: int, source: str | None, tell: Tell, spare: Spare | None
    ) -> ControlConnection:
        """Stand for a real attempt."""
        self.running += 1
        assert self.running == 1
        if spare is not None:
            self.used.append(spare)
            spare.stream.close()
            self.open_still.append(not self.wires[-1].aborted)
        try:
            self.attempts.append(round(asyncio.get_running_loop().time(), 3))
            if not self.outcomes:
                self.enough.set()
                await asyncio.Event().wait()  # The test stops it.
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, RoamRelayError):
                await asyncio.sleep(0)
                raise AttemptEnded(outcome, self.phase)
            if isinstance(outcome, Exception):
                await asyncio.sleep(0)
                raise outcome
            wire, connection = await connected(Events())
            self.wires.append(wire)
        finally:
            self.running -= 1
        match outcome:
            case "restarting":
                wire.say(Restarting(3.0, 0.0))
                asyncio.get_running_loop().call_soon(wire.hang_up)
            case "lost":
                asyncio.get_running_loop().call_soon(wire.hang_up)
            case "forgotten":
                asyncio.get_running_loop().call_soon(wire.hang_up, FORGOTTEN)
            case "dropped":
                asyncio.get_running_loop().call_soon(self.flow.drop, "the address is gone")
            case "broken":
                connection.keep_alive = breaks  # type: ignore[method-assign]
        return connection

    async def open_spare(self, home: Home, replaced: ControlConnection, flow: int) -> Spare:
        """Stand for the real one, which takes a second."""
        self.tried_beside.append(round(asyncio.get_running_loop().time(), 3))
        await asyncio.sleep(1.0)
        if self.beside is None:
            raise LOST
        self.spares.append(Wire())
        self.beside(self)
        return Spare(LINE, self.spares[-1])

    def waits(self) -> list[float]:
        """The seconds between the attempts."""
        pairs = zip(self.attempts, self.attempts[1:], strict=False)
        return [round(after - before, 3) for before, after in pairs]


async def breaks() -> RoamRelayError:
    raise KeyError("nobody thought of it")


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.5)


def play(
    world: Callable[[], World], until: "Callable[[World], Coroutine[Any, Any, None]]"
) -> World:
    """Run a flow until the test is content; nothing is left then."""

    async def story() -> World:
        made = world()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shell, "attempt", made.attempt)
            patch.setattr(shell, "open_spare", made.open_spare)
            made.flow.begin()
            await until(made)
            made.flow.stop()
            assert made.flow.connection is None
            await made.tasks.close()
        assert all(wire.closed or wire.aborted or wire.lost for wire in made.wires + made.spares)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert made.flow._timer is None
        return made

    return virtual_time.run(story())


async def all_done(world: World) -> None:
    await world.enough.wait()


def test_it_comes_back_as_was_decided() -> None:
    world = play(lambda: World([LOST, LOST, "lost", "restarting", "dropped", LOST]), all_done)
    assert world.waits() == [0.375, 0.75, 2.5, 3.0, 0.0, 0.375]
    told = [type(event).__name__[4:] for event in world.told]
    assert told == ["Down", "Down", "Up", "Down", "Up", "Down", "Up", "Down", "Down"]
    assert not any(event.final for event in world.told if isinstance(event, FlowDown))


def test_while_somebody_waits_it_comes_back_sooner() -> None:
    async def until(world: World) -> None:
        with world.awaited.waiting(), world.awaited.waiting():
            await world.enough.wait()
        assert not world.awaited.is_urgent

    waits = play(lambda: World(["lost", LOST, LOST, LOST, LOST]), until).waits()
    assert waits == [0.5, 0.375, 0.75, 0.75, 0.75]


def test_a_flow_that_the_relay_s_host_has_forgotten_comes_back_sooner() -> None:
    """The way may be lost, and not the relay; or its host was restarted, and all come back."""
    assert play(lambda: World(["forgotten", "lost"]), all_done).waits() == [0.5, 2.5]


def test_who_waits_is_released_on_every_way_out() -> None:
    awaited = Awaited()

    def fails() -> None:
        with awaited.waiting():
            assert awaited.is_urgent
            raise KeyError("nobody thought of it")

    with pytest.raises(KeyError):
        fails()
    assert not awaited.is_urgent


def test_a_final_error_ends_it() -> None:
    async def until(world: World) -> None:
        await asyncio.sleep(1000)

    world = play(lambda: World([FINAL]), until)
    assert world.told == [FlowDown(world.flow, FINAL, final=True)]
    assert world.attempts == [0.0]


@pytest.mark.parametrize(
    "outcome", [KeyError("nobody thought of it"), "broken"], ids=["attempt", "kept"]
)
@pytest.mark.expected_errors("unexpected")
def test_what_nobody_expected_is_logged_once_and_the_flow_begins_anew(
    outcome: Outcome, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "peers"):
        world = play(lambda: World([outcome, "lost"]), all_done)
    assert [record.exc_info is not None for record in logged(caplog)] == [True]
    assert len(world.attempts) == 3
    assert 0.05 <= world.waits()[0] <= 5.0
    down = [event for event in world.told if isinstance(event, FlowDown)]
    assert "nobody thought of it" in down[0].error.reason
    assert not down[0].final


@pytest.mark.expected_errors("unexpected")
def test_what_its_owner_raises_does_not_silence_it(caplog: pytest.LogCaptureFixture) -> None:
    def fails(world: World, event: FlowEvent) -> None:
        raise KeyError("nobody thought of it")

    with caplog.at_level(logging.ERROR, "peers"):
        world = play(lambda: World([LOST, "lost"], fails), all_done)
    assert len(world.attempts) == 3
    assert len(logged(caplog)) == len(world.told) == 3


@pytest.mark.parametrize("kind", [FlowUp, FlowDown])
@pytest.mark.parametrize("outcomes", [[LOST], ["lost"], ["dropped"]], ids=str)
def test_its_owner_may_stop_it_over_any_news(
    kind: type[FlowEvent], outcomes: list[Outcome], caplog: pytest.LogCaptureFixture
) -> None:
    def stops(world: World, event: FlowEvent) -> None:
        if isinstance(event, kind):
            world.flow.stop()
            assert world.flow.connection is None

    async def until(world: World) -> None:
        await asyncio.sleep(100)

    with caplog.at_level(logging.ERROR, "peers"):
        world = play(lambda: World(list(outcomes), stops), until)
    stopped = [event for event in world.told if isinstance(event, kind)]
    assert len(world.attempts) == (1 if stopped else 2)
    assert len(stopped) <= 1
    assert logged(caplog) == []


def test_its_owner_may_hurry_it_over_any_news() -> None:
    def hurries(world: World, event: FlowEvent) -> None:
        world.flow.hurry()

    world = play(lambda: World([LOST, LOST, "lost"], hurries), all_done)
    assert world.waits() == [0.05, 0.05, 0.05]


def test_a_hurry_cuts_the_wait_short() -> None:
    async def until(world: World) -> None:
        await asyncio.sleep(0.2)
        world.flow.hurry()
        await world.enough.wait()

    assert play(lambda: World([LOST]), until).waits() == [0.2]


@pytest.mark.parametrize("answers", [True, False])
def test_a_check_drops_a_connection_that_does_not_answer(answers: bool) -> None:
    async def until(world: World) -> None:
        while world.flow.connection is None:
            await asyncio.sleep(0.01)
        world.flow.check(2.0)
        if answers:
            await asyncio.sleep(1.0)
            for number in range(10):
                world.wires[0].say(Pong(number))
        await asyncio.sleep(5.0)

    world = play(lambda: World(["stays"]), until)
    assert len(world.attempts) == (1 if answers else 2)
    if not answers:
        assert world.attempts[1] - world.attempts[0] == pytest.approx(2.0, abs=0.1)


def nothing(world: World) -> None:
    return


@pytest.mark.parametrize("after", [(), (LOST,), ("stays",)])
def test_where_the_relay_answers_on_a_new_connection_and_not_on_this_one_that_goes_on(
    after: tuple[Outcome, ...],
) -> None:
    async def until(world: World) -> None:
        await asyncio.sleep(20.1)
        assert world.wires[0].aborted is bool(after), "when the attempt is over, and not before"

    world = play(lambda: World(["silent", *after], beside=nothing), until)
    # A heartbeat of 15 s, and 4 s for its answer; a second for the new connection.
    assert world.attempts[:2] == [0.0, 20.0]
    assert [spare.stream for spare in world.used] == world.spares
    assert world.open_still == [True]
    assert world.wires[0].aborted
    down = [event for event in world.told if isinstance(event, FlowDown)]
    assert isinstance(down[0].error, FlowReplaced)


def test_a_connection_that_was_only_slow_stays() -> None:
    def late(world: World) -> None:
        world.wires[0].say(Pong(0))

    async def until(world: World) -> None:
        await asyncio.sleep(30)
        assert world.flow.connection is not None

    world = play(lambda: World(["silent"], beside=late), until)
    assert (world.attempts, world.tried_beside, world.used) == ([0.0], [19.0], [])
    assert world.spares[0].aborted


def test_where_nobody_answers_anywhere_it_is_given_up_as_ever() -> None:
    world = play(lambda: World(["silent"]), all_done)
    assert world.attempts == [0.0, 27.0]
    assert world.tried_beside == [19.0, 22.0], "further and further apart: the next would be at 27"


def test_stopped_while_a_new_connection_is_tried_it_leaves_nothing() -> None:
    async def until(world: World) -> None:
        await asyncio.sleep(19.5)

    world = play(lambda: World(["silent"], beside=nothing), until)
    assert (world.tried_beside, world.spares) == ([19.0], [])


def test_stopped_by_the_news_that_it_was_replaced_it_leaves_nothing() -> None:
    def stops(world: World, event: FlowEvent) -> None:
        if isinstance(event, FlowDown):
            world.flow.stop()

    async def until(world: World) -> None:
        await asyncio.sleep(30.0)

    world = play(lambda: World(["silent"], stops, beside=nothing), until)
    assert (len(world.spares), world.attempts) == (1, [0.0])


@pytest.mark.parametrize("turns", range(25))
@pytest.mark.parametrize("how", ["stop", "close"])
def test_ended_at_any_moment_it_leaves_nothing(turns: int, how: str) -> None:
    async def until(world: World) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        if how == "close":  # Its tasks end first: then it is stopped.
            await world.tasks.close()

    world = play(lambda: World(["lost", LOST, "dropped", "stays"]), until)
    assert world.running == 0
