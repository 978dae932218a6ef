"""One end of a session, as the rooms see it that bring it paths. Programs see `Session` alone.

What a session is, and when it is over, is decided by `protocol.session`; which path it takes, in
the room `roaming`. Here is what both ask of it.
"""

import contextlib
import os
from functools import partial

from peers.config import PathKind
from peers.path import PathEnd
from peers.session.events import PathChanged
from peers.session.explanation import Trace
from peers.session.flights import (
    AROUND_FRAMES,
    FLIGHT_BYTES,
    MAX_FLIGHT,
    SessionFlight,
    head_of,
)
from peers.session.news import FlightKeysChanged, StandbyLost, Switched, TellSession
from peers.session.session import Session
from peers.session.standby import StandbyPath
from peers.session.terms import Terms
from protocol.codec import encode
from protocol.endpoint import SignedEntry
from protocol.errors import Code, ProtocolViolation
from protocol.features import (
    CONVERSATION,
    EARLY_DATA,
    FIRST_FLIGHT,
    IDLE,
    SESSION_2,
    SESSION_FEATURES,
    STANDBY,
    shared,
)
from protocol.first_flight import RANDOM_BYTES, FlightKeys
from protocol.messages import PathHello, PathWelcome
from protocol.session import (
    NO_EARLY,
    ClosedSession,
    Early,
    Ended,
    SessionSettings,
    State,
    SwitchAsked,
    agreed_quiet,
)

__all__ = ["SessionEnd"]

_RETIRE = 1.0
"""Seconds for which a path that was replaced stays open at the side that was dialed."""


