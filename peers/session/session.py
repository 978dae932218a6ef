"""The asyncio face of a session: `send`, `receive`, `close`, and the path that it is on.

What a session is, and when it is over, is decided by `protocol.session`; this gives it a loop, a
clock and a path. It starts no tasks: everything happens in the loop's callbacks. Where the next
path comes from is decided above, in the room `roaming`; it is told what happens (news.py).
"""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from peers.config import checked_count, checked_flag, checked_kind, checked_seconds
from peers.path import Path, PathEnd
from peers.session.events import PathChanged
from peers.session.explanation import Explanation, Trace
from peers.session.figures import Counters, SessionFigures
from peers.session.news import LocationTold, Over, PathLost, Pinned, TellSession
from peers.session.standby import StandbyPath
from peers.session.terms import Terms
from peers.tasks import EventQueue, Waiters, check_loop
from protocol.errors import (
    Code,
    SessionClosed,
    SessionLost,
    Unsupported,
    UsageError,
)
from protocol.lateness import Lateness
from protocol.messages import Mode
from protocol.session import (
    MAX_PAYLOAD,
    Ended,
    HelpWanted,
    Moved,
    PathDead,
    SessionMachine,
    SessionSettings,
    State,
    SwitchedToo,
)

__all__ = ["Session"]

CLOSE_PATIENCE = 10.0
"""Seconds for which `close` waits while nothing is acknowledged, unless it is told another time."""


