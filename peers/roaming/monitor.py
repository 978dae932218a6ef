"""Better paths for sessions that have one: from the relay to a direct path in `auto`, and from one
direct path to another that stays clearly better.

Probes prove a candidate and say nothing there (peers/choosing.py). They are few: one at a time, at
most four a round, and only the session's caller looks. A session moves to another direct path when
that was clearly better in five rounds running, so that delays that jitter move nothing.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from peers.choice import Candidate, clearly_better
from peers.config import PathKind, PeerConfig, log
from peers.path import Path
from peers.roaming.candidates import CandidateFinder
from peers.roaming.ways import Attempt, Dialer, Made
from peers.session import Session
from protocol.endpoint import Endpoint
from protocol.errors import RoamRelayError
from protocol.messages import Mode

__all__ = ["Improving"]

_INTERVAL = 60.0
"""Seconds between attempts to move an `auto` session from the relay to a direct path."""
_ROUNDS = 5
"""Rounds in all of which a candidate must be clearly better before the session moves."""
_PROBES = 4
"""Other candidates that are probed in one round."""
_PROBE_TIMEOUT = 2.0


class _Seen:
    """The last round trips of a path and of what could take its place.

    A candidate is better when the worst of its last rounds is clearly better than the best of the
    path's: delays that jitter overlap.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._trips: dict[tuple[Endpoint, str | None] | None, deque[float]] = {}

    def clear(self) -> None:
        self._trips.clear()

    def on(self, path: Path) -> None:
        if path is not self._path:
            self._path = path
            self.clear()

    def note(self, candidate: Candidate | None, seconds: float | None) -> None:
        key = None if candidate is None else (candidate.endpoint, candidate.source)
        if seconds is None:
            self._trips.pop(key, None)
        else:
            self._trips.setdefault(key, deque(maxlen=_ROUNDS)).append(seconds)

    def better(self) -> Candidate | None:
        here = self._trips.get(None, ())
        if len(here) < _ROUNDS:
            return None
        found = {
            key: max(trips)
            for key, trips in self._trips.items()
            if key is not None and len(trips) == _ROUNDS and clearly_better(max(trips), min(here))
        }
        best = min(found, key=lambda key: found[key], default=None)
        return None if best is None else Candidate(*best)


class Improving:
    """Looks for better paths for the sessions of one peer."""

    def __init__(
        self,
        config: PeerConfig,
        dialer: Dialer,
        finder: CandidateFinder,
        *,
        attempt: Callable[[Session], Attempt],
        take: Callable[[Attempt, Made], None],
        spawn: Callable[[Coroutine[Any, Any, None]], object | None],
    ) -> None:
        self._config = config
        self._dialer = dialer
        self._finder = finder
        self._attempt = attempt
        self._take = take
        self._spawn = spawn
        self._running: dict[bytes, asyncio.Event] = {}

    def path_taken(self, session: Session) -> None:
        """The session has another path: look for a better one where that is wanted."""
        path = session.path
        if path is None or session.is_over or session.pinned:
            return
        if self._wants_direct(session) or self._monitors(session):
            if session.id in self._running:
                if path.kind is PathKind.RELAYED:
                    self._running[session.id].set()
                return
            self._running[session.id] = hurry = asyncio.Event()
            if self._spawn(self._run(session, hurry)) is None:
                del self._running[session.id]

    def hurry(self, session: Session) -> None:
        """Something has changed: look now."""
        if session.id in self._running:
            self._running[session.id].set()

    def _wants_direct(self, session: Session) -> bool:
        path = session.path
        return (
            session.mode is Mode.AUTO
            and session.discloses
            and path is not None
            and path.kind is PathKind.RELAYED
        )

    def _monitors(self, session: Session) -> bool:
        path = session.path
        return (
            session.is_caller
            and session.discloses
            and session.select == "fastest"
            and self._config.probe_interval > 0
            and path is not None
            and path.kind is PathKind.DIRECT
        )

    async def _run(self, session: Session, hurry: asyncio.Event) -> None:
        direct = self._wants_direct(session)
        first = 0.0 if session.is_caller else 4 * self._config.stagger
        wait = first if direct else self._config.probe_interval
        seen = _Seen()
        try:
            while True:
                await _within(wait, hurry)
                hurry.clear()
                if session.is_over or session.pinned or session.path is None:
                    return  # The next path starts this anew.
                if self._wants_direct(session):
                    await self._go_direct(session)
                    wait = _INTERVAL
                if self._monitors(session):
                    if not direct:
                        await self._round(session, seen)
                    wait = self._config.probe_interval
                elif not self._wants_direct(session):
                    return
                direct = False
        finally:
            del self._running[session.id]

    async def _go_direct(self, session: Session) -> None:
        attempt = self._attempt(session)
        try:
            self._take(attempt, await self._dialer.direct(attempt))
        except RoamRelayError as error:
            log.debug("no direct path", peer=session.remote[:8], reason=error.reason)

    async def _round(self, session: Session, seen: _Seen) -> None:
        """Probe once, and move where a candidate has been better for long enough."""
        path = session.path
        try:
            candidates = self._finder.candidates(session)
        except RoamRelayError:
            return seen.clear()
        if path is None or len(candidates) < 2:
            return seen.clear()
        seen.on(path)
        here = [
            c for c in candidates if str(c.endpoint) == path.remote and _from(c, path.local_host)
        ]
        others = [c for c in candidates if c not in here][:_PROBES]
        seen.note(None, await self._probe(session, here[0]) if here else session.round_trip)
        for candidate in others:
            seen.note(candidate, await self._probe(session, candidate))
        best = seen.better()
        if session.path is not path:
            return None
        if best is None:
            session.trace.note("kept", path.remote, round_trip=session.round_trip)
            return None
        attempt = self._attempt(session)
        try:
            made = await self._dialer.direct(attempt, only=best)
            rule = f"better than {path.remote} in {_ROUNDS} probes running"
            session.trace.note("chosen", best, round_trip=made[0].round_trip, reason=rule)
            self._take(attempt, made)
        except RoamRelayError as error:
            log.debug("no better path", peer=session.remote[:8], reason=error.reason)
        return seen.clear()

    async def _probe(self, session: Session, candidate: Candidate) -> float | None:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                proven = await self._dialer.prove_for(session, candidate)
        except TimeoutError:
            session.trace.note("failed", candidate, reason="no answer to a probe")
            return None
        except RoamRelayError:
            return None
        proven.path.abort()
        return proven.round_trip


def _from(candidate: Candidate, local_host: str) -> bool:
    return candidate.source in (None, local_host)


async def _within(seconds: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
