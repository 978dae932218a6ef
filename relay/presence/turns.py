"""Whose endpoint is proven next, and when; and which probe makes room for another.

PURE: what happens and when goes in, what is to be done comes out.

Rule 1: one probe at a time for each peer, `NETWORK_AT_ONCE` for the peers of one network, `AT_ONCE`
in all; and a rate for each peer and for all.
Rule 2: who has been quiet is served first: the network, then the peer, for which probes have
lasted the shortest of late; a peer is as loud as the endpoint that it wants probed. Who has the
relay wait at endpoints that never answer is behind all others, under new keys too. Nobody can make
an endpoint loud that answers, whoever names it, and whatever is at its other ports.
Rule 3: a probe has its whole time while nobody waits for its place. Else, after `PATIENCE`, it
makes room for a quieter one, and counts as failed.
Rule 4: an endpoint that was not proven is probed again after a pause, which is doubled each time.
"""

import heapq
import math
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import count
from typing import TypeAlias

from protocol.endpoint import Endpoint
from relay.limits import Rates

__all__ = [
    "AT_ONCE",
    "CLOSE_TOGETHER",
    "FIRST_PAUSE",
    "LONGEST_PAUSE",
    "NETWORK_AT_ONCE",
    "PATIENCE",
    "PEER_BURST",
    "PEER_RATE",
    "SPACING",
    "Action",
    "Begin",
    "CallOff",
    "Turns",
]

AT_ONCE = 16
"""Probes under way in all."""
NETWORK_AT_ONCE = 4
"""Probes under way for the peers that come from one network."""
PATIENCE = 1.0
"""Seconds that a probe has in any case: a handshake takes two round trips."""
PEER_RATE, PEER_BURST = 1.0, 32
"""Probes of one peer: sustained, a second; and at once."""
SPACING, CLOSE_TOGETHER = 0.0108, 8
"""Seconds for each start of a probe, whoever it is for; and how many begin at once, one in a turn
of the loop, before their seconds have to pass: 100 in any second. What follows at once finds the
processor's caches warm: eight of one peer take 12 ms of the CPU where they took 14."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 600.0
"""Seconds between two probes of an endpoint that was not proven; doubled each time."""
_HALVED = 60.0
"""Seconds after which half of the time that probes have lasted is forgotten."""
_MAX_REMEMBERED = 65_536
"""Peers, and networks, and endpoints, whose probes are remembered; beyond it the longest unused are
forgotten."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Probe an endpoint of a peer, and say what came of it."""

    guid: str
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class CallOff:
    """End the probe of a peer: it has failed."""

    guid: str


Action: TypeAlias = Begin | CallOff


_Queued: TypeAlias = tuple[float, int, str]
"""What is queued: its rank, the turn under which it was queued, and who it is."""


@dataclass(slots=True)
class _Peer:
    """A peer that has endpoints to prove."""

    guid: str
    network: str
    due: dict[Endpoint, float] = field(default_factory=dict)
    """When each of its endpoints is probed next."""
    pauses: dict[Endpoint, float] = field(default_factory=dict)
    """The last pause of those that were not proven."""
    turn: int = 0
    """What is queued under another number is out of date."""
    not_before: float = 0.0
    """Its rate allows no probe earlier."""

    @property
    def next_endpoint(self) -> Endpoint:
        """The endpoint that is probed next."""
        return min(self.due, key=self.due.__getitem__)


@dataclass(slots=True)
class _Probe:
    """A probe that is under way."""

    endpoint: Endpoint
    network: str
    began: float
    is_called_off: bool = False
    """Whether its end is on its way."""


@dataclass(slots=True)
class _Network:
    """The peers of one network that are ready, and how many are probed."""

    ready: list[_Queued] = field(default_factory=list)
    """A heap: the quietest peer first, then who has come first."""
    probing: int = 0


class _Spent:
    """How long probes have lasted for each of many, forgotten by halves."""

    def __init__(self) -> None:
        self._levels: OrderedDict[str, float] = OrderedDict()
        """Logarithms of the seconds, as if at time 0: their order does not change with time."""

    def level(self, key: str) -> float:
        """Return a number that is higher for whom probes have lasted longer of late."""
        return self._levels.get(key, -math.inf)

    def level_with(self, key: str, seconds: float, now: float) -> float:
        """Return the level that it would have, had there been so much more."""
        return now / _HALVED + math.log2(2 ** (self.level(key) - now / _HALVED) + seconds + 1e-9)

    def add(self, key: str, seconds: float, now: float) -> None:
        """A probe has lasted so long."""
        self._levels[key] = self.level_with(key, seconds, now)
        self._levels.move_to_end(key)
        if len(self._levels) > _MAX_REMEMBERED:
            self._levels.popitem(last=False)


