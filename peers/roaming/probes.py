"""Probes for a better direct path: a candidate is proven, and nothing is said there.

They are few: one at a time, at most four in a round. When there is a round is decided in
monitor.py, which also judges what was seen.
"""

import asyncio

from peers.choice import Candidate
from peers.path import Path
from peers.roaming.candidates import Candidates
from peers.roaming.monitor import Seen
from peers.roaming.route import Route
from peers.roaming.ways import Ways
from protocol.errors import RoamRelayError

__all__ = ["Probes"]

_PROBES = 4
"""Other candidates that are probed in one round."""
_TIMEOUT = 2.0
"""Seconds for one probe."""


class Probes:
    """Measures the candidates of one peer's sessions."""

    def __init__(self, ways: Ways, candidates: Candidates) -> None:
        self._ways = ways
        self._candidates = candidates

    async def look(self, route: Route, seen: Seen) -> Candidate | None:
        """Probe once, note it in `seen`, and return the candidate that has been better for long
        enough, if the session is still on the path that it was compared with."""
        path = route.session.path
        try:
            candidates = self._candidates.of(route)
        except RoamRelayError:
            candidates = []
        if path is None or len(candidates) < 2:
            seen.clear()
            return None
        seen.on(path)
        here = [one for one in candidates if _is_on(path, one)]
        others = [one for one in candidates if one not in here][:_PROBES]
        round_trip = route.session.round_trip
        seen.note(None, await self._measure(route, here[0]) if here else round_trip)
        for candidate in others:
            seen.note(candidate, await self._measure(route, candidate))
        if route.session.path is not path:
            return None
        best = seen.better()
        if best is None:
            route.trace.note("kept", path.remote, round_trip=route.session.round_trip)
        return best

    async def _measure(self, route: Route, candidate: Candidate) -> float | None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                proven = await self._ways.prove_for(route, candidate)
        except TimeoutError:
            route.trace.note("failed", candidate, reason="no answer to a probe")
            return None
        except RoamRelayError:
            return None
        proven.path.abort()
        return proven.round_trip


def _is_on(path: Path, candidate: Candidate) -> bool:
    return str(candidate.endpoint) == path.remote and candidate.source in (None, path.local_host)
