"""One proven pipe between two peers."""

from peers.path.end import PathEnd
from peers.path.open import Proven, open_direct
from peers.path.open_paths import Paths
from peers.path.path import Path

__all__ = [
    "Path",
    "PathEnd",
    "Paths",
    "Proven",
    "open_direct",
]
