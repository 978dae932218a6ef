"""What is left of a peer whose last connection has ended: a few bytes, for a day.

No I/O and no clock. Its record, its entries and its proofs go at once: nobody is told any of it
while the peer is away, and it brings them again. When too many are remembered, the network that
has most loses its oldest.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from protocol.messages import PeerState
from relay.limits import Bounds, Shares, cause_of

__all__ = ["GonePeer", "GonePeers"]


@dataclass(frozen=True, slots=True, eq=False)
class GonePeer:
    """One peer that was here."""

    guid: str
    instance: bytes
    seq: int
    """Of its last record: the next one is newer."""
    lost: float
    """When its last connection ended."""
    heard: float
    """When anything was heard of it last."""
    closed: bool
    """Whether the peer itself has closed it: then it is offline at once."""
    shown: bool
    """Whether it disclosed any service to anybody: then anybody may watch it."""

    def last_seen(self, now: float) -> float:
        """Return the seconds since anything was heard of the peer."""
        return max(0.0, now - self.heard)


class GonePeers:
    """All of one relay."""

    def __init__(self, *, grace: float, remember: float, max_remembered: int) -> None:
        self._grace = grace
        self._remember = remember
        self._peers: dict[str, GonePeer] = {}
        """In the order in which they went."""
        self._shares: Shares[str] = Shares(Bounds.of(max_remembered, key=max_remembered))

    def __len__(self) -> int:
        return len(self._peers)

    def get(self, guid: str) -> GonePeer | None:
        """Return what is left of a peer."""
        return self._peers.get(guid)

    def state(self, peer: GonePeer, now: float) -> PeerState:
        """Return suspect or offline."""
        if peer.closed or now - peer.lost >= self._grace:
            return PeerState.OFFLINE
        return PeerState.SUSPECT

    def add(self, peer: GonePeer, host: str) -> None:
        """Remember a peer whose last connection came from an address."""
        # Each key is one peer: only its network can have many.
        gone = self._shares.push(cause_of(host), peer.guid)
        for guid in gone:
            del self._peers[guid]
        self._peers[peer.guid] = peer

    def come_back(self, guid: str) -> None:
        """A peer is here again; nothing happens where it was not remembered."""
        if self._peers.pop(guid, None) is not None:
            self._shares.remove(guid)

    def forgetting(self, now: float) -> Iterator[None]:
        """Forget who has been gone for too long, one by one."""
        while self._peers:
            peer = next(iter(self._peers.values()))
            if now - peer.lost <= self._remember:
                return
            self.come_back(peer.guid)
            yield

    def suspect(self, now: float) -> int:
        """Return how many are suspect."""
        count = 0
        for peer in reversed(self._peers.values()):
            if now - peer.lost >= self._grace:
                break
            count += not peer.closed
        return count
