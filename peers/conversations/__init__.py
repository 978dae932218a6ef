"""Conversations: messages that outlive both programs, above sessions and below the peer."""

from peers.conversations.conversation import Conversation
from peers.conversations.message import Disruption, Message, Sent
from peers.conversations.room import Conversations
from peers.conversations.store import Preference, Store, checked_store
from peers.conversations.tables import MessageState

__all__ = [
    "Conversation",
    "Conversations",
    "Disruption",
    "Message",
    "MessageState",
    "Preference",
    "Sent",
    "Store",
    "checked_store",
]
