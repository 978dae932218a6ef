"""Who is told of whose coming, moving and going, and when.

No I/O and no clock. What has changed is noted at once and told by `tell`, a few times a second, so
that a peer that changes quickly costs its watchers one message a second each.
"""

from collections import deque
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
"""Of a peer that is not known, or offers nothing."""


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
        self._graces: deque[tuple[float, str]] = deque()
        """When a peer that was lost turns from suspect to offline, earliest first."""

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

    def changed(self, guid: str, now: float) -> None:
        """Note that a peer has registered, updated, or lost a connection."""
        if guid in self._watchers:
            self._changed[guid] = None
            if self._registry.gone(guid) is not None:
                self._graces.append((now + self._grace, guid))

    def tell(self, now: float) -> None:
        """Tell of what has changed."""
        for _ in self.telling(now):
            pass

    def telling(self, now: float) -> Iterator[None]:
        """Tell of what has changed, one watcher after the other; others may come and go between
        two: begin it a few times a second."""
        while self._graces and self._graces[0][0] <= now:
            self._changed[self._graces.popleft()[1]] = None
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
        watchers = self._watchers[guid]
        told = watchers[watcher]
        if gone is not None and (gone.shown or told != _NOTHING):
            # To whom else it was disclosed went with its record; who was told of it was one.
            event = PeerEvent(guid, self._registry.state(gone, now), gone.last_seen(now), gone.seq)
        elif registration is None or not registration.services:
            # It may come, and offer something: until then there is nothing to see.
            event = PeerEvent(guid)
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
        if always or told != (event.state, event.seq):
            watchers[watcher] = event.state, event.seq
            if not always:
                self._told[guid] = now
            watcher.send(event)


def _networks(watcher: Watcher) -> Cause:
    """Return where a watcher comes from: a key has one watch of a peer for each connection."""
    return watcher.cause._replace(key="")


def _may_watch(registration: RegisteredPeer, guid: str) -> bool:
    """Whether any service is disclosed to a peer: who may know where may know whether."""
    return any(registration.may_learn(service, guid) for service in registration.services)
