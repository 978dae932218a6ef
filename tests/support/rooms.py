"""The one door through which tests look inside an open peer."""

from peers.peer import Peer
from peers.rooms import Rooms

__all__ = ["rooms"]


def rooms(peer: Peer) -> Rooms:
    """Return what an open peer consists of."""
    return peer._ever_open