class Turns:
    """The turns of all peers of one relay; `lifetime` is the seconds for which a proof holds.

    Say what each peer `wants`, and what came of each probe (`finished`); do what `time` returns,
    after each of them and when `next_timeout` has come. `now` is any clock that only grows.
    """

    def __init__(self, lifetime: float) -> None:
        self._lifetime = lifetime
        self._rates = Rates(PEER_RATE, PEER_BURST)
        self._peers: dict[str, _Peer] = {}
        self._probes: dict[str, _Probe] = {}
        self._networks: dict[str, _Network] = {}
        """Those that have peers that are ready or probed."""
        self._by_peer, self._by_network, self._by_endpoint = _Spent(), _Spent(), _Spent()
        self._waiting: list[_Queued] = []
        """A heap: whose endpoint is due first."""
        self._open: list[_Queued] = []
        """A heap of networks, the quietest first, each once: all that have somebody ready and a
        free place, and some that had."""
        self._listed: set[str] = set()
        """Who is in it."""
        self._numbers = count(1)
        self._next_start = self._now = self._group_began = -math.inf
        self._in_group = 0
        """Starts that belong together, and their seconds begin with the first of them."""

    def __len__(self) -> int:
        """Return how many peers have endpoints to prove, now or later."""
        return len(self._peers)

    def wants(self, guid: str, network: str, endpoints: Collection[Endpoint], now: float) -> None:
        """A peer that comes from this network needs these endpoints proven, now or later, and no
        other."""
        peer = self._peers.get(guid)
        if not endpoints:
            if peer is not None:
                del self._peers[guid]
                self._tidy(peer.network)
            return
        if peer is None:
            peer = self._peers[guid] = _Peer(guid, network)
        elif peer.due.keys() == set(endpoints) and peer.network == network:
            return
        left, peer.network = peer.network, network
        peer.due = {endpoint: peer.due.get(endpoint, now) for endpoint in endpoints}
        peer.pauses = {key: pause for key, pause in peer.pauses.items() if key in peer.due}
        self._queue(peer, now)
        self._tidy(left)

    def finished(self, guid: str, proven: bool, now: float) -> None:
        """The probe of a peer has ended."""
        probe = self._probes.pop(guid)
        lasted = now - probe.began
        self._by_peer.add(guid, lasted, now)
        self._by_network.add(probe.network, lasted, now)
        self._by_endpoint.add(str(probe.endpoint), lasted, now)
        self._networks[probe.network].probing -= 1
        peer = self._peers.get(guid)
        if peer is not None:
            if probe.endpoint in peer.due:
                self._note(peer, probe.endpoint, proven, now)
            self._queue(peer, now)
        self._list(probe.network)
        self._tidy(probe.network)

    def time(self, now: float) -> list[Action]:
        """Return what is to be done now."""
        self._now = now
        while self._waiting and self._waiting[0][0] <= now:
            _, turn, guid = heapq.heappop(self._waiting)
            if self._is_queued(turn, guid):
                self._queue(self._peers[guid], now)
        actions: list[Action] = []
        if now >= self._next_start and len(self._probes) < AT_ONCE:
            peer = self._next(now)
            if peer is not None:
                actions.append(self._begin(peer, now))
        return actions + self._make_room(now)

    def next_timeout(self) -> float | None:
        """Return when to call `time` again, if nothing else happens; None where nothing waits."""
        due = [self._waiting[0][0]] if self._waiting else []
        best = self._best()
        if best is not None and len(self._probes) < AT_ONCE:
            due.append(self._next_start)
        if best is not None or any(self._ready(probe.network) for probe in self._probes.values()):
            patient = (probe.began + PATIENCE for probe in self._probes.values())
            due += [when for when in patient if when > self._now]
        return min(due, default=None)

    # -- whose turn it is -----------------------------------------------------------------------

    def _next(self, now: float) -> _Peer | None:
        """Take the one whose turn it is from the queue, if there is one and a place for it."""
        while (network := self._best()) is not None:
            _, _, guid = heapq.heappop(self._networks[network].ready)
            peer = self._peers[guid]
            wait = self._rates.take(guid, now)
            if not wait:
                return peer
            peer.not_before = now + wait
            self._queue(peer, now)
        return None

    def _best(self) -> str | None:
        """Return the quietest network that has somebody ready and a free place."""
        while self._open:
            level, turn, name = self._open[0]
            current = self._by_network.level(name)
            if self._ready(name) is None or self._networks[name].probing >= NETWORK_AT_ONCE:
                heapq.heappop(self._open)
                self._listed.discard(name)
            elif current != level:
                heapq.heapreplace(self._open, (current, turn, name))
            else:
                return name
        return None

    def _ready(self, network: str) -> str | None:
        """Return the quietest peer of a network that is ready."""
        known = self._networks.get(network)
        while known is not None and known.ready:
            level, turn, guid = known.ready[0]
            if not self._is_queued(turn, guid):
                heapq.heappop(known.ready)
            elif level != (current := self._level(self._peers[guid])):
                heapq.heapreplace(known.ready, (current, turn, guid))
            else:
                return guid
        return None

    def _level(self, peer: _Peer) -> float:
        endpoint = str(peer.next_endpoint)
        return max(self._by_peer.level(peer.guid), self._by_endpoint.level(endpoint))

    def _begin(self, peer: _Peer, now: float) -> Begin:
        endpoint = peer.next_endpoint
        peer.turn = next(self._numbers)
        self._probes[peer.guid] = _Probe(endpoint, peer.network, now)
        self._networks[peer.network].probing += 1
        if now >= self._group_began + self._in_group * SPACING:
            self._group_began, self._in_group = now, 0
        self._in_group += 1
        is_last = self._in_group == CLOSE_TOGETHER
        self._next_start = self._group_began + CLOSE_TOGETHER * SPACING if is_last else now
        return Begin(peer.guid, endpoint)

    def _make_room(self, now: float) -> list[Action]:
        """Call off what has lasted for long where somebody quieter waits for the place."""
        actions: list[Action] = []
        scopes = [
            (name, {guid: one for guid, one in self._probes.items() if one.network == name})
            for name in {probe.network for probe in self._probes.values()}
            if self._networks[name].probing >= NETWORK_AT_ONCE
        ]
        best = self._best()
        if best is not None and len(self._probes) >= AT_ONCE:
            scopes.append((best, self._probes))
        for network, probes in scopes:
            guid = self._ready(network)
            if guid is None or any(probe.is_called_off for probe in probes.values()):
                continue
            loudness = {
                other: self._loudness(other, probe, network, now)
                for other, probe in probes.items()
                if now >= probe.began + PATIENCE
            }
            loudest = max(loudness, key=loudness.__getitem__, default=None)
            quiet = self._by_network.level(network), self._level(self._peers[guid])
            if loudest is not None and loudness[loudest] > quiet:
                probes[loudest].is_called_off = True
                actions.append(CallOff(loudest))
        return actions

    def _loudness(self, guid: str, probe: _Probe, network: str, now: float) -> tuple[float, float]:
        """Return how loud a probe's cause is, beside somebody who comes from `network`."""
        lasted = now - probe.began
        own = max(
            self._by_peer.level_with(guid, lasted, now),
            self._by_endpoint.level_with(str(probe.endpoint), lasted, now),
        )
        if probe.network == network:
            return self._by_network.level(network), own
        return self._by_network.level_with(probe.network, lasted, now), own

    # -- the queues -----------------------------------------------------------------------------

    def _note(self, peer: _Peer, endpoint: Endpoint, proven: bool, now: float) -> None:
        if proven:
            peer.pauses.pop(endpoint, None)
            peer.due[endpoint] = now + self._lifetime
            return
        pause = min(max(2 * peer.pauses.get(endpoint, 0.0), FIRST_PAUSE), LONGEST_PAUSE)
        peer.pauses[endpoint] = pause
        peer.due[endpoint] = now + pause

    def _queue(self, peer: _Peer, now: float) -> None:
        """Put a peer where it belongs; where it was queued before is out of date."""
        peer.turn = next(self._numbers)
        if peer.guid in self._probes:
            return
        when = max(min(peer.due.values()), peer.not_before)
        if when > now:
            self._push(self._waiting, (when, peer.turn, peer.guid))
            return
        network = self._networks.setdefault(peer.network, _Network())
        self._push(network.ready, (self._level(peer), peer.turn, peer.guid))
        self._list(peer.network)

    def _push(self, heap: list[_Queued], queued: _Queued) -> None:
        heapq.heappush(heap, queued)
        # What is out of date goes when it comes to the top; a peer may change without end.
        if len(heap) > 2 * len(self._peers) + 64:
            heap[:] = [one for one in heap if self._is_queued(one[1], one[2])]
            heapq.heapify(heap)

    def _is_queued(self, turn: int, guid: str) -> bool:
        peer = self._peers.get(guid)
        return peer is not None and peer.turn == turn

    def _list(self, network: str) -> None:
        if network not in self._listed:
            self._listed.add(network)
            level = self._by_network.level(network)
            heapq.heappush(self._open, (level, next(self._numbers), network))

    def _tidy(self, network: str) -> None:
        known = self._networks.get(network)
        if known is not None and not known.probing and self._ready(network) is None:
            del self._networks[network]
