"""Watching other peers: who is online, has moved, or is gone, as the relay tells.

The watches belong to this peer and not to a connection: they are said again on each new one.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from peers.tasks import check_loop, running_loop
from protocol.errors import Code, ConnectionClosed, LimitExceeded, Refused
from protocol.messages import PeerEvent, PeerState, Watch

__all__ = ["UNKNOWN", "Presence", "PresenceState", "Watching"]

_LIMIT = 64
"""News of one peer that wait for one reader; beyond it the oldest is dropped."""


UNKNOWN: Final = "unknown"
"""Nobody knows how a peer stands: this one has no relay just now, or the relay has just started and
the peer may be on its way back. No word of the wire."""

PresenceState: TypeAlias = PeerState | Literal["unknown"]
"""A `PeerState`, or "unknown"."""


@dataclass(frozen=True, slots=True)
class Presence:
    """How a watched peer stands."""

    guid: str
    """The watched peer's."""
    state: PresenceState
    """What the relay says, or "unknown" while nobody can say it."""
    last_seen: float | None
    """Seconds since the relay heard of the peer; None where it has never been there, or is
    unknown."""
    moved: bool
    """Whether it was online before, and has registered other addresses or services now."""


_Told: TypeAlias = tuple[PresenceState, int]
"""What a reader was told last: a state, and the number of the record that was in force."""


class Watching:
    """The watches of one peer. `send` gives a watch to the relay, if there is one just now.

    A watch lasts from the first step of its iteration to its end, whatever ends it.
    """

    def __init__(self, send: Callable[[Watch], None]) -> None:
        self._send = send
        self._readers: dict[str, list[_Reader]] = {}
        self._has_relay = True
        """Unless it is told otherwise."""
        self._closed = False
        self._loop = running_loop()

    async def watch(self, guid: str) -> AsyncGenerator[Presence, None]:
        """Yield how the peer stands now, and then every change: no state twice in a row, unless
        the peer has moved.

        Raises:
            Refused: the peer does not allow this one to watch it.
            LimitExceeded: too many watches at the relay.
            ConnectionClosed: this peer was closed.
        """
        check_loop(self._loop, "the watch")
        if self._closed:
            raise ConnectionClosed("the peer is closed")
        reader = _Reader()
        readers = self._readers.setdefault(guid, [])
        readers.append(reader)
        if not self._has_relay:
            reader.waiting.append(None)
        last: _Told | None = None
        try:
            # Also for a second reader: the relay answers every watch with how the peer stands.
            self._send(Watch(guid))
            while True:
                while reader.waiting:
                    event = reader.waiting.popleft()
                    told, last = last, _told(guid, event)
                    moved = told is not None and _has_moved(told, last)
                    if told is None or moved or told[0] != last[0]:
                        seen = event.last_seen if event is not None else None
                        yield Presence(guid, last[0], seen, moved)
                if self._closed:
                    raise ConnectionClosed("the peer is closed")
                reader.wake.clear()
                await reader.wake.wait()  # No timeout: when a peer moves is not ours to decide.
        finally:
            readers.remove(reader)
            if not readers and self._readers.get(guid) is readers:
                del self._readers[guid]
                self._send(Watch(guid, watching=False))

    @property
    def watched(self) -> tuple[str, ...]:
        """The GUIDs of the peers that are watched."""
        return tuple(self._readers)

    def receive(self, event: PeerEvent) -> None:
        """Take news from the relay."""
        for reader in self._readers.get(event.guid, ()):
            reader.tell(event)

    def relay_lost(self) -> None:
        """Nobody tells anything now."""
        if self._has_relay:
            self._has_relay = False
            for readers in self._readers.values():
                for reader in readers:
                    reader.tell(None)

    def restore(self) -> None:
        """Say all watches again, on a connection that is new."""
        self._has_relay = True
        for guid in self._readers:
            self._send(Watch(guid))

    def close(self) -> None:
        """End every watch."""
        self._closed = True
        for readers in self._readers.values():
            for reader in readers:
                reader.wake.set()


class _Reader:
    def __init__(self) -> None:
        self.waiting: deque[PeerEvent | None] = deque(maxlen=_LIMIT)
        """News; None says that there is no relay."""
        self.wake = asyncio.Event()

    def tell(self, event: PeerEvent | None) -> None:
        self.waiting.append(event)
        self.wake.set()


def _told(guid: str, event: PeerEvent | None) -> _Told:
    """Return what an event says.

    Raises:
        LimitExceeded, Refused: it says that there is no watch.
    """
    if event is None:
        return UNKNOWN, 0
    if event.code is Code.LIMIT_EXCEEDED:
        raise LimitExceeded("too many watches")
    if event.code is not None:
        raise Refused(f"{guid[:8]} does not let this peer watch it")
    if event.state is PeerState.SUSPECT and event.last_seen is None:
        return UNKNOWN, 0  # The relay has not met it since its own start.
    return event.state, event.seq


def _has_moved(before: _Told, now: _Told) -> bool:
    return before[0] is now[0] is PeerState.ONLINE and now[1] > before[1]
