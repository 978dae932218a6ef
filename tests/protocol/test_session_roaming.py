"""Two session machines over a network that does everything wrong: a stateful property test.

A path is a pair of byte streams. Behind a hello may stand the oldest of what is not acknowledged,
which waits there until the hello is taken, or is discarded with it. Bytes arrive in any portions,
or never: a path can be cut at any byte, its end noticed by each side at another time. A new path
can be made while the old one still delivers, and its hello and welcome take time, so that the
numbers in them may be older than what was acknowledged meanwhile. Whatever happens, messages arrive
exactly once and in order, and a lost session counts at least what is missing, and nothing that the
other side has confirmed.
"""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocol.errors import Code
from protocol.session.early import EARLY_BYTES, NO_EARLY, Early
from protocol.session.events import Ended, PathDead
from protocol.session.machine import SessionMachine
from protocol.session.settings import SessionSettings
from protocol.session.states import State
from tests.support.scale import of

ENDED = (State.CLOSED, State.LOST)


@dataclass(frozen=True)
class Numbers:
    """What a hello or a welcome says."""

    received: int
    partial: int
    consumed: int
    window: int
    revised: bool


@dataclass(eq=False)
class Wire:
    """A path: what is under way to each side, and the hello and welcome before it."""

    hello: Numbers | None
    welcome: Numbers | None = None
    under_way: tuple[bytearray, bytearray] = field(
        default_factory=lambda: (bytearray(), bytearray())
    )
    early: Early = NO_EARLY
    """What stands behind the hello."""
    cut: bool = False
    """Nothing arrives any more, and nobody may know it yet."""


class Side:
    """One end: the machine and what a shell keeps beside it."""

    def __init__(self, index: int, config: SessionSettings, *, revised: bool) -> None:
        self.index = index
        self.revised = revised
        """Whether it knows the second revision of the frames."""
        self.machine = SessionMachine(config, 0.0)
        self.wire: Wire | None = None
        self.given: list[bytes] = []
        self.taken: list[bytes] = []
        self.ended: list[Ended] = []
        self.aborted = False

    def numbers(self) -> Numbers:
        machine = self.machine
        window = machine.settings.window
        return Numbers(machine.received, machine.partial, machine.consumed, window, self.revised)

    def attach(self, wire: Wire, numbers: Numbers, now: float) -> None:
        self.machine.attach(
            numbers.received,
            numbers.consumed,
            numbers.window,
            now,
            partial=numbers.partial,
            revised=self.revised and numbers.revised,
            early=NO_EARLY if self.index else wire.early,
        )
        self.wire = wire

    def drop(self, now: float) -> None:
        self.machine.detach(now)
        self.wire = None


SIDES = st.integers(0, 1)
REVISED = st.sampled_from([(True, True), (True, True), (False, True), (True, False)])
WINDOWS = st.sampled_from([1024, 3000, 100_000])
LIMITS = st.sampled_from([0, 1, 1000, 262_144])
SHARES = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])
SIZES = st.lists(st.sampled_from([0, 1, 50, 900, 5000, 70_000]), max_size=5)
Traffic = list[tuple[int, list[int], int, float]]
TRAFFIC = st.lists(st.tuples(SIDES, SIZES, LIMITS, SHARES), max_size=6)


class Roaming(RuleBasedStateMachine):
    """Side 0 asks for paths, side 1 answers; in all else they are the same."""

    @initialize(windows=st.tuples(WINDOWS, WINDOWS), calm=st.integers(0, 60), revised=REVISED)
    def begin(self, windows: tuple[int, int], calm: int, revised: tuple[bool, bool]) -> None:
        """`calm` is for how many deliveries nobody ends the session."""
        self.now = 0.0
        self.calm = calm
        self.sides = tuple(
            Side(index, SessionSettings(window=window), revised=revised[index])
            for index, window in enumerate(windows)
        )
        self.wires: list[Wire] = []
        self._join()

    # -- the applications -----------------------------------------------------------------------

    @rule(side=SIDES, sizes=SIZES)
    def send(self, side: int, sizes: list[int]) -> None:
        here = self.sides[side]
        for size in sizes:
            if here.machine.may_send and here.machine.writable:
                message = b"%d:%d:" % (side, len(here.given)) + bytes(size)
                here.given.append(message)
                here.machine.send(message)

    @rule(side=SIDES, count=st.integers(1, 30))
    def read(self, side: int, count: int) -> None:
        here = self.sides[side]
        for _ in range(min(count, len(here.machine.inbox))):
            here.taken.append(here.machine.take())

    @precondition(lambda self: self.calm <= 0)
    @rule(side=SIDES)
    def finish(self, side: int) -> None:
        here = self.sides[side]
        if here.machine.may_finish:
            here.machine.finish(self.now)
            self._look(here)

    @precondition(lambda self: self.calm <= 0)
    @rule(side=SIDES)
    def close(self, side: int) -> None:
        self.sides[side].machine.close(self.now)
        self._look(self.sides[side])

    @precondition(lambda self: self.calm <= -20)
    @rule(side=SIDES)
    def abort(self, side: int) -> None:
        here = self.sides[side]
        here.aborted = here.aborted or here.machine.state not in ENDED
        here.machine.abort(Code.REFUSED, "enough", self.now)
        self._look(here)

    # -- the network ----------------------------------------------------------------------------

    @rule(side=SIDES, limit=LIMITS)
    def write(self, side: int, limit: int) -> None:
        here = self.sides[side]
        data = here.machine.data_to_send(self.now, limit)
        if here.wire is None:
            assert data == b""
        elif not here.wire.cut:
            here.wire.under_way[1 - side].extend(data)

    @rule(side=SIDES, share=SHARES)
    def arrive(self, side: int, share: float) -> None:
        """Some bytes arrive; those of a path that was given up are discarded."""
        here = self.sides[side]
        self.calm -= 1
        for wire in self.wires:
            waiting = wire.under_way[side]
            count = max(int(len(waiting) * share), min(1, len(waiting)))
            if wire is here.wire and count:
                here.machine.receive(bytes(waiting[:count]), self.now)
                self._look(here)
            if wire is not here.wire and self._expected(here, wire):
                continue  # Bytes behind a hello or a welcome wait for it.
            del waiting[:count]

    @rule(steps=TRAFFIC)
    def traffic(self, steps: Traffic) -> None:
        """Messages are sent, written and arrive, in parts."""
        for side, sizes, limit, share in steps:
            self.send(side, sizes)
            self.write(side, limit)
            self.arrive(1 - side, share)

    @rule(before=TRAFFIC, between=TRAFFIC, after=TRAFFIC)
    def make_before_break(self, before: Traffic, between: Traffic, after: Traffic) -> None:
        """A hello that is late, a welcome that is late, while the old path delivers."""
        self.new_path()
        self.traffic(before)
        self.hello_arrives_if_any()
        self.traffic(between)
        if any(wire.welcome for wire in self.wires):
            self.welcome_arrives()
        self.traffic(after)

    @rule(keep=SHARES, late=TRAFFIC, answered=st.booleans(), after=TRAFFIC)
    def break_before_hello(
        self, keep: float, late: Traffic, answered: bool, after: Traffic
    ) -> None:
        """The path is cut, and the next one begins with data that nobody has asked for: it is cut
        in its turn, or refused, or its answer is late."""
        self.cut(1.0)
        for side in (0, 1):
            self.notice(side)
        self.new_path()
        self.traffic(late)
        self.hello_arrives_if_any()
        if not answered:
            self.cut(keep)
        elif any(wire.welcome for wire in self.wires):
            self.welcome_arrives()
        self.traffic(after)

    @rule(keep=SHARES, after=TRAFFIC)
    def break_before_make(self, keep: float, after: Traffic) -> None:
        """The path is cut, a part still arrives, and the session resumes."""
        self.cut(keep)
        for side in (0, 1):
            self.arrive(side, 1.0)
        self.resume()
        self.traffic(after)

    @rule()
    def everything_arrives(self) -> None:
        for _ in range(3):
            for side in (0, 1):
                self.write(side, 262_144)
                self.arrive(1 - side, 1.0)

    @rule(keep=SHARES)
    def cut(self, keep: float) -> None:
        """Cut the path of both, at any byte: of what is under way, a part may still arrive."""
        for wire in self.wires:
            wire.cut = True
            for waiting in wire.under_way:
                del waiting[int(len(waiting) * keep) :]

    @rule(side=SIDES)
    def notice(self, side: int) -> None:
        """A side sees the end of its stream."""
        here = self.sides[side]
        if here.wire is not None:
            here.drop(self.now)

    # -- paths ----------------------------------------------------------------------------------

    @rule(early=st.booleans())
    def new_path(self, early: bool = True) -> None:
        """Side 0 says hello; older paths may live on."""
        self.wires[:] = [
            wire
            for wire in self.wires
            if wire.hello or wire.welcome or any(here.wire is wire for here in self.sides)
        ][-4:]
        if self._wants_path(self.sides[0]):
            wire = Wire(self.sides[0].numbers())
            if early:
                wire.early = self.sides[0].machine.early(self.now)
                wire.under_way[1].extend(b"".join(wire.early.frames))
                assert len(wire.under_way[1]) <= EARLY_BYTES
            self.wires.append(wire)

    def hello_arrives_if_any(self) -> None:
        if any(wire.hello for wire in self.wires):
            self.hello_arrives()

    @precondition(lambda self: any(wire.hello for wire in self.wires))
    @rule()
    def hello_arrives(self) -> None:
        wire = next(wire for wire in reversed(self.wires) if wire.hello)
        there = self.sides[1]
        hello, wire.hello = wire.hello, None
        if hello is None or wire.cut or not self._wants_path(there):
            return
        wire.welcome = there.numbers()
        there.attach(wire, hello, self.now)

    @precondition(lambda self: any(wire.welcome for wire in self.wires))
    @rule()
    def welcome_arrives(self) -> None:
        wire = next(wire for wire in reversed(self.wires) if wire.welcome)
        here = self.sides[0]
        welcome, wire.welcome = wire.welcome, None
        newest = here.wire not in self.wires[self.wires.index(wire) :]
        if welcome is None or wire.cut or not newest or not self._wants_path(here):
            return
        here.attach(wire, welcome, self.now)

    @rule()
    def resume(self) -> None:
        """A whole resume at once, with true numbers."""
        if all(self._wants_path(side) for side in self.sides):
            self._join()

    @rule(seconds=st.sampled_from([0.5, 2.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for here in self.sides:
            here.machine.handle_timeout(self.now)
            self._look(here)

    @precondition(lambda self: self.calm <= -20)
    @rule()
    def resume_window_passes(self) -> None:
        if all(here.wire is None for here in self.sides):
            self.now += 301.0
            for here in self.sides:
                here.machine.handle_timeout(self.now)
                self._look(here)

    # -- what must hold -------------------------------------------------------------------------

    @invariant()
    def order_and_once(self) -> None:
        for here, there in self._both_ways():
            arrived = there.taken + list(there.machine.inbox)
            assert arrived == here.given[: len(arrived)]
            assert here.machine.acknowledged <= len(arrived) == there.machine.received
            assert here.machine.sent == len(here.given)
            if here.machine.is_drained and here.machine.state not in ENDED:
                assert not there.machine.may_send
                assert here.machine.received == len(there.given)

    @invariant()
    def counts_of_an_end(self) -> None:
        for here, there in self._both_ways():
            for event in here.ended:
                if event.lost is None:
                    assert event.unacknowledged == 0
                    assert there.machine.received == len(here.given)
                else:
                    missing = len(here.given) - there.machine.received
                    assert missing <= event.unacknowledged <= len(here.given)
                    assert event.unacknowledged == here.machine.outstanding
            assert len(here.ended) == (here.machine.state in ENDED)

    @invariant()
    def memory_is_bounded(self) -> None:
        for here in self.sides:
            held = sum(len(message) + 32 for message in here.machine.inbox)
            assert held + here.machine.partial <= here.machine.settings.window + 70_100

    @invariant()
    def nobody_is_blamed(self) -> None:
        """Without an abort, only the resume window ends a session before its close."""
        if not any(here.aborted for here in self.sides):
            for here in self.sides:
                for event in here.ended:
                    assert event.lost in (None, "no path for 300 s")

    def teardown(self) -> None:
        """With a working path in the end, all that can arrive does, and a close is clean."""
        if not hasattr(self, "sides"):
            return
        if not any(here.machine.state is State.LOST for here in self.sides):
            self._join()
            for here in self.sides:
                here.machine.close(self.now)
                self._look(here)
            for _ in range(400):
                for side in (0, 1):
                    self.write(side, 262_144)
                    self.arrive(1 - side, 1.0)
                    self.read(1 - side, 1000)
            for here, there in self._both_ways():
                assert here.machine.state is State.CLOSED
                assert there.taken == here.given
        self.order_and_once()
        self.counts_of_an_end()

    # -- inside ---------------------------------------------------------------------------------

    def _both_ways(self) -> list[tuple[Side, Side]]:
        a, b = getattr(self, "sides", (None, None))
        return [(a, b), (b, a)] if a is not None and b is not None else []

    def _wants_path(self, here: Side) -> bool:
        machine = here.machine
        return machine.state is not State.LOST

    def _expected(self, here: Side, wire: Wire) -> bool:
        """Whether a path may still become this side's."""
        return (wire.hello if here.index else wire.welcome) is not None

    def _join(self) -> None:
        a, b = self.sides
        wire = Wire(None)
        hello, welcome = a.numbers(), b.numbers()
        self.wires[:] = [wire]
        b.attach(wire, hello, self.now)
        a.attach(wire, welcome, self.now)

    def _look(self, here: Side) -> None:
        for event in here.machine.events():
            match event:
                case PathDead():
                    here.wire = None
                case Ended():
                    here.ended.append(event)


TestRoaming = Roaming.TestCase
TestRoaming.settings = settings(max_examples=of(75, 3000), stateful_step_count=30)
