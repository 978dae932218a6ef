"""One proven pipe between two peers."""

from peers.path.end import Flight, PathEnd
from peers.path.open import Dialing, Proven, open_direct
from peers.path.open_paths import Paths
from peers.path.path import Path

__all__ = [
    "Dialing",
    "Flight",
    "Path",
    "PathEnd",
    "Paths",
    "Proven",
    "open_direct",
]
