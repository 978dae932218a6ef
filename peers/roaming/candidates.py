"""Which candidates a session has now, in what order, and whether its policy allows a path."""

import contextlib
import dataclasses
import ipaddress
from collections.abc import Collection
from fnmatch import fnmatchcase

from peers.choice import Candidate, RoundTrips, in_order, open_candidates
from peers.config import PathFacts, PathKind, PeerConfig, Rule, StandbyWord
from peers.host import Interfaces, routed_source
from peers.path import Path, PathEnd
from peers.roaming.route import Route
from peers.session import Terms
from peers.tasks import calling
from protocol.endpoint import Endpoint
from protocol.errors import PathFailed
from protocol.hosts import host_in, is_address

__all__ = ["Candidates", "NothingToDial"]


class NothingToDial(PathFailed):
    """No candidate is left to be tried: asking again soon would bring the same."""


class Candidates:
    """Joins what the other side tells, what this host has, and what was measured."""

    def __init__(self, config: PeerConfig, interfaces: Interfaces, round_trips: RoundTrips) -> None:
        self._config = config
        self._interfaces = interfaces
        self._round_trips = round_trips

    def of(self, route: Route) -> list[Candidate]:
        """Return what a session may dial directly now, the first choice first.

        Raises:
            NothingToDial: nothing; says what was left out, and by which rule.
            CallbackFailed: the program's `select` has failed.
        """
        session, terms, trace = route.session, route.session.terms, route.trace
        opened, dropped = open_candidates(
            terms.remote, terms.service, route.remote_entries, established=session.has_had_path
        )
        for reason in dropped:
            trace.note("dropped", reason=reason)
        candidates = []
        for one in opened:
            for source in self._sources(terms, one.endpoint):
                known = self._round_trips.get(terms.remote, one.endpoint, source)
                candidate = dataclasses.replace(one, source=source, round_trip=known)
                rule = terms.policy.refusal(self._facts(candidate))
                if rule is None:
                    candidates.append(candidate)
                else:
                    dropped.append(f"{candidate}: the policy says '{rule}'")
                    trace.note("dropped", candidate, reason=f"policy '{rule}'")
        offered = len(candidates)
        candidates = self._ordered(terms, candidates)
        if offered and not candidates:
            dropped.append("the program's select has left none")
        for candidate in candidates:
            facts = f"{candidate.phase}, {candidate.provenance or 'not signed'}"
            trace.note("candidate", candidate, round_trip=candidate.round_trip, reason=facts)
        if not candidates:
            what = "; ".join(dropped) or "no endpoint is known"
            raise NothingToDial(f"{terms.remote[:8]} has no endpoint to dial: {what}")
        return candidates

    def beside(self, route: Route, path: Path) -> list[Candidate]:
        """Return what may be dialed for a path that stands ready beside this one: what leads from
        another network of this host, or to another one of the other side's, the best first. Nothing
        is dialed over a metered interface unless the session's terms allow it.

        Raises:
            CallbackFailed: the program's `select` has failed.
        """
        terms = route.session.terms
        if ipaddress.ip_address(path.local_host).is_loopback and not self._config.sources:
            return []  # It never goes away.
        opened, _ = open_candidates(
            terms.remote, terms.service, route.remote_entries, established=False
        )
        found: list[tuple[tuple[int, ...], int, Candidate]] = []
        for one in opened:
            address = ipaddress.ip_address(one.endpoint.host)
            for source in self._interfaces.standby_sources(address.version):
                known = self._round_trips.get(terms.remote, one.endpoint, source)
                candidate = dataclasses.replace(one, source=source, round_trip=known)
                gain = self.gain(path, source, one.endpoint.host)
                if not gain or self._forbids_standby(terms, self._facts(candidate)):
                    continue
                found.append((terms.policy.rank(self._facts(candidate)), -gain, candidate))
        found.sort(key=lambda one: one[:2])
        candidates = [candidate for _, _, candidate in found]
        return self._ordered(terms, candidates) if callable(terms.select) else candidates

    def gain(self, path: Path, local: str, remote: str) -> int:
        """Return what a second path between these addresses is worth beside a path: 0 where
        whatever ends one of them is likely to end the other. This host sees its own networks, and
        of the other side's only addresses."""
        interfaces = self._interfaces
        here = interfaces.is_other_network(path.local_host, local) or (
            path.local_host in interfaces.leaving and local not in interfaces.leaving
        )
        return 2 * here + _is_elsewhere(host_in(path.remote), remote)

    def is_overtaken(self, terms: Terms, path: Path) -> bool:
        """Whether the routes lead to the other end of a path from another network of this host's
        than the path comes from, or from an address that stays where the path's is leaving; and
        the session's terms let it go there before the path has failed."""
        if terms.foresight is StandbyWord.NEVER:
            return False
        host, interfaces = host_in(path.remote), self._interfaces
        with contextlib.suppress(PathFailed):
            source = self.source_towards(host) or routed_source(host)
            if source is None or interfaces.interface_of(source) is None:
                return False
            elsewhere = interfaces.is_other_network(path.local_host, source)
            leaves = self.is_leaving(path) and source not in interfaces.leaving
            facts = self._direct(host, source)
            metered = facts.metered and terms.foresight is not StandbyWord.METERED
            return (elsewhere or leaves) and not metered
        return False

    def is_leaving(self, path: Path) -> bool:
        """Whether a path comes from an address that will go away."""
        return path.local_host in self._interfaces.leaving

    def refuses_standby(self, terms: Terms, path: Path) -> bool:
        """Whether a path that the other side has dialed may not stand ready."""
        return self._forbids_standby(terms, self._direct(host_in(path.remote), path.local_host))

    def measured(self, guid: str, candidate: Candidate, seconds: float) -> None:
        """Keep a round trip to a candidate of a peer."""
        self._round_trips.put(guid, candidate, seconds)

    def forget(self, gone: Collection[str] = ()) -> None:
        """Forget what was measured from local addresses that have gone, and by the routes."""
        self._round_trips.forget(gone)

    def is_gone(self, path: PathEnd) -> bool:
        """Whether a path comes from a local address that this host has no more."""
        return self._interfaces.is_gone(path.local_host)

    def refusal(self, terms: Terms, path: PathEnd) -> Rule | None:
        """Return the rule of a session's policy that forbids a path that is there."""
        if path.kind is PathKind.RELAYED:
            return terms.policy.refusal(PathFacts(PathKind.RELAYED))
        return terms.policy.refusal(self._direct(host_in(path.remote), path.local_host))

    def source_towards(self, host: str) -> str | None:
        """Return the local address from which a relay at this host is reached; None leaves it to
        the routes.

        Raises:
            PathFailed: there is none just now.
        """
        sources = self._interfaces.dial_sources(6 if ":" in host else 4)
        if not sources and not is_address(host):  # A name may have addresses of either family.
            sources = self._interfaces.dial_sources(6)
        if not sources:
            raise PathFailed(f"no local address leads to {host}")
        return sources[0]

    # -- inside ---------------------------------------------------------------------------------

    def _forbids_standby(self, terms: Terms, facts: PathFacts) -> bool:
        if facts.metered and terms.standby_word is not StandbyWord.METERED:
            return True
        return terms.policy.refusal(facts) is not None

    def _sources(self, terms: Terms, endpoint: Endpoint) -> tuple[str | None, ...]:
        address = ipaddress.ip_address(endpoint.host)
        named = terms.policy.needs_interfaces and not address.is_loopback
        return self._interfaces.dial_sources(address.version, named=named)

    def _ordered(self, terms: Terms, candidates: list[Candidate]) -> list[Candidate]:
        def rank(candidate: Candidate) -> tuple[int, ...]:
            return terms.policy.rank(self._facts(candidate))

        select = terms.select
        if select == "fastest":
            return in_order(candidates, rank)
        candidates.sort(key=rank)
        if callable(select):
            with calling("select"):
                chosen = list(select(tuple(candidates)))
                return [candidate for candidate in chosen if candidate in candidates]
        return candidates

    def _facts(self, candidate: Candidate) -> PathFacts:
        return self._direct(candidate.endpoint.host, candidate.source)

    def _direct(self, host: str, source: str | None) -> PathFacts:
        if source is None and ipaddress.ip_address(host).is_loopback:
            source = "::1" if ":" in host else "127.0.0.1"
        interface = self._interfaces.interface_of(source) if source is not None else None
        metered = None
        if interface is not None:
            metered = any(fnmatchcase(interface, pattern) for pattern in self._config.metered)
        return PathFacts(PathKind.DIRECT, host, interface, metered)


def _is_elsewhere(one: str, another: str) -> bool:
    """Whether two addresses of another host are likely to be in different networks. Of two versions
    that host alone can tell, and dials if they are: most have both in one network."""
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(another)
    if first.version != second.version:
        return False
    return first != second if first.version == 4 else int(first) >> 64 != int(second) >> 64
