"""The session state machine: numbers, acknowledgements, window, resume, clean close.

Bytes and times in, bytes and events out. A session outlives its paths: `attach` begins a new one,
`detach` ends it, and what the other side has not received is sent again on the next. One side of a
session is the same as the other; this file does not know which side it is on.

The frames are in frames.py, the states in states.py.

Costs: sending, receiving and acknowledging are O(1) a message; a resume is O(unacknowledged).
"""

from collections import deque
from typing import Any

import msgpack

from protocol.endpoint import SignedEntry
from protocol.errors import Code, ProtocolViolation
from protocol.session.events import Ended, Event, Moved, PathDead
from protocol.session.frames import FRAME_BYTES, FRAME_MESSAGES, Frame, frame_reader, read_location
from protocol.session.liveness import PathLiveness
from protocol.session.settings import MAX_PAYLOAD, MESSAGE_WEIGHT, SessionSettings
from protocol.session.states import TRANSITIONS, Input, State

__all__ = ["SessionMachine"]


class SessionMachine:
    """One side of a session.

    Call `attach` with the numbers of the other side's hello, `receive` with what the path brings,
    write what `data_to_send` returns, call `handle_timeout` when `next_timeout` has come, and look
    at `events` after each. `now` is any clock that only grows, in seconds.
    """

    def __init__(self, settings: SessionSettings, now: float) -> None:
        self.settings = settings
        self.state = State.OPEN
        self.attached = False
        self.inbox: deque[bytes] = deque()
        """Messages that arrived, in order; take them with `take`."""
        self.received = 0
        """Messages of the other side that have arrived."""
        self.consumed = 0
        """Weight of those that were taken from the inbox."""
        self.sent = 0
        """Messages that were given to `send`."""
        self.acknowledged = 0
        """Those of them that the other side has received."""
        self._framed = 0
        self._sent_weight = 0
        self._consumed_there = 0
        self._window_there = 0
        self._arrived_weight = 0
        self._unsent: deque[bytes] = deque()
        self._in_flight: deque[bytes] = deque()
        self._events: list[Event] = []
        # The last frame of each kind but DATA, ACK and CLOSE: who asks faster than they read what
        # is answered gets fewer answers, and costs no memory.
        self._control: dict[Frame, bytes] = {}
        self._ack_due = False
        self._told_consumed = 0
        self._close_due = False
        self._reader = frame_reader()
        self._pack = msgpack.Packer().pack
        self._liveness = PathLiveness(settings, now)
        self._pathless_since = now
        self._closing_since = now
        self._ended_at = now

    # -- the application ------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether the windows of both sides have room for another message."""
        return self._sent_weight - self._consumed_there < self._window

    @property
    def needs_flush(self) -> bool:
        """Whether `data_to_send` has something that is not a message."""
        return self._ack_due or bool(self._control)

    @property
    def outstanding(self) -> int:
        """Messages that the other side is not known to have."""
        return self.sent - self.acknowledged

    @property
    def unacknowledged(self) -> tuple[bytes, ...]:
        """Those messages, in order: at most the window's worth, and one."""
        return (*self._in_flight, *self._unsent)

    @property
    def progressed(self) -> float:
        """When something was acknowledged last, or first put on its way."""
        return self._liveness.progress

    def send(self, payload: bytes) -> None:
        """Queue one message. Check `state` and `writable` first.

        Raises:
            ValueError: the message is larger than `MAX_PAYLOAD`.
            RuntimeError: the session is not open.
        """
        size = len(payload)
        if size > MAX_PAYLOAD:
            raise ValueError(f"a message may have at most {MAX_PAYLOAD} bytes, not {size}")
        if self.state is not State.OPEN:
            raise RuntimeError(f"a message to a session that is {self.state.value}")
        self.sent += 1
        self._sent_weight += size + MESSAGE_WEIGHT
        self._unsent.append(payload)

    def take(self) -> bytes:
        """Take the next message from the inbox.

        Raises:
            IndexError: there is none.
        """
        payload = self.inbox.popleft()
        self.consumed += len(payload) + MESSAGE_WEIGHT
        if self.consumed - self._told_consumed >= self._window // 8:
            self._ack_due = True
        return payload

    def close(self, now: float) -> None:
        """Send what was queued, then end the session on both sides."""
        if self.state is State.OPEN:
            self._close_due = True
            self._closing_since = now
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

    def attach(self, received: int, consumed: int, window: int, now: float) -> None:
        """Begin on a new path, with the numbers from the other side's hello or welcome.

        A number lower than one already acknowledged is only late: the higher one holds.

        Raises:
            ProtocolViolation: numbers that were never sent. Nothing has changed then.
        """
        self._check_numbers(received, consumed)
        self._window_there = window
        self._acknowledge(max(received, self.acknowledged), now)
        self._consumed_there = max(consumed, self._consumed_there)
        self._unsent.extendleft(reversed(self._in_flight))
        self._in_flight.clear()
        self._control.clear()
        self._reader = frame_reader()
        self._ack_due = True
        self.attached = True
        self._liveness.begin(now)
        # What a lost path may have swallowed is said again.
        self._close_due = self.state is not State.OPEN
        if self.state in (State.ANSWERING, State.CLOSED):
            self._say(Frame.CLOSED, self.received)

    def detach(self, now: float) -> None:
        """Give the path up: nothing more will be received from it or written to it."""
        if self.attached:
            self.attached = False
            self._pathless_since = now

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the current path. Without one, and after the session was lost, they are
        ignored.

        Raises:
            ProtocolViolation: the other side broke the protocol. The session is lost then.
        """
        if not self.attached or self.state is State.LOST:
            return
        self._liveness.hear(now)
        try:
            self._reader.feed(data)
            for frame in self._reader:
                if self._is_lost():
                    return
                self._receive_frame(frame, now)
        except ProtocolViolation as error:
            self.abort(error.code or Code.BAD_MESSAGE, error.reason, now)
            raise

    def data_to_send(self, now: float, limit: int = 262_144) -> bytes:
        """Return the next bytes for the current path, about `limit` at most; empty when idle."""
        if not self.attached:
            return b""
        pieces = list(self._control.values())
        self._control.clear()
        if self._ack_due:
            self._ack_due = False
            self._told_consumed = self.consumed
            pieces.append(self._pack((Frame.ACK, self.received, self.consumed)))
        size = 0
        while self._unsent and size < limit and self.state is not State.LOST:
            frame = self._data_frame(now)
            size += len(frame)
            pieces.append(frame)
        if self._close_due and not self._unsent and self.state is not State.LOST:
            self._close_due = False
            pieces.append(self._pack((Frame.CLOSE, self.sent)))
        if pieces:
            self._liveness.said = now
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
        """Ping the current path; it is dead unless something is heard within `timeout` seconds.

        For a moment when the network has changed and nobody knows what still works.
        """
        if self.attached and self.state not in (State.CLOSED, State.LOST):
            self._say(Frame.PING, self._liveness.probe(now, timeout))

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` must be called next; None when never."""
        if self.state in (State.CLOSED, State.LOST):
            return None
        if not self.attached:
            return self._pathless_since + self.settings.resume_window
        when = self._liveness.next_deadline(self._oldest)
        return when if self.state is State.OPEN else min(when, self._close_deadline)

    def handle_timeout(self, now: float) -> None:
        """Ping, give a dead path up, or give the session up, as the time says."""
        if self.state in (State.CLOSED, State.LOST):
            return
        window = self.settings.resume_window
        if not self.attached:
            if now >= self._pathless_since + window:
                self._lose(f"no path for {window:g} s", now)
        elif self.state is not State.OPEN and now >= self._close_deadline:
            self.abort(Code.REQUEST_TIMEOUT, f"the close was not answered for {window:g} s", now)
        elif dead := self._liveness.dead(now, self._oldest):
            self.detach(now)
            self._events.append(PathDead(dead))
        elif now >= self._liveness.ping_due():
            self._say(Frame.PING, self._liveness.ping(now))

    def lingers(self, now: float) -> bool:
        """Whether an ended session should still answer a resume."""
        return self.state is State.CLOSED and now < self._ended_at + self.settings.linger

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _window(self) -> int:
        # The same on both sides. Nothing fits before the other side has said what it can hold.
        return min(self.settings.window, self._window_there)

    @property
    def _oldest(self) -> int | None:
        return len(self._in_flight[0]) if self._in_flight else None

    @property
    def _close_deadline(self) -> float:
        # Without it, a side that answers pings but no close would keep this one from ending.
        since = max(self._closing_since, self._liveness.progress)
        return since + self.settings.resume_window

    def _say(self, kind: Frame, *fields: object) -> None:
        self._control[kind] = self._pack((kind, *fields))

    def _data_frame(self, now: float) -> bytes:
        unsent, in_flight = self._unsent, self._in_flight
        first = self.acknowledged + len(in_flight) + 1
        batch: list[bytes] = []
        size = 0
        while unsent and size < FRAME_BYTES and len(batch) < FRAME_MESSAGES:
            payload = unsent[0]
            if batch and size + len(payload) > FRAME_BYTES:
                break
            size += len(payload)
            batch.append(unsent.popleft())
        if not in_flight:
            self._liveness.progress = now
        in_flight.extend(batch)
        self._framed = max(self._framed, first + len(batch) - 1)
        frame: bytes = self._pack((Frame.DATA, first, batch))
        return frame

    def _receive_frame(self, frame: Any, now: float) -> None:
        if type(frame) is not list or any(type(field) in (bool, float) for field in frame):
            # They would pass for the integers that they are equal to.
            raise ProtocolViolation("not a session frame")
        match frame:
            case [Frame.DATA, int(first), list(payloads)]:
                self._receive_data(first, payloads)
            case [Frame.ACK, int(received), int(consumed)]:
                self._check_numbers(received, consumed)
                self._acknowledge(max(received, self.acknowledged), now)
                self._consumed_there = max(consumed, self._consumed_there)
            case [Frame.CLOSE, int(count)]:
                if count != self.received:
                    raise ProtocolViolation(f"closed after {count}, but {self.received} arrived")
                if self.state is State.OPEN:
                    self._close_due = True
                    self._closing_since = now
                self._say(Frame.CLOSED, self.received)
                self._move(Input.CLOSE_THERE, now)
            case [Frame.CLOSED, int(received)]:
                if received != self.sent:
                    raise ProtocolViolation(f"closed at {received}, but {self.sent} were sent")
                self._check_numbers(received, 0)
                self._acknowledge(received, now)
                self._move(Input.CLOSED_THERE, now)
            case [Frame.PING, int(number)] if 0 <= number < 2**32:
                self._say(Frame.PONG, number)
            case [Frame.PONG, int(number)]:
                self._liveness.pong(number, now)
            case [Frame.ABORT, str(code), str(reason)]:
                self._lose(f"the other side ended it: {reason[:200]} ({code[:64]})", now)
            case [Frame.LOCATION, list(entries)]:
                self._events.append(Moved(read_location(entries)))
            case _:
                raise ProtocolViolation("not a session frame")

    def _receive_data(self, first: int, payloads: list[Any]) -> None:
        if first < 1 or first > self.received + 1:
            raise ProtocolViolation(f"message {first} follows message {self.received}")
        skip = self.received + 1 - first
        fresh = payloads[skip:] if skip else payloads
        if not fresh:
            return
        weight = 0
        for payload in fresh:
            if type(payload) is not bytes:
                raise ProtocolViolation("a payload must be bytes")
            weight += len(payload) + MESSAGE_WEIGHT
        if self.state in (State.ANSWERING, State.CLOSED):
            raise ProtocolViolation("a message after the close")
        # One message may reach past the window: the sender checks for room before it, not after.
        held = self._arrived_weight - self.consumed
        if held + weight > self.settings.window + MAX_PAYLOAD + MESSAGE_WEIGHT:
            raise ProtocolViolation("more than the window allows", code=Code.LIMIT_EXCEEDED)
        self._arrived_weight += weight
        self.inbox.extend(fresh)
        self.received += len(fresh)
        self._ack_due = True

    def _check_numbers(self, received: int, consumed: int) -> None:
        if received > self._framed or consumed > self._sent_weight:
            raise ProtocolViolation(
                f"message {received} was acknowledged, but only {self._framed} went out"
            )

    def _acknowledge(self, received: int, now: float) -> None:
        newly = received - self.acknowledged
        if newly <= 0:
            return
        in_flight = self._in_flight
        if newly >= len(in_flight):
            newly -= len(in_flight)
            in_flight.clear()
            for _ in range(newly):
                self._unsent.popleft()
        else:
            for _ in range(newly):
                in_flight.popleft()
        self.acknowledged = received
        self._liveness.progress = now

    def _is_lost(self) -> bool:
        return self.state is State.LOST

    def _lose(self, reason: str, now: float) -> None:
        if self.state not in (State.CLOSED, State.LOST):
            self._move(Input.LOSE, now, reason)

    def _move(self, cause: Input, now: float, reason: str | None = None) -> None:
        before = self.state
        after = TRANSITIONS[before].get(cause)
        if after is None:
            raise ProtocolViolation(f"{cause.value} in state {before.value}")
        self.state = after
        if after is not before and after in (State.CLOSED, State.LOST):
            self._ended_at = now
            self._events.append(Ended(reason, self.outstanding))
