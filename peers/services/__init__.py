"""What this peer offers, and to whom."""

from peers.services.listener import Listener, Refusal
from peers.services.offered import Services, ServicesChanged

__all__ = ["Listener", "Refusal", "Services", "ServicesChanged"]
