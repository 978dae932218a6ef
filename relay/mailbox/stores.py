"""What a mailbox needs of where its letters are kept, in the relay's own words: one file of this
relay (`local.py`), or a stream of all relays of a cluster (`relay.cluster`).

What is asked is done some time later, and told; each is durable when it is told.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from protocol.errors import Code
from protocol.mail import Letter, LetterLeave, LetterService, MailboxUpdate
from protocol.messages import Disclosure
from protocol.prekeys import SignedPrekey
from relay.limits import Cause
from relay.mailbox.quotas import Ledger, NoRoom
from relay.store import StoreFailed

__all__ = ["REFUSED", "Kept", "LetterStore", "News", "StoreFault", "Then", "takes"]

_T = TypeVar("_T")
Then: TypeAlias = Callable[[_T | StoreFailed], None]
"""Told once what came of it."""


class StoreFault(StoreFailed):
    """A fault of this program, or a row that cannot be read: nothing has changed."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A letter is in the mailbox."""

    lifetime: int
    """Seconds."""
    is_new: bool
    """Whether it was not there before."""


REFUSED = NoRoom(
    Code.LETTER_REFUSED, "the recipient takes no such letters from this peer", "letters_policy"
)
"""What is said to whom a recipient does not name, and the same where there is no recipient."""


class News(Protocol):
    """Who is told what happens in the store."""

    def came(self, guid: str) -> None:
        """There is a letter more for a peer."""

    def again(self, last: int) -> None:
        """The store was away, and is back. The letter that came last has this number: with a lower
        one than before, it is another store."""


class LetterStore(Protocol):
    """Where letters are kept. Call `open` first and `close` last."""

    @property
    def ledger(self) -> Ledger:
        """What waits, and of whom."""

    async def open(self, news: News) -> None:
        """Begin.

        Raises:
            ConfigError: it cannot be used.
        """

    async def close(self) -> None:
        """End. What is asked and not done then is not done."""

    def update(
        self, guid: str, network: str, said: MailboxUpdate, then: Then[tuple[int, int] | NoRoom]
    ) -> None:
        """Take what a recipient says; tell how many prekeys for one letter are left, and how many
        letters wait."""

    def prekey(
        self, sender: str, asked: tuple[str, str], one_time: bool, then: Then[SignedPrekey | NoRoom]
    ) -> None:
        """Tell what a letter to a recipient's service is to be sealed for; `one_time` says whether
        the sender may have a prekey that is for one letter."""

    def leave(
        self, sender: Cause, said: LetterLeave, lifetime: int, then: Then[Kept | NoRoom]
    ) -> None:
        """Keep a letter, for so many seconds at most. Of one sender they are kept in the order in
        which this is called."""

    def after(self, guid: str, number: int, most: int, then: Then[list[Letter]]) -> None:
        """Tell the letters of a peer behind a number, in order, so many at most."""

    def done(self, guid: str, numbers: list[int], then: Then[int]) -> None:
        """Forget letters that are safe with their recipient; tell how many there were."""

    def expire(self, then: Then[int]) -> None:
        """Drop some of what has expired, and what peers have said long ago; tell how many letters
        there were. Call it again where there were any."""

    async def forget(self, guid: str) -> int:
        """Remove all that is kept of a peer; return how many things there were.

        Raises:
            StoreFailed: it may be there still.
        """

    def wakes(self, guid: str) -> bool:
        """Return whether it is this relay that says who has mail, of this peer that is not
        here."""


def takes(services: Iterable[LetterService], sender: str, service: str) -> bool | None:
    """Return whether a letter is taken as a stranger's; None where it is not taken."""
    for one in services:
        if one.service == service:
            if one.accept is Disclosure.NOBODY:
                return None
            if sender in one.listed:
                return False
            return True if one.accept is Disclosure.ANYONE else None
    return None
