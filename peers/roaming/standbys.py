"""Second paths that stand ready beside those of sessions: which one, and who dials it.

When one is looked for is decided in keeper.py; what it may carry, in `protocol.session`.
"""

import asyncio

from peers.config import PathKind, StandbyWord, log
from peers.path import Path
from peers.roaming.candidates import Candidates
from peers.roaming.keeper import Keeper, Looked
from peers.roaming.local import Local
from peers.roaming.route import Route
from peers.roaming.ways import Ways
from protocol.errors import PathFailed, RoamRelayError
from protocol.hosts import host_in

__all__ = ["StandbyKeeper", "Standbys"]

_TRIED = 4
"""Candidates of one look."""


class Standbys:
    """Finds second paths for the sessions of one peer."""

    def __init__(self, ways: Ways, candidates: Candidates) -> None:
        self._ways = ways
        self._candidates = candidates

    async def look(self, route: Route) -> Looked:
        """Dial what is better than what stands ready, if there is something.

        Raises:
            RoamRelayError: it cannot be reached, or the other side takes none.
        """
        session = route.session
        path = session.path
        if path is None or not session.may_stand_by:
            return Looked.NOTHING
        held = self._worth(session.standby, path)
        candidates = [
            one
            for one in self._candidates.beside(route, path)
            if self._candidates.gain(path, one.source or "", one.endpoint.host) > held
        ][:_TRIED]
        if not candidates or not session.would_stand_by(dialed_here=True):
            if not held:
                session.why_no_standby("no other network leads to the other side")
            return Looked.STANDS if held else Looked.NOTHING
        welcomed = await self._ways.beside(route, candidates)
        made = welcomed.path
        now_on = session.path
        if now_on is not None and not self._worth(made, now_on):
            made.finish()
            raise PathFailed("the session has taken another path meanwhile")
        route.learn(welcomed.welcome.entries)
        if not session.stand_by(made, "it leads over another network", dialed_here=True):
            raise PathFailed("another path stands ready meanwhile")
        return Looked.STANDS

    def review(self, route: Route) -> None:
        """Give up a second path that is of no more use than the session's own; go on over it where
        that one's address will go away, and its own will not."""
        session = route.session
        path, standby = session.path, session.standby
        if path is None or standby is None:
            return
        if not self._worth(standby, path):
            session.drop_standby("it leads where the session's own path does")
            return
        leaves = self._candidates.is_leaving
        if leaves(path) and not leaves(standby) and not session.pinned:
            session.switch(f"its local address {path.local_host} is leaving")

    def _worth(self, standby: Path | None, path: Path) -> int:
        if standby is None:
            return 0
        local, remote = standby.local_host, host_in(standby.remote)
        # The other side may know better that two of its addresses are in different networks.
        differs = (local, remote) != (path.local_host, host_in(path.remote))
        return max(differs, self._candidates.gain(path, local, remote))


class StandbyKeeper:
    """Keeps a second path of one session ready: the timer and the task of its looks."""

    __slots__ = ("_keeper", "_local", "_look", "_loop", "_route", "_standbys", "_timer")

    def __init__(self, route: Route, local: Local, standbys: Standbys) -> None:
        self._loop = asyncio.get_running_loop()
        self._route = route
        self._local = local
        self._standbys = standbys
        terms = route.session.terms
        self._keeper = Keeper(is_caller=terms.is_caller, stagger=local.config.stagger)
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.Task[None] | None = None
        if terms.standby_word is StandbyWord.NEVER:
            route.session.why_no_standby("none is wanted")

    def path_taken(self) -> None:
        """The session has a path, another one than before."""
        session = self._route.session
        path = session.path
        if path is None or path.kind is not PathKind.DIRECT:
            session.drop_standby("the session's own path is not direct")
            self.path_lost()
        elif session.may_stand_by:
            self._standbys.review(self._route)
            self._keeper.wanted(self._loop.time())
            self._settle()
        else:
            session.why_no_standby("one of the sides wants or knows none")

    def path_lost(self) -> None:
        """The session has no path, or one beside which none stands."""
        self._keeper.unwanted()
        self._cancel()
        self._settle()

    def changed(self) -> None:
        """Something is different, of this host's addresses."""
        self._standbys.review(self._route)
        self._keeper.changed(self._loop.time())
        self._settle()

    def told(self) -> None:
        """Something is different, of the other side's addresses, as it says."""
        self._standbys.review(self._route)
        self._keeper.told(self._loop.time())
        self._settle()

    def gone(self) -> None:
        """No path stands ready any more."""
        self._keeper.gone(self._loop.time())
        self._settle()

    # -- inside ---------------------------------------------------------------------------------

    def _cancel(self) -> None:
        look, self._look = self._look, None
        if look is not None:
            look.cancel()

    async def _run(self) -> None:
        result = Looked.FAILED
        session = self._route.session
        try:
            result = await self._standbys.look(self._route)
        except RoamRelayError as error:
            session.why_no_standby(error.reason)
            log.debug("no second path", peer=session.remote[:8], reason=error.reason)
        finally:
            if self._look is asyncio.current_task():
                self._look = None
                self._keeper.looked(result, self._loop.time())
                self._settle()
        self._standbys.review(self._route)

    def _fault(self, error: Exception) -> None:
        self._route.session.why_no_standby(f"looking for one failed: {error!r}")

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        when = self._keeper.next_timeout()
        self._timer = None if when is None else self._loop.call_at(when, self._time)

    def _time(self) -> None:
        self._timer = None
        if self._keeper.time(self._loop.time()):
            self._look = self._local.tasks.spawn(self._run(), self._fault)
        else:
            self._settle()
