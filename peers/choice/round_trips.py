"""Round trips that were measured, by peer, endpoint and own address."""

from collections import OrderedDict
from collections.abc import Callable, Collection

from peers.choice.candidate import Candidate
from protocol.endpoint import Endpoint

__all__ = ["RoundTrips"]


class RoundTrips:
    """What was measured, by peer, endpoint and own address. It ages out, and has a bound.

    `clock` is any that only grows, in seconds; so is `lifetime`."""

    def __init__(
        self, clock: Callable[[], float], *, lifetime: float = 600.0, limit: int = 4096
    ) -> None:
        self._lifetime = lifetime
        self._limit = limit
        self._clock = clock
        self._known: OrderedDict[tuple[str, Endpoint, str | None], tuple[float, float]] = (
            OrderedDict()
        )

    def put(self, guid: str, candidate: Candidate, seconds: float) -> None:
        """Keep a measurement."""
        key = guid, candidate.endpoint, candidate.source
        self._known[key] = seconds, self._clock()
        self._known.move_to_end(key)
        if len(self._known) > self._limit:
            self._known.popitem(last=False)

    def get(self, guid: str, endpoint: Endpoint, source: str | None) -> float | None:
        """Return the last measurement, unless it is too old."""
        found = self._known.get((guid, endpoint, source))
        if found is None or self._clock() - found[1] > self._lifetime:
            return None
        return found[0]

    def forget(self, sources: Collection[str]) -> None:
        """These local addresses have gone: what was measured from them means nothing any more, nor
        what was measured as the routes of that time led."""
        for key in [key for key in self._known if key[2] is None or key[2] in sources]:
            del self._known[key]
