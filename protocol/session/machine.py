"""The session state machine: numbers, acknowledgements, window, resume, clean close.

Bytes and times in, bytes and events out. A session outlives its paths: `attach` begins a new one,
`detach` ends it, and what the other side has not received is sent again on the next. One side of a
session is the same as the other; this file does not know which side it is on.

The frames are in frames.py, the states in states.py; beside it outgoing.py and incoming.py.

Costs: sending, receiving and acknowledging are O(1) a message; a resume is O(unacknowledged).
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

from protocol.endpoint import SignedEntry
from protocol.errors import Code, ProtocolViolation
from protocol.session.acknowledgement import Acknowledgement
from protocol.session.closed import ClosedSession
from protocol.session.early import NO_EARLY, Early
from protocol.session.events import Ended, Event, HelpWanted, Moved, PathDead, SwitchedToo
from protocol.session.figures import Figures
from protocol.session.frames import WRITE_BYTES, Frame, FrameReader, pack, read_location
from protocol.session.incoming import Incoming
from protocol.session.keepalive import Keepalive
from protocol.session.liveness import PathLiveness
from protocol.session.outgoing import Outgoing
from protocol.session.queue import NOTHING
from protocol.session.settings import MAX_PAYLOAD, MESSAGE_WEIGHT, SessionSettings
from protocol.session.standby import Standby, SwitchAsked
from protocol.session.states import ESTABLISHED, TRANSITIONS, WRITABLE, Input, State

__all__ = ["SessionMachine"]

_BRING = ([Frame.DATA], [Frame.PART], [Frame.ACK])


class SessionMachine(Figures):
    """One side of a session.

    Call `attach` with the numbers of the other side's hello, `receive` with what the path brings,
    write what `data_to_send` returns, call `handle_timeout` when `next_timeout` has come, and look
    at `events` after each. `now` is any clock that only grows, in seconds.
    """

    def __init__(self, settings: SessionSettings, now: float) -> None:
        super().__init__(Incoming(settings.window), Outgoing())
        self.settings = settings
        self.state = State.OPEN
        self.attached = False
        self.has_standby = False
        """Whether a path stands ready that may help."""
        self._revised: bool | None = None
        self.inbox: deque[bytes] = self._incoming.inbox
        """Messages that arrived, in order; take them with `take`."""
        self._consumed_there = self._window_there = self._told_consumed = 0
        self._events: list[Event] = []
        # The last frame of each kind but DATA, ACK and CLOSE: who asks faster than they read what
        # is answered gets fewer answers, and costs no memory.
        self._control: dict[Frame, bytes] = {}
        self._acknowledgement = Acknowledgement()
        self._last_due: Frame | None = None
        self._reader = FrameReader(revised=False)
        self._liveness = PathLiveness(settings, now)
        self._pathless_since = self._closing_since = now

    # -- the application ------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether the windows of both sides have room for another message."""
        return self._outgoing.weight - self._consumed_there < self._window

    @property
    def may_send(self) -> bool:
        """Whether this side has not ended its direction, nor either side the session."""
        return self.state in WRITABLE

    @property
    def may_finish(self) -> bool:
        """Whether the other side knows of a direction that ends by itself."""
        return self._revised is True

    @property
    def is_drained(self) -> bool:
        """Whether nothing more will come into the inbox."""
        return self._incoming.ended_at is not None or self.state in (State.CLOSED, State.LOST)

    @property
    def acknowledges_at(self) -> float | None:
        """When an acknowledgement that waits for more must leave; None where none waits."""
        return self._acknowledgement.waits_until

    @property
    def wants_help_at(self) -> float | None:
        """When an acknowledgement is overdue, if a path stands ready; None where none is due."""
        pace = self._outgoing.pace
        return self._liveness.overdue_at(pace.overdue_after) if self.has_standby else None

    @property
    def needs_flush(self) -> bool:
        """Whether `data_to_send` has something that is not a message."""
        return self._acknowledgement.due or bool(self._control)

    @property
    def progressed(self) -> float:
        """When something was acknowledged last, or first put on its way."""
        return self._liveness.progress

    def send(self, payload: bytes) -> None:
        """Queue one message. Check `may_send` and `writable` first.

        Raises:
            ValueError: the message is larger than `MAX_PAYLOAD`.
            RuntimeError: the session is not open.
        """
        size = len(payload)
        if size > MAX_PAYLOAD:
            raise ValueError(f"a message may have at most {MAX_PAYLOAD} bytes, not {size}")
        if self.state not in WRITABLE:
            raise RuntimeError(f"a message to a session that is {self.state.value}")
        outgoing = self._outgoing
        outgoing.sent += 1
        outgoing.weight += size + MESSAGE_WEIGHT
        if outgoing.unsent is NOTHING:
            outgoing.unsent = deque()
        outgoing.unsent.append(payload)

    def take(self) -> bytes:
        """Take the next message from the inbox.

        Raises:
            IndexError: there is none.
        """
        payload = self._incoming.take()
        if self.consumed - self._told_consumed >= self._window // 8:
            self._acknowledgement.due = True
        return payload

    def finish(self, now: float) -> None:
        """Send what was queued, and nothing more; the other side goes on. Where it has finished
        too, the session closes. Check `may_finish` first.

        Raises:
            RuntimeError: the other side knows no such end.
        """
        if not self._revised:
            raise RuntimeError("a direction cannot end by itself in this session")
        self._move(Input.FINISH_HERE, now)

    def close(self, now: float) -> None:
        """Send what was queued, then end the session on both sides."""
        self._move(Input.CLOSE_HERE, now)

    def abort(self, code: Code, reason: str, now: float) -> None:
        """End the session at once; tell the other side if there is a path."""
        if self.attached and self.state not in (State.CLOSED, State.LOST):
            self._say(Frame.ABORT, code.value, reason[:200])
        self._lose(reason, now)

    def tell_location(self, entries: tuple[SignedEntry, ...]) -> None:
        """Tell the other side where this one can be dialed from now on, if there is a path."""
        if self.attached and self.state not in (State.CLOSED, State.LOST):
            self._say(Frame.LOCATION, [(entry.body, entry.signature) for entry in entries])

    # -- paths ----------------------------------------------------------------------------------

    def attach(
        self,
        received: int,
        consumed: int,
        window: int,
        now: float,
        *,
        partial: int = 0,
        revised: bool = False,
        early: Early = NO_EARLY,
    ) -> None:
        """Begin on a new path, with the numbers from the other side's hello or welcome; it knows
        the second revision of the frames where `revised`; `early` stands behind our own hello.

        Numbers lower than those already acknowledged are only late: the higher ones hold.

        Raises:
            ProtocolViolation: numbers that were never sent, or another revision than on the paths
                before. Nothing has changed then.
        """
        if self._revised not in (None, revised):
            raise ProtocolViolation("another revision than on the path before")
        partial = partial if revised else 0
        self._outgoing.check(received, consumed, partial)
        self._consumed_there = max(consumed, self._consumed_there)
        self._outgoing.acknowledge(received, partial, now)
        self._revised = revised
        self._window_there = window
        self._control.clear()
        self._begin(FrameReader(revised=revised), now)
        self._outgoing.go_on_behind(early)

    def switch(self, standby: Standby, number: int, now: float) -> None:
        """Go on over a path that stands ready, as the session's path `number`. What is not known
        to have arrived is written again, right behind the word that tells the other side.

        Raises:
            RuntimeError: the path is used or dead, or the first one, or the session is lost.
        """
        if not self._revised or self.state is State.LOST:
            raise RuntimeError("a switch of a session that knows none, or is lost")
        self._go_on(standby, standby.switch(number), now)

    def follow(self, standby: Standby, asked: SwitchAsked, now: float) -> None:
        """Go on over the path to which the other side has switched; a lost session does not.

        Raises:
            ProtocolViolation: from what stood behind its word. The session is lost then.
        """
        if not self._revised:
            raise RuntimeError("a switch of a session that knows none")
        if self.state is State.LOST:
            return
        self._go_on(standby, b"", now)
        self._incoming.idle.begin()
        self._take(asked.rest, now)

    def early(self, now: float) -> Early:
        """Return what may leave behind a hello, to a side that takes that; nothing where a path
        delivers. Hand it to `attach` where the hello was welcomed."""
        if self.attached or not self._revised:
            return NO_EARLY
        return self._outgoing.early(self._liveness.patience, now)

    def flight(self, limit: int) -> bytes:
        """Return what this side has, and about `limit` bytes of the oldest that the other side is
        not known to have, as frames beside any path; nothing of a session that has ended."""
        if not self._revised or self.state in (State.CLOSED, State.LOST):
            return b""
        here = pack((Frame.ACK, self.received, self.consumed, self.partial))
        return here + self._outgoing.oldest(limit)

    def take_flight(self, frames: bytes, now: float) -> None:
        """Take the other side's `flight`. It brings data and numbers, and changes nothing of paths.

        Raises:
            ProtocolViolation: it is none. What stood before the fault holds; the session goes on.
        """
        if not self._revised or self.state in (State.CLOSED, State.LOST):
            return
        self._incoming.idle.begin()
        for frame in FrameReader(revised=True).read(frames):
            if frame[:1] not in _BRING:
                raise ProtocolViolation("a flight brings data, and nothing else")
            self._receive_frame(frame, now)

    def detach(self, now: float) -> None:
        """Give the path up: nothing more will be received from it or written to it."""
        if self.attached:
            self.attached = False
            if self.state not in (State.CLOSED, State.LOST):
                self._liveness.end()
            self._pathless_since = now

    def be_quiet(self, limit: float, keepalive: Keepalive) -> None:
        """Let the current path be quiet for longer than others (`PathLiveness.be_quiet`)."""
        self._liveness.be_quiet(limit, keepalive)

    @property
    def keepalive_shown(self) -> str:
        """How often the current path is pinged while it is quiet, and why."""
        return self._liveness.shown

    def hear_part(self, now: float) -> None:
        """Bytes have arrived on the current path that cannot be read before more have."""
        if self.attached:
            self._liveness.hear_part(now)

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the current path; without one, and of a lost session, they are ignored.

        Raises:
            ProtocolViolation: the other side broke the protocol. The session is lost then.
        """
        if not self.attached or self.state is State.LOST:
            return
        self._liveness.hear(now)
        self._incoming.idle.begin()
        self._take(self._reader.read(data), now)

    def data_to_send(self, now: float, limit: int = WRITE_BYTES) -> bytes:
        """Return the next bytes for the current path, about `limit` at most; empty when idle, and
        when more should wait for an acknowledgement."""
        if not self.attached:
            return b""
        pieces = list(self._control.values())
        self._control.clear()
        if self._acknowledgement.due:
            self._acknowledgement.said(now)
            self._told_consumed = self.consumed
            partial = (self._incoming.partial,) if self._revised else ()
            pieces.append(pack((Frame.ACK, self.received, self.consumed, *partial)))
        outgoing = self._outgoing
        if outgoing.unsent and self.state is not State.LOST:
            if outgoing.pace.is_idle:
                self._liveness.progress = now
            limit, size = outgoing.room(limit), 0
            while outgoing.unsent and size < limit:
                _, frame = outgoing.frame(now)
                size += len(frame)
                pieces.append(frame)
        if self._last_due and not outgoing.unsent and self.state is not State.LOST:
            pieces.append(pack((self._last_due, outgoing.sent)))
            self._last_due = None
        if pieces:
            self._liveness.say(now)
        return b"".join(pieces)

    def events(self) -> list[Event]:
        """Return what has happened since the last call."""
        events, self._events = self._events, []
        return events

    # -- time -----------------------------------------------------------------------------------

    @property
    def round_trip(self) -> float | None:
        """Seconds of the last answered ping on the current path; None before the first."""
        return self._liveness.round_trip

    def probe(self, now: float, timeout: float) -> None:
        """Ping the current path, as nobody knows what still works in a network that has changed; it
        is dead unless something is heard within `timeout` seconds."""
        if self.attached and self.state not in (State.CLOSED, State.LOST):
            self._say(Frame.PING, self._liveness.probe(now, timeout))

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` must be called next; None when never."""
        if self.state in (State.CLOSED, State.LOST):
            return None
        if not self.attached:
            return self._pathless_since + self.settings.resume_window
        when = self._liveness.next_deadline(self._outgoing.pace.seconds_needed)
        for other in (self.acknowledges_at, self.wants_help_at):
            when = when if other is None else min(when, other)
        return when if self.state in ESTABLISHED else min(when, self._close_deadline)

    def handle_timeout(self, now: float) -> None:
        """Ping, give a dead path up, or give the session up, as the time says."""
        if self.state in (State.CLOSED, State.LOST):
            return
        window = self.settings.resume_window
        self._acknowledgement.look(now)
        if not self.attached:
            if now >= self._pathless_since + window:
                self._lose(f"no path for {window:g} s", now)
        elif self.state not in ESTABLISHED and now >= self._close_deadline:
            self.abort(Code.REQUEST_TIMEOUT, f"the close was not answered for {window:g} s", now)
        elif dead := self._liveness.judge(now, self._outgoing.pace.seconds_needed):
            self.detach(now)
            self._events.append(PathDead(dead))
        elif (due := self.wants_help_at) is not None and now >= due:
            self._events.append(HelpWanted(self._liveness.want_help(now)))
        elif now >= self._liveness.ping_due():
            self._say(Frame.PING, self._liveness.ping(now))
            self._outgoing.spare()
            self.inbox = self._incoming.spare()

    @property
    def closed(self) -> ClosedSession | None:
        """What answers for a session that both sides have closed; None for another."""
        if self.state is not State.CLOSED:
            return None
        window = self.settings.window
        return ClosedSession(self.received, self.consumed, window, self.sent, self._revised is True)

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _window(self) -> int:
        # The same on both sides. Nothing fits before the other side has said what it can hold.
        return min(self.settings.window, self._window_there)

    @property
    def _close_deadline(self) -> float:
        # Without it, a side that answers pings but no close would keep this one from ending.
        since = max(self._closing_since, self._liveness.progress)
        return since + self.settings.resume_window

    def _go_on(self, standby: Standby, first: bytes, now: float) -> None:
        # No hello tells where this side is: what was to be said of that is said here.
        location = self._control.get(Frame.LOCATION)
        self._control.clear()
        if first:
            self._control[Frame.SWITCH] = first
        if location is not None:
            self._control[Frame.LOCATION] = location
        self._begin(standby.reader, now)
        self._liveness.round_trip = standby.round_trip

    def _begin(self, reader: FrameReader, now: float) -> None:
        self._liveness.begin(now)
        self._outgoing.begin(in_parts=self._revised is True, patience=self._liveness.patience)
        self._incoming.begin()
        self._reader = reader
        self._acknowledgement.begin(self._incoming.arrived)
        self.attached = True
        # What a lost path may have swallowed is said again.
        if self.state is State.HALF_CLOSED_LOCAL:
            self._last_due = Frame.FINISH
        elif self.state not in ESTABLISHED:
            self._last_due = Frame.CLOSE
        if self.state in (State.ANSWERING, State.CLOSED):
            self._say(Frame.CLOSED, self.received)

    def _take(self, frames: Iterable[list[Any]], now: float) -> None:
        try:
            for frame in frames:
                self._receive_frame(frame, now)
                if self.state in (State.LOST,):
                    return  # What stands behind an abort is not looked at, nor whether it is right.
        except ProtocolViolation as error:
            self.abort(error.code or Code.BAD_MESSAGE, error.reason, now)
            raise

    def _say(self, kind: Frame, *fields: object) -> None:
        self._control[kind] = pack((kind, *fields))

    def _receive_frame(self, frame: list[Any], now: float) -> None:
        if frame[:1] not in _BRING:
            self._incoming.idle.note()
        match frame:
            case [Frame.DATA, int(first), list(payloads)]:
                if self._incoming.data(first, payloads):
                    self.inbox = self._incoming.inbox
                    self._acknowledgement.due = True
            case [Frame.PART, int(number), int(offset), int(total), bytes(piece)] if self._revised:
                if self._incoming.part(number, offset, total, piece):
                    self.inbox = self._incoming.inbox
                    self._acknowledgement.due = True
                self._acknowledgement.part_arrived(self._incoming.arrived, now)
            case [Frame.ACK, int(received), int(consumed), int(partial)] if self._revised:
                self._acknowledge(received, consumed, partial, now)
            case [Frame.ACK, int(received), int(consumed)] if not self._revised:
                self._acknowledge(received, consumed, 0, now)
            case [Frame.CLOSE, int(count)]:
                self._incoming.end(count)
                self._say(Frame.CLOSED, self.received)
                self._move(Input.CLOSE_THERE, now)
            case [Frame.CLOSED, int(received)]:
                if received != self.sent:
                    raise ProtocolViolation(f"closed at {received}, but {self.sent} were sent")
                self._acknowledge(received, 0, 0, now)
                self._move(Input.CLOSED_THERE, now)
            case [Frame.PING, int(number)] if 0 <= number < 2**32:
                self._say(Frame.PONG, number)
            case [Frame.PONG, int(number)]:
                self._liveness.pong(number, now)
            case [Frame.ABORT, str(code), str(reason)]:
                self._lose(f"the other side ended it: {reason[:200]} ({code[:64]})", now)
            case [Frame.LOCATION, list(entries)]:
                # The last one counts: whoever hears of it checks signatures.
                self._events = [event for event in self._events if not isinstance(event, Moved)]
                self._events.append(Moved(read_location(entries)))
            case [Frame.FINISH, int(count)] if self._revised:
                self._incoming.end(count)
                self._move(Input.FINISH_THERE, now)
            case [Frame.SWITCH, int(path)] if self._revised and 1 <= path < 2**32:
                self._events.append(SwitchedToo(path))
            case _:
                raise ProtocolViolation("not a session frame")

    def _acknowledge(self, received: int, consumed: int, partial: int, now: float) -> None:
        self._outgoing.check(received, consumed, partial)
        if self._outgoing.acknowledge(received, partial, now):
            self._liveness.advance(now)
        elif consumed <= self._consumed_there:
            self._incoming.idle.note()
        self._consumed_there = max(consumed, self._consumed_there)

    def _lose(self, reason: str, now: float) -> None:
        if self.state not in (State.CLOSED, State.LOST):
            self._move(Input.LOSE, now, reason)

    def _move(self, cause: Input, now: float, reason: str | None = None) -> None:
        before = self.state
        after = TRANSITIONS[before].get(cause)
        if after is None:
            raise ProtocolViolation(f"{cause.value} in state {before.value}")
        if before in ESTABLISHED and after is not before:
            self._leave(after, now)
        self.state = after
        if after is not before and after in (State.CLOSED, State.LOST):
            self._incoming.drop()
            self._events.append(Ended(reason, self.outstanding))

    def _leave(self, after: State, now: float) -> None:
        """From a state in which nobody closed to this one."""
        if after is State.HALF_CLOSED_LOCAL:
            self._last_due = Frame.FINISH
        elif after not in ESTABLISHED:
            self._last_due = Frame.CLOSE
            self._closing_since = now