class SessionEnd(Session):
    """A session with all that its paths, and whoever looks for them, need of it."""

    def __init__(
        self,
        session_id: bytes,
        terms: Terms,
        settings: SessionSettings,
        trace: Trace,
        tell: TellSession,
    ) -> None:
        super().__init__(session_id, terms, settings, trace, tell)
        self._stood_ready: PathEnd | None = None
        """The path that the session has gone over to last without a hello."""
        self._flight_keys = FlightKeys()
        self._flights_failed: frozenset[bool] = frozenset()
        """Of which kind, with messages or without, one has come to nothing: of that no more leave
        before the next path is taken."""
        self._quiet = 0.0
        """Seconds for which both sides let a direct path be quiet; 0 for no longer than usual."""
        self.number = 0
        """The highest number of a path that was tried or taken, by either side."""

    # -- for the peer ---------------------------------------------------------------------------

    @property
    def terms(self) -> Terms:
        """What both sides agreed on, and what this side wants of its paths."""
        return self._terms

    def hello(
        self, number: int, entries: tuple[SignedEntry, ...], *, standby: bool = False
    ) -> PathHello:
        """Return the hello that asks for path `number`, or for one that is to stand ready;
        `entries` are this side's own."""
        machine = self._machine
        return PathHello(
            self.id,
            self.service,
            self.mode,
            resume=self.has_had_path,
            received=machine.received,
            consumed=machine.consumed,
            window=machine.settings.window,
            path=number,
            entries=entries,
            features=(*self.terms.features, *SESSION_FEATURES),
            partial=machine.partial,
            idle=machine.settings.idle_interval,
            standby=standby,
            metadata=self._metadata_to_say,
        )

    def welcome(self, entries: tuple[SignedEntry, ...]) -> PathWelcome:
        """Return the answer to the other side's hello; `entries` are this side's own."""
        machine = self._machine
        return PathWelcome(
            machine.received,
            machine.consumed,
            machine.settings.window,
            entries,
            features=(*self.terms.features, *SESSION_FEATURES),
            partial=machine.partial,
            idle=machine.settings.idle_interval,
            metadata=self._metadata_to_say,
        )

    @property
    def carried(self) -> int:
        """Messages that were sent here, and that have arrived here."""
        return self._machine.sent + self._machine.received

    def early(self) -> Early:
        """Return what leaves right behind the hello: the oldest of what the other side is not known
        to have, where it takes that and no path delivers it."""
        if EARLY_DATA not in self._features_shared:
            return NO_EARLY
        return self._machine.early(self._loop.time())

    def flight(
        self, number: int, room: int = MAX_FLIGHT, *, with_messages: bool = True
    ) -> SessionFlight | None:
        """Return what leaves on the stream of path `number` before its TLS, `room` bytes at most,
        with the oldest of what the other side is not known to have, or without any message, for
        what answers it; None where a path delivers that, or the other side takes none."""
        if self._path is not None or self.is_over or with_messages in self._flights_failed:
            return None
        if FIRST_FLIGHT not in self._features_shared:
            return None
        head = encode(self.hello(number, ()))
        left = min(FLIGHT_BYTES, room - len(head) - AROUND_FRAMES) if with_messages else 0
        frames = self._machine.flight(left)
        sealed = self._flight_keys.seal(os.urandom(RANDOM_BYTES), head + frames)
        if sealed is None or len(sealed.data) > room:
            return None
        failed = partial(self._flight_came_to_nothing, with_messages)
        return SessionFlight(sealed, self._flight_answered, failed)

    def take_flight(self, data: bytes) -> bytes:
        """Take what the other side has sealed before the TLS of its next path, and return the
        answer; nothing where it is no flight of this session, or has come before. It brings data:
        the session stays on the path where it is."""
        opened = self._flight_keys.open(data)
        if opened is None or self.is_over:
            return b""
        try:
            hello, frames = head_of(opened.plain)
            is_next = hello.session == self.id and hello.resume and not hello.standby
            if not is_next or not self.would_take(hello.path, dialed_here=False):
                return b""
            self._machine.take_flight(frames, self._loop.time())
        except ProtocolViolation:
            return b""
        finally:
            self._after()
        plain = self._machine.flight(FLIGHT_BYTES)
        return opened.answer(os.urandom(RANDOM_BYTES), plain) if plain else b""

    @property
    def flight_keys(self) -> tuple[bytes, ...]:
        """The ids of the keys under which the other side may seal one."""
        return self._flight_keys.ids

    @property
    def carries_conversation(self) -> bool:
        """Whether both sides have named that it carries a conversation, on the path taken last."""
        return CONVERSATION in self._features_shared

    @property
    def has_had_path(self) -> bool:
        """Whether the session was ever joined."""
        return self._path_rank > (0, False)

    def would_take(self, number: int, *, dialed_here: bool) -> bool:
        """Whether a path is newer than the one that the session took last: both sides judge alike.

        The higher number is newer; of two with the same number, the one that the session's caller
        has dialed (docs/protocol.md §10).
        """
        return self._rank(number, dialed_here) > self._path_rank

    def take_path(
        self, path: PathEnd, number: int, there: PathHello | PathWelcome, *, dialed_here: bool
    ) -> None:
        """Go on over this path, with the numbers of the other side's hello or welcome.

        Ask `would_take` first.

        Raises:
            ProtocolViolation: the numbers cannot be true. The session is as it was.
        """
        features = shared((*self.terms.features, *SESSION_FEATURES), there.features)
        self._machine.attach(
            there.received,
            there.consumed,
            there.window,
            self._loop.time(),
            partial=there.partial,
            revised=SESSION_2 in features,
            early=path.early,
        )
        self._features_shared = features
        wish = self._machine.settings.idle_interval
        self._quiet = agreed_quiet(wish, there.idle) if IDLE in features else 0.0
        self._be_quiet(path)
        self._export(path, dialed_here)
        if not self.has_had_path and not self.terms.is_caller:
            self.metadata = there.metadata
        self.number = max(self.number, number)
        self._path_rank = self._rank(number, dialed_here)
        old, self._path = self._path, path
        self._counted.paths += 1
        self._usual_round_trip = path.usual_round_trip
        if old is not None and dialed_here:
            old.finish()
        elif old is not None:
            # The other side reads our welcome on another stream, and must not lose this one first.
            self._loop.call_later(_RETIRE, old.finish)
        why = self._trace.path_taken(path, old, dialed_here=dialed_here)
        self._events.put(PathChanged(path, why, self.standby))
        path.carry(self)
        self._flush_soon()
        self._set_timer()

    def drop_path(self, reason: str) -> None:
        """Give the current path up at once; the session goes on without."""
        self._drop_path(reason)

    def probe_path(self, timeout: float) -> None:
        """Ping the current path; unless it answers within `timeout` seconds it is given up."""
        self._machine.probe(self._loop.time(), timeout)
        self._flush_soon()
        self._set_timer()

    def tell_location(self, entries: tuple[SignedEntry, ...]) -> None:
        """Tell the other side where this one can be dialed from now on."""
        self._machine.tell_location(entries)
        self._flush_soon()

    def lose(self, reason: str) -> None:
        """The other side has given the session up."""
        self._machine.abort(Code.SESSION_UNKNOWN, reason, self._loop.time())
        self._after()

    @property
    def closed(self) -> ClosedSession | None:
        """What answers the other side's resume, where both have closed the session."""
        return self._machine.closed

    @property
    def path_rank(self) -> tuple[int, bool]:
        """The number of the path that the session took last, and whether its caller has dialed
        it; (0, False) before the first."""
        return self._path_rank

    # -- a second path --------------------------------------------------------------------------

    @property
    def may_stand_by(self) -> bool:
        """Whether a second path may stand ready: both sides have named that, and the session's own
        goes directly, or has just been lost."""
        path = self._path
        return (
            not self.is_over
            and {STANDBY, SESSION_2} <= self._features_shared
            and (path is None or path.kind is PathKind.DIRECT)
        )

    def would_stand_by(self, *, dialed_here: bool) -> bool:
        """Whether a second path would be taken: where both sides have dialed one, that of the
        session's caller stays."""
        old, by_caller = self._standby, dialed_here == self.terms.is_caller
        return old is None or by_caller or not old.by_caller

    def stand_by(self, path: PathEnd, why: str, *, dialed_here: bool) -> bool:
        """Let this path stand ready, in place of one that does; without a path the session goes on
        over it at once. Return whether it was taken: else it is closed."""
        if not self.may_stand_by or not self.would_stand_by(dialed_here=dialed_here):
            path.finish()
            return False
        self._export(path, dialed_here)
        if self._standby is not None:
            self._standby.drop()
        by_caller = dialed_here == self.terms.is_caller
        new = self._standby = StandbyPath(self, path, by_caller=by_caller, dialed_here=dialed_here)
        self._machine.has_standby = True
        self._trace.standby = why
        self._trace.note("standby", path.remote, round_trip=path.round_trip, reason=why)
        new.begin()
        if self._standby is new:
            self._events.put(PathChanged(self._path, f"another path stands ready: {why}", path))
            if self._path is None:
                self._go_over("it was ready first")
            self._flush_soon()
        return True

    def switch(self, reason: str) -> bool:
        """Go on over the path that stands ready; return False where none does."""
        return self._go_over(reason)

    def drop_standby(self, reason: str) -> None:
        """Close the path that stands ready, if one does."""
        if self._standby is not None:
            self._standby.drop()
            self.standby_lost(self._standby, reason)

    def probe_standby(self) -> None:
        """Ping the path that stands ready, if one does; unless it answers it is given up."""
        if self._standby is not None:
            self._standby.probe()

    def why_no_standby(self, reason: str) -> None:
        """Note why none stands ready, for who asks."""
        if self._standby is None and self._trace.standby != reason:
            self._trace.standby = reason

    def standby_asked(self, standby: StandbyPath, asked: SwitchAsked) -> None:
        self._forget_standby()
        path = standby.release()
        if self.is_over or not self.would_take(asked.number, dialed_here=False):
            path.abort()
            return
        self._take_over(path, asked.number, "the other side goes on over it", dialed_here=False)
        # After a violation the machine has ended the session, and says so in its events.
        with contextlib.suppress(ProtocolViolation):
            self._machine.follow(standby.machine, asked, self._loop.time())
        self._be_quiet(path)
        self._after()
        self._set_timer()
        self._tell_switched()

    def standby_lost(self, standby: StandbyPath, reason: str) -> None:
        if standby is self._standby:
            self._forget_standby()
            self._trace.standby = reason
            self._trace.note("lost", standby.path.remote, reason=f"the standby: {reason}")
            if not self.is_over:
                self._events.put(PathChanged(self._path, f"no other path stands ready: {reason}"))
                self._tell(StandbyLost(self, reason))

    # -- the path's side ------------------------------------------------------------------------

    def path_data(self, path: PathEnd, data: bytes) -> None:
        if path is not self._path:
            return
        # After a violation the machine has ended the session, and says so in its events.
        with contextlib.suppress(ProtocolViolation):
            self._machine.receive(data, self._loop.time())
        self._after()

    def path_heard(self, path: PathEnd) -> None:
        if path is self._path:
            self._machine.hear_part(self._loop.time())

    def path_writable(self, path: PathEnd) -> None:
        self._flush()

    def path_lost(self, path: PathEnd, reason: str) -> None:
        if path is self._path:
            self._path = None
            self._pathless(reason)

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _metadata_to_say(self) -> bytes:
        """Only the caller says something, and only on the first path."""
        return self.metadata if self.terms.is_caller and not self.has_had_path else b""

    def _be_quiet(self, path: PathEnd | None) -> None:
        if path is not None and path.keepalive is not None and self._quiet:
            self._machine.be_quiet(self._quiet, path.keepalive)

    def _pathless(self, reason: str) -> None:
        if not self._go_over(reason):
            super()._pathless(reason)

    def _help(self, reason: str) -> None:
        if not self.pinned:
            self._go_over(reason)

    def _switched_too(self, number: int) -> None:
        if self._path is self._stood_ready:
            self.number = max(self.number, number)
            self._path_rank = max(self._path_rank, self._rank(number, dialed_here=False))

    def _end(self, ended: Ended) -> None:
        standby = self._standby
        self._forget_standby()
        if standby is not None:
            standby.drop()
        super()._end(ended)
        self._flight_keys.clear()

    def _go_over(self, reason: str) -> bool:
        standby = self._standby
        if standby is None or not standby.is_ready or self.is_over:
            return False
        if self._machine.state is State.LOST:
            return False
        self._forget_standby()
        number = self.number + 1
        self._machine.switch(standby.machine, number, self._loop.time())
        self._take_over(standby.release(), number, reason, dialed_here=True)
        self._be_quiet(self._path)
        self._set_timer()
        self._tell_switched()
        return True

    def _take_over(self, path: PathEnd, number: int, reason: str, *, dialed_here: bool) -> None:
        self.number = max(self.number, number)
        self._path_rank = self._rank(number, dialed_here)
        old, self._path = self._path, path
        self._stood_ready = path
        self._counted.paths += 1
        self._usual_round_trip = path.usual_round_trip
        if old is not None:
            # It may still deliver, and what it loses may not come before the word on this one.
            self._loop.call_later(_RETIRE, old.finish)
        self._trace.rule = f"it stood ready when {reason}"
        self._trace.note("path", f"{path.kind.value}, {path.remote}", reason=f"standby: {reason}")
        self._events.put(PathChanged(path, f"the path that stood ready: {reason}"))
        path.hand_to(self)
        self._flush_soon()

    def _tell_switched(self) -> None:
        if not self.is_over:
            self._tell(Switched(self))

    def _forget_standby(self) -> None:
        self._standby = None
        self._machine.has_standby = False

    def _export(self, path: PathEnd, dialed_here: bool) -> None:
        """Keep what the next path may begin with, from a path that both sides have welcomed."""
        self._flights_failed = frozenset()
        if not {FIRST_FLIGHT, SESSION_2} <= self._features_shared:
            return
        if not (exported := path.export(self.id)):
            return
        before = self._flight_keys.ids
        self._flight_keys.add(exported, dialed_here=dialed_here)
        now = self._flight_keys.ids
        gone, come = set(before) - set(now), set(now) - set(before)
        self._tell(FlightKeysChanged(self, tuple(gone), tuple(come)))

    def _flight_answered(self, frames: bytes) -> None:
        # What was right before a fault holds; the path that follows says what is true.
        with contextlib.suppress(ProtocolViolation):
            self._machine.take_flight(frames, self._loop.time())
        self._after()

    def _flight_came_to_nothing(self, with_messages: bool) -> None:
        self._flights_failed |= {with_messages}

    def _rank(self, number: int, dialed_here: bool) -> tuple[int, bool]:
        return number, dialed_here == self.terms.is_caller
