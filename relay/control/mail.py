"""What a registered peer says of letters, led to the mailbox; or why it is not."""

from collections.abc import Collection

from protocol.errors import Code
from protocol.features import MAILBOX
from protocol.mail import (
    LetterDone,
    LetterLeave,
    LetterResponse,
    LetterWindow,
    MailboxState,
    MailboxUpdate,
    PrekeyRequest,
    PrekeyResponse,
)
from protocol.messages import Error
from relay.control.reception import Reception
from relay.mailbox import Reader

__all__ = ["MAIL", "Mail", "serve_mail"]

MAIL = (MailboxUpdate, PrekeyRequest, LetterLeave, LetterWindow, LetterDone)
"""All that a peer may say of letters."""
Mail = MailboxUpdate | PrekeyRequest | LetterLeave | LetterWindow | LetterDone


def serve_mail(
    sender: Reader, reception: Reception, features: Collection[str], message: Mail
) -> None:
    """Do what a peer asks of the mailbox, where both have named these features. Each thing that is
    answered counts as a request."""
    mailbox = reception.mailbox
    if mailbox is None or MAILBOX not in features:
        sender.send(Error(Code.UNKNOWN_TYPE, "the feature mailbox was not named by both sides"))
        return
    now = reception.clock()
    match message:
        case LetterWindow():
            mailbox.window(sender, message)
        case LetterDone():
            mailbox.done(sender, message)
        case _ if wait := reception.requests.take(sender.guid, now):
            kind = {
                MailboxUpdate: MailboxState,
                PrekeyRequest: PrekeyResponse,
                LetterLeave: LetterResponse,
            }[type(message)]
            code, reason = Code.LIMIT_EXCEEDED, "too many requests"
            sender.send(kind(message.request, code, reason, wait))
        case _:
            mailbox.take(sender, message, now)
