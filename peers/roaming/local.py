"""This peer, as far as its paths are concerned: what every way to a path needs of it."""

from dataclasses import dataclass

from peers.config import PeerConfig
from peers.dialing import Door
from peers.location import OwnLocation
from peers.path import Paths
from peers.tasks import Tasks
from protocol.identity import Identity

__all__ = ["Local"]


@dataclass(frozen=True, slots=True)
class Local:
    """One for each peer; nothing in it is replaced while the peer is open."""

    identity: Identity
    config: PeerConfig
    location: OwnLocation
    """Where this peer says that it is."""
    paths: Paths
    tasks: Tasks
    """Who owns what runs in the background."""
    door: Door
    """Through which everything is dialed."""
