"""Carries out what the search and the monitor of one session decide: timers, tasks, paths.

Nothing is decided here. What a round or a look did not expect ends this session, and nothing else.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from peers.choice import Candidate
from peers.config import log
from peers.control import Registration
from peers.path import PathEnd
from peers.roaming.following import Following, Planes
from peers.roaming.local import Local
from peers.roaming.monitor import ROUNDS, Monitor, MonitorAction, Pace, Seen
from peers.roaming.pauses import Pauses
from peers.roaming.probes import Probes
from peers.roaming.rounds import Rounds
from peers.roaming.route import Attempt, Route, Welcomed
from peers.roaming.search import Action, Input, Search, State
from peers.roaming.signs import Signs
from peers.roaming.standbys import StandbyKeeper, Standbys
from peers.roaming.ways import Ways
from protocol.endpoint import SignedEntry
from protocol.errors import (
    Code,
    ConnectionClosed,
    PathFailed,
    PeerOffline,
    RoamRelayError,
    UnknownPeer,
)
from protocol.messages import PathHello, PathWelcome

__all__ = ["Driver", "Means"]

_PROBE_SHORTEST, _PROBE_LONGEST = 0.5, 5.0
"""Bounds, in seconds, on what a path may take to answer after the network changed."""


@dataclass(frozen=True, slots=True)
class Means:
    """By what the sessions of one peer get their paths."""

    ways: Ways
    rounds: Rounds
    probes: Probes
    registration: Registration
    """Told that somebody waits for the relay, as long as a session has no path."""
    standbys: Standbys
    planes: Planes
    signs: Signs
    """Of the other side's return, while it cannot be reached."""


