"""How much is dialed where a key was not met before, and who is left alone.

PURE: what happens and when goes in, a refusal comes out. What costs nobody anything is free: where
a peer's key was met, it is dialed without pauses and questions, and a dial that meets it gives back
what it has taken. What is left is what others have to bear: it is shared by who has caused it, by
the address and its network, and bounded in all. How much that is, who dials says (`Share`).
"""

import errno
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from protocol.dialing.scopes import network_of, unwrapped
from protocol.endpoint import Endpoint

__all__ = ["Attempt", "Budgets", "Outcome", "Rate", "Share", "outcome_of"]

_LIMIT = 4096
"""Buckets of each kind, failures, and peers that were met, which are remembered. Beyond it the one
that was used least lately goes. A bucket then starts anew: that takes longer than it needs to be
full again, as the budget of all of them is smaller. Who was left alone costs what its budget
allows, and who was met is asked about again."""
_MAX_MET = 16
"""Endpoints of one peer at which it was met; as many as it can tell."""
_LOST = 8
"""Failures running after which a peer is not believed to be where it was met."""
_PATIENCE = 2
"""Failures before an endpoint is left alone."""


_NOT_SENT = frozenset(
    {
        *(errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM, errno.EINVAL),
        *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAFNOSUPPORT),
    }
)
"""Errors of this host, before a packet has left it."""
_REFUSED = frozenset({errno.ECONNREFUSED, errno.ECONNRESET})
"""Errors that whoever is there has caused."""


class Outcome(Enum):
    """What came of a dial."""

    MET = "met"
    """The peer's key has shown."""
    WRONG_KEY = "another key"
    """Another peer is there."""
    REFUSED = "refused"
    """Nobody listens there, or who does speaks no TLS."""
    SILENT = "silent"
    """No answer. It says nothing of who is there: it may have been the way."""
    CALLED_OFF = "called off"
    """It was not needed any more."""
    NOT_SENT = "not sent"
    """Nothing has left this host."""


def outcome_of(error: OSError) -> Outcome:
    """Return what an error of connecting says of who is there."""
    if error.errno in _NOT_SENT:
        return Outcome.NOT_SENT
    return Outcome.REFUSED if error.errno in _REFUSED else Outcome.SILENT


@dataclass(frozen=True, slots=True)
class Attempt:
    """A dial: who has caused it, where it goes, and by whose word."""

    remote: str
    """The GUID of the peer that should be there, which has named the endpoint."""
    endpoint: Endpoint
    word: Hashable
    """Whose word it is: which share it is of."""
    wished: bool = False
    """Whether the own program has asked for it."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many dials at once, and one more each so many seconds."""

    burst: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Share:
    """The budgets of one word, and the pauses of an endpoint that has failed, in seconds."""

    remote: Rate
    endpoint: Rate
    """Of one endpoint, as one remote has named it."""
    address: Rate
    network: Rate
    total: Rate
    first_pause: float
    longest_pause: float
    wishes_spare_remote: bool = False
    """Whether what the own program has asked for is charged to the places alone."""


