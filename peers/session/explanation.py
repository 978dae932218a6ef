"""Why a session's path is what it is: a bounded trace, as facts and as text."""

from collections.abc import Callable
from dataclasses import dataclass

from peers.path import Path

__all__ = ["Explanation", "Trace", "TraceEvent"]

_LIMIT = 256
"""Events that are kept; beyond it the oldest go."""


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One step on the way to a path."""

    at: float
    """Seconds since the session began here."""
    what: str
    """`candidate`, `dropped`, `refused`, `met`, `proven`, `failed`, `chosen`, `kept`, `path`,
    `standby` or `lost`."""
    where: str = ""
    """The candidate or the path."""
    round_trip: float | None = None
    """Seconds, where one was measured or known."""
    reason: str = ""
    """The rule that decided, or what the other side or the system said."""

    def __str__(self) -> str:
        trip = "" if self.round_trip is None else f"{self.round_trip * 1e3:.1f} ms"
        rest = "  ".join(filter(None, (self.where, trip, self.reason)))
        return f"{self.at:9.3f} s  {self.what:9}  {rest}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `session.explain()` returns; `str` makes text of it."""

    mode: str
    """The session's mode."""
    select: str
    """`fastest`, `latest`, or that the program chooses by itself."""
    policy: str
    """The policy's text; empty where there is none."""
    path: str
    """Kind and other end of the path of now, or `none`."""
    round_trip: float | None
    """Seconds, on that path; None without any."""
    rule: str
    """Why the path of now was chosen."""
    pinned: bool
    """Whether the program keeps the session on its path."""
    events: tuple[TraceEvent, ...]
    """What led to it, the oldest first; 256 at most."""
    standby: str = "none"
    """Kind and both ends of the path that stands ready, with the reason; or why there is none."""
    lock: str = "none"
    """What the path of now is locked by: `tls` or, by the relay alone, `noise`; `none` without
    any."""
    keepalive: str = ""
    """How often the path of now is pinged while it is quiet, and why; empty without any."""

    def __str__(self) -> str:
        trip = "" if self.round_trip is None else f", {self.round_trip * 1e3:.1f} ms"
        head = [
            f"path      {self.path}{trip}",
            f"because   {self.rule or 'there is none'}",
            f"mode      {self.mode}, select {self.select}"
            + (f", policy {self.policy!r}" if self.policy else "")
            + (", pinned" if self.pinned else ""),
            f"standby   {self.standby}",
            f"lock      {self.lock}",
        ]
        if self.keepalive:
            head.append(f"pinged    {self.keepalive}")
        return "\n".join([*head, *map(str, self.events)])


class Trace:
    """The events of one session."""

    __slots__ = ("_began", "_clock", "_events", "rule", "standby")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._events: list[TraceEvent] = []  # A deque takes 0.7 KiB, at every session.
        self.rule = ""
        """The last one that has decided for a path."""
        self.standby = ""
        """Why a path stands ready, or why none does."""

    def note(
        self, what: str, where: object = "", *, round_trip: float | None = None, reason: str = ""
    ) -> None:
        """Keep one event."""
        at = self._clock() - self._began
        self._events.append(TraceEvent(at, what, str(where), round_trip, reason))
        if len(self._events) > _LIMIT:
            del self._events[0]
        if what == "chosen":
            self.rule = reason

    def standby_shown(self, path: Path | None) -> str:
        """Say which path stands ready, and why; or why none does."""
        if path is None:
            return f"none: {self.standby}" if self.standby else "none"
        return f"{path.kind.value}, {path.local} to {path.remote}: {self.standby}"

    def path_taken(self, path: Path, old: Path | None, *, dialed_here: bool) -> str:
        """The session goes on over a path; return why in words."""
        why = "a better path" if old is not None else "a new path"
        if not dialed_here:
            self.note("chosen", path.remote, reason="the other side has dialed")
        self.note("path", f"{path.kind.value}, {path.remote}", reason=why)
        return why

    @property
    def events(self) -> tuple[TraceEvent, ...]:
        """All that is kept, the oldest first."""
        return tuple(self._events)
