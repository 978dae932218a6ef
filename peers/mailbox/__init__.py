"""Letters to peers who are away, and from those who came when this one was."""

from peers.mailbox.incoming import IncomingLetter, Spoiled
from peers.mailbox.keys import MIGRATION
from peers.mailbox.mailbox import Mailbox, Store

__all__ = ["MIGRATION", "IncomingLetter", "Mailbox", "Spoiled", "Store"]
