"""The mailbox: letters for peers who are away, kept until they are safe with their recipients."""

from relay.mailbox.local import LocalStore, Spawn
from relay.mailbox.mailbox import Mailbox, Reader
from relay.mailbox.quotas import OVERHEAD, Bound, Ledger, NoRoom, Quotas, Waiting
from relay.mailbox.store import MAX_ONE_TIME, VERSION
from relay.mailbox.stores import REFUSED, Kept, LetterStore, News, StoreFault, Then, takes

__all__ = [
    "MAX_ONE_TIME",
    "OVERHEAD",
    "REFUSED",
    "VERSION",
    "Bound",
    "Kept",
    "Ledger",
    "LetterStore",
    "LocalStore",
    "Mailbox",
    "News",
    "NoRoom",
    "Quotas",
    "Reader",
    "Spawn",
    "StoreFault",
    "Then",
    "Waiting",
    "takes",
]
