"""What is known of one session's paths, in one record."""

import asyncio
import contextlib
from dataclasses import dataclass

from peers.choice import Candidate
from peers.config import PathKind
from peers.dialing import Known
from peers.location import OwnLocation
from peers.path import PathEnd
from peers.session import SessionEnd, SessionFlight, Trace
from peers.transport import Stream
from protocol.endpoint import Endpoint, SignedEntry, read_entry
from protocol.errors import PathFailed, ProtocolViolation, RoamRelayError
from protocol.features import RELAY_FALLBACK, shared
from protocol.hosts import host_in
from protocol.lock import Agreed
from protocol.messages import PathHello, PathWelcome
from protocol.session import Early

__all__ = ["Attempt", "Meeting", "Route", "Welcomed"]


@dataclass(frozen=True, slots=True)
class Welcomed:
    """A path whose other end has accepted the hello."""

    path: PathEnd
    welcome: PathWelcome
    all_answered: bool = True
    """Whether every candidate that was dialed on the way to it had answered."""
    resume_ticket: str = ""
    """Of a path over a plane: the ticket for the next one; empty where there is none."""

    def discard(self) -> None:
        """Drop the path: it is not needed."""
        self.path.abort()


class Meeting:
    """Both sides of a session dial one another, once: the connection that comes of it."""

    def __init__(self, candidate: Candidate, delay: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        self.moment = loop.time() + delay
        """When it is, by the loop's clock."""
        self.candidate = candidate
        self.arrived: asyncio.Future[Stream] = loop.create_future()
        """The other side's half, where its SYN has come to this peer's listening port."""
        self.taken = asyncio.Event()
        """Set when somebody has taken the connection, and it belongs there."""
        self._is_taken = False
        """Whether somebody has, or nobody may any more."""
        self._met: asyncio.Future[Stream] = loop.create_future()

    def meet(self, stream: Stream) -> bool:
        """It is there; return False where it was over before."""
        if self._met.done():
            return False
        self._met.set_result(stream)
        return True

    def close(self) -> None:
        """It is over: what nobody has taken, nobody will."""
        self.fail(PathFailed("the meeting is over"))
        if self._is_taken:
            return
        self._is_taken = True
        for half in (self._met, self.arrived):
            if half.done() and not half.cancelled() and half.exception() is None:
                half.result().abort()

    def fail(self, error: RoamRelayError) -> None:
        """Nothing comes of it, if nothing has yet."""
        if not self._met.done():
            # Without the frames of who has failed: they hold the session, which holds this.
            self._met.set_exception(error.with_traceback(None))
            self._met.exception()  # Nobody may wait for it.

    async def take(self) -> Stream:
        """Wait for the connection, and take it: once. No timeout: a meeting has one.

        Raises:
            PathFailed: there is none, or somebody has taken it.
        """
        stream = await asyncio.shield(self._met)
        if self._is_taken:
            raise PathFailed("the meeting is over")
        self._is_taken = True
        self.taken.set()
        return stream


class Route:
    """A session, and the one place for what is known of its paths."""

    __slots__ = (
        "__weakref__",
        "_disclosed",
        "_listed",
        "_path_host",
        "agreed",
        "falls_back",
        "lost_at",
        "meeting",
        "remote_entries",
        "session",
        "ticket",
        "trace",
    )

    def __init__(self, session: SessionEnd, trace: Trace) -> None:
        self.session = session
        self.trace = trace
        self.remote_entries: tuple[SignedEntry | Endpoint, ...] = ()
        """Where the other side says that it can be dialed. Not checked yet."""
        self._disclosed: frozenset[Endpoint] = frozenset()
        """What the relay has said last of where the other side is."""
        self._listed: frozenset[Endpoint] = frozenset()
        """What the zone has said last."""
        self._path_host: str | None = None
        """The other end's address of the last direct path."""
        self.meeting: Meeting | None = None
        """The last one that this side has asked for."""
        self.ticket = ""
        """Of a session that is on a plane: what its next one is asked for with."""
        self.agreed: Agreed | None = None
        """What the last request of the session was answered with, by either side, of the lock of
        its planes; None where nothing was said of it."""
        self.falls_back = False
        """Whether this session, in `combined`, may go on over the relay: both have named that."""
        self.lost_at: float | None = None
        """Since when the session has no path, by the loop's clock; None while it has one."""

    @property
    def number(self) -> int:
        """The highest number of a path that was tried or taken, by either side."""
        return self.session.number

    def learn(self, entries: tuple[SignedEntry | Endpoint, ...]) -> None:
        """Note where the other side can be dialed now; nothing new says nothing."""
        if entries:
            self.remote_entries = entries

    def learn_disclosed(self, entries: tuple[SignedEntry, ...]) -> None:
        """Note what the relay says: it passes on no other entries than those that it discloses."""
        self.learn(entries)
        if entries:
            self._disclosed = _endpoints(entries)

    def learn_listed(self, entries: tuple[SignedEntry | Endpoint, ...]) -> None:
        """Note what the zone says, in place of all that was known."""
        self.remote_entries = entries
        self._listed = _endpoints(entries)

    def known(self, observed: frozenset[str], *, may_ask: bool = False) -> Known:
        """Return what is known of where the other side is beside its own word; `observed` are the
        addresses at which the relay sees this peer, and `may_ask` says that it can be asked."""
        return Known(
            self._disclosed,
            listed=self._listed,
            path_host=self._path_host,
            observed=observed,
            may_ask=may_ask,
        )

    def signed_at(self, endpoint: Endpoint) -> SignedEntry | None:
        """Return what the other side has signed of an endpoint; None where that is not known."""
        for one in self.remote_entries:
            with contextlib.suppress(ProtocolViolation):
                if isinstance(one, SignedEntry) and read_entry(one).endpoint == endpoint:
                    return one
        return None

    def entries_for(
        self, location: OwnLocation, first: str | None = None
    ) -> tuple[SignedEntry, ...]:
        """Return this side's entries that the other side may have; the address `first`, which has
        just proven to work, goes before the others."""
        terms = self.session.terms
        return location.entries(terms.service, first) if terms.discloses else ()

    def attempt(self) -> "Attempt":
        """Begin to look for a path, under a number of its own."""
        self.session.number += 1
        return Attempt(self, self.session.number)

    def switched(self) -> None:
        """The session goes on over the path that stood ready beside its own."""
        path = self.session.path
        self.lost_at = None
        if path is not None:
            self.ticket = ""
            self._path_host = host_in(path.remote)

    def take(
        self,
        path: PathEnd,
        number: int,
        there: PathHello | PathWelcome,
        *,
        dialed_here: bool,
        ticket: str = "",
    ) -> bool:
        """Give the session a path; return False, and drop it, where the session has taken a newer
        one, or is over. `ticket` is for the next plane, where the path is over one.

        Raises:
            PathFailed: the other side's numbers cannot be true. The path is dropped.
        """
        session = self.session
        if session.is_over or not session.would_take(number, dialed_here=dialed_here):
            path.abort()
            return False
        # What the path itself tells, from its first byte on, is newer than the hello.
        known = self.remote_entries
        self.learn(there.entries)
        try:
            session.take_path(path, number, there, dialed_here=dialed_here)
        except ProtocolViolation as violation:
            self.remote_entries = known
            path.abort()
            raise PathFailed(f"{session.remote[:8]} broke the protocol: {violation}") from None
        self.ticket = ticket
        if path.kind is PathKind.DIRECT:
            self._path_host = host_in(path.remote)
        self.falls_back = RELAY_FALLBACK in shared(session.terms.features, there.features)
        self.lost_at = None
        return True


class Attempt:
    """A search for one path: everything that is tried in it has the same number, so that at most
    one of it is taken."""

    __slots__ = ("_began_on", "number", "route", "said_hello", "session", "was_away")

    def __init__(self, route: Route, number: int) -> None:
        self.route = route
        self.session = route.session
        self.number = number
        self._began_on = route.session.path
        self.said_hello = False
        """Whether the other side may have heard of it, and may have taken its path."""
        self.was_away = False
        """Whether the relay has said that the other side was not there."""

    def hello(self, entries: tuple[SignedEntry, ...]) -> PathHello:
        """Return the hello of this moment; `entries` are this side's own.

        Raises:
            PathFailed: the session needs this path no more.
        """
        session = self.session
        if session.is_over:
            raise PathFailed("the session is over")
        if session.path is not self._began_on and session.path is not None:
            raise PathFailed("the session has taken another path meanwhile")
        self.said_hello = True
        return session.hello(self.number, entries)

    def flight(self, is_met: bool) -> SessionFlight | None:
        """Return what leaves before the TLS of one of its streams, if anything does. Messages leave
        only where the other side's key was met before (R10.56)."""
        return self.session.flight(self.number, with_messages=is_met)

    def flight_in(self, room: int) -> SessionFlight | None:
        """Return the same, where there are only so many bytes for it."""
        return self.session.flight(self.number, room)

    def early(self) -> Early:
        """Return what leaves with that hello, in the same moment."""
        return self.session.early()


def _endpoints(entries: tuple[SignedEntry | Endpoint, ...]) -> frozenset[Endpoint]:
    found = set()
    for one in entries:
        if isinstance(one, Endpoint):
            found.add(one)
            continue
        with contextlib.suppress(ProtocolViolation):
            found.add(read_entry(one).endpoint)
    return frozenset(found)
