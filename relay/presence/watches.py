"""Who is told of whose coming, moving and going, and when.

No I/O and no clock. What has changed is noted at once and told by `tell`, a few times a second, so
that a peer that changes quickly costs its watchers one message a second each.
"""

import heapq
import math
from collections.abc import Iterator
from typing import Protocol

from protocol.errors import Code
from protocol.messages import Message, PeerEvent, PeerState
from relay.limits import Bounds, Cause, Shares
from relay.presence.registry import RegisteredPeer, Registry

__all__ = ["MAX_WATCHERS", "MAX_WATCHES", "Watcher", "Watches"]

MAX_WATCHES = 256
"""Peers that one connection may watch."""
MAX_WATCHERS = 1024
"""Connections over which one peer may be watched: three quarters of them from one wide network,
half from one network. Where all are used, the network that has most loses its oldest."""
_MAX_ASKED = 64
"""Peers whose return one connection may wait for, having asked for them; the oldest gives way."""
_INTERVAL = 1.0
"""Seconds between two events of one peer to one watcher, at least."""


class Watcher(Protocol):
    """A registered control connection."""

    guid: str
    cause: Cause
    """Who is charged for what it watches."""

    def send(self, message: Message) -> None:
        """Queue a message."""


Told = tuple[PeerState, int]
"""State and record number, as a watcher was told last."""
_NOTHING: Told = (PeerState.OFFLINE, 0)
"""Of a peer that is not known, or offers nothing. Without a number nothing of it was shown."""


