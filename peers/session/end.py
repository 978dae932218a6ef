"""One end of a session, as the rooms see it that bring it paths. Programs see `Session` alone.

What a session is, and when it is over, is decided by `protocol.session`; which path it takes, in
the room `roaming`. Here is what both ask of it.
"""

import contextlib

from peers.path import PathEnd
from peers.session.events import PathChanged
from peers.session.session import Session
from peers.session.terms import Terms
from protocol.endpoint import SignedEntry
from protocol.errors import Code, ProtocolViolation
from protocol.features import CONVERSATION, EARLY_DATA, SESSION_2, SESSION_FEATURES, shared
from protocol.messages import PathHello, PathWelcome
from protocol.session import NO_EARLY, ClosedSession, Early

__all__ = ["SessionEnd"]

_RETIRE = 1.0
"""Seconds for which a path that was replaced stays open at the side that was dialed."""


class SessionEnd(Session):
    """A session with all that its paths, and whoever looks for them, need of it."""

    # -- for the peer ---------------------------------------------------------------------------

    @property
    def terms(self) -> Terms:
        """What both sides agreed on, and what this side wants of its paths."""
        return self._terms

    def hello(self, number: int, entries: tuple[SignedEntry, ...]) -> PathHello:
        """Return the hello that asks for path `number`; `entries` are this side's own."""
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
        )

    def early(self) -> Early:
        """Return what leaves right behind the hello: the oldest of what the other side is not known
        to have, where it takes that and no path delivers it."""
        if EARLY_DATA not in self._features_shared:
            return NO_EARLY
        return self._machine.early(self._loop.time())

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
        self._path_rank = self._rank(number, dialed_here)
        old, self._path = self._path, path
        self._paths += 1
        self._usual_round_trip = path.usual_round_trip
        if old is not None and dialed_here:
            old.finish()
        elif old is not None:
            # The other side reads our welcome on another stream, and must not lose this one first.
            self._loop.call_later(_RETIRE, old.finish)
        why = self._trace.path_taken(path, old, dialed_here=dialed_here)
        self._events.put(PathChanged(path, why))
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

    def _rank(self, number: int, dialed_here: bool) -> tuple[int, bool]:
        return number, dialed_here == self.terms.is_caller
