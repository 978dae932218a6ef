"""Whom the operator's endpoint is to be told of: who has mail, and does not fetch it.

PURE: letters that come, peers that read and answers of the endpoint are told, with `now`; it says
who is due. One peer is told of once in a pause, however many letters come, and again after
failures, ever more rarely, as long as its letters wait.
"""

import heapq
from dataclasses import dataclass

from relay.limits import Rates

__all__ = ["Wakes"]

MOST = 20_000
"""Peers that are waited for: who comes when there are so many is not told of."""
PER_SECOND, AT_ONCE = 50.0, 200
"""Peers that the endpoint is told of, in all."""
FIRST_AGAIN, LAST_AGAIN = 5.0, 600.0
"""Seconds after a failure; each is twice the one before, up to the last."""


@dataclass(slots=True)
class _Wake:
    due: float
    """When it may be told of next."""
    is_wanted: bool = True
    """Whether it has mail that was not told of, or not with success."""
    is_being_told: bool = False
    failures: int = 0


class Wakes:
    """All peers of one mailbox that are told of, were told of a moment ago, or could not be."""

    def __init__(self, pause: float, most: int = MOST) -> None:
        self._pause = pause
        self._most = most
        self._wakes: dict[str, _Wake] = {}
        self._queue: list[tuple[float, str]] = []
        """Who is due when: what does not agree with the wake itself is of before."""
        self._rate = Rates(PER_SECOND, AT_ONCE)

    def __len__(self) -> int:
        return len(self._wakes)

    def came(self, guid: str, now: float) -> bool:
        """A letter has come for a peer that does not read. Return whether it will be told of: not
        where too many are waited for."""
        wake = self._wakes.get(guid)
        if wake is not None:
            wake.is_wanted = True
            return True
        if len(self._wakes) >= self._most:
            return False
        self._wakes[guid] = _Wake(now)
        heapq.heappush(self._queue, (now, guid))
        return True

    def read(self, guid: str) -> None:
        """The peer fetches its letters: it need not be told of."""
        wake = self._wakes.get(guid)
        if wake is not None:
            wake.is_wanted = False
            wake.failures = 0

    def take(self, now: float) -> str | None:
        """Return who is to be told of now; None where nobody is. Say `told` or `failed` of it."""
        while self._queue and self._queue[0][0] <= now:
            due, guid = self._queue[0]
            wake = self._wakes.get(guid)
            if wake is None or wake.is_being_told or wake.due != due:
                heapq.heappop(self._queue)
                continue
            if not wake.is_wanted:
                # Its pause is over, and nothing has come.
                heapq.heappop(self._queue)
                del self._wakes[guid]
                continue
            if self._rate.take("", now):
                return None
            heapq.heappop(self._queue)
            wake.is_wanted, wake.is_being_told = False, True
            return guid
        return None

    def told(self, guid: str, now: float) -> None:
        """The endpoint has been told of a peer, or wants to hear nothing of it."""
        self._again(guid, now + self._pause, failures=0)

    def failed(self, guid: str, now: float, *, waits: bool) -> None:
        """The endpoint could not be told. `waits`: whether the peer's letters wait still."""
        wake = self._wakes[guid]
        pause = max(self._pause, min(LAST_AGAIN, FIRST_AGAIN * 2**wake.failures))
        wake.is_wanted = wake.is_wanted or waits
        self._again(guid, now + pause, failures=min(wake.failures + 1, 16))

    def next_timeout(self, now: float) -> float | None:
        """Return the seconds until somebody may be due; None: not before somebody comes."""
        if not self._queue:
            return None
        return max(0.0, self._queue[0][0] - now, 1.0 / PER_SECOND)

    def _again(self, guid: str, due: float, *, failures: int) -> None:
        wake = self._wakes[guid]
        wake.is_being_told, wake.due, wake.failures = False, due, failures
        heapq.heappush(self._queue, (due, guid))
