"""Who may come in now: bounds on all, on each network, and on how often; and who goes first where
too many have come.

Until somebody has proven who it is, it is one of the crowd (crowd.py), however far its request has
got. What is refused is counted by reason, and each reason logged once a second at most.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from protocol.errors import Code, RoamRelayError
from relay.config import RelayConfig
from relay.http.crowd import Crowd
from relay.http.descriptors import Descriptors
from relay.http.origin import Headers, Origin, Proxies, is_near
from relay.limits import WIDE_SHARE, Counts, Place, Rates, cause_of
from relay.log import log
from relay.metrics import Metrics

__all__ = ["Doorkeeper", "Guest", "Rules", "TurnedAway"]

_KNOWN_NETWORKS = 65_536
"""Networks of which a peer has registered that are remembered; the longest unseen go first."""

_USUAL = frozenset({"bad_http", "bad_tls", "late", "silent", "unread"})
"""What any relay on the open internet meets all day."""

_MANY = 16
"""So many control connections of one loopback or private address may be a proxy's."""


class TurnedAway(RoamRelayError):
    """No connection now; `code` says why, `retry_after` when to come back, in seconds."""

    def __init__(self, reason: str, code: Code, retry_after: float | None = None) -> None:
        super().__init__(reason, code=code)
        self.retry_after = retry_after


class Guest(Protocol):
    """Who has come and has not proven yet who it is."""

    def drop(self, reason: str) -> None:
        """End it now."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a doorkeeper goes by."""

    config: RelayConfig
    proxies: Proxies
    descriptors: Descriptors


