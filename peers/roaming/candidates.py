"""Which candidates a session has now, in what order, and whether its policy allows a path."""

import dataclasses
import ipaddress
from fnmatch import fnmatchcase

from peers.choice import Candidate, RoundTrips, in_order, open_candidates
from peers.config import PathFacts, PathKind, PeerConfig, Rule
from peers.host import Network
from peers.location import OwnLocation
from peers.path import Path
from peers.session import Session
from protocol.endpoint import Endpoint, SignedEntry
from protocol.errors import PathFailed

__all__ = ["CandidateFinder", "entries_for"]


def entries_for(
    own: OwnLocation, session: Session, first: str | None = None
) -> tuple[SignedEntry, ...]:
    """Return this side's entries that the other side of a session may have."""
    return own.entries(session.service, first) if session.discloses else ()


class CandidateFinder:
    """Joins what the other side tells, what this host has, and what was measured."""

    def __init__(self, config: PeerConfig, network: Network, round_trips: RoundTrips) -> None:
        self._config = config
        self._network = network
        self._round_trips = round_trips

    def candidates(self, session: Session) -> list[Candidate]:
        """Return what a session may dial directly now, the first choice first.

        Raises:
            PathFailed: nothing; says what was left out, and by which rule.
        """
        opened, dropped = open_candidates(
            session.remote, session.service, session.entries_there, established=session.has_had_path
        )
        for reason in dropped:
            session.trace.note("dropped", reason=reason)
        candidates = []
        for one in opened:
            for source in self._sources(session, one.endpoint):
                known = self._round_trips.get(session.remote, one.endpoint, source)
                candidate = dataclasses.replace(one, source=source, round_trip=known)
                rule = session.policy.refusal(self._facts(candidate))
                if rule is None:
                    candidates.append(candidate)
                else:
                    dropped.append(f"{candidate}: the policy says '{rule}'")
                    session.trace.note("dropped", candidate, reason=f"policy '{rule}'")
        candidates = self._ordered(session, candidates)
        for candidate in candidates:
            facts = f"{candidate.phase}, {candidate.provenance or 'not signed'}"
            session.trace.note(
                "candidate", candidate, round_trip=candidate.round_trip, reason=facts
            )
        if not candidates:
            what = "; ".join(dropped) or "no endpoint is known"
            raise PathFailed(f"{session.remote[:8]} has no endpoint to dial: {what}")
        return candidates

    def refusal(self, session: Session, path: Path) -> Rule | None:
        """Return the rule of a session's policy that forbids a path that is there."""
        if path.kind is PathKind.RELAYED:
            return session.policy.refusal(PathFacts(PathKind.RELAYED))
        other = path.remote.rpartition(":")[0].strip("[]")
        return session.policy.refusal(self._direct(other, path.local_host))

    def source_towards(self, host: str) -> str | None:
        """Return the local address from which a relay at this host is reached; None leaves it to
        the routes.

        Raises:
            PathFailed: there is none just now.
        """
        sources = self._network.dial_sources(6 if ":" in host else 4)
        if not sources:
            raise PathFailed(f"no local address leads to {host}")
        return sources[0]

    # -- inside ---------------------------------------------------------------------------------

    def _sources(self, session: Session, endpoint: Endpoint) -> tuple[str | None, ...]:
        address = ipaddress.ip_address(endpoint.host)
        named = session.policy.needs_interfaces and not address.is_loopback
        return self._network.dial_sources(address.version, named=named)

    def _ordered(self, session: Session, candidates: list[Candidate]) -> list[Candidate]:
        def rank(candidate: Candidate) -> tuple[int, ...]:
            return session.policy.rank(self._facts(candidate))

        if session.select == "fastest":
            return in_order(candidates, rank)
        candidates.sort(key=rank)
        if callable(session.select):
            chosen = session.select(tuple(candidates))
            return [candidate for candidate in chosen if candidate in candidates]
        return candidates

    def _facts(self, candidate: Candidate) -> PathFacts:
        return self._direct(candidate.endpoint.host, candidate.source)

    def _direct(self, host: str, source: str | None) -> PathFacts:
        if source is None and ipaddress.ip_address(host).is_loopback:
            source = "::1" if ":" in host else "127.0.0.1"
        interface = self._network.interface_of(source) if source is not None else None
        metered = None
        if interface is not None:
            metered = any(fnmatchcase(interface, pattern) for pattern in self._config.metered)
        return PathFacts(PathKind.DIRECT, host, interface, metered)
