"""The sessions of one peer: those that were announced, those that live, and those that have closed
and still answer. Each is in one of the three tables; with its one `Route`, until it is closed.
"""

import asyncio
import os
import random
import sys
from typing import assert_never

from msgspec import structs

from peers.config import log
from peers.path import PathEnd
from peers.roaming.closed import Closed, ClosedSessions
from peers.roaming.crowd import Crowd, window_for
from peers.roaming.driver import Driver, Means
from peers.roaming.local import Local
from peers.roaming.pauses import Pauses
from peers.roaming.route import Route
from peers.session import (
    FlightKeysChanged,
    LocationTold,
    Over,
    PathLost,
    Pinned,
    Session,
    SessionEnd,
    SessionNews,
    StandbyLost,
    Switched,
    Terms,
    Trace,
)
from protocol.errors import RoamRelayError
from protocol.messages import PathHello, PathWelcome

__all__ = ["Sessions"]

_MAX_ANNOUNCED, _MAX_ANNOUNCED_EACH = 1024, 128
"""Announced sessions whose path has not come yet, in all and of one caller. Further requests of one
who has his share are refused; where all is used, who has most loses the oldest."""


class Sessions:
    """Looks after all sessions of one peer."""

    def __init__(self, local: Local, means: Means) -> None:
        self._loop = asyncio.get_running_loop()
        # Made once: at every session they would be objects of their own.
        self._clock, self._tell = self._loop.time, self._heard
        self._local = local
        self._means = means
        self._pauses = Pauses(random.random)
        self._announced: dict[bytes, Route] = {}
        self._announced_of: Crowd[Route] = Crowd(_MAX_ANNOUNCED, _MAX_ANNOUNCED_EACH)
        """The same, of each caller."""
        self._begun: Crowd[Session] = Crowd(sys.maxsize, local.config.sessions_per_peer)
        """Sessions that others have begun, announced or live, of each."""
        self._live: dict[bytes, Driver] = {}
        self._closed = ClosedSessions(local.config.session.linger)
        self._by_flight: dict[bytes, SessionEnd] = {}
        """The sessions that live, by the ids of the keys that their next path may begin with."""
        self._timers: dict[Route, asyncio.TimerHandle] = {}
        """When an announced session is forgotten."""
        self._moving = False

    @property
    def live(self) -> list[SessionEnd]:
        """The sessions that are not over."""
        return [driver.route.session for driver in self._live.values()]

    def find(self, session_id: bytes) -> Route | None:
        """Return a session that lives."""
        driver = self._live.get(session_id)
        return driver.route if driver is not None else None

    def find_closed(self, session_id: bytes) -> Closed | None:
        """Return one that both sides have closed, and that still answers."""
        return self._closed.find(session_id, self._loop.time())

    def find_by_flight(self, key_id: bytes) -> Route | None:
        """Return the session that lives for which a flight is sealed, as that says."""
        session = self._by_flight.get(key_id)
        return self.find(session.id) if session is not None else None

    def find_announced(self, session_id: bytes) -> Route | None:
        """Return a session that was announced and has not had a path yet."""
        return self._announced.get(session_id)

    async def open(self, terms: Terms, timeout: float) -> SessionEnd:
        """Open a session from this side, and look after it from then on.

        Raises:
            RoamRelayError: it cannot be opened; says why.
        """
        driver = Driver(self.make(os.urandom(16), terms), self._local, self._means, self._pauses)
        session = driver.route.session
        self._live[session.id] = driver
        await driver.open(timeout)
        return session

    def make(self, session_id: bytes, terms: Terms) -> Route:
        """Return a session that has no path yet, and is in no table."""
        trace = Trace(self._clock)
        settings = self._local.config.session
        if not terms.is_caller:
            held = sum(one.window for one in self._begun.of(terms.remote))
            window = window_for(settings.window, held, self._local.config.held_per_peer)
            settings = structs.replace(settings, window=window)
        return Route(SessionEnd(session_id, terms, settings, trace, self._tell), trace)

    def may_begin(self, guid: str) -> bool:
        """Whether there is room for one more session that this caller begins."""
        return self._begun.has_room(guid) and (
            len(self._begun) < self._local.config.max_sessions or self._pathless() is not None
        )

    def may_announce(self, guid: str) -> bool:
        """Whether there is room for one more announced session of this caller."""
        return self._announced_of.has_room(guid) and self.may_begin(guid)

    def announce(self, route: Route, seconds: float) -> None:
        """Expect the first path of a session that somebody has asked for; for so long."""
        session = route.session
        self._announced[session.id] = route
        displaced = self._announced_of.add(session.remote, route)
        if displaced is not None:
            displaced.session.abort("others have asked for fewer sessions")
        self._begin(session)
        self._timers[route] = self._loop.call_later(seconds, self._not_come, route)

    def accept(
        self,
        route: Route,
        path: PathEnd,
        number: int,
        there: PathHello | PathWelcome,
        *,
        dialed_here: bool,
        ticket: str = "",
    ) -> bool:
        """Give a path to a session that others have begun, or that lives; return whether it was
        taken. Else it is dropped. `ticket` is for the next plane, where the path is over one."""
        session = route.session
        driver = self._live.get(session.id)
        try:
            if driver is None and session.is_over:
                return route.take(path, number, there, dialed_here=dialed_here, ticket=ticket)
            if driver is not None:
                return driver.take(path, number, there, dialed_here=dialed_here, ticket=ticket)
            self._forget_announced(route)
            self._begin(session)
            driver = self._live[session.id] = Driver(route, self._local, self._means, self._pauses)
            if driver.take(path, number, there, dialed_here=dialed_here, ticket=ticket):
                return True
        except RoamRelayError as error:
            log.warning("path dropped", peer=session.remote[:8], reason=error.reason)
        if not session.has_had_path:
            session.abort("its first path was dropped")
        return False

    def resume_asked(self, route: Route) -> None:
        """The other side has asked the relay for the session's next path."""
        driver = self._live.get(route.session.id)
        if driver is not None:
            driver.hurry()

    def network_changed(self, gone: frozenset[str]) -> None:
        """This host's addresses have changed; these are gone.

        Paths from an address that is gone are dropped at once, every other one must answer soon,
        every wait is cut short, and the other sides are told.
        """
        self._means.ways.network_changed(gone)
        self._moving = True
        try:
            for driver in list(self._live.values()):
                driver.network_changed(gone)
        finally:
            self._moving = False

    def tell_locations(self) -> None:
        """Tell the other sides where this peer can be dialed now."""
        for driver in list(self._live.values()):
            driver.tell_location()

    def relay_found(self) -> None:
        """The control connection is there again: who searches may ask now."""
        for driver in list(self._live.values()):
            driver.hurry()

    def end_announced(self, service: str) -> None:
        """A service is not offered any more: nobody comes for it."""
        for route in [one for one in self._announced.values() if one.session.service == service]:
            route.session.abort("the service is closed")

    def end_with(self, guid: str) -> None:
        """This peer is blocked: every session with it is over."""
        announced = [route.session for route in self._announced.values()]
        for session in [*self.live, *announced]:
            if session.remote == guid:
                session.abort("the other side is blocked")

    async def close(self, grace: float) -> None:
        """Close every session cleanly, as far as it is possible within `grace` seconds. None is
        left after it, also where it is cancelled."""

        async def close(session: SessionEnd) -> None:
            try:
                await session.close(grace)
            except RoamRelayError as error:
                log.warning("not closed cleanly", peer=session.remote[:8], reason=error.reason)

        try:
            async with asyncio.TaskGroup() as closing:
                for session in self.live:
                    closing.create_task(close(session))
        finally:
            self.abort()

    def abort(self) -> None:
        """End every session at once."""
        announced = [route.session for route in self._announced.values()]
        for session in [*self.live, *announced]:
            session.abort("the peer is closed")
        self._closed.clear()

    # -- inside ---------------------------------------------------------------------------------

    def _begin(self, session: SessionEnd) -> None:
        """Somebody else has begun a session."""
        if session in self._begun.of(session.remote):
            return
        if len(self._begun) >= self._local.config.max_sessions:
            pathless = self._pathless()
            if pathless is not None:
                pathless.abort("other peers have fewer sessions")
        self._begun.add(session.remote, session)

    def _pathless(self) -> SessionEnd | None:
        """Return the session that others have begun and that is missed least: one without a path,
        of who has most of those."""
        without: dict[str, list[SessionEnd]] = {}
        for session in [*self.live, *(route.session for route in self._announced.values())]:
            if session.path is None and not session.terms.is_caller:
                without.setdefault(session.remote, []).append(session)
        return max(without.values(), key=len)[0] if without else None

    def _heard(self, news: SessionNews) -> None:
        if isinstance(news, Over):
            self._begun.remove(news.session.remote, news.session)
        driver = self._live.get(news.session.id)
        if driver is None or driver.route.session is not news.session:
            if isinstance(news, Over):
                route = self._announced.get(news.session.id)
                if route is not None:
                    self._forget_announced(route)
            return
        match news:
            case PathLost(session, reason):
                is_caller = driver.route.session.terms.is_caller
                log.info(
                    "path lost", peer=session.remote[:8], mode=session.mode.value, reason=reason
                )
                driver.path_lost(tries_first=is_caller or self._moving)
            case Switched(session):
                log.info("goes on over its standby", peer=session.remote[:8])
                driver.switched()
            case StandbyLost(session, reason):
                log.debug("no path stands ready", peer=session.remote[:8], reason=reason)
                driver.standby_lost()
            case LocationTold(_, entries):
                driver.told_location(entries)
            case Pinned(session):
                driver.pin(session.pinned)
            case FlightKeysChanged(_, gone, come):
                for key_id in gone:
                    self._by_flight.pop(key_id, None)
                self._by_flight.update(dict.fromkeys(come, driver.route.session))
            case Over(session):
                for key_id in driver.route.session.flight_keys:
                    self._by_flight.pop(key_id, None)
                del self._live[session.id]
                self._closed.add(driver.route, self._loop.time())
                driver.over()
            case _:
                assert_never(news)

    def _stop_timer(self, route: Route) -> None:
        if (timer := self._timers.pop(route, None)) is not None:
            timer.cancel()

    def _not_come(self, route: Route) -> None:
        if self._announced.get(route.session.id) is route:
            route.session.abort("its caller did not come")

    def _forget_announced(self, route: Route) -> None:
        session = route.session
        if self._announced.get(session.id) is route:
            self._stop_timer(route)
            del self._announced[session.id]
            self._announced_of.remove(session.remote, route)
