"""Sessions that outlive their paths: the table of sessions, and the search for the next path.

The rules (docs/protocol.md §10): a session moves when its path is dead, or in mode `auto` from a
relayed path to a direct one, never because an address was merely added. Who knows that it has moved
itself searches at once; else the session's caller does, and the other side one stagger later. Two
searches at once settle by the numbers of their paths.
"""

import asyncio
import contextlib
import random
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from peers.config import PathFacts, PathKind, PeerConfig, log
from peers.location import OwnLocation
from peers.roaming.candidates import CandidateFinder, entries_for
from peers.roaming.lookup import Asking
from peers.roaming.monitor import Improving
from peers.roaming.ways import Attempt, Dialer, Made, discard
from peers.session import Session
from peers.tasks import backoff, race, unless
from protocol.errors import (
    Code,
    ConnectionClosed,
    PathFailed,
    ProtocolViolation,
    RelayUnavailable,
    RoamRelayError,
)

__all__ = ["Roaming"]

_MAX_LINGERING = 4096
"""Closed sessions that still answer a resume; beyond it the oldest is forgotten, and answers
`session_unknown` like one that has lingered long enough."""
_CLOSE_GRACE = 5.0
"""Seconds that open sessions get to close cleanly when their peer goes away."""
_PROBE_SHORTEST, _PROBE_LONGEST = 0.5, 5.0
"""Bounds, in seconds, on what a path may take to answer after the network changed."""

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None] | None"]
"""Gives a coroutine a task with an owner; None where the owner is closed."""


@dataclass(eq=False)
class _Search:
    """A search for a session's next path. Its `hurry` ends the wait between two rounds; `anew` ends
    a round too: what is tried in it began in another network."""

    session: Session
    done: asyncio.Future[None]
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    anew: asyncio.Event = field(default_factory=asyncio.Event)
    attempt: Attempt | None = None
    task: "asyncio.Task[None] | None" = None


