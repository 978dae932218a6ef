"""Whether the current path of a session lives: when to ping it, and when to give it up.

Three clocks: what was heard, what was said, and what was acknowledged. A path that answers pings
but acknowledges nothing is as dead as a silent one (design §5). Times are seconds of the caller's
clock.
"""

from protocol.session.keepalive import Keepalive
from protocol.session.settings import SessionSettings

__all__ = ["PathLiveness"]

_UNPROVEN_SECONDS = 60.0
"""How long bytes count that TLS has not proven yet: a record on a slow path may take so long."""
_MOST_PATIENCE = 16
_QUIET = 1.5
"""Ping intervals of quiet after which a path's end may be due to it."""


class PathLiveness:
    """The clocks of one path. `needed` says how many seconds the oldest frame on its way may take
    at the path's rate, None where none is."""

    __slots__ = (
        "_answer_due",
        "_helped",
        "_interval",
        "_keepalive",
        "_ping",
        "_pinged",
        "_proven",
        "_quiet_limit",
        "_settings",
        "_tried",
        "heard",
        "patience",
        "progress",
        "round_trip",
        "said",
    )

    def __init__(self, settings: SessionSettings, now: float) -> None:
        self._settings = settings
        self.round_trip: float | None = None
        """Seconds from the last ping that was answered to its answer."""
        self.patience = 1
        """What `needed` is multiplied with: twice as much after each path on which nothing at all
        was acknowledged in time, for one that is slower than anybody knew."""
        self.begin(now)

    def begin(self, now: float) -> None:
        """Begin on a new path."""
        self.heard = now
        """When bytes arrived last."""
        self._proven = now
        """When bytes arrived last that the other side has sent for certain."""
        self.said = now
        """When bytes were given to the path last."""
        self.progress = now
        """When something was acknowledged last, or first put on its way."""
        self._helped: float | None = None
        """The `progress` at which help was wanted last."""
        self._pinged = now
        self._ping = 0
        self._answer_due: float | None = None
        self.round_trip = None
        self._keepalive: Keepalive | None = None
        self._quiet_limit = 0.0
        self._interval = self._settings.ping_interval
        """Seconds of quiet before a ping: what was right when something was heard last."""
        self._tried: float | None = None
        """For how long the path had been quiet when something was said to which nothing has come
        back yet."""

    def be_quiet(self, limit: float, keepalive: Keepalive) -> None:
        """Let this path be quiet for longer: up to `limit` seconds, and what its network bears."""
        self._quiet_limit, self._keepalive = limit, keepalive
        self._interval = keepalive.interval(self._settings.ping_interval, limit)

    @property
    def shown(self) -> str:
        """How often it is pinged while it is quiet, and why."""
        every = f"every {self._interval:.3g} s"
        if self._keepalive is None:
            return f"{every}: nothing longer was agreed for this path"
        safe = self._settings.ping_interval
        return f"{every}: {self._keepalive.why(self._interval, safe)}"

    def say(self, now: float) -> None:
        """Bytes are given to the path."""
        self._tried = max(self._tried or 0.0, now - max(self.heard, self.said))
        self.said = now

    def hear(self, now: float) -> None:
        """Bytes arrived."""
        if self._keepalive is not None:
            if self._tried is not None:
                self._keepalive.survived(self._tried)
            safe = self._settings.ping_interval
            self._interval = self._keepalive.interval(safe, self._quiet_limit)
        self._tried = None
        self.heard = self._proven = now
        self._answer_due = None

    def end(self) -> None:
        """The path is given up, or has ended. Where nothing has come back after it was quiet, that
        is what it has died of, as far as this side knows."""
        tried, self._tried = self._tried or 0.0, None
        if self._keepalive is not None and tried > self._settings.ping_interval * _QUIET:
            self._keepalive.died(tried)

    def hear_part(self, now: float) -> None:
        """Bytes arrived of something that cannot be read yet. Whoever is on the way may have made
        them, so that they count for a while only."""
        if now < self._proven + _UNPROVEN_SECONDS:
            self.heard = now
            self._answer_due = None

    def advance(self, now: float) -> None:
        """The other side has acknowledged something."""
        self.progress = now
        self.patience = 1

    def overdue_at(self, after: float | None) -> float | None:
        """Return when something else should help, where `after` seconds without progress are
        unusual; None where nothing is due, or help was wanted since the last progress."""
        return None if after is None or self._helped == self.progress else self.progress + after

    def want_help(self, now: float) -> str:
        """Note that it is wanted; return why."""
        self._helped = self.progress
        return f"nothing acknowledged for {now - self.progress:.2f} s"

    def ping(self, now: float) -> int:
        """Note a ping; return its number."""
        self._pinged = now
        self._ping += 1
        return self._ping

    def probe(self, now: float, timeout: float) -> int:
        """Note a ping on which, or on anything else, something must be heard within `timeout`."""
        due = now + timeout
        self._answer_due = due if self._answer_due is None else min(due, self._answer_due)
        return self.ping(now)

    def pong(self, number: int, now: float) -> None:
        """The answer to a ping arrived."""
        if number == self._ping:
            self.round_trip = now - self._pinged

    def ping_due(self) -> float:
        """Return when the next ping is due.

        Saying nothing counts like hearing nothing: who receives a large message on a slow link has
        nothing to acknowledge for long, and must not look dead to its sender meanwhile.
        """
        return max(min(self.heard, self.said), self._pinged) + self._interval

    def next_deadline(self, needed: float | None) -> float:
        """Return when `judge` or `ping_due` must be looked at next."""
        when = min(self.ping_due(), self._silent_at)
        if self._answer_due is not None:
            when = min(when, self._answer_due)
        return when if needed is None else min(when, self._stalled_at(needed))

    def judge(self, now: float, needed: float | None) -> str | None:
        """Return why the path is to be given up; None while it is not."""
        if now >= self._silent_at:
            return f"silent for {now - self.heard:.1f} s"
        if self._answer_due is not None and now >= self._answer_due:
            return f"no answer for {now - self._pinged:.1f} s after the network changed"
        if needed is not None and now >= self._stalled_at(needed):
            self.patience = min(self.patience * 2, _MOST_PATIENCE)
            return f"nothing acknowledged for {now - self.progress:.1f} s"
        return None

    @property
    def _silent_at(self) -> float:
        """When it has been silent for too long: as long after its ping as ever."""
        longer = self._interval - self._settings.ping_interval
        return self.heard + self._settings.silence_limit + longer

    def _stalled_at(self, needed: float) -> float:
        return self.progress + self._settings.silence_limit + needed * self.patience
