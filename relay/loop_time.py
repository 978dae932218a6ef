"""How long the event loop was held, and who was being served: a watchdog without a thread.

Whoever is served says so afterwards (`served`), for two readings of a clock; the relay's beat says
how late it was (`beat`). What holds the loop is told from what holds the process (SIGSTOP, a
machine that is busy with others, a disk) by the processor's time that this thread has had: nobody
is blamed for time that was not spent on him.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, thread_time

from relay.log import log

__all__ = ["HELD", "LoopTime"]

HELD = 0.005
"""Seconds for which one visitor may hold the loop; what is longer is counted."""
_SHOWN = 0.05
"""Seconds from which it is logged as well."""
_MANY = 0.5
"""Seconds of work after which it is logged though nobody by himself held the loop: they were many,
or it was the program that the relay is a part of."""
_WINDOW = 10.0
"""Seconds of which the largest lag is kept, and shown for as long again: a scrape every 10 s misses
none."""
_QUIET = 10.0
"""Seconds between two lines of the log; the next one says how many were left out."""


@dataclass(frozen=True, slots=True)
class _Hold:
    """Somebody was served for long."""

    serving: str
    who: str
    seconds: float


_NOBODY = _Hold("", "", 0.0)


class LoopTime:
    """The time of one loop. `clock` is any that only grows, `cpu` what this thread has used of the
    processor; both in seconds."""

    def __init__(
        self,
        clock: Callable[[], float] = monotonic,
        cpu: Callable[[], float] = thread_time,
    ) -> None:
        self.clock = clock
        self._cpu = cpu
        self._used = self._used_at_beat = cpu()
        self._longest = _NOBODY
        """Since the last beat."""
        self._told = clock() - _QUIET
        self._untold = 0
        self._window = clock()
        self._lags = (0.0, 0.0)
        """The largest of the window before, and of this one."""
        self.holds: Counter[str] = Counter()
        """How often one visitor has held the loop for more than `HELD`, by what he was served."""
        self.late: dict[str, float] = {"work": 0.0, "system": 0.0}
        """Seconds for which the beat was late in all: `work` of this relay's, or that the `system`
        let it wait."""

    @property
    def lag(self) -> float:
        """The most, in seconds, that a beat was late in the last 10 to 20 s."""
        return max(self._lags)

    def served(self, serving: str, who: str, began: float) -> None:
        """Somebody was served from `began` (by `clock`) until now, without a pause."""
        took = self.clock() - began
        if took < HELD:
            return
        # Only now is the processor asked, which costs more than all the rest. What was used since
        # it was asked last, at the latest by the beat, is the most that can have been his.
        used = self._cpu()
        took = min(took, used - self._used)
        self._used = used
        if took >= HELD:
            self.holds[serving] += 1
            if took > self._longest.seconds:
                self._longest = _Hold(serving, who, took)

    def beat(self, due: float) -> None:
        """The beat that was due then (by `clock`) comes now."""
        now, used = self.clock(), self._cpu()
        late = max(0.0, now - due)
        work = min(late, used - self._used_at_beat)
        self._used = self._used_at_beat = used
        before, lag = self._lags
        if now - self._window >= _WINDOW:
            # Two windows without a beat: the loop stood still, which this beat says by itself.
            self._window, before, lag = now, lag, 0.0
        self._lags = before, max(lag, late)
        self.late["work"] += work
        self.late["system"] += late - work
        longest, self._longest = self._longest, _NOBODY
        if longest.seconds >= _SHOWN or work >= _MANY:
            self._tell(work, longest, now)

    def _tell(self, work: float, longest: _Hold, now: float) -> None:
        if now - self._told < _QUIET:
            self._untold += 1
            return
        log.warning(
            "the loop was held",
            milliseconds=round(1000 * max(work, longest.seconds)),
            serving=longest.serving or "many",
            who=longest.who,
            who_milliseconds=round(1000 * longest.seconds),
            before=self._untold,
        )
        self._told, self._untold = now, 0
