"""The mailbox: letters for peers who are away, kept until they are safe with their recipients."""

from relay.mailbox.mailbox import Mailbox, Reader
from relay.mailbox.quotas import Bound, Ledger, Quotas, Waiting
from relay.mailbox.store import VERSION

__all__ = ["VERSION", "Bound", "Ledger", "Mailbox", "Quotas", "Reader", "Waiting"]