class Budgets:
    """The budgets of one party, a share for each kind of word. `now` is any clock that only grows,
    in seconds; each table has `limit` entries at most.

    `refusal` takes from them where it refuses nothing; tell what came of that dial with `over`.
    """

    def __init__(self, shares: Mapping[Hashable, Share], limit: int = _LIMIT) -> None:
        self._shares = shares
        self._limit = limit
        self._buckets = {
            word: [
                (_Buckets(share.remote, limit), "this peer has named too many that did not answer"),
                (_Buckets(share.endpoint, limit), "dialed often enough, and it was not met there"),
                (_Buckets(share.address, limit), "too many dials to this address"),
                (_Buckets(share.network, limit), "too many dials to this network"),
                (_Buckets(share.total, limit), "too many dials by such a word in all"),
            ]
            for word, share in shares.items()
        }
        self._failed = _Failures(limit)
        self._met: OrderedDict[str, OrderedDict[Endpoint, int]] = OrderedDict()
        """Where each peer was met, and the failures there since."""

    def __len__(self) -> int:
        """Return how many things are remembered."""
        buckets = sum(len(one) for kind in self._buckets.values() for one, _ in kind)
        return buckets + len(self._failed) + sum(map(len, self._met.values()))

    def has_met(self, remote: str, endpoint: Endpoint) -> bool:
        """Whether the peer's key was met at this very endpoint."""
        return endpoint in self._met.get(remote, ())

    def refusal(self, attempt: Attempt, now: float) -> str | None:
        """Return why an endpoint is not dialed now; None where it is, and is paid for."""
        if self.has_met(attempt.remote, attempt.endpoint):
            return None
        share = self._shares[attempt.word]
        pauses = share.first_pause, share.longest_pause
        for key in self._failures_of(attempt):
            left = self._failed.pause_left(key, pauses, now)
            if left > 0:
                return f"it has failed twice and more: left alone for {left:.0f} s"
        wanted = self._wanted(attempt)
        for buckets, reason, key in wanted:
            if not buckets.has(key, now):
                return reason
        for buckets, _, key in wanted:
            buckets.add(key, -1, now)
        return None

    def over(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """A dial that was not refused has ended."""
        known = self.has_met(attempt.remote, attempt.endpoint)
        match outcome:
            case Outcome.MET:
                if not known:
                    self._give_back(attempt, now)
                self._note_met(attempt)
                for key in self._failures_of(attempt):
                    self._failed.forget(key)
            case Outcome.NOT_SENT if not known:
                self._give_back(attempt, now)
            case Outcome.REFUSED | Outcome.WRONG_KEY if known:
                self._note_missed(attempt)
            case Outcome.REFUSED:
                for key in self._failures_of(attempt):
                    self._failed.add(key, now)
            case Outcome.WRONG_KEY:
                # A peer is there: it is nobody's victim, but of who has named it.
                self._failed.add(self._failures_of(attempt)[0], now)
            case _:
                pass

    def network_changed(self) -> None:
        """This host has moved: what has failed before says nothing of what may answer now. The
        budgets stay."""
        self._failed = _Failures(self._limit)

    # -- inside ---------------------------------------------------------------------------------

    def _wanted(self, attempt: Attempt) -> list[tuple["_Buckets", str, Hashable]]:
        host, network = _place(attempt.endpoint.host)
        remote = attempt.remote
        keys: list[Hashable] = [remote, (remote, host, attempt.endpoint.port), host, network, None]
        known = self._buckets[attempt.word]
        wanted = [(*one, key) for one, key in zip(known, keys, strict=True)]
        spares_remote = attempt.wished and self._shares[attempt.word].wishes_spare_remote
        return wanted[2:] if spares_remote else wanted

    def _give_back(self, attempt: Attempt, now: float) -> None:
        for buckets, _, key in self._wanted(attempt):
            buckets.add(key, 1, now)

    def _failures_of(self, attempt: Attempt) -> tuple[Hashable, Hashable]:
        """Return the names of an endpoint's failures: as this remote has named it, and in all, for
        the same kind of word. So nobody who only tells of an endpoint can blacken it for those of
        whom the relay says that they are there."""
        host, _ = _place(attempt.endpoint.host)
        where = host, attempt.endpoint.port
        return (attempt.remote, *where), (attempt.word, *where)

    def _note_met(self, attempt: Attempt) -> None:
        met = self._met.setdefault(attempt.remote, OrderedDict())
        self._met.move_to_end(attempt.remote)
        met[attempt.endpoint] = 0
        met.move_to_end(attempt.endpoint)
        if len(met) > _MAX_MET:
            met.popitem(last=False)
        if len(self._met) > self._limit:
            self._met.popitem(last=False)

    def _note_missed(self, attempt: Attempt) -> None:
        met = self._met[attempt.remote]
        met[attempt.endpoint] += 1
        if met[attempt.endpoint] >= _LOST:
            del met[attempt.endpoint]


class _Buckets:
    """Token buckets by name: what is not in the table is full."""

    def __init__(self, rule: Rate, limit: int) -> None:
        self._rule = rule
        self._limit = limit
        self._known: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def has(self, key: Hashable, now: float) -> bool:
        return self._level(key, now) >= 1

    def add(self, key: Hashable, tokens: int, now: float) -> None:
        level = min(self._level(key, now) + tokens, self._rule.burst)
        if level >= self._rule.burst:
            self._known.pop(key, None)
            return
        self._known[key] = level, now
        self._known.move_to_end(key)
        if len(self._known) > self._limit:
            self._known.popitem(last=False)

    def _level(self, key: Hashable, now: float) -> float:
        level, when = self._known.get(key, (self._rule.burst, now))
        return min(level + (now - when) / self._rule.seconds, self._rule.burst)


class _Failures:
    """Failures running, by name, and when the last one was."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, key: Hashable, now: float) -> None:
        count, _ = self._known.get(key, (0, now))
        self._known[key] = count + 1, now
        self._known.move_to_end(key)
        if len(self._known) > self._limit:
            self._known.popitem(last=False)

    def forget(self, key: Hashable) -> None:
        self._known.pop(key, None)

    def pause_left(self, key: Hashable, pauses: tuple[float, float], now: float) -> float:
        """Return the seconds for which it is left alone; `pauses` are the first and the longest."""
        count, when = self._known.get(key, (0, now))
        if count < _PATIENCE:
            return 0.0
        first, longest = pauses
        return when + min(first * 2.0 ** min(count - _PATIENCE, 32), longest) - now


@lru_cache(maxsize=1024)  # Four times in each dial, 7 µs each.
def _place(host: str) -> tuple[str, str]:
    """Return the address that is dialed in fact, and its network."""
    address = unwrapped(host)
    if address is None:
        return host, host
    return str(address), network_of(address)