class Session:
    """A conversation with one service of one peer.

    Messages arrive exactly once and in order, over any number of paths. `async for message in
    session` ends when the other side has closed; `async with session` closes it, or aborts it where
    the block raises.

    It belongs to one event loop. Any number of tasks may `send`: the messages of one task stay in
    their order. One task at a time may `receive`, also while others send or close. All methods may
    be cancelled at any await: a cancelled `receive` loses no message, a cancelled `send` has not
    sent its own, and a cancelled `close` goes on closing in the background. When the session ends,
    whoever waits in `send` is told at once, and `receive` when all that had arrived was read.
    """

    # With one more than 29 attributes each session has a dictionary of 1.6 KiB (CPython 3.11).
    __slots__ = (
        "_acknowledged", "_arrived", "_counted", "_events", "_features_shared", "_flush_due",
        "_lateness", "_loop", "_machine", "_over", "_path", "_path_rank", "_readable", "_standby",
        "_tell", "_terms", "_timer", "_trace", "_usual_round_trip", "_wakes_at", "_writable", "id",
        "metadata", "pinned",
    )  # fmt: skip

    def __init__(
        self,
        session_id: bytes,
        terms: Terms,
        settings: SessionSettings,
        trace: Trace,
        tell: TellSession,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._machine = SessionMachine(settings, self._loop.time())
        self._trace = trace
        self._tell = tell
        self._path: PathEnd | None = None
        self._path_rank = (0, False)
        self._standby: StandbyPath | None = None
        self._features_shared: frozenset[str] = frozenset()
        """What both sides have named on the path that was taken last."""
        self._events = EventQueue[PathChanged]()
        self._flush_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0
        self._lateness = Lateness()
        self._readable = Waiters(self._loop)
        self._writable = Waiters(self._loop)
        self._arrived = Waiters(self._loop)
        self._acknowledged = 0
        """Of what was sent, when those who wait for it were told last."""
        self._counted = Counters(self._machine, self._loop.time())
        self._over: asyncio.Future[Ended] = self._loop.create_future()
        self.id = session_id
        """16 bytes that name it, the same at both sides."""
        self._terms = terms
        self.metadata = terms.metadata
        """What the session's caller has given to `connect`, at both sides; empty where that was
        nothing, or where either runs a version that knows no such thing."""
        self.pinned = False
        """Whether the program wants it to stay on its path."""
        self._usual_round_trip: float | None = None

    def __repr__(self) -> str:
        return f"<Session with {self.remote[:8]} for {self.service}, {self.mode.value}>"

    # -- for the application --------------------------------------------------------------------

    @property
    def remote(self) -> str:
        """The GUID of the other peer."""
        return self._terms.remote

    @property
    def service(self) -> str:
        """The service that the session is for."""
        return self._terms.service

    @property
    def mode(self) -> Mode:
        """The mode of the draft that it was opened in, or `auto`."""
        return self._terms.mode

    @property
    def path(self) -> Path | None:
        """The path that the session is on: its kind, addresses and round-trip time."""
        return self._path

    @property
    def standby(self) -> Path | None:
        """The path that stands ready, over which the session goes on where its own fails."""
        return self._standby.path if self._standby is not None else None

    @property
    def state(self) -> State:
        """Open, half-closed, closing, closed or lost."""
        return self._machine.state

    @property
    def outstanding(self) -> int:
        """Messages sent here that the other side is not yet known to have."""
        return self._machine.outstanding

    @property
    def window(self) -> int:
        """Bytes that the other side may make this one hold, beside one message."""
        return self._machine.settings.window

    @property
    def is_over(self) -> bool:
        """Whether the session has ended, closed or lost."""
        return self._over.done()

    def events(self) -> AsyncIterator[PathChanged]:
        """Iterate over what happens to the session's path until the session is over; the first one
        says how it is now.

        A reader that is slow loses the oldest events beyond 64, never the newest.
        """
        check_loop(self._loop, "the session")
        return self._events.subscribe(PathChanged(self._path, "now", self.standby))

    def pin(self, pinned: bool = True) -> None:
        """Keep the session on its path as long as that lives, whatever would be better; with
        False, look for a better one again."""
        check_loop(self._loop, "the session")
        if checked_flag(pinned, "pinned") != self.pinned:
            self.pinned = pinned
            if not self._over.done():
                self._tell(Pinned(self))

    def explain(self) -> Explanation:
        """Return why the path is what it is: candidates, probes, what was dropped, the rule."""
        path, select = self._path, self._terms.select
        return Explanation(
            mode=self.mode.value,
            select=select if isinstance(select, str) else "the program's own",
            policy=self._terms.policy.text,
            path=f"{path.kind.value}, {path.remote}" if path else "none",
            lock=path.lock.value if path else "none",
            round_trip=self.round_trip,
            rule=self._trace.rule if path else "",
            pinned=self.pinned,
            standby=self._trace.standby_shown(self.standby),
            keepalive=self._machine.keepalive_shown if path else "",
            events=self._trace.events,
        )

    def figures(self) -> SessionFigures:
        """Return what it has carried so far; of a session that is over, too."""
        return self._counted.figures(self._loop.time(), self.round_trip)

    async def send(self, message: bytes | bytearray | memoryview) -> int:
        """Send one message; wait while the window is full. Return its number in this direction, the
        first one's is 1.

        When it returns, the message will arrive unless the session is lost; it need not have
        arrived yet (`acknowledged`). At most 1 MiB (`protocol.session.settings.MAX_PAYLOAD`). A
        buffer that can change is copied before anything is waited for.

        Raises:
            TypeError: it is no bytes, but a text for example: encode it first.
            ValueError: the message is too large.
            SessionClosed: either side has closed the session, or this one has finished; also while
                this waited.
            SessionLost: the session is lost.
            UsageError: it is another loop's.
        """
        check_loop(self._loop, "the session")
        message = _bytes_of(message)
        machine = self._machine
        while machine.may_send and not machine.writable:
            # No timeout: how long a reader may take is the application's to decide.
            await self._writable.wait()
        if not machine.may_send:
            raise self._why_over()
        machine.send(message)
        self._counted.sent_bytes += len(message)
        self._flush_soon()
        return machine.sent

    async def acknowledged(self, number: int | None = None) -> None:
        """Wait until the other side has acknowledged message `number`, as `send` has returned it;
        without one, all that was sent until now. It has arrived there then, in its library: whether
        its program has read it, only the program can say.

        Raises:
            ValueError: no such message was sent.
            SessionLost: the session is lost, and it may not have arrived.
            UsageError: it is another loop's.
        """
        check_loop(self._loop, "the session")
        machine = self._machine
        wanted = machine.sent if number is None else checked_count(number, "number")
        if wanted > machine.sent:
            raise ValueError(f"number: {machine.sent} messages were sent, not {wanted}")
        while machine.acknowledged < wanted:
            if self._over.done():
                raise self._why_over()
            # No timeout: how long the other side may be away is the session's own to decide.
            await self._arrived.wait()

    async def receive(self) -> bytes:
        """Return the next message; wait until there is one. One task at a time.

        Raises:
            SessionClosed: the other side has closed or finished, and all that it sent was read.
            SessionLost: the session is lost, and all that had arrived was read.
            UsageError: another task waits here already, or it is another loop's.
        """
        check_loop(self._loop, "the session")
        machine = self._machine
        while not machine.inbox:
            if machine.is_drained:
                raise self._why_over()
            if self._readable:
                raise UsageError(
                    "two tasks receive from one session: let one do it, and hand the messages on"
                )
            # No timeout: when the next message comes is the other application's to decide.
            await self._readable.wait()
        message = machine.take()
        self._counted.taken += 1
        self._counted.taken_bytes += len(message)
        if machine.needs_flush:
            self._flush_soon()
        return message

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            try:
                yield await self.receive()
            except SessionClosed:
                return

    async def finish(self) -> None:
        """End this side's direction: all that was sent arrives, then the other side's `async for`
        ends, while it may go on sending and this side receiving. Returns at once.

        Once both sides have finished, the session closes.

        Raises:
            Unsupported: the other side's version knows no direction that ends by itself; nothing
                has changed, and `close` ends both.
            SessionLost: the session is lost.
            UsageError: it is another loop's.
        """
        check_loop(self._loop, "the session")
        machine = self._machine
        if machine.state is State.LOST:
            raise self._why_over()
        if not machine.may_finish:
            raise Unsupported(f"{self.remote[:8]} runs a version that cannot be told to finish")
        machine.finish(self._loop.time())
        self._after()

    async def close(self, timeout: float | None = None) -> None:
        """Close the session; return when all that was sent has arrived and both sides agree.

        `timeout` (seconds) is for all of it. Without one, it goes on while the other side goes on
        acknowledging, and gives up when nothing came for 10 s. Messages of the other side that
        arrive meanwhile can still be read afterwards.

        Raises:
            SessionLost: the time was over, or the session was lost before; says how much was not
                acknowledged.
            UsageError: it is another loop's.
        """
        check_loop(self._loop, "the session")
        if timeout is not None:
            checked_seconds(timeout)
        began = self._loop.time()
        self._machine.close(began)
        self._flush_soon()
        lateness = Lateness()
        patience = CLOSE_PATIENCE if timeout is None else timeout
        while not self._over.done():
            now = self._loop.time()
            since = began if timeout is not None else max(began, self._machine.progressed)
            due = since + patience
            turn = lateness.turn(due, now)
            if now >= due and turn is None:
                reason = f"the close was not answered within {patience:g} s"
                self._machine.abort(Code.REQUEST_TIMEOUT, reason, now)
                self._after()
                break
            await asyncio.wait({self._over}, timeout=turn or due - now)
        if self._over.result().lost is not None:
            raise self._why_over()

    def abort(self, reason: str = "aborted by the application") -> None:
        """End the session at once; what is under way may be lost. The other side is told the
        reason, if there is a path. Does nothing to a session that is over."""
        check_loop(self._loop, "the session")
        checked_kind("reason", reason, str, "a text")
        reason = reason.encode(errors="replace").decode()  # Half a character has no encoding.
        self._machine.abort(Code.REFUSED, reason, self._loop.time())
        self._after()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.close()
        else:
            self.abort(f"the application failed: {kind.__name__ if kind else ''}")

    @property
    def round_trip(self) -> float | None:
        """Seconds of the last measured round trip on the current path; None without any."""
        if self._path is None:
            return None
        return self._machine.round_trip or self._path.round_trip

    @property
    def usual_round_trip(self) -> float | None:
        """Seconds of the last round trip on the current path or, where there is none, on the last
        one; None without any. `round_trip` is for who compares paths, this for who waits."""
        return self._machine.round_trip or self._usual_round_trip

    # -- inside ---------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        # What is sent in one turn of the loop leaves in one write.
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        path = self._path
        if path is None:
            return
        while not path.paused:
            data = self._machine.data_to_send(self._loop.time())
            if not data:
                break
            path.send(data)
            if self._path is not path:
                return
        self._wake_by(self._machine.wants_help_at)
        if self._over.done():
            self._path = None
            path.finish()

    def _after(self) -> None:
        """Wake whoever can go on, and act on what the machine says has happened."""
        machine = self._machine
        for event in machine.events():
            match event:
                case PathDead():
                    self._drop_path(event.reason)
                case HelpWanted():
                    self._help(event.reason)
                case SwitchedToo():
                    self._switched_too(event.number)
                case Moved():
                    self._tell(LocationTold(self, event.entries))
                case Ended():
                    self._end(event)
        self._wake_by(machine.acknowledges_at)
        if machine.inbox or machine.state is not State.OPEN:
            self._readable.wake()
        if machine.acknowledged > self._acknowledged:
            self._acknowledged = machine.acknowledged
            self._arrived.wake()
        if self._writable and (machine.writable or not machine.may_send):
            self._writable.wake()
        self._flush()

    def _help(self, reason: str) -> None:
        """The path acknowledges nothing for unusually long, and another one stands ready."""

    def _switched_too(self, number: int) -> None:
        """Both sides have gone over to the path that stood ready."""

    def _wake_by(self, due: float | None) -> None:
        if due is not None and due < self._wakes_at:
            self._set_timer()

    def _drop_path(self, reason: str) -> None:
        """Give the current path up at once; the session goes on without."""
        path, self._path = self._path, None
        if path is not None:
            path.abort()
            self._pathless(reason)

    def _pathless(self, reason: str) -> None:
        self._machine.detach(self._loop.time())
        self._set_timer()
        if not self._over.done():
            self._trace.note("lost", reason=reason)
            self._events.put(PathChanged(None, reason))
            self._tell(PathLost(self, reason))

    def _end(self, ended: Ended) -> None:
        if not self._over.done():
            self._over.set_result(ended)
            self._arrived.wake()
            if self._timer is not None:
                self._timer.cancel()
            self._events.close()
            self._tell(Over(self))

    def _why_over(self) -> SessionClosed | SessionLost:
        if self._over.done() and (lost := self._over.result()).lost is not None:
            return SessionLost(
                lost.lost,
                unacknowledged=lost.unacknowledged,
                messages=self._machine.unacknowledged,
            )
        if self._machine.state is State.HALF_CLOSED_LOCAL:
            return SessionClosed("this side has finished")
        if self._machine.state is State.HALF_CLOSED_REMOTE:
            return SessionClosed("the other side has finished")
        return SessionClosed("the session is closed")

    def _set_timer(self) -> None:
        if (when := self._machine.next_timeout()) is not None and not self._over.done():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(when, self._timeout, when)
            self._wakes_at = when

    def _timeout(self, due: float) -> None:
        # Armed once for each deadline and not for each message: a deadline that moved is met here.
        self._timer = None
        now = self._loop.time()
        if (turn := self._lateness.turn(due, now)) is not None:
            self._timer = self._loop.call_at(now + turn, self._timeout, now + turn)
            self._wakes_at = now + turn
            return
        self._machine.handle_timeout(now)
        self._after()
        self._set_timer()


def _bytes_of(message: bytes | bytearray | memoryview) -> bytes:
    if not isinstance(message, bytes | bytearray | memoryview):
        raise TypeError(f"a message is bytes, not {type(message).__name__}: encode it first")
    size = message.nbytes if isinstance(message, memoryview) else len(message)
    if size > MAX_PAYLOAD:
        raise ValueError(f"a message may have at most {MAX_PAYLOAD} bytes, not {size}")
    return bytes(message)  # The same object where it cannot change.
