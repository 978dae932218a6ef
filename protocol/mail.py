"""The messages of the mailbox, which keeps letters for peers who are away; one class each.

    peer                                    relay
    mailbox_update   ────────────────────▶         ◀──  mailbox_state  (who may write; keys)
    prekey_request   ────────────────────▶         ◀──  prekey_response  (the sender)
    letter_leave     ────────────────────▶         ◀──  letter_response  (the sender)
    letter_window    ────────────────────▶  (the recipient; also later)
                     ◀────────────────────  letter           as many as the window allows
    letter_done      ────────────────────▶  they are safe: the relay forgets them

All of them only between two that have named the feature `mailbox`. What each means, field by field,
is in docs/protocol.md; how a letter is sealed in `protocol.letters`.
"""

from typing import Annotated

from msgspec import Meta, Struct

from protocol.errors import Code
from protocol.letters import MAX_LETTER
from protocol.messages import (
    MAX_DISCLOSE,
    MAX_SERVICES,
    Disclosure,
    Guid,
    Message,
    Reason,
    RequestId,
    Seconds,
    Service,
    ServiceName,
)
from protocol.prekeys import SignedPrekey

__all__ = [
    "MAX_DONE",
    "MAX_ONE_TIME",
    "MAX_WINDOW",
    "Letter",
    "LetterDone",
    "LetterLeave",
    "LetterResponse",
    "LetterService",
    "LetterWindow",
    "MailboxState",
    "MailboxUpdate",
    "PrekeyRequest",
    "PrekeyResponse",
]

MAX_ONE_TIME = 32
"""Prekeys for one letter each that one message may bring."""
MAX_DONE = 64
"""Letters that one message may acknowledge."""
MAX_WINDOW = 64
"""Letters that may be on their way to a recipient at once."""

LetterId = Annotated[bytes, Meta(min_length=16, max_length=16)]
Lifetime = Annotated[int, Meta(ge=1, le=31_536_000)]
LetterNumber = Annotated[int, Meta(ge=1, lt=2**53)]
SealedLetter = Annotated[bytes, Meta(max_length=MAX_LETTER)]


class LetterService(Struct, frozen=True, omit_defaults=True):
    """A service that letters may be left for."""

    service: Service
    accept: Disclosure = Disclosure.LISTED
    """Who may leave letters: `anyone`, `listed`, or `nobody`."""
    listed: Annotated[tuple[Guid, ...], Meta(max_length=MAX_DISCLOSE)] = ()
    """With `listed`: who; with `anyone`: those for whom half of the mailbox is kept."""


class MailboxUpdate(Message, frozen=True, tag="mailbox_update"):
    """Say who may leave letters, and what they are to be sealed for. In place of what was said
    before; prekeys for one letter each come beside those that are left."""

    request: RequestId
    services: Annotated[tuple[LetterService, ...], Meta(max_length=MAX_SERVICES)] = ()
    prekey: SignedPrekey | None = None
    """For all letters; None only without services."""
    one_time: Annotated[tuple[SignedPrekey, ...], Meta(max_length=MAX_ONE_TIME)] = ()


class MailboxState(Message, frozen=True, tag="mailbox_state"):
    """The answer to `mailbox_update`: what the mailbox holds, or why it has not changed."""

    request: RequestId
    code: Code | None = None
    reason: Reason = ""
    retry_after: Seconds | None = None
    one_time: Annotated[int, Meta(ge=0)] = 0
    """Prekeys for one letter each that are left."""
    letters: Annotated[int, Meta(ge=0)] = 0
    """Letters that wait."""


class PrekeyRequest(Message, frozen=True, tag="prekey_request"):
    """Ask what letters to a peer are sealed for."""

    request: RequestId
    guid: Guid
    service: ServiceName


class PrekeyResponse(Message, frozen=True, tag="prekey_response"):
    """The prekey for one letter, or for all where none of those is left; or why there is none."""

    request: RequestId
    code: Code | None = None
    reason: Reason = ""
    retry_after: Seconds | None = None
    prekey: SignedPrekey | None = None


class LetterLeave(Message, frozen=True, tag="letter_leave"):
    """Leave a letter."""

    request: RequestId
    guid: Guid
    """The recipient."""
    service: ServiceName
    id: LetterId
    """Chosen by the sender; a second letter to the same recipient with it is the same one."""
    sealed: SealedLetter
    lifetime: Lifetime
    """Seconds for which the relay is to keep it."""


class LetterResponse(Message, frozen=True, tag="letter_response"):
    """What became of a letter; `code` is absent where it is safe in the mailbox."""

    request: RequestId
    code: Code | None = None
    reason: Reason = ""
    retry_after: Seconds | None = None
    lifetime: Annotated[int, Meta(ge=0)] = 0
    """Seconds for which it is kept: fewer than were asked for, where the relay keeps none for so
    long."""


class LetterWindow(Message, frozen=True, tag="letter_window"):
    """How many letters may be on their way on this connection: handed over, and not done yet."""

    letters: Annotated[int, Meta(ge=0, le=MAX_WINDOW)]


class Letter(Message, frozen=True, tag="letter"):
    """A letter is handed over. It comes again, on another connection, until it is done."""

    number: LetterNumber
    """Its place in the mailbox, and its name in `letter_done`."""
    guid: Guid
    """Who has left it, as the relay says."""
    service: ServiceName
    id: LetterId
    sealed: SealedLetter
    age: Seconds = 0.0
    """Seconds since it was left."""


class LetterDone(Message, frozen=True, tag="letter_done"):
    """These letters are safe here: the relay forgets them."""

    numbers: Annotated[tuple[LetterNumber, ...], Meta(min_length=1, max_length=MAX_DONE)]