class Driver:
    """Looks after the paths of one session, from its first one to its end."""

    __slots__ = (
        "_attempt",
        "_awaiting_relay",
        "_awaiting_sign",
        "_failure",
        "_following",
        "_local",
        "_look",
        "_loop",
        "_means",
        "_monitor",
        "_opening",
        "_pauses",
        "_round",
        "_rounds",
        "_search",
        "_seen",
        "_standby",
        "_timeout",
        "_timer",
        "_was_away",
        "route",
    )

    def __init__(self, route: Route, local: Local, means: Means, pauses: Pauses) -> None:
        self._loop = asyncio.get_running_loop()
        self.route = route
        self._local = local
        self._means = means
        self._pauses = pauses
        config = local.config
        self._search = Search(config.stagger, self._waits)
        self._monitor = Monitor(route.session.terms, Pace(config.stagger, config.probe_interval))
        self._seen = Seen()
        self._standby = StandbyKeeper(route, local, means.standbys)
        self._following = Following(route, local, means.planes, self._take_followed)
        self._timer: asyncio.TimerHandle | None = None
        self._attempt: Attempt | None = None
        """Of the round under way."""
        self._round: asyncio.Task[None] | None = None
        self._rounds: list[asyncio.Task[None]] = []  # A set takes 0.2 KiB, at every session.
        """It, and those that go on because the other side may have accepted their hello."""
        self._look: asyncio.Task[None] | None = None
        self._opening: asyncio.Future[None] | None = None
        """Of a session that this side opens, until it has had a path, or never will."""
        self._timeout = config.request_timeout
        """Seconds for the answer to the request for the first path."""
        self._failure: RoamRelayError | None = None
        """What the last round said; None before the first has failed."""
        self._was_away = False
        """Whether the relay has said in it that the other side was not there."""
        self._awaiting_relay: contextlib.ExitStack | None = None
        """While the session searches: that somebody waits for the relay, and for the other side."""
        self._awaiting_sign: contextlib.ExitStack | None = None
        """While it searches and one round has failed: that the other side's return counts."""

    async def open(self, timeout: float) -> None:
        """Find the session's first path; `timeout` is for the answers of the relay and the callee.

        Raises:
            RoamRelayError: there is none; says why. The session is over then.
        """
        self._timeout = timeout
        self._opening = self._loop.create_future()
        self.handle(Input.OPEN)
        try:
            # No timeout of its own: each way of the one round has one.
            await self._opening
        except BaseException:
            self.route.session.abort("the session was not opened")
            raise

    def take(
        self,
        path: PathEnd,
        number: int,
        there: PathHello | PathWelcome,
        *,
        dialed_here: bool,
        ticket: str = "",
    ) -> bool:
        """Give the session a path, dialed by either side; return whether it has taken it. `ticket`
        is for the next plane, where the path is over one.

        Raises:
            PathFailed: the other side's numbers cannot be true.
        """
        if not self.route.take(path, number, there, dialed_here=dialed_here, ticket=ticket):
            return False
        if self.route.session.path is not None:
            self._monitor.path_taken(path.kind, self._loop.time())
            self.handle(Input.TAKEN)
            self._opened()
            self._standby.path_taken()
            self._following.path_taken()
        return True

    def _take_followed(self, attempt: Attempt, made: Welcomed) -> None:
        self.take(
            made.path, attempt.number, made.welcome, dialed_here=True, ticket=made.resume_ticket
        )

    def handle(self, what: Input) -> None:
        """Something has happened to the session: do what the search says."""
        now = self._loop.time()
        if self._attempt is not None and self._attempt.said_hello:
            self._search.handle(Input.HELLO, now)
        for action in self._search.handle(what, now):
            match action:
                case Action.TRY:
                    self._begin_round()
                case Action.CALL_OFF:
                    self._call_off()
                case Action.GIVE_UP:
                    self._not_opened(self._failure or PathFailed("nothing was tried"))
        self._settle()

    def switched(self) -> None:
        """The session goes on over the path that stood ready."""
        path = self.route.session.path
        if path is None:
            return
        self.route.switched()
        self._monitor.path_taken(path.kind, self._loop.time())
        self.handle(Input.TAKEN)
        self._opened()
        self._standby.gone()
        self._standby.path_taken()
        self._following.path_taken()

    def standby_lost(self) -> None:
        """No path stands ready any more."""
        self._standby.gone()

    def path_lost(self, *, tries_first: bool) -> None:
        """The session goes on without a path."""
        self._monitor.path_lost()
        self._standby.path_lost()
        self._following.path_lost()
        self.route.lost_at = self._loop.time()
        self.handle(Input.LOST_HERE if tries_first else Input.LOST)

    def hurry(self) -> None:
        """Something may have become possible that was not."""
        self._monitor.hurry(self._loop.time())
        self.handle(Input.HURRY)

    def told_location(self, entries: tuple[SignedEntry, ...]) -> None:
        """The other side says on its path where it can be dialed now."""
        self.route.learn(entries)
        self._monitor.told(self._loop.time())
        self._standby.told()
        self._settle()

    def pin(self, pinned: bool) -> None:
        """The program wants the session to stay where it is, or not any more."""
        self._monitor.pin(pinned, self._loop.time())
        self._following.changed()
        self._settle()

    def network_changed(self, gone: frozenset[str]) -> None:
        """This host's addresses have changed, and these are gone: a path from one of them is
        dropped, another one must answer soon, and the other side is told."""
        session = self.route.session
        path = session.path
        standby = session.standby
        self._monitor.hurry(self._loop.time())
        if standby is not None and standby.local_host in gone:
            session.drop_standby(f"its local address {standby.local_host} is gone")
        if path is not None and path.local_host in gone:
            session.drop_path(f"its local address {path.local_host} is gone")
            if session.path is not None:
                self.tell_location()
                self._standby.changed()
            return
        if path is not None:
            known = session.round_trip or 0.0
            session.probe_path(min(max(4 * known, _PROBE_SHORTEST), _PROBE_LONGEST))
            session.probe_standby()
            self.tell_location()
        self.handle(Input.MOVED)

    def tell_location(self) -> None:
        """Tell the other side where this one can be dialed now, as far as it may know."""
        if self.route.session.terms.discloses:
            self.route.session.tell_location(self.route.entries_for(self._local.location))
        self._standby.changed()
        self._following.changed()

    def over(self) -> None:
        """The session has ended."""
        self.handle(Input.ENDED)
        self._standby.path_lost()
        self._following.over()
        for task in (*self._rounds, self._look):
            if task is not None:
                task.cancel()
        self._not_opened(ConnectionClosed("the session ended before it was opened"))

    # -- rounds ---------------------------------------------------------------------------------

    def _begin_round(self) -> None:
        attempt = self._attempt = self.route.attempt()
        first = self._search.state is State.OPENING
        self._round = self._local.tasks.spawn(self._run(attempt, first), self._fault)
        if self._round is None:
            self._not_opened(ConnectionClosed("the peer is closed"))
            return
        self._rounds.append(self._round)
        self._round.add_done_callback(self._rounds.remove)

    def _call_off(self) -> None:
        if self._round is not None:
            self._round.cancel()
        self._attempt = self._round = None

    async def _run(self, attempt: Attempt, first: bool) -> None:
        rounds = self._means.rounds
        try:
            if first:
                welcomed = await rounds.first(attempt, self._timeout)
            else:
                welcomed = await rounds.next(attempt)
        except RoamRelayError as error:
            log.debug("no path yet", peer=self.route.session.remote[:8], reason=error.reason)
            self._round_failed(attempt, error)
            return
        current = self._is_current(attempt)
        if current:
            self._round = None  # It has ended: whatever it has found may not call it off.
        try:
            taken = self.take(
                welcomed.path,
                attempt.number,
                welcomed.welcome,
                dialed_here=True,
                ticket=welcomed.resume_ticket,
            )
        except PathFailed as error:
            self._round_failed(attempt, error)
            return
        if not current or self.route.session.path is not None:
            return
        if taken and self._opening is not None and not self._opening.done():
            # It was opened: the other side has it too.
            self.handle(Input.TAKEN)
            self._opened()
            self.handle(Input.LOST_HERE)
        else:
            self._round_failed(attempt, PathFailed("the new path was lost at once"))

    def _is_current(self, attempt: Attempt) -> bool:
        """Whether a round was not called off, and no path has been taken since it began."""
        return self._attempt is attempt and self._search.is_searching

    def _round_failed(self, attempt: Attempt, error: RoamRelayError) -> None:
        if self._is_current(attempt):
            self._failure = error
            self._was_away = attempt.was_away or isinstance(error, PeerOffline | UnknownPeer)
            self.handle(Input.FAILED)
            if not self._search.is_searching:
                return
            if self._awaiting_sign is None:
                self._awaiting_sign = contextlib.ExitStack()
                awaiting = self._means.signs.awaiting(self.route.session.remote, self._sign)
                self._awaiting_sign.enter_context(awaiting)
            else:
                self._means.signs.look_again(self.route.session.remote)

    def _sign(self, first: bool) -> None:
        """The relay says that the other side is there; `first`, in answer to our question. That
        counts where it was not there when it was asked last."""
        if not first or self._was_away:
            self.hurry()

    def _will_be_told(self) -> bool:
        """Whether the relay will say when the other side is there again, which it said to be away:
        then to ask it again tells nothing."""
        return self._was_away and self._means.signs.will_come(self.route.session.remote)

    def _waits(self) -> Iterator[float]:
        """Return the pauses between this session's rounds, from the shortest on."""
        return self._pauses.series(self.route.session.remote, self._will_be_told)

    def _fault(self, error: Exception) -> None:
        fault = RoamRelayError(f"looking for a path failed: {error!r}", code=Code.INTERNAL)
        self._not_opened(fault)
        self.route.session.abort(fault.reason)

    def _opened(self) -> None:
        if self._opening is not None and not self._opening.done():
            self._opening.set_result(None)
            self._opening = None

    def _not_opened(self, error: RoamRelayError) -> None:
        if self._opening is not None and not self._opening.done():
            self._opening.set_exception(error)
            self._opening.exception()  # Who opens may have left in this very moment.

    # -- looks for something better -------------------------------------------------------------

    def _begin_look(self, action: MonitorAction) -> None:
        self._look = self._local.tasks.spawn(self._run_look(action), self._fault)

    async def _run_look(self, action: MonitorAction) -> None:
        try:
            match action:
                case MonitorAction.GO_DIRECT:
                    await self._move(None)
                case MonitorAction.PROBE:
                    await self._probe()
        except RoamRelayError as error:
            log.debug("no better path", peer=self.route.session.remote[:8], reason=error.reason)
        finally:
            self._look = None
            self._monitor.looked(self._loop.time())
            self._settle()

    async def _probe(self) -> None:
        best = await self._means.probes.look(self.route, self._seen)
        if best is None:
            return
        try:
            await self._move(best)
        finally:
            self._seen.clear()

    async def _move(self, only: Candidate | None) -> None:
        attempt = self.route.attempt()
        session = attempt.session
        on = session.path
        welcomed = await self._means.ways.direct(attempt, only=only)
        if session.pinned and session.path is not None:
            welcomed.discard()
            return
        path = welcomed.path
        if only is not None and on is not None:
            rule = f"better than {on.remote} in {ROUNDS} probes running"
            self.route.trace.note("chosen", only, round_trip=path.round_trip, reason=rule)
        self.take(path, attempt.number, welcomed.welcome, dialed_here=True)

    # -- time -----------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Set the timer, and say whether somebody waits for the relay."""
        searching = self._search.is_searching
        if searching and self._awaiting_relay is None:
            self._awaiting_relay = contextlib.ExitStack()
            self._awaiting_relay.enter_context(self._means.registration.awaited())
            self._awaiting_relay.enter_context(self._pauses.searching(self.route.session.remote))
        elif not searching and self._awaiting_relay is not None:
            self._awaiting_relay.close()
            self._awaiting_relay = None
        if not searching and self._awaiting_sign is not None:
            self._awaiting_sign.close()
            self._awaiting_sign = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._search.state is State.OVER:
            return
        due = [
            when
            for when in (self._search.next_timeout(), self._monitor.next_timeout())
            if when is not None
        ]
        if due:
            self._timer = self._loop.call_at(min(due), self._time)

    def _time(self) -> None:
        self._timer = None
        action = self._monitor.time(self._loop.time(), self.route.session.carried)
        if action is not None:
            self._begin_look(action)
        self.handle(Input.TIME)
