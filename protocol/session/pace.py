"""How fast a path is: what is on its way, how large the next fragment is, and how many may follow.

Only what the other side acknowledges counts as delivered. What a socket, a kernel or a relay has
taken says nothing: each of them takes megabytes for a receiver that gets none of them.

What is on its way has a limit, which grows as on any TCP connection, and faster, until
acknowledgements begin to come later than for a frame that had nothing before it. Where they come
more than half a second later, the limit shrinks to what the path delivers in that time. So a ping
waits for about half a second of other bytes, and a path that is cut has swallowed no more.

Positions are pairs: messages that are whole, and bytes of the next one.
"""

from collections import deque
from typing import NamedTuple

from protocol.session.frames import FRAME_BYTES, SLOWEST_LINK
from protocol.session.overdue import Overdue
from protocol.session.queue import NOTHING, filled, spared

__all__ = ["Pace", "Position"]

Position = tuple[int, int]

_SMALLEST_FRAGMENT = 1024
"""Bytes of a fragment while nothing is known of the path: it arrives with its first packet."""
_SLOW_START_SHARE = 2
"""A frame counts when all of it is there. TCP begins slowly, and has about as much on its way as a
path has delivered so far: half of that does not wait for packets that leave a round trip later."""
_FRAGMENT_SECONDS = 0.25
"""How long one fragment may occupy the path."""
_FIRST_FLIGHT = 16_384
"""Bytes that leave before the first acknowledgement: about what TCP begins with."""
_LEAST_FLIGHT = 1024
"""So little that one frame is alone on its way, and tells anew what an idle path takes."""
_LARGEST_FLIGHT = 1 << 26
_QUEUE_SECONDS = 0.5
"""How much later than on an idle path an acknowledgement may come."""
_SMALL_FRAME = 1024
_TOGETHER_SECONDS = 0.005
"""Small frames of so short a time are one flight: each costs more memory than its bytes."""
_ENOUGH = 32_768
"""Bytes that say something about a path's rate even where the sender had no more."""


class _Flight(NamedTuple):
    """One frame on its way, or some small ones."""

    end: Position
    written: int
    """Bytes written on the path, this frame included."""
    when: float
    delivered: int
    """Bytes of them that were known to have arrived then."""
    alone: bool
    """Whether nothing was on its way before it."""


class Pace:
    """What is on its way on one path, and what its acknowledgements say of the path."""

    __slots__ = (
        "_carries",
        "_delivered",
        "_flights",
        "_idle_delay",
        "_limit",
        "_overdue",
        "_written",
        "fragment",
        "rate",
    )

    def __init__(self) -> None:
        self._flights: deque[_Flight] = NOTHING
        self._overdue = Overdue()
        self.begin(1)

    def begin(self, patience: int) -> None:
        """Begin on a new path. After paths that were too slow for that (`patience` above 1), with
        less."""
        self._flights = NOTHING
        self._overdue.begin()
        self._written = 0
        self._delivered = 0
        self._limit = _FIRST_FLIGHT // patience
        self._idle_delay: float | None = None
        """Seconds to the acknowledgement of a frame that has nothing before it."""
        self.fragment = _SMALLEST_FRAGMENT
        """Bytes of a message that may stand in one frame."""
        self._carries = _SMALLEST_FRAGMENT
        """Bytes that the path delivers in the time of a fragment."""
        self.rate: float | None = None
        """Bytes a second that the path has delivered when it was asked to; None while unknown."""

    def spare(self) -> None:
        """Nothing was written for a while: hold no more than there is."""
        self._flights = spared(self._flights)

    @property
    def room(self) -> int:
        """Bytes that may be written now; less than one where none may."""
        return self._limit - (self._written - self._delivered)

    @property
    def is_idle(self) -> bool:
        """Whether all that was written has arrived."""
        return not self._flights

    @property
    def seconds_needed(self) -> float | None:
        """How long the oldest frame on its way may take; None where there is none."""
        if not self._flights:
            return None
        rate = SLOWEST_LINK if self.rate is None else min(SLOWEST_LINK, self.rate / 2)
        return (self._flights[0].written - self._delivered) / rate

    @property
    def overdue_after(self) -> float | None:
        """Seconds without an acknowledgement that would be unusual; None while none is due."""
        if not self._flights:
            return None
        size = self._flights[0].written - self._delivered
        # A fragment may be larger than all before it, and arrives as a whole.
        whole = size / self.rate if self.rate and size >= _SMALL_FRAME else 0.0
        return self._overdue.timeout + whole

    def wrote(self, end: Position, size: int, now: float) -> None:
        """A frame was written that ends at this position."""
        flights = self._flights
        self._written += size
        if size < _SMALL_FRAME and flights:
            last = flights[-1]
            if now < last.when + _TOGETHER_SECONDS:
                flights[-1] = _Flight(end, self._written, last.when, last.delivered, last.alone)
                return
        self._flights = flights = filled(flights)
        flights.append(_Flight(end, self._written, now, self._delivered, not flights))

    def arrived(self, position: Position, now: float) -> None:
        """All up to this position has arrived."""
        flights = self._flights
        newest: _Flight | None = None
        while flights and flights[0].end <= position:
            newest = flights.popleft()
            if newest.alone:
                self._idle_delay = now - newest.when
        if newest is not None:
            self._learn(newest, now)

    def _learn(self, flight: _Flight, now: float) -> None:
        before = self._delivered
        # Whether the limit held the sender back, and not a want of messages.
        held_back = self._written - before + self.fragment > self._limit
        self._delivered = flight.written
        carried = flight.written - flight.delivered
        delay = now - flight.when
        self._overdue.sample(delay, now)
        rate = carried / max(delay, 1e-6)
        if self.rate is None or rate > self.rate or held_back or carried >= _ENOUGH:
            self.rate = rate
            self._carries = int(rate * _FRAGMENT_SECONDS)
        size = min(self._carries, self._delivered // _SLOW_START_SHARE)
        self.fragment = min(max(size, _SMALLEST_FRAGMENT), FRAME_BYTES)
        idle = delay if self._idle_delay is None else min(self._idle_delay, delay)
        self._idle_delay = idle
        late = delay - idle
        if late > _QUEUE_SECONDS:
            least = _LEAST_FLIGHT if held_back else self._limit // 2
            wanted = int(rate * (idle + _QUEUE_SECONDS))
            self._limit = max(min(self._limit, wanted), least, _LEAST_FLIGHT)
        elif held_back and late <= _QUEUE_SECONDS / 2:
            # Twice as fast as TCP, which is to find its own limit first.
            self._limit = min(self._limit + 2 * (flight.written - before), _LARGEST_FLIGHT)
