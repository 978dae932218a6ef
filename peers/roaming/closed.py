"""The sessions that both sides have closed, for as long as they still answer. PURE.

The other side may have missed the last word, and asks for one more path to hear it. Of such a
session only what that takes is kept, about half a kilobyte.
"""

from collections import OrderedDict
from dataclasses import dataclass

from peers.location import OwnLocation
from peers.roaming.route import Route
from peers.session import Terms
from protocol.endpoint import SignedEntry
from protocol.features import SESSION_2, SESSION_FEATURES, shared
from protocol.lock import Agreed
from protocol.messages import PathHello, PathWelcome
from protocol.session import ClosedSession

__all__ = ["Closed", "ClosedSessions"]

_MAX_CLOSED = 4096
"""As many are kept; the oldest goes first, and is answered with `session_unknown` like one that has
lingered long enough."""


@dataclass(slots=True)
class Closed:
    """One of them."""

    terms: Terms
    falls_back: bool
    numbers: ClosedSession
    until: float
    """When it is forgotten, by the loop's clock, in seconds."""
    number: int
    """The highest number of a path that it has taken, and which side has dialed that."""
    dialed_by_caller: bool
    agreed: Agreed | None = None
    """Of the lock of its planes."""

    def would_take(self, number: int) -> bool:
        """Whether a path that the other side has dialed is newer (docs/protocol.md §10)."""
        by_caller = not self.terms.is_caller
        return (number, by_caller) > (self.number, self.dialed_by_caller)

    def entries(self, location: OwnLocation) -> tuple[SignedEntry, ...]:
        """Return this side's entries that the other side may have."""
        return location.entries(self.terms.service) if self.terms.discloses else ()

    def welcome(self, hello: PathHello, location: OwnLocation) -> PathWelcome:
        """Take a path, and return the answer to its hello; `numbers.answer()` follows it.

        Raises:
            ProtocolViolation: the hello's numbers cannot be true.
        """
        numbers = self.numbers
        revised = SESSION_2 in shared(SESSION_FEATURES, hello.features)
        numbers.check(hello.received, revised=revised)
        self.number, self.dialed_by_caller = hello.path, not self.terms.is_caller
        return PathWelcome(
            numbers.received,
            numbers.consumed,
            numbers.window,
            self.entries(location),
            features=(*self.terms.features, *SESSION_FEATURES),
        )


class ClosedSessions:
    """All of one peer. `now` is the loop's clock; `linger` (seconds) is how long each is kept.

    Nothing wakes up to forget them: whoever has gone is dropped when the next one is looked for.
    """

    def __init__(self, linger: float) -> None:
        self._linger = linger
        self._sessions: OrderedDict[bytes, Closed] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, route: Route, now: float) -> None:
        """Keep what answers for a session that is over, where it was closed and not lost."""
        session = route.session
        numbers = session.closed
        if numbers is None:
            return
        self._forget(now)
        number, by_caller = session.path_rank
        terms, agreed = session.terms, route.agreed
        # Many that close one after the other are with one peer: what they agreed on is kept once.
        before = next(reversed(self._sessions.values()), None)
        if before is not None:
            # A program's own `select` is not asked whether it is equal to another one.
            if before.terms.select is terms.select and before.terms == terms:
                terms = before.terms
            if before.agreed == agreed:
                agreed = before.agreed
        closed = Closed(
            terms, route.falls_back, numbers, now + self._linger, number, by_caller, agreed
        )
        self._sessions[session.id] = closed
        if len(self._sessions) > _MAX_CLOSED:
            self._sessions.popitem(last=False)

    def find(self, session_id: bytes, now: float) -> Closed | None:
        """Return one that still answers."""
        self._forget(now)
        return self._sessions.get(session_id)

    def clear(self) -> None:
        """Forget all of them."""
        self._sessions.clear()

    def _forget(self, now: float) -> None:
        while self._sessions:
            oldest = next(iter(self._sessions))
            if now < self._sessions[oldest].until:
                return
            del self._sessions[oldest]