class Roaming:
    """Looks after all sessions of one peer."""

    def __init__(
        self,
        config: PeerConfig,
        dialer: Dialer,
        asking: Asking,
        finder: CandidateFinder,
        own: OwnLocation,
        *,
        spawn: Spawn,
    ) -> None:
        self._config = config
        self._dialer = dialer
        self._asking = asking
        self._own = own
        self._spawn = spawn
        self._live: dict[bytes, Session] = {}
        self._lingering: OrderedDict[bytes, Session] = OrderedDict()
        self._searches: dict[bytes, _Search] = {}
        self._tickets: dict[bytes, str] = {}
        """Of sessions that are on a plane: what their next one is asked for with."""
        self._improving = Improving(
            config,
            dialer,
            finder,
            attempt=self._attempt,
            take=self._take,
            spawn=spawn,
        )
        self._moving = False
        self._gone: set[str] = set()

    @property
    def sessions(self) -> list[Session]:
        """The sessions that are not over."""
        return list(self._live.values())

    def find(self, session_id: bytes) -> Session | None:
        """Return a session that can be resumed: a live one, or one that has just closed."""
        session = self._live.get(session_id)
        if session is None:
            session = self._lingering.get(session_id)
            if session is not None and not session.lingers():
                del self._lingering[session_id]
                return None
        return session

    def add(self, session: Session) -> None:
        """Look after a session from now on."""
        self._live[session.id] = session

    async def open(self, session: Session, timeout: float) -> None:
        """Find the first path of a session that this side opens; look after it from then on.

        Raises:
            RoamRelayError: there is none; says why. The session is over then.
        """
        self.add(session)
        search = self._search(session, self._first_path(session, timeout))
        if search.task is None:
            search.done.set_exception(ConnectionClosed("the peer is closed"))
        try:
            await search.done
        except BaseException:
            if search.task is not None:
                search.task.cancel()
            session.abort("the session was not opened")
            raise

    def path_accepted(self, session: Session) -> None:
        """The session has taken a path that the other side dialed."""
        search = self._searches.pop(session.id, None)
        if search is not None:
            # A hello that has left may be accepted over there, and then its path is the newer one:
            # such an attempt goes on to its end.
            if search.attempt is None or not search.attempt.said_hello:
                assert search.task is not None
                search.task.cancel()
            if not search.done.done():
                search.done.set_result(None)
        self._taken(session)

    def resume_asked(self, session: Session) -> None:
        """The other side has asked the relay for the session's next path."""
        self._hurry(session)

    def network_changed(self, gone: Collection[str], new: Collection[str]) -> None:
        """This host's addresses have changed: it has the ones no more, and the others now.

        Paths from an address that is gone are dropped at once, every other one must answer soon,
        every wait is cut short, and the other sides are told.
        """
        self._gone = (self._gone | set(gone)) - set(new)
        self._moving = True
        try:
            for session in self.sessions:
                path = session.path
                if path is not None and path.local_host in gone:
                    session.drop_path(f"its local address {path.local_host} is gone")
                elif path is not None:
                    known = session.round_trip or 0.0
                    session.probe_path(min(max(4 * known, _PROBE_SHORTEST), _PROBE_LONGEST))
                    if session.discloses:
                        session.tell_location(entries_for(self._own, session))
                self._hurry(session)
                if session.id in self._searches:
                    self._searches[session.id].anew.set()
        finally:
            self._moving = False

    def tell_locations(self) -> None:
        """Tell the other sides where this peer can be dialed now."""
        for session in self.sessions:
            if session.discloses:
                session.tell_location(entries_for(self._own, session))

    def relay_found(self) -> None:
        """The control connection is there again: who searches may ask now."""
        for session in self.sessions:
            self._hurry(session)

    async def close_sessions(self) -> None:
        """Close every session cleanly, as far as it is possible in time; none is left then."""

        async def close(session: Session) -> None:
            with contextlib.suppress(RoamRelayError, TimeoutError):
                async with asyncio.timeout(_CLOSE_GRACE):
                    await session.close()

        async with asyncio.TaskGroup() as closing:
            for session in self.sessions:
                closing.create_task(close(session))
        for session in self.sessions:
            session.abort("the peer is closed")

    # -- for the sessions -----------------------------------------------------------------------

    def session_pathless(self, session: Session, reason: str) -> None:
        """Search for the next path."""
        if session.id not in self._live:
            return
        log.info("path lost", peer=session.remote[:8], mode=session.mode.value, reason=reason)
        if session.id not in self._searches:
            at_once = session.is_caller or self._moving
            self._search(session, self._next_path(session, 0 if at_once else self._config.stagger))

    def session_moved(self, session: Session) -> None:
        """The other side can be dialed elsewhere now."""
        self._hurry(session)

    def session_ended(self, session: Session) -> None:
        """Forget a session, but answer a resume for a while if it was closed."""
        if self._live.get(session.id) is session:
            del self._live[session.id]
            if session.lingers():
                self._lingering[session.id] = session
                while len(self._lingering) > _MAX_LINGERING:
                    self._lingering.popitem(last=False)
                asyncio.get_running_loop().call_later(
                    self._config.session.linger, self._lingering.pop, session.id, None
                )
        self._tickets.pop(session.id, None)
        search = self._searches.pop(session.id, None)
        if search is not None and search.task is not None:
            search.task.cancel()
        self._improving.hurry(session)

    # -- the search -----------------------------------------------------------------------------

    def _search(
        self, session: Session, work: "Callable[[_Search], Coroutine[Any, Any, None]]"
    ) -> _Search:
        search = _Search(session, asyncio.get_running_loop().create_future())
        self._searches[session.id] = search
        search.task = self._spawn(self._run(search, work))
        return search

    async def _run(
        self, search: _Search, work: "Callable[[_Search], Coroutine[Any, Any, None]]"
    ) -> None:
        session = search.session
        try:
            with self._dialer.awaiting_relay():
                await work(search)
        except RoamRelayError as error:
            if not search.done.done():
                search.done.set_exception(error)
        finally:
            if self._searches.get(session.id) is search:
                del self._searches[session.id]
            if not search.done.done():
                search.done.set_result(None)
        if session.path is None and session.has_had_path:
            # The path died in the moment in which it was taken.
            self.session_pathless(session, "the new path was lost at once")

    def _first_path(
        self, session: Session, timeout: float
    ) -> "Callable[[_Search], Coroutine[Any, Any, None]]":
        async def work(search: _Search) -> None:
            attempt = search.attempt = self._attempt(session)
            self._take(attempt, await self._asking.ask_and_dial(attempt, timeout))

        return work

    def _next_path(
        self, session: Session, delay: float
    ) -> "Callable[[_Search], Coroutine[Any, Any, None]]":
        async def work(search: _Search) -> None:
            waits = backoff(random.random)
            wait = delay
            while session.path is None and not session.is_over:
                if await _within(wait, search.hurry):
                    waits = backoff(random.random)
                search.hurry.clear()
                search.anew.clear()
                if session.path is not None or session.is_over:
                    return
                attempt = search.attempt = self._attempt(session)
                try:
                    made = await unless(
                        search.anew,
                        partial(self._round, attempt),
                        # A hello that has left may be accepted over there.
                        keep=partial(getattr, attempt, "said_hello"),
                        discard=discard,
                    )
                    if made is None:
                        wait = 0.0
                        continue
                    self._take(attempt, made)
                except RoamRelayError as error:
                    log.debug("no path yet", peer=session.remote[:8], reason=error.reason)
                if self._searches.get(session.id) is not search:
                    return  # The other side's attempt has succeeded meanwhile.
                wait = next(waits)

        return work

    def _attempt(self, session: Session) -> Attempt:
        session.last_path += 1
        return Attempt(session, session.last_path, session.path)

    def _take(self, attempt: Attempt, made: Made) -> None:
        session, (path, welcome) = attempt.session, made
        if path.local_host in self._gone:
            path.abort()
            raise PathFailed(f"its local address {path.local_host} is gone")
        if session.is_over or not session.would_take(attempt.number, dialed_here=True):
            path.abort()
            return
        try:
            session.take_path(path, attempt.number, welcome, dialed_here=True)
        except ProtocolViolation as violation:
            path.abort()
            raise PathFailed(f"{session.remote[:8]} broke the protocol: {violation}") from None
        self._taken(session)

    def _taken(self, session: Session) -> None:
        path = session.path
        if path is not None and path.resume_ticket:
            self._tickets[session.id] = path.resume_ticket
        else:
            self._tickets.pop(session.id, None)
        self._improving.path_taken(session)

    async def _round(self, attempt: Attempt) -> Made:
        """Try everything that the mode allows: known endpoints, and who can be asked."""
        session = attempt.session
        ways: list[Callable[[], Coroutine[Any, Any, Made]]] = []
        if session.discloses and session.entries_there:
            ways.append(partial(self._dialer.direct, attempt, quick=True))
        ticket = self._tickets.get(session.id)
        if ticket is not None and not session.policy.refusal(PathFacts(PathKind.RELAYED)):
            ways.append(partial(self._next_plane, attempt, ticket))
        for way in self._asking.ways(session):
            ways.append(partial(way, attempt, self._config.request_timeout))
        return await race(
            [partial(self._unless_given_up, session, way) for way in ways],
            stagger=0,
            discard=discard,
        )

    async def _next_plane(self, attempt: Attempt, ticket: str) -> Made:
        try:
            return await self._dialer.next_plane(attempt, ticket)
        except RelayUnavailable as error:
            # Else it was not the relay that said no, or the ticket is good for another time.
            if error.code not in (None, Code.PEER_OFFLINE, Code.LIMIT_EXCEEDED):
                self._tickets.pop(attempt.session.id, None)
            raise

    async def _unless_given_up(
        self, session: Session, way: Callable[[], Coroutine[Any, Any, Made]]
    ) -> Made:
        try:
            return await way()
        except RoamRelayError as error:
            if error.code is Code.SESSION_UNKNOWN:
                session.lose("the other side has given the session up")
            raise

    def _hurry(self, session: Session) -> None:
        if session.id in self._searches:
            self._searches[session.id].hurry.set()
        self._improving.hurry(session)


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Wait; return True as soon as the event is set, False when the time is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
            return True
    return False
