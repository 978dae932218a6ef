"""What peers ask of one another's endpoints: who waits for an answer, and what is to be met for it.

PURE: what happens and when goes in, answers come out.

Rule 1: an answer says that a key was met, at once; or that it was not, `ANSWERED_AFTER` the
question and whatever the reason. So nobody learns from the time whether an endpoint has refused,
was silent, is not dialed, or who is here at all.
Rule 2: what is asked is met once, for the peer whose entry it is, in its turn and by its rate; a
peer has few such endpoints, and newer entries replace older ones: nobody who asks with what a peer
has signed long ago keeps it from being met where it is now.
Rule 3: who asks has a rate and a share of those that wait, as has its network.
"""

from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from protocol.endpoint import Endpoint, Entry
from protocol.messages import Message
from relay.limits import Bounds, Cause, Rates, Shares

__all__ = ["ANSWERED_AFTER", "Asker", "Queries", "Query"]

ANSWERED_AFTER = 3.0
"""Seconds: a handshake that is begun at once, over the slowest link, has an end by then."""
_PER_SECOND, _BURST = 1.0, 16
"""Questions of one peer: sustained, a second; and at once."""
_NETWORK_PER_SECOND, _NETWORK_BURST = 4.0, 64
"""Those of all peers of one network."""
_WAITING = Bounds.of(1024, key=16)
"""Questions that wait."""
_ENDPOINTS = 8
"""Endpoints of one peer that are met only because somebody has asked."""
_PEERS = 4096
"""Peers of which any are; beyond it that one goes of which nobody has asked for the longest."""
_WANTED = 60.0
"""Seconds for which it is tried to meet one."""


class Asker(Protocol):
    """A registered control connection."""

    guid: str
    observed_host: str
    """Where it comes from; empty where that is not known."""
    cause: Cause
    """Who is charged for what it asks."""

    def send(self, message: Message) -> None:
        """Queue a message."""


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A question that waits."""

    asker: Asker
    number: int
    guid: str
    endpoint: Endpoint
    due: float


@dataclass(slots=True)
class _Asked:
    """An endpoint that somebody has asked for."""

    seq: int
    """Of the peer's entry."""
    until: float
    """It is forgotten then."""
    is_met: bool = False


class Queries:
    """All questions of one relay. `now` is any clock that only grows."""

    def __init__(self) -> None:
        self._waiting: Shares[Query] = Shares(_WAITING)
        self._by_due: deque[Query] = deque()
        """All that wait and some that do not any more, the earliest first."""
        self._asked: OrderedDict[str, dict[Endpoint, _Asked]] = OrderedDict()
        self._rates = Rates(_PER_SECOND, _BURST)
        self._network_rates = Rates(_NETWORK_PER_SECOND, _NETWORK_BURST)

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def wait_of(self, asker: Asker, now: float) -> float:
        """Charge who asks; return 0, or the seconds after which it may ask again."""
        wait = self._rates.take(asker.guid, now)
        return wait or self._network_rates.take(asker.cause.network, now)

    def put(self, query: Query) -> tuple[Query, ...] | None:
        """Let a question wait; return those that have to give way to it, or None where it cannot
        wait itself."""
        gone = self._waiting.add(query.asker.cause, query)
        if gone is not None:
            self._by_due.append(query)
        return gone

    def want(self, guid: str, entry: Entry, now: float) -> bool:
        """An endpoint of a peer is to be met for a question; False where newer ones are."""
        known = self._asked.setdefault(guid, {})
        self._asked.move_to_end(guid)
        asked = known.get(entry.endpoint)
        if asked is not None:
            asked.seq = max(asked.seq, entry.seq)
            return True
        if len(known) >= _ENDPOINTS:
            oldest = min(known, key=lambda endpoint: known[endpoint].seq)
            if known[oldest].seq >= entry.seq:
                return False
            del known[oldest]
        known[entry.endpoint] = _Asked(entry.seq, now + _WANTED)
        if len(self._asked) > _PEERS:
            self._asked.popitem(last=False)
        return True

    def wanted(self, guid: str) -> list[Endpoint]:
        """Return the endpoints of a peer that are to be met because somebody has asked."""
        known = self._asked.get(guid, {})
        return [endpoint for endpoint, asked in known.items() if not asked.is_met]

    def kept(self, guid: str) -> Collection[Endpoint]:
        """Return those of a peer, met or not."""
        return self._asked.get(guid, {}).keys()

    def settled(self, guid: str, endpoint: Endpoint, met_until: float | None) -> list[Query]:
        """It was tried to meet a key at an endpoint; return whose question is answered by that.
        `met_until` says for how long it holds that it was met; None: it was not."""
        known = self._asked.get(guid, {})
        asked = known.get(endpoint)
        if asked is not None and met_until is not None:
            asked.is_met, asked.until = True, met_until
        elif asked is not None:
            self._forget(guid, endpoint)
        if met_until is None:
            return []
        answered = [
            query for query in self._waiting if (query.guid, query.endpoint) == (guid, endpoint)
        ]
        for query in answered:
            self._waiting.remove(query)
        return answered

    def lost(self, asker: Asker) -> None:
        """A connection has ended: nothing of it waits any more."""
        if not self._waiting.of(asker.cause):
            return
        for query in [query for query in self._waiting if query.asker is asker]:
            self._waiting.remove(query)

    def expired(self, now: float) -> list[Query]:
        """Return the questions that are answered now, with no."""
        expired = []
        while self._by_due and (self._by_due[0].due <= now or self._by_due[0] not in self._waiting):
            query = self._by_due.popleft()
            if self._waiting.remove(query):
                expired.append(query)
        return expired

    def forget(self, now: float) -> list[str]:
        """Forget what was asked for long ago; return of which peers."""
        over = [
            (guid, endpoint)
            for guid, known in self._asked.items()
            for endpoint, asked in known.items()
            if asked.until <= now
        ]
        for guid, endpoint in over:
            self._forget(guid, endpoint)
        return list(dict.fromkeys(guid for guid, _ in over))

    def _forget(self, guid: str, endpoint: Endpoint) -> None:
        known = self._asked[guid]
        del known[endpoint]
        if not known:
            del self._asked[guid]
