"""A second path of a session, proven and welcomed, which carries nothing until it is needed.

Rule 1: every change of state is in `TRANSITIONS`; what is not in it changes nothing.
Rule 2: a quiet path carries `ping`, `pong` and `switch` and nothing else. Whoever sends more on it
loses that path, never the session.
Rule 3: a path is switched to once. Behind `switch` follow the session's own frames; a side that
wants another standby dials another one.
Rule 4: the path has no number while it is quiet. The number comes with `switch`, so that a path
dialed meanwhile is newer or older than it, and never both.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from protocol.errors import ProtocolViolation
from protocol.session.frames import Frame, FrameReader, pack
from protocol.session.idle import IdleFrames

__all__ = [
    "QUIET_INTERVAL",
    "TRANSITIONS",
    "Standby",
    "StandbyInput",
    "StandbyState",
    "SwitchAsked",
]

QUIET_INTERVAL = 60.0
"""Seconds without a byte after which a quiet path is pinged: below what address translators forget
after (RFC 5382 asks for two hours, some keep five minutes), and one wake-up a minute of a phone."""
_SLOWEST_ANSWER = 6.0
"""Seconds to the answer of a ping; a quiet path that answers later is of no help."""


class StandbyState(Enum):
    """Where a standby is."""

    QUIET = "quiet"
    """It is kept alive, and carries nothing."""
    ASKED = "asked"
    """A ping is on its way; unless something comes in time, the path is dead."""
    USED = "used"
    """One of the sides has switched to it: it is the session's path, or an older one than that."""
    DEAD = "dead"
    """It is no path any more."""


class StandbyInput(Enum):
    """What moves a standby from state to state."""

    PING_DUE = "ping due"
    HEARD = "heard"
    ANSWER_LATE = "answer late"
    SWITCH_HERE = "switch here"
    SWITCH_THERE = "switch there"
    LOST = "lost"


_USED = dict.fromkeys((StandbyInput.SWITCH_HERE, StandbyInput.SWITCH_THERE), StandbyState.USED)
TRANSITIONS: dict[StandbyState, dict[StandbyInput, StandbyState]] = {
    StandbyState.QUIET: {
        StandbyInput.PING_DUE: StandbyState.ASKED,
        StandbyInput.LOST: StandbyState.DEAD,
        **_USED,
    },
    StandbyState.ASKED: {
        StandbyInput.HEARD: StandbyState.QUIET,
        StandbyInput.ANSWER_LATE: StandbyState.DEAD,
        StandbyInput.LOST: StandbyState.DEAD,
        **_USED,
    },
    StandbyState.USED: {},
    StandbyState.DEAD: {},
}


@dataclass(frozen=True, slots=True)
class SwitchAsked:
    """The other side goes on over this path from now on."""

    number: int
    """The path's number in its session, from now on."""
    rest: tuple[list[Any], ...]
    """The session's frames that came behind it."""


class Standby:
    """One such path. `now` is any clock that only grows, in seconds.

    Call `receive` with what the path brings and `handle_timeout` when `next_timeout` has come, and
    write what `data_to_send` returns after each.
    """

    def __init__(self, now: float, interval: float = QUIET_INTERVAL) -> None:
        self.state = StandbyState.QUIET
        self.round_trip: float | None = None
        """Seconds from the last ping that was answered to its answer."""
        self.reader = FrameReader(revised=True)
        """Holds what has arrived of a frame that is not whole; the session goes on with it."""
        self._interval = interval
        self._heard = now
        self._pinged = now
        self._ping = 0
        self._idle = IdleFrames()
        # The last one of each kind: who asks faster than they read gets fewer answers.
        self._say: dict[Frame, bytes] = {}

    @property
    def is_ready(self) -> bool:
        """Whether the session may switch to it."""
        return self.state in (StandbyState.QUIET, StandbyState.ASKED)

    def receive(self, data: bytes, now: float) -> SwitchAsked | None:
        """Take bytes from the path; return what the other side asks for with them. Once the path
        is used or dead they are ignored.

        Raises:
            ProtocolViolation: something that a quiet path does not carry. The path is dead then.
        """
        if not self.is_ready:
            return None
        self._heard = now
        self._move(StandbyInput.HEARD)
        self._idle.begin()
        frames = self.reader.read(data)
        try:
            for frame in frames:
                match frame:
                    case [Frame.PING, int(number)] if 0 <= number < 2**32:
                        self._say[Frame.PONG] = pack((Frame.PONG, number))
                    case [Frame.PONG, int(number)]:
                        if number == self._ping:
                            self.round_trip = now - self._pinged
                    case [Frame.SWITCH, int(number)] if 1 <= number < 2**32:
                        rest = tuple(frames)
                        self._move(StandbyInput.SWITCH_THERE)
                        self._say.clear()
                        return SwitchAsked(number, rest)
                    case _:
                        raise ProtocolViolation("a quiet path carries no such frame")
                self._idle.note()
        except ProtocolViolation:
            self._move(StandbyInput.LOST)
            raise
        return None

    def switch(self, number: int) -> bytes:
        """Make it the session's path number `number`; return what must be written before the
        session's frames.

        Raises:
            RuntimeError: it is used, or dead. Ask `is_ready` first.
        """
        if not self.is_ready:
            raise RuntimeError(f"a switch to a path that is {self.state.value}")
        self._move(StandbyInput.SWITCH_HERE)
        self._say.clear()
        return pack((Frame.SWITCH, number))

    def lost(self) -> None:
        """The path has ended."""
        self._move(StandbyInput.LOST)

    def data_to_send(self) -> bytes:
        """Return the next bytes for the path; empty when there are none."""
        data = b"".join(self._say.values())
        self._say.clear()
        return data

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` must be called next; None when never."""
        match self.state:
            case StandbyState.QUIET:
                return self._heard + self._interval
            case StandbyState.ASKED:
                return self._pinged + _SLOWEST_ANSWER
            case StandbyState.USED | StandbyState.DEAD:
                return None

    def handle_timeout(self, now: float) -> None:
        """Ping, or give the path up, as the time says."""
        when = self.next_timeout()
        if when is None or now < when:
            return
        if self.state is StandbyState.QUIET:
            self._ask(now)
            self._move(StandbyInput.PING_DUE)
        else:
            self._say.clear()
            self._move(StandbyInput.ANSWER_LATE)

    def probe(self, now: float) -> None:
        """Ping it at once: the network has changed, and nobody knows what still works."""
        if self.state is StandbyState.QUIET:
            self._ask(now)
            self._move(StandbyInput.PING_DUE)

    # -- inside ---------------------------------------------------------------------------------

    def _ask(self, now: float) -> None:
        self._pinged = now
        self._ping += 1
        self._say[Frame.PING] = pack((Frame.PING, self._ping))

    def _move(self, cause: StandbyInput) -> None:
        self.state = TRANSITIONS[self.state].get(cause, self.state)
