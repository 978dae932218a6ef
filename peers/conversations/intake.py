"""What others leave for the conversations of this peer, taken out of its mailbox.

Each letter is taken and settled in one transaction, whether its conversation is open or not. Who
may leave some is what the program says by opening conversations; it holds after its end too.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

from peers.config import log
from peers.conversations.database import Database
from peers.conversations.keeper import Keeper
from peers.mailbox import IncomingLetter, Mailbox
from protocol.conversation import read_enclosed
from protocol.errors import ConnectionClosed, ProtocolViolation, RoamRelayError, StoreFailed
from protocol.mail import LetterService
from protocol.messages import MAX_DISCLOSE, MAX_SERVICES, Disclosure

__all__ = ["Allowed", "Intake", "Target", "is_known", "untaken"]

_T = TypeVar("_T")

Allowed: TypeAlias = frozenset[str] | None
"""Who may leave letters, besides those with whom there is a conversation; None: anyone."""

_NAMED = 512
"""GUIDs that are named to the relay, for all services together."""
_AGAIN = 5.0
"""Seconds until a store that took nothing is asked again."""


class Target(Protocol):
    """The conversation that a letter is for."""

    @property
    def keeper(self) -> Keeper:
        """What keeps it."""

    def cut(self) -> None:
        """What a session of before still brings is not taken any more."""


Find: TypeAlias = Callable[[str, str], AbstractAsyncContextManager[Target | None]]
"""Finds the conversation of a sender and a service, and holds it; None where it may have none."""


class _Store:
    """The store of the conversations, for the keys of letters too."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, work: Callable[[sqlite3.Cursor], _T]) -> _T:
        return await self._database.run(lambda connection: work(_cursor(connection)))


class Intake:
    """Takes letters for the conversations in one store."""

    def __init__(self, database: Database, mailbox: Mailbox) -> None:
        self._database = database
        self._mailbox = mailbox
        self._store = _Store(database)
        self._published: tuple[LetterService, ...] = ()

    async def publish(self, services: Mapping[str, Allowed]) -> None:
        """Say for which services letters are taken, and from whom."""
        each = min(MAX_DISCLOSE, _NAMED // max(len(services), 1))
        said = []
        for service, allowed in list(services.items())[-MAX_SERVICES:]:
            known = await self._database.run(partial(_remotes, service=service))
            named = dict.fromkeys([*known, *sorted(allowed or ())])
            accept = Disclosure.ANYONE if allowed is None else Disclosure.LISTED
            said.append(LetterService(service, accept, tuple(named)[:each]))
        if tuple(said) != self._published:
            self._published = tuple(said)
            self._mailbox.open(self._store, said)

    async def run(self, find: Find) -> None:
        """Take letters, until the peer is closed."""
        try:
            async for letter in self._mailbox.letters():
                if isinstance(letter, IncomingLetter):
                    await self._take(letter, find)
        except ConnectionClosed:
            return
        except StoreFailed as error:
            log.error("letters are not taken any more", reason=error.reason)

    async def _take(self, letter: IncomingLetter, find: Find) -> None:
        """Take one letter, whatever keeps it from being taken now; until the peer is closed."""
        is_told = False
        while True:
            try:
                await self._bring(letter, find)
                return
            except RoamRelayError as error:
                if not is_told:
                    is_told = True
                    peer = letter.sender[:8]
                    log.warning("a letter is tried again", peer=peer, reason=error.reason)
            except Exception as error:
                # It is this letter's fault alone; it comes again on the next connection.
                log.error("unexpected at a letter", peer=letter.sender[:8], exc_info=error)
                return
            await asyncio.sleep(_AGAIN)

    async def _bring(self, letter: IncomingLetter, find: Find) -> None:
        try:
            enclosed = read_enclosed(letter.payload)
            async with find(letter.sender, letter.service) as target:
                if target is None:
                    raise ProtocolViolation("there is no conversation that it is for")
                await target.keeper.bring(enclosed, letter.settle, target.cut)
            letter.forget()
        except ProtocolViolation as fault:
            log.warning("a letter was dropped", peer=letter.sender[:8], reason=fault.reason)
            await letter.done()


async def is_known(database: Database, remote: str, service: str) -> bool:
    """Whether there is a conversation with this peer for this service."""

    def work(connection: sqlite3.Connection) -> bool:
        db = _cursor(connection)
        db.execute(
            "SELECT 1 FROM roam_conversation WHERE remote = ? AND service = ?", (remote, service)
        )
        return db.fetchone() is not None

    return await database.run(work)


async def untaken(database: Database, service: str, taken: Collection[str]) -> int:
    """Return how many conversations others have begun in which this side has said nothing and has
    something to read, or nothing was ever said; those with these peers are not counted."""

    def work(connection: sqlite3.Connection) -> int:
        db = _cursor(connection)
        db.execute(
            "SELECT remote FROM roam_conversation WHERE service = ? AND last = 0 "
            "AND (current = 0 OR id IN (SELECT conversation FROM roam_inbox))",
            (service,),
        )
        return sum(remote not in taken for (remote,) in db)

    return await database.run(work)


def _remotes(connection: sqlite3.Connection, service: str) -> list[str]:
    """Return with whom there are conversations, the newest first."""
    db = _cursor(connection)
    db.execute(
        "SELECT remote FROM roam_conversation WHERE service = ? ORDER BY id DESC LIMIT ?",
        (service, MAX_DISCLOSE),
    )
    return [remote for (remote,) in db.fetchall()]


def _cursor(connection: sqlite3.Connection) -> sqlite3.Cursor:
    """Return a cursor whose rows are tuples, whatever the program likes them to be."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor
