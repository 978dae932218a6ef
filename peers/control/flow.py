"""One flow: a control connection from one local address, which comes back by itself.

A peer has a flow for each way into the network that it has (`peers.control.registration`). When one
comes back is decided in `peers.control.reconnect`; here is what carries that out.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from peers.config import log
from peers.control.attempt import AttemptEnded, Home, Spare, attempt, open_spare
from peers.control.connection import ControlConnection, ControlEvent
from peers.control.doubt import LONGEST_REST, SHORTEST_REST, answer_due
from peers.control.reconnect import (
    Action,
    Attempt,
    AttemptFailed,
    AttemptSucceeded,
    Begin,
    ConnectionEnded,
    Event,
    Hurry,
    Reconnect,
    Release,
    Report,
    State,
    Stop,
    TimePassed,
)
from peers.control.refusal import Judgement, Phase, judge
from peers.control.tell import tell_safely
from peers.transport import Stream
from protocol.errors import Code, RelayUnavailable, RoamRelayError

__all__ = ["Awaited", "Flow", "FlowDown", "FlowEvent", "FlowUp"]


@dataclass(frozen=True, slots=True)
class FlowUp:
    """The flow is registered."""

    flow: "Flow"
    connection: ControlConnection


@dataclass(frozen=True, slots=True)
class FlowDown:
    """The flow is not registered."""

    flow: "Flow"
    error: RoamRelayError
    final: bool
    """Whether it will not come back."""


FlowEvent: TypeAlias = FlowUp | FlowDown | ControlEvent


class Awaited:
    """Counts who waits for the relay: while anybody does, its return is urgent."""

    def __init__(self) -> None:
        self._count = 0

    @property
    def is_urgent(self) -> bool:
        """Whether anybody waits."""
        return self._count > 0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for the relay inside."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


_CLOCKS = 0.1
"""Seconds by which the kernel's clock and the loop's may differ on one event."""


@dataclass(slots=True)
class _Held:
    """The registered connection of a flow."""

    connection: ControlConnection
    network_changed: bool = False
    """Whether it was dropped here, as it led nowhere any more."""

    def drop(self, reason: str) -> None:
        """Drop it: it leads nowhere any more."""
        self.network_changed = True
        self.connection.drop(reason)

    def replace(self) -> Stream:
        """Drop it: a new one is open already. Returns its stream, still open."""
        self.network_changed = True
        return self.connection.replace()


@dataclass(frozen=True, slots=True)
class _Replacement:
    """A spare, and the stream in whose place it goes on: that one is aborted by whoever has this,
    when the attempt is over."""

    spare: Spare
    replaced: Stream

    def abort(self) -> None:
        """Abort both."""
        self.spare.stream.abort()
        self.replaced.abort()


class Flow:
    """Keeps one control connection, from `begin` to `stop`. `source` is the local address that it
    comes from; None leaves it to the routes."""

    def __init__(
        self,
        number: int,
        source: str | None,
        home: Home,
        awaited: Awaited,
        tell: Callable[[FlowEvent], None],
    ) -> None:
        self.number = number
        self.source = source
        self._home = home
        self._awaited = awaited
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._machine = Reconnect(random.random)
        self._events: deque[Event] = deque()
        self._is_acting = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._held: _Held | None = None
        self._replacement: _Replacement | None = None
        """For the next attempt."""

    @property
    def connection(self) -> ControlConnection | None:
        """The registered connection; None while there is none."""
        held = self._held
        return None if held is None or held.connection.is_closed else held.connection

    def begin(self) -> None:
        """Connect, register, and do it again whenever the connection ends. It ends on `stop`, and
        on an error that another attempt cannot mend."""
        self._happened(Begin())

    def hurry(self, *, moved: bool = False) -> None:
        """Cut the wait short: somebody waits for the relay; or the network has changed (`moved`),
        and what the relay has said before may hold no more."""
        self._happened(Hurry(moved))

    def check(self, timeout: float) -> None:
        """Ping the connection; unless it answers within `timeout` seconds, or three of its round
        trips where they take long, drop it and try anew."""
        held = self._held
        if held is not None and not held.connection.is_closed:
            timeout = answer_due(timeout, held.connection.round_trip)
            silent = f"no answer for {timeout:g} s after the network changed"
            self._home.tasks.spawn(
                self._ping(held, timeout, silent),
                lambda error: held.connection.drop(str(error)),
            )

    def drop(self, reason: str) -> None:
        """Drop the connection, which leads nowhere any more, and try anew at once."""
        if self._held is not None:
            self._held.drop(reason)
        self.hurry(moved=True)

    def stop(self) -> None:
        """End the connection, and do not come back."""
        self._happened(Stop())

    # -- the machine's shell --------------------------------------------------------------------

    def _happened(self, event: Event) -> None:
        # What an action leads to at once is taken after all the actions of what led to it.
        self._events.append(event)
        if self._is_acting:
            return
        self._is_acting = True
        try:
            while self._events:
                for action in self._machine.receive(self._events.popleft(), self._loop.time()):
                    self._do(action)
        finally:
            self._is_acting = False
            self._set_timer()

    def _do(self, action: Action) -> None:
        match action:
            case Attempt():
                self._task = self._home.tasks.spawn(self._keep(), self._failed)
            case Release():
                if self._held is not None:
                    self._held.connection.close()
                if self._task is not None:
                    self._task.cancel()
                if self._replacement is not None:
                    self._replacement.abort()
            case Report(error, final):
                tell_safely(self._tell, FlowDown(self, error, final))
            case _:
                assert_never(action)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._machine.next_timeout()
        if due is not None:
            self._timer = self._loop.call_at(due, self._happened, TimePassed())

    # -- the task -------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Make one attempt, and keep the connection that it gives until that ends."""
        replacement, self._replacement = self._replacement, None
        spare = None if replacement is None else replacement.spare
        try:
            connection = await attempt(self._home, self.number, self.source, self._tell, spare)
        except AttemptEnded as ended:
            judgement = self._judge(ended.error, ended.phase)
            self._over(AttemptFailed(ended.error, judgement, self._awaited.is_urgent))
            return
        finally:
            if replacement is not None:
                replacement.replaced.abort()
        if self._machine.state is State.ENDED:  # It was stopped in the same moment.
            connection.close()
            return
        held = self._held = _Held(connection)
        try:
            self._home.standing.is_kept = True
            self._home.nodes.registered(connection.relay, connection.registration.nodes)
            self._happened(AttemptSucceeded())
            log.info("registered", relay=str(connection.address), source=connection.local_host)
            tell_safely(self._tell, FlowUp(self, connection))
            self._home.tasks.spawn(self._look_after(held))
            error = await connection.keep_alive()
        finally:
            connection.close()
            self._held = None
        self._over(
            ConnectionEnded(
                error,
                connection.restarting,
                held.network_changed,
                self._awaited.is_urgent,
                connection.was_forgotten or self._knows_other(connection),
                self._judge(error, Phase.REGISTERED),
            )
        )

    def _knows_other(self, connection: ControlConnection) -> bool:
        """Keep what the relay has said of its nodes; return whether there is another one."""
        nodes = self._home.nodes
        nodes.told(connection.relay, connection.registration.nodes)
        if connection.restarting is not None and connection.restarting.urls:
            nodes.sent_away(connection.relay, connection.restarting.urls)
        return nodes.has_other(connection.address, self._home.relay.known)

    async def _look_after(self, held: _Held) -> None:
        """Try a new connection beside one that is doubted: if the relay answers there, and still
        not here, that one goes on in its place; else nothing has happened."""
        connection, rest = held.connection, SHORTEST_REST
        while await connection.doubted():
            heard = connection.heard
            try:
                spare = await open_spare(self._home, connection, self.number)
            except RoamRelayError as error:
                log.debug("no new connection either", reason=error.reason)
            else:
                if not connection.is_closed and connection.heard <= heard + _CLOCKS:
                    self._replacement = _Replacement(spare, held.replace())
                    return
                spare.stream.abort()
            if await connection.ended_within(rest):
                return
            rest = min(2 * rest, LONGEST_REST)

    def _judge(self, error: RoamRelayError, phase: Phase) -> Judgement:
        return judge(error, phase, kept=self._home.standing.is_kept)

    def _over(self, event: AttemptFailed | ConnectionEnded) -> None:
        if self._machine.state is not State.ENDED:
            self._happened(event)

    def _failed(self, error: Exception) -> None:
        """Begin anew, after a pause, what nobody expected to fail."""
        told = RelayUnavailable(f"unexpected here: {error!r}", code=Code.INTERNAL)
        if self._machine.is_trying:
            self._happened(AttemptFailed(told, urgent=self._awaited.is_urgent))
        elif self._machine.is_registered:
            self._happened(ConnectionEnded(told, urgent=self._awaited.is_urgent))

    async def _ping(self, held: _Held, timeout: float, silent: str) -> None:
        try:
            await held.connection.ping(timeout)
        except RoamRelayError:
            if not held.connection.is_closed:
                held.drop(silent)