class Doorkeeper:
    """The door of one relay."""

    def __init__(self, rules: Rules, metrics: Metrics, clock: Callable[[], float]) -> None:
        config = rules.config
        descriptors = rules.descriptors
        self._rules = rules
        self._metrics = metrics
        self._clock = clock
        self._rates = Rates(config.connects_per_second, config.connects_burst)
        self._wide_rates = Rates(
            WIDE_SHARE * config.connects_per_second, WIDE_SHARE * config.connects_burst
        )
        self._counts = Counts(
            min(config.max_connections_per_address, descriptors.share),
            min(config.max_connections, descriptors.connections),
            WIDE_SHARE,
        )
        self._crowd: Crowd[Guest] = Crowd(min(config.max_newcomers, descriptors.share))
        self._known: OrderedDict[str, None] = OrderedDict()
        self._logged: dict[str, float] = {}
        self._unlogged: dict[str, int] = {}
        self._told_of_proxies: set[str] = set()
        self.draining = False
        """Whether nobody is let in any more."""

    @property
    def proxies(self) -> Proxies:
        """The proxies that are believed."""
        return self._rules.proxies

    def allow(self, config: RelayConfig) -> None:
        """Other bounds from now on; who is inside stays."""
        self._rates.allow(config.connects_per_second, config.connects_burst)
        self._wide_rates.allow(
            WIDE_SHARE * config.connects_per_second, WIDE_SHARE * config.connects_burst
        )
        descriptors = self._rules.descriptors
        self._counts.allow(
            min(config.max_connections_per_address, descriptors.share),
            min(config.max_connections, descriptors.connections),
        )

    @property
    def inside(self) -> int:
        """Control connections that are counted."""
        return self._counts.total

    @property
    def newcomers(self) -> int:
        """Connections that have not proven yet who they are."""
        return len(self._crowd)

    # -- before it is proven who it is ----------------------------------------------------------

    def arrive(self, guest: Guest, host: str, descriptor: int) -> bool:
        """A connection has come from an address; return whether it stays. It is one of the crowd
        until it is `proven` or has `left`.

        Where descriptors run out somebody goes first: the oldest of the network that has most of
        the crowd.
        """
        descriptors = self._rules.descriptors
        known = cause_of(host).network in self._known
        self._crowd.enter(guest, host)
        if descriptor >= (descriptors.for_known if known else descriptors.for_strangers):
            self._thin_out("descriptors")
        if self._crowd.is_over_full:
            self._thin_out("crowded_out")
        return guest in self._crowd

    def waiting(self, host: str) -> int:
        """Return how many of the network of an address have not proven yet who they are."""
        return self._crowd.count(host)

    def make_room(self) -> None:
        """There is no descriptor for the next connection: end the first to go. Where all have
        proven who they are, the next one waits."""
        if not self._thin_out("descriptors"):
            self.refused("descriptors", "", "all that there are belong to registered peers")

    def end_all(self, reason: str) -> None:
        """The relay closes: end everybody who has not proven who it is."""
        while (guest := self._crowd.first_to_go()) is not None:
            self._crowd.leave(guest)
            guest.drop(reason)

    def _thin_out(self, reason: str) -> bool:
        guest = self._crowd.first_to_go()
        if guest is None:
            return False
        self.refused(reason, self._crowd.host(guest))
        self._crowd.leave(guest)
        guest.drop(reason)
        return True

    def origin(self, guest: Guest, origin: Origin, headers: Headers) -> Origin:
        """Return where a request of a guest really comes from, which answers for it from now on.

        Raises:
            BadForwarding: a trusted proxy has sent what cannot be read.
        """
        found = self._rules.proxies.of_request(origin, headers)
        self._crowd.move(guest, found.charged)
        if (
            found.proxy
            and not found.host
            and found.proxy == origin.host
            and not self._rules.proxies.trusts(found.proxy)
        ):
            self._unnamed_proxy(found.proxy)
        return found

    def moved(self, guest: Guest, host: str) -> None:
        """A guest turns out to come from another address."""
        self._crowd.move(guest, host)

    def proven(self, guest: Guest, host: str) -> None:
        """A guest has proven who it is: a peer's key is behind it."""
        self._crowd.leave(guest)
        network = cause_of(host).network
        self._known[network] = None
        self._known.move_to_end(network)
        if len(self._known) > _KNOWN_NETWORKS:
            self._known.popitem(last=False)

    def left(self, guest: Guest) -> None:
        """A guest has gone; only the first time counts."""
        self._crowd.leave(guest)

    # -- control connections --------------------------------------------------------------------

    def admit(self, origin: Origin, now: float) -> Place:
        """Return the place of one more control connection; it is counted until released.

        Raises:
            TurnedAway: the relay drains, or a bound is reached.
        """
        if self.draining:
            self.refused("draining", origin.text)
            raise TurnedAway("the relay goes down", Code.RESTARTING)
        wide, network, _ = cause_of(origin.charged)
        wait = self._rates.take(network, now)
        if wide != network:
            wait = wait or self._wide_rates.take(wide, now)
        if wait:
            self.refused("too_often", origin.text)
            raise TurnedAway("too many connections", Code.LIMIT_EXCEEDED, wait)
        place = self._counts.take(network, wide)
        if place is None:
            self.refused("too_many", origin.text)
            raise TurnedAway("too many connections", Code.LIMIT_EXCEEDED, 1.0)
        if not origin.proxy and self._counts.count(network) >= _MANY and is_near(origin.host):
            self._unnamed_proxy(origin.host)
        return place

    # -- what is said of it ---------------------------------------------------------------------

    def refused(self, reason: str, source: str, detail: str = "") -> None:
        """Count somebody who was refused or ended, and say so once a second for each reason."""
        self._metrics.refusals[reason] += 1
        now = self._clock()
        last = self._logged.get(reason)
        if last is not None and now - last < 1.0:
            self._unlogged[reason] = self._unlogged.get(reason, 0) + 1
            return
        self._logged[reason] = now
        more = self._unlogged.pop(reason, 0)
        words = {"detail": detail} if detail else {}
        say = log.info if reason in _USUAL else log.warning
        say("refused", reason=reason, source=source or "unknown", unlogged=more, **words)

    def _unnamed_proxy(self, host: str) -> None:
        """Say once of an address that it seems to be a proxy's, and what to configure then."""
        if host in self._told_of_proxies or len(self._told_of_proxies) >= _MANY:
            return
        self._told_of_proxies.add(host)
        log.warning(
            "many peers come from one near address, or by a proxy there: where it is a reverse "
            "proxy, name it in trusted_proxies (docs/deploy.md), or peers cannot be told where "
            "others are",
            address=host,
            configure=f'trusted_proxies = ["{host}"]',
        )
