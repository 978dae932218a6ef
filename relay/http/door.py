"""Who may open a control connection now: a bound on all, and on each address, and on how often."""

from protocol.errors import Code, RoamRelayError
from relay.config import RelayConfig
from relay.rates import Counts, Place, Rates

__all__ = ["Doorkeeper", "TurnedAway"]


class TurnedAway(RoamRelayError):
    """No connection now; `code` says why, `retry_after` when to come back, in seconds."""

    def __init__(self, reason: str, code: Code, retry_after: float | None = None) -> None:
        super().__init__(reason, code=code)
        self.retry_after = retry_after


class Doorkeeper:
    """The door of one relay."""

    def __init__(self, config: RelayConfig) -> None:
        self._rates = Rates(config.connects_per_second, config.connects_burst)
        self._counts = Counts(config.max_connections_per_address, config.max_connections)
        self.draining = False
        """Whether nobody is let in any more."""

    def allow(self, config: RelayConfig) -> None:
        """Other bounds from now on; who is inside stays."""
        self._rates.allow(config.connects_per_second, config.connects_burst)
        self._counts.allow(config.max_connections_per_address, config.max_connections)

    @property
    def inside(self) -> int:
        """Connections that are counted."""
        return self._counts.total

    def admit(self, host: str, now: float) -> Place:
        """Return the place of one more connection from an address; it is counted until released.

        Raises:
            TurnedAway: the relay drains, or a bound is reached.
        """
        if self.draining:
            raise TurnedAway("the relay goes down", Code.RESTARTING)
        wait = self._rates.take(host, now)
        place = None if wait else self._counts.take(host)
        if place is None:
            raise TurnedAway("too many connections", Code.LIMIT_EXCEEDED, wait or 1.0)
        return place
