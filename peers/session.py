"""The asyncio face of a session: `send`, `receive`, `close`, and the path that it is on.

What a session is, and when it is over, is decided by `protocol.session`; this gives it a loop, a
clock and a path. It starts no tasks: everything happens in the loop's callbacks.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from peers.path import Path
from protocol.errors import Code, ProtocolViolation, SessionClosed, SessionLost
from protocol.messages import Mode, PathHello, PathWelcome
from protocol.session import SessionMachine
from protocol.session_events import Ended, Moved, PathDead
from protocol.session_settings import SessionSettings
from protocol.session_states import State

__all__ = ["Session"]


class Session:
    """A conversation with one service of one peer.

    Messages arrive exactly once and in order. `async for message in session` ends when the other
    side has closed; `async with session` closes it. All methods may be cancelled: a cancelled
    `receive` loses no message, a cancelled `send` has not sent its own.
    """

    def __init__(
        self,
        *,
        session_id: bytes,
        remote: str,
        service: str,
        mode: Mode,
        settings: SessionSettings,
        on_end: Callable[["Session"], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._machine = SessionMachine(settings, self._loop.time())
        self._on_end = on_end
        self._path: Path | None = None
        self._flush_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._readable: asyncio.Future[None] | None = None
        self._writable: set[asyncio.Future[None]] = set()
        self._over: asyncio.Future[Ended] = self._loop.create_future()
        self.id = session_id
        self.remote = remote
        """The GUID of the other peer."""
        self.service = service
        self.mode = mode

    def __repr__(self) -> str:
        return f"<Session with {self.remote[:8]} for {self.service}, {self.mode.value}>"

    # -- for the application --------------------------------------------------------------------

    @property
    def path(self) -> Path | None:
        """The path that the session is on: its kind, addresses and round-trip time."""
        return self._path

    @property
    def state(self) -> State:
        """Open, closing, closed or lost."""
        return self._machine.state

    @property
    def outstanding(self) -> int:
        """Messages sent here that the other side is not yet known to have."""
        return self._machine.outstanding

    async def send(self, message: bytes) -> None:
        """Send one message; wait while the window is full.

        When it returns, the message will arrive unless the session is lost; it need not have
        arrived yet. At most 1 MiB (`protocol.session_settings.MAX_PAYLOAD`).

        Raises:
            ValueError: the message is too large.
            SessionClosed: either side has closed the session.
            SessionLost: the session is lost.
        """
        machine = self._machine
        while machine.state is State.OPEN and not machine.writable:
            room: asyncio.Future[None] = self._loop.create_future()
            self._writable.add(room)
            try:
                # No timeout: how long a reader may take is the application's to decide.
                await room
            finally:
                self._writable.discard(room)
        if machine.state is not State.OPEN:
            raise self._why_over()
        machine.send(message)
        self._flush_soon()

    async def receive(self) -> bytes:
        """Return the next message; wait until there is one. One reader at a time.

        Raises:
            SessionClosed: the other side has closed, and all that it sent was read.
            SessionLost: the session is lost, and all that had arrived was read.
        """
        machine = self._machine
        while not machine.inbox:
            if machine.state not in (State.OPEN, State.CLOSING, State.ACKNOWLEDGED):
                raise self._why_over()
            if self._readable is not None:
                raise RuntimeError("two tasks receive from one session")
            self._readable = self._loop.create_future()
            try:
                # No timeout: when the next message comes is the other application's to decide.
                await self._readable
            finally:
                self._readable = None
        message = machine.take()
        if machine.needs_flush:
            self._flush_soon()
        return message

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            try:
                yield await self.receive()
            except SessionClosed:
                return

    async def close(self) -> None:
        """Close the session; return when all that was sent has arrived and both sides agree.

        Messages of the other side that arrive meanwhile can still be read afterwards.

        Raises:
            SessionLost: the session was lost before that; says how much was not acknowledged.
        """
        self._machine.close(self._loop.time())
        self._flush_soon()
        # No timeout of its own: with a path or without, the session ends in its resume window.
        ended = await asyncio.shield(self._over)
        if ended.lost is not None:
            raise self._why_over()

    def abort(self, reason: str = "aborted by the application") -> None:
        """End the session at once; what is under way may be lost. Never fails."""
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

    # -- for the peer ---------------------------------------------------------------------------

    def hello(self) -> PathHello:
        """Return the hello that asks for a path for this session."""
        machine = self._machine
        return PathHello(
            self.id,
            self.service,
            self.mode,
            received=machine.received,
            consumed=machine.consumed,
            window=machine.settings.window,
        )

    def welcome(self) -> PathWelcome:
        """Return the answer to the other side's hello."""
        machine = self._machine
        return PathWelcome(machine.received, machine.consumed, machine.settings.window)

    def take_path(self, path: Path, there: PathHello | PathWelcome) -> None:
        """Go on over this path, with the numbers of the other side's hello or welcome.

        Raises:
            ProtocolViolation: the numbers cannot be true. The session is as it was.
        """
        self._machine.attach(there.received, there.consumed, there.window, self._loop.time())
        old, self._path = self._path, path
        if old is not None:
            old.finish()
        path.carry(self)
        self._flush_soon()
        self._set_timer()

    def path_data(self, path: Path, data: bytes) -> None:
        if path is not self._path:
            return
        # After a violation the machine has ended the session, and says so in its events.
        with contextlib.suppress(ProtocolViolation):
            self._machine.receive(data, self._loop.time())
        self._after()

    def path_writable(self, path: Path) -> None:
        self._flush()

    def path_lost(self, path: Path, reason: str) -> None:
        if path is self._path:
            self._path = None
            now = self._loop.time()
            self._machine.detach(now)
            self._machine.abort(Code.INTERNAL, f"its path was lost: {reason}", now)
            self._after()

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
                case Moved():
                    pass
                case Ended():
                    self._end(event)
        if machine.inbox or machine.state is not State.OPEN:
            readable = self._readable
            if readable is not None and not readable.done():
                readable.set_result(None)
        if self._writable and (machine.writable or machine.state is not State.OPEN):
            for room in self._writable:
                if not room.done():
                    room.set_result(None)
        self._flush()

    def _drop_path(self, reason: str) -> None:
        path, self._path = self._path, None
        if path is not None:
            path.abort()
        self._machine.abort(Code.INTERNAL, f"its path was lost: {reason}", self._loop.time())
        for event in self._machine.events():
            if isinstance(event, Ended):
                self._end(event)

    def _end(self, ended: Ended) -> None:
        if not self._over.done():
            self._over.set_result(ended)
            if self._timer is not None:
                self._timer.cancel()
            self._on_end(self)

    def _why_over(self) -> SessionClosed | SessionLost:
        if self._over.done() and (lost := self._over.result()).lost is not None:
            return SessionLost(lost.lost, unacknowledged=lost.unacknowledged)
        return SessionClosed("the session is closed")

    def _set_timer(self) -> None:
        when = self._machine.next_timeout()
        if when is not None and not self._over.done():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(when, self._timeout)

    def _timeout(self) -> None:
        # Armed once for each deadline and not for each message: a deadline that moved is met here.
        self._timer = None
        self._machine.handle_timeout(self._loop.time())
        self._after()
        self._set_timer()
