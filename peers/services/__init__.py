"""What this peer offers, and to whom."""

from peers.services.admission import Accept, Admission, SessionRequest
from peers.services.end import ConversationsEnd, ListenerEnd, Refusal
from peers.services.listener import Listener
from peers.services.offered import Services, ServicesChanged
from peers.services.serving import Handler, serve_sessions

__all__ = [
    "Accept",
    "Admission",
    "ConversationsEnd",
    "Handler",
    "Listener",
    "ListenerEnd",
    "Refusal",
    "Services",
    "ServicesChanged",
    "SessionRequest",
    "serve_sessions",
]
