"""One round of a search: everything that a session's mode allows is asked and dialed.

When there is a round, and another one, is decided in search.py; each way by itself is in ways.py.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

from peers.choice import newest
from peers.config import PathFacts, PathKind, log
from peers.control import Answered
from peers.location import Found
from peers.roaming.candidates import NothingToDial
from peers.roaming.lookup import Directory, Lookup, first_that_knows
from peers.roaming.route import Attempt, Route, Welcomed
from peers.roaming.signs import Signs
from peers.roaming.ways import Ways
from peers.tasks import LONGEST_WITHOUT_PATH, backoff, race
from protocol.endpoint import Endpoint, SignedEntry
from protocol.errors import (
    Code,
    NameServerUnavailable,
    PathFailed,
    PeerOffline,
    RelayUnavailable,
    RoamRelayError,
    UnknownPeer,
    WrongIdentity,
)
from protocol.lock import Agreed
from protocol.messages import Mode

__all__ = ["Rounds"]

_ASKS = 6.0
"""Seconds for which the DNS is asked within one round for a session's next path: at first often,
and then once in `LONGEST_WITHOUT_PATH` or so."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 2.0
"""Seconds between two questions about a peer that does not answer where it was."""
_DIRECT = 4.0
"""Seconds without a path after which a session in `combined` goes on over the relay, where both
sides have named that: until then whoever has moved is found."""
_RELAYED = (Mode.CENTRAL, Mode.AUTO)
"""The modes in which the relay's answer brings a plane."""


