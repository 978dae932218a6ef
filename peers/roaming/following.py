"""Takes a session's path by the relay where the routes lead: the timer and the task.

When that is tried is decided in follower.py.
"""

import asyncio
from collections.abc import Callable

from peers.config import PathKind, log
from peers.roaming.candidates import Candidates
from peers.roaming.follower import Follower
from peers.roaming.local import Local
from peers.roaming.rounds import Rounds
from peers.roaming.route import Attempt, Route, Welcomed
from protocol.errors import RoamRelayError

__all__ = ["Following", "Planes"]

Take = Callable[[Attempt, Welcomed], None]
"""Gives the session the path that was made.

Raises:
    PathFailed: the other side's numbers cannot be true.
"""


class Planes:
    """Makes paths by the relay for sessions of one peer that are on one."""

    def __init__(self, rounds: Rounds, candidates: Candidates) -> None:
        self._rounds = rounds
        self._candidates = candidates

    def strays(self, route: Route) -> bool:
        """Whether a session's path by the relay comes from another network than the routes lead to,
        and may be replaced by one that does not."""
        session = route.session
        path = session.path
        if path is None or path.kind is not PathKind.RELAYED or session.pinned or not route.ticket:
            return False
        return self._candidates.is_overtaken(session.terms, path)

    async def next(self, attempt: Attempt) -> Welcomed:
        """Make another one, with the ticket of the one that is there.

        Raises:
            RoamRelayError: it could not be made.
        """
        return await self._rounds.next_plane(attempt)


class Following:
    """Keeps one session's path by the relay where the routes lead."""

    __slots__ = ("_follower", "_local", "_loop", "_move", "_planes", "_route", "_take", "_timer")

    def __init__(self, route: Route, local: Local, planes: Planes, take: Take) -> None:
        self._loop = asyncio.get_running_loop()
        self._route = route
        self._local = local
        self._planes = planes
        self._take: Take | None = take
        self._follower = Follower()
        self._timer: asyncio.TimerHandle | None = None
        self._move: asyncio.Task[None] | None = None

    def path_taken(self) -> None:
        """The session has a path, another one than before."""
        path = self._route.session.path
        if path is not None and path.kind is PathKind.RELAYED:
            self._follower.wanted()
        else:
            self._follower.unwanted()
        self._settle()

    def path_lost(self) -> None:
        """The session has no path. One that is being made here is as good as any."""
        self._follower.unwanted()
        self._settle()

    def changed(self) -> None:
        """This host's addresses are others."""
        self._follower.changed(self._loop.time())
        self._settle()

    def over(self) -> None:
        """The session has ended. Who gives it its paths is let go, and so nothing is left of it."""
        self._take = None
        self.path_lost()
        if self._move is not None:
            self._move.cancel()

    # -- inside ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        session, failed = self._route.session, True
        attempt = self._route.attempt()
        try:
            welcomed = await self._planes.next(attempt)
            if self._take is None or (session.pinned and session.path is not None):
                welcomed.discard()
            else:
                self._take(attempt, welcomed)
                failed = False
        except RoamRelayError as error:
            log.debug("not moved with the routes", peer=session.remote[:8], reason=error.reason)
        finally:
            self._move = None
            self._follower.moved(self._loop.time(), failed=failed)
            self._settle()

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        when = self._follower.next_timeout()
        self._timer = None if when is None else self._loop.call_at(when, self._time)

    def _time(self) -> None:
        self._timer = None
        if self._follower.time(self._loop.time(), strays=self._planes.strays(self._route)):
            self._move = self._local.tasks.spawn(self._run())
            if self._move is None:
                self._follower.unwanted()
        else:
            self._settle()