class Watches:
    """All watches of one relay."""

    def __init__(self, registry: Registry, *, grace: float) -> None:
        self._registry = registry
        self._grace = grace
        self._watchers: dict[str, dict[Watcher, Told]] = {}
        self._watched: dict[Watcher, set[str]] = {}
        self._crowds: dict[str, Shares[Watcher]] = {}
        """Who watches a peer, by network, where more than a few do."""
        self._changed: dict[str, None] = {}
        self._told: dict[str, float] = {}
        self._graces: list[tuple[float, str]] = []
        """When a peer may turn from suspect to offline: a heap."""
        self._in_grace: dict[str, float] = {}
        """The same of each; what else is in the heap is over."""
        self._asked: dict[Watcher, dict[str, None]] = {}
        """Whom one has asked for the next path of a session, the oldest first."""

    def __len__(self) -> int:
        return sum(map(len, self._watched.values()))

    def watch(self, watcher: Watcher, guid: str, now: float) -> None:
        """Begin a watch, and say how the peer stands; or say why not."""
        watched = self._watched.get(watcher, set())
        watchers = self._watchers.get(guid, {})
        if watcher not in watchers and (
            len(watched) >= MAX_WATCHES or not self._make_room(watcher, guid)
        ):
            watcher.send(PeerEvent(guid, code=Code.LIMIT_EXCEEDED))
            return
        watchers = self._watchers.get(guid, {})
        self._watchers.setdefault(guid, watchers).setdefault(watcher, _NOTHING)
        self._watched.setdefault(watcher, watched).add(guid)
        self._say(watcher, guid, now, always=True)

    def unwatch(self, watcher: Watcher, guid: str) -> None:
        """End a watch; nothing happens where there is none."""
        watchers = self._watchers.get(guid)
        if watchers is None or watchers.pop(watcher, None) is None:
            return
        if (crowd := self._crowds.get(guid)) is not None:
            crowd.remove(watcher)
        if not watchers:
            del self._watchers[guid]
            self._crowds.pop(guid, None)
            self._told.pop(guid, None)
        watched = self._watched[watcher]
        watched.discard(guid)
        if not watched:
            del self._watched[watcher]

    def connection_lost(self, watcher: Watcher) -> None:
        """End the watches of a connection."""
        for guid in list(self._watched.get(watcher, ())):
            self.unwatch(watcher, guid)
        self._asked.pop(watcher, None)

    def changed(self, guid: str, now: float) -> None:
        """Note that a peer has registered, updated, or lost a connection."""
        if guid in self._watchers:
            self._changed[guid] = None

    def asks(self, watcher: Watcher, guid: str) -> None:
        """Somebody has asked for the next path of a session with a peer. If he watches it, he is
        told once when that peer comes, even of one that offers nothing: as he would be if he asked
        again."""
        asked = self._asked.setdefault(watcher, {})
        asked.pop(guid, None)
        asked[guid] = None
        if len(asked) > _MAX_ASKED:
            del asked[next(iter(asked))]

    def tell(self, now: float) -> None:
        """Tell of what has changed."""
        for _ in self.telling(now):
            pass

    def telling(self, now: float) -> Iterator[None]:
        """Tell of what has changed, one watcher after the other; others may come and go between
        two: begin it a few times a second."""
        while self._graces and self._graces[0][0] <= now:
            when, guid = heapq.heappop(self._graces)
            if self._in_grace.get(guid) == when:
                del self._in_grace[guid]
                if guid in self._watchers:
                    self._changed[guid] = None
        for guid in list(self._changed):
            if now < self._told.get(guid, 0.0) + _INTERVAL and guid in self._told:
                continue
            self._changed.pop(guid, None)
            for watcher in list(self._watchers.get(guid, ())):
                if watcher in self._watchers.get(guid, ()):
                    self._say(watcher, guid, now)
                    yield

    def _make_room(self, watcher: Watcher, guid: str) -> bool:
        """Whether there is room for one more watcher of a peer: perhaps in place of another one."""
        watchers = self._watchers.get(guid, {})
        crowd = self._crowds.get(guid)
        if crowd is None:
            if len(watchers) < MAX_WATCHERS // 4:
                return True  # Nobody can have more than a share yet.
            crowd = self._crowds[guid] = Shares(Bounds.of(MAX_WATCHERS))
            for one in watchers:
                crowd.add(_networks(one), one)
        displaced = crowd.add(_networks(watcher), watcher)
        if displaced is None:
            return False
        for one in displaced:
            self.unwatch(one, guid)
            one.send(PeerEvent(guid, code=Code.LIMIT_EXCEEDED))
        return True

    def _say(self, watcher: Watcher, guid: str, now: float, *, always: bool = False) -> None:
        registration, gone = self._registry.get(guid), self._registry.gone(guid)
        home = self._registry.home(guid) if registration is None else None
        is_here = registration is not None or home is not None
        watchers = self._watchers[guid]
        told = watchers[watcher]
        if home is not None and not home.offers and self._has_asked(watcher, guid):
            event, offline = PeerEvent(guid, PeerState.ONLINE, 0.0), now
        elif home is not None and home.offers:
            if not home.may_be_watched(watcher.guid):
                self.unwatch(watcher, guid)
                watcher.send(PeerEvent(guid, code=Code.REFUSED))
                return
            # Its home hears it at least twice in a lease.
            event, offline = PeerEvent(guid, PeerState.ONLINE, 0.0, home.seq), now
        elif gone is not None and (gone.shown or told[1]):
            # To whom else it was disclosed went with its record; who was told of it was one.
            event = PeerEvent(guid, self._registry.state(gone, now), gone.last_seen(now), gone.seq)
            offline = gone.lost + self._grace
        elif (
            registration is not None
            and not registration.services
            and self._has_asked(watcher, guid)
        ):
            # That it is there, and no more.
            event = PeerEvent(guid, PeerState.ONLINE, registration.last_seen(now))
            offline = now
        elif registration is None or not registration.services:
            # It may come, and offer something: until then there is nothing to see.
            offline = self._registry.settled
            event = PeerEvent(guid) if offline <= now else PeerEvent(guid, PeerState.SUSPECT)
        elif not _may_watch(registration, watcher.guid):
            self.unwatch(watcher, guid)
            watcher.send(PeerEvent(guid, code=Code.REFUSED))
            return
        else:
            event = PeerEvent(
                guid,
                self._registry.state(registration, now),
                registration.last_seen(now),
                registration.record.seq,
            )
            offline = now
        if not is_here and told == (PeerState.ONLINE, 0):
            self._answered(watcher, guid)
        if event.state is PeerState.SUSPECT and offline < self._in_grace.get(guid, math.inf):
            self._in_grace[guid] = offline
            heapq.heappush(self._graces, (offline, guid))
        watchers[watcher] = event.state, event.seq
        moved = event.state is PeerState.ONLINE and event.seq != told[1]
        if always or moved or event.state is not told[0]:
            if not always:
                self._told[guid] = now
            watcher.send(event)

    def _has_asked(self, watcher: Watcher, guid: str) -> bool:
        return guid in self._asked.get(watcher, ())

    def _answered(self, watcher: Watcher, guid: str) -> None:
        """What a watcher has asked of a peer is told, or told to nobody."""
        asked = self._asked.get(watcher)
        if asked is not None:
            asked.pop(guid, None)
            if not asked:
                del self._asked[watcher]


def _networks(watcher: Watcher) -> Cause:
    """Return where a watcher comes from: a key has one watch of a peer for each connection."""
    return watcher.cause._replace(key="")


def _may_watch(registration: RegisteredPeer, guid: str) -> bool:
    """Whether any service is disclosed to a peer: who may know where may know whether."""
    return any(registration.may_learn(service, guid) for service in registration.services)