class Rounds:
    """Finds paths for the sessions of one peer."""

    def __init__(
        self, lookup: Lookup, ways: Ways, request_timeout: float, signs: Signs | None = None
    ) -> None:
        """`signs` tell of the other side's return while a round is under way."""
        self._lookup = lookup
        self._ways = ways
        self._request_timeout = request_timeout
        self._signs = signs

    async def first(self, attempt: Attempt, timeout: float) -> Welcomed:
        """Make the first path of a session: by who is asked first, or else by the next.

        Raises:
            RoamRelayError: what the first said that could be asked.
        """

        async def by(directory: Directory) -> Welcomed:
            if directory is Directory.DNS:
                # Nobody waits for the zone while there is somebody else to ask.
                patience = timeout if directories[-1] is Directory.DNS else 0.0
                return await self._first_by_names(attempt, patience)
            return await self._by_relay(attempt, timeout)

        directories = self._lookup.directories(attempt.session.mode)
        return await first_that_knows(directories, by)

    async def next(self, attempt: Attempt) -> Welcomed:
        """Make a session's next path: by all that is known and can be asked, at once.

        Raises:
            RoamRelayError: none was made in this round.
        """
        route, session = attempt.route, attempt.session
        ways: list[Callable[[], Coroutine[Any, Any, Welcomed]]] = []
        if session.terms.discloses and route.remote_entries:
            ways.append(partial(self._ways.direct, attempt, quick=True))
        if route.ticket and not session.terms.policy.refusal(PathFacts(PathKind.RELAYED)):
            ways.append(partial(self.next_plane, attempt))
        directories = self._lookup.directories(session.mode)
        others = _Left(len(ways) + (Directory.DNS in directories))
        ways = [partial(others.counted, way) for way in ways]
        for directory in directories:
            if directory is Directory.DNS:
                ways.append(partial(others.counted, partial(self._next_by_names, attempt)))
            else:
                ways.append(partial(self._next_by_relay, attempt, others))
        if route.falls_back:
            left = _Left(len(ways))
            ways = [partial(left.counted, way) for way in ways]
            ways.append(partial(self._fall_back, attempt, left))
        return await race(
            [partial(self._unless_given_up, route, way) for way in ways],
            stagger=0,
            discard=Welcomed.discard,
        )

    async def next_plane(self, attempt: Attempt) -> Welcomed:
        """Make a session's next path by the relay, with the ticket of the last one. One that is no
        good is forgotten.

        Raises:
            RoamRelayError: it could not be made.
        """
        try:
            return await self._ways.next_plane(attempt)
        except RelayUnavailable as error:
            # Else it was not the relay that said no, or the ticket is good for another time.
            if error.code not in (None, Code.PEER_OFFLINE, Code.LIMIT_EXCEEDED):
                attempt.route.ticket = ""
            raise

    # -- inside ---------------------------------------------------------------------------------

    async def _next_by_relay(self, attempt: Attempt, others: "_Left") -> Welcomed:
        """Ask the relay; and at once again when the other side returns while others are tried: they
        may take long to see that nobody is there."""
        while True:
            try:
                return await self._by_relay(attempt, self._request_timeout)
            except (PeerOffline, UnknownPeer):
                attempt.was_away = True
                if self._signs is None or others.none.is_set():
                    raise
                if not await self._signs.back(attempt.session.remote, others.none):
                    raise

    async def _by_relay(self, attempt: Attempt, timeout: float) -> Welcomed:
        route, session = attempt.route, attempt.session
        resume = session.has_had_path
        answer, agreed = await self._ask(route, timeout)
        if session.mode in _RELAYED:
            rule = session.terms.policy.refusal(PathFacts(PathKind.RELAYED))
            if rule is None:
                return await self._ways.relayed(attempt, answer, agreed)
            if session.mode is Mode.CENTRAL:
                raise PathFailed(f"mode central goes through the relay: the policy says '{rule}'")
        return await self._ways.direct(attempt, quick=resume)

    async def _fall_back(self, attempt: Attempt, others: "_Left") -> Welcomed:
        """Go on over the relay, where nothing else has found a path for a while. The request says
        `auto`, as the relay makes no plane for `combined`."""
        route, session = attempt.route, attempt.session
        now = asyncio.get_running_loop().time()
        since = now if route.lost_at is None else route.lost_at
        if await others.fail_within(since + _DIRECT - now):
            raise PathFailed("no direct path, and too soon for the relay")
        answer, agreed = await self._ask(route, self._request_timeout, Mode.AUTO)
        log.info("no direct path, over the relay", peer=session.remote[:8])
        return await self._ways.relayed(attempt, answer, agreed)

    async def _ask(
        self, route: Route, timeout: float, mode: Mode | None = None
    ) -> tuple[Answered, Agreed]:
        """Ask the relay; return its answer, and what is agreed of the lock of a plane."""
        await self._lookup.connected(timeout)
        entries, asked = self._ways.entries_for(route), self._ways.offers.ask(route, mode)
        answer = await self._lookup.ask_relay(route.session, entries, timeout, mode, asked.offer)
        route.learn_disclosed(answer.response.entries)
        return answer, self._ways.offers.answered(route, asked, answer)

    async def _next_by_names(self, attempt: Attempt) -> Welcomed:
        """Ask again and again while what is known does not answer: whoever has moved registers a
        little later, and nobody tells of it."""
        route = attempt.route
        dialed: list[tuple[SignedEntry | Endpoint, ...]] = []

        async def ask(delay: float) -> Welcomed:
            await asyncio.sleep(delay)
            known = (await self._find(route, fresh=True)).known
            # The other side itself may have told more on the path than the zone knows yet.
            if known in dialed or newest(known) < newest(route.remote_entries):
                raise PathFailed("the DNS knows nothing new")
            dialed.append(known)
            route.learn_listed(known)
            return await self._ways.direct(attempt, quick=True)

        return await race(
            [partial(ask, delay) for delay in _asks()], stagger=0, discard=Welcomed.discard
        )

    async def _first_by_names(self, attempt: Attempt, patience: float) -> Welcomed:
        """Dial what the DNS says. Where that leads nowhere, ask the zone's own server until
        `patience` seconds are over: who has just moved registers a little later."""
        route, terms = attempt.route, attempt.session.terms
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        route.learn_listed((await self._find(route)).known)
        try:
            welcomed = await self._ways.direct(attempt)
        except (PathFailed, WrongIdentity) as failed:
            self._lookup.distrust(terms.remote, terms.service)
            last = failed
        else:
            if not welcomed.all_answered:
                self._lookup.distrust(terms.remote, terms.service)
            return welcomed
        pause = _FIRST_PAUSE
        while True:
            try:
                again = await self._find(route, fresh=True)
                if again.known != route.remote_entries:
                    route.trace.note("asked", reason="by the DNS again: what was known led nowhere")
                    route.learn_listed(again.known)
                    return await self._ways.direct(attempt)
            except NameServerUnavailable:
                pass  # It may be that this host's own network is not there yet.
            except (PathFailed, WrongIdentity) as failed:
                last = failed
            if isinstance(last, NothingToDial) or loop.time() + pause > end:
                raise last
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _find(self, route: Route, *, fresh: bool = False) -> Found:
        terms = route.session.terms
        found = await self._lookup.ask_names(terms.remote, terms.service, fresh=fresh)
        note = "too old, but no name server answers" if found.stale else "by the DNS"
        route.trace.note("asked", reason=note)
        return found

    async def _unless_given_up(
        self, route: Route, way: Callable[[], Coroutine[Any, Any, Welcomed]]
    ) -> Welcomed:
        try:
            return await way()
        except RoamRelayError as error:
            if error.code is Code.SESSION_UNKNOWN:
                route.session.lose("the other side has given the session up")
            raise


def _asks() -> Iterator[float]:
    """Yield when to ask the DNS, in seconds from now."""
    delay = 0.0
    for pause in backoff(random.random, longest=LONGEST_WITHOUT_PATH):
        if delay >= _ASKS:
            return
        yield delay
        delay += pause


class _Left:
    """Counts the ways of one round that have not failed."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.none = asyncio.Event()
        """Set when no way is left that could still find a path."""
        if not count:
            self.none.set()

    async def counted(self, way: Callable[[], Coroutine[Any, Any, Welcomed]]) -> Welcomed:
        """Take a way."""
        try:
            return await way()
        except RoamRelayError:
            self._count -= 1
            if not self._count:
                self.none.set()
            raise

    async def fail_within(self, seconds: float) -> bool:
        """Wait until all have failed; return False where some are under way after so long."""
        if seconds <= 0:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self.none.wait()
        except TimeoutError:
            return False
        return True
