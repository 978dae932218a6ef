"""A letter that has come: opened, or spoiled."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from peers.mailbox.keys import Tables
from protocol.letters import Fault, OpenedLetter

__all__ = ["IncomingLetter", "Keeper", "Spoiled"]


class Keeper(Protocol):
    """The mailbox that a letter is in."""

    async def run(self, work: Callable[[Tables], None]) -> None:
        """Do work in the store."""

    def settle(self, tables: Tables, letter: "IncomingLetter", prekey: int) -> None:
        """A letter is safe, as far as this transaction is."""

    def forget(self, letter: "IncomingLetter") -> None:
        """Have the relay forget a letter that is safe."""


@dataclass(frozen=True, slots=True)
class Spoiled:
    """A letter that brings nothing. It is done with, and does not come again."""

    fault: Fault
    reason: str
    """In words."""
    claimed: str
    """Who has left it, by the relay's word alone."""


class IncomingLetter:
    """A letter that was opened: all of it is its sender's. It comes again, also after this
    program's end, until it is done."""

    def __init__(
        self, mailbox: Keeper, opened: OpenedLetter, prekey: int, number: int, age: float
    ) -> None:
        self._mailbox = mailbox
        self._prekey = prekey
        self.number = number
        """Its place in the mailbox, by the relay's word: it grows as letters are left."""
        self.sender = opened.sender
        """Who has written it: proven."""
        self.service = opened.service
        self.id = opened.id
        """The sender's name for it."""
        self.payload = opened.payload
        self.age = age
        """Seconds since it was left, by the relay's word."""

    async def done(self) -> None:
        """The letter is safe, or is not wanted: it does not come again.

        Raises:
            RoamRelayError: the store does not take that; it may come again.
        """
        await self._mailbox.run(self.settle)
        self.forget()

    def settle(self, tables: Tables) -> None:
        """Do the first half of `done` within a transaction of the same store, in its thread: with
        what the letter brings, all of it or nothing."""
        self._mailbox.settle(tables, self, self._prekey)

    def forget(self) -> None:
        """Do the second half, when that transaction is on the disk: the relay forgets the letter.
        Where it does not hear of it, it hands the letter over again, and that is seen here."""
        self._mailbox.forget(self)
