"""What this peer offers, and to whom."""

from peers.services.listener import Listener, Refusal
from peers.services.offered import Services, ServicesChanged
from peers.services.serving import Handler, serve_sessions

__all__ = ["Handler", "Listener", "Refusal", "Services", "ServicesChanged", "serve_sessions"]
