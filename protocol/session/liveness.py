"""Whether the current path of a session lives: when to ping it, and when to give it up.

Three clocks: what was heard, what was said, and what was acknowledged. A path that answers pings
but acknowledges nothing is as dead as a silent one (design §5). Times are seconds of the caller's
clock.
"""

from protocol.session.frames import SLOWEST_LINK
from protocol.session.settings import SessionSettings

__all__ = ["PathLiveness"]


class PathLiveness:
    """The clocks of one path. `oldest` is the size in bytes of the oldest message that waits for
    its acknowledgement, None where none does."""

    def __init__(self, settings: SessionSettings, now: float) -> None:
        self._settings = settings
        self.round_trip: float | None = None
        """Seconds from the last ping that was answered to its answer."""
        self.begin(now)

    def begin(self, now: float) -> None:
        """Begin on a new path."""
        self.heard = now
        """When bytes arrived last."""
        self.said = now
        """When bytes were given to the path last."""
        self.progress = now
        """When something was acknowledged last, or first put on its way."""
        self._pinged = now
        self._ping = 0
        self._answer_due: float | None = None
        self.round_trip = None

    def hear(self, now: float) -> None:
        """Bytes arrived."""
        self.heard = now
        self._answer_due = None

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
        return max(min(self.heard, self.said), self._pinged) + self._settings.ping_interval

    def next_deadline(self, oldest: int | None) -> float:
        """Return when `dead` or `ping_due` must be looked at next."""
        when = min(self.ping_due(), self.heard + self._settings.silence_limit)
        if self._answer_due is not None:
            when = min(when, self._answer_due)
        return when if oldest is None else min(when, self._stalled_at(oldest))

    def dead(self, now: float, oldest: int | None) -> str | None:
        """Return why the path is dead; None while it is not."""
        if now >= self.heard + self._settings.silence_limit:
            return f"silent for {now - self.heard:.1f} s"
        if self._answer_due is not None and now >= self._answer_due:
            return f"no answer for {now - self._pinged:.1f} s after the network changed"
        if oldest is not None and now >= self._stalled_at(oldest):
            return f"nothing acknowledged for {now - self.progress:.1f} s"
        return None

    def _stalled_at(self, oldest: int) -> float:
        return self.progress + self._settings.silence_limit + oldest / SLOWEST_LINK
