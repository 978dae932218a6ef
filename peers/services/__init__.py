"""What this peer offers, and to whom."""

from peers.services.listener import Listener
from peers.services.offered import Services

__all__ = [
    "Listener",
    "Services",
]
