"""Watching other peers: who is online, has moved, or is gone, as the relay tells.

The watches belong to this peer and not to a connection: they are said again on each new one.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from peers.tasks import check_loop, running_loop
from protocol.errors import Code, ConnectionClosed, LimitExceeded, Refused
from protocol.messages import PeerEvent, PeerState, Watch

__all__ = ["Presence", "Watching"]

_LIMIT = 64
"""News of one peer that wait for one reader; beyond it the oldest is dropped."""


@dataclass(frozen=True, slots=True)
class Presence:
    """How a watched peer stands."""

    guid: str
    state: PeerState
    last_seen: float | None
    """Seconds since the relay heard of the peer; None where it has never been there."""
    moved: bool
    """Whether it was online before, and has registered other addresses or services now."""


class Watching:
    """The watches of one peer. `send` gives a watch to the relay, if there is one just now.

    A watch lasts from the first step of its iteration to its end, whatever ends it.
    """

    def __init__(self, send: Callable[[Watch], None]) -> None:
        self._send = send
        self._readers: dict[str, list[_Reader]] = {}
        self._closed = False
        self._loop = running_loop()

    async def watch(self, guid: str) -> AsyncGenerator[Presence, None]:
        """Yield how the peer stands now, and then every change.

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
        last: PeerEvent | None = None
        try:
            # Also for a second reader: the relay answers every watch with how the peer stands.
            self._send(Watch(guid))
            while True:
                while reader.waiting:
                    event = reader.waiting.popleft()
                    if event.code is Code.LIMIT_EXCEEDED:
                        raise LimitExceeded("too many watches")
                    if event.code is not None:
                        raise Refused(f"{guid[:8]} does not let this peer watch it")
                    if last is None or (event.state, event.seq) != (last.state, last.seq):
                        moved = (
                            last is not None
                            and last.state is event.state is PeerState.ONLINE
                            and event.seq > last.seq
                        )
                        yield Presence(guid, event.state, event.last_seen, moved)
                    last = event
                if self._closed:
                    raise ConnectionClosed("the peer is closed")
                reader.wake.clear()
                await reader.wake.wait()  # No timeout: when a peer moves is not ours to decide.
        finally:
            readers.remove(reader)
            if not readers and self._readers.get(guid) is readers:
                del self._readers[guid]
                self._send(Watch(guid, watching=False))

    def receive(self, event: PeerEvent) -> None:
        """Take news from the relay."""
        for reader in self._readers.get(event.guid, ()):
            reader.waiting.append(event)
            reader.wake.set()

    def restore(self) -> None:
        """Say all watches again, on a connection that is new."""
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
        self.waiting: deque[PeerEvent] = deque(maxlen=_LIMIT)
        self.wake = asyncio.Event()
