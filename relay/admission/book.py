"""What an operator has said and what has come of it, kept in the store: bans, members, invitations.

What is asked with each registration is in memory too: bans, and who is a member. It changes there
when it is on the disk, and never before. Times are Unix time, so that they mean the same after a
restart.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from sqlite3 import Connection

from protocol.invitation import Invitation
from relay.admission import rows
from relay.admission.bans import Ban, Bans
from relay.admission.grants import Refusal
from relay.admission.rows import InvitationKept, Member, MemberRow
from relay.config import ConfigError
from relay.store import Database, StoreFailed

__all__ = ["Book", "Order", "listed"]


@dataclass(frozen=True, slots=True)
class Order:
    """Another node was told to forget a peer, and so is this one."""

    guid: str
    revision: int


class Book:
    """The book of one relay; without a file it is forgotten at the end. Call `open` first and
    `close` last. Each change raises `StoreFailed` where the store does not take it; nothing has
    changed then."""

    VERSION = len(rows.MIGRATIONS)
    """Of its tables: a newer program has written what is above."""

    def __init__(self, file: str | None, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        self._database = Database(file, rows.MIGRATIONS, "state")
        self.bans = Bans()
        self._members: dict[str, Member] = {}
        self._is_behind = False
        """Whether others have changed the store, and that is not read yet."""

    async def open(self) -> None:
        """Read what is stored.

        Raises:
            ConfigError: the file cannot be used.
        """
        await self._database.open()
        try:
            bans, members = await self._database.run(self._first)
        except StoreFailed as error:
            raise ConfigError(f"state: cannot use the store {self._file}: {error}") from None
        self._take(bans, members)

    async def refresh(self) -> bool:
        """Take over what other processes have stored since; return whether that was anything. A
        store that cannot be read now is asked again the next time."""
        try:
            if not (self._is_behind or await self._database.changed()):
                return False
            self._is_behind = True
            bans, members = await self._database.run(rows.load)
        except StoreFailed:
            return False
        self._is_behind = False
        self._take(bans, members)
        return True

    def check_open(self) -> None:
        """See that a change can be taken now.

        Raises:
            StoreFailed: it cannot; says why, and the next step.
        """

    def orders(self) -> list[Order]:
        """Return, once, which peers are to be forgotten here."""
        return []

    async def carried_out(self, order: Order) -> None:
        """It is done: it is not to be done again after a restart."""

    async def close(self) -> None:
        """Close the store."""
        await self._database.close()

    def member(self, guid: str) -> Member | None:
        """Return who is admitted, and until when; it may be over."""
        return self._members.get(guid)

    def _first(self, tables: Connection) -> tuple[list[Ban], list[Member]]:
        """Read all. From now on it is changed here alone, and is no copy of a bucket any more."""
        rows.forget_shared(tables)
        return rows.load(tables)

    def _take(self, bans: list[Ban], members: list[Member]) -> None:
        """Know what the store knows, and nothing else."""
        for ban in self.bans:
            self.bans.lift(ban.subject)
        for ban in bans:
            self.bans.put(ban)
        self._members.clear()
        for member in members:
            self._remember(member)

    # -- changes --------------------------------------------------------------------------------

    async def ban(self, subject: str, expires: float | None, reason: str) -> Ban:
        """Keep a GUID or a network out."""
        ban = Ban(subject, self._clock(), expires, reason)
        await self._database.run(lambda tables: rows.put_ban(tables, ban))
        self.bans.put(ban)
        return ban

    async def lift(self, subject: str) -> bool:
        """Take a ban back; return whether there was one."""
        await self._database.run(lambda tables: rows.drop_bans(tables, [subject]))
        return self.bans.lift(subject) is not None

    async def drop_old(self) -> None:
        """Drop bans that are over."""
        over = [
            ban.subject
            for ban in self.bans
            if ban.expires is not None and ban.expires <= self._clock()
        ]
        if over:
            await self._database.run(lambda tables: rows.drop_bans(tables, over))
            self.bans.expired(self._clock())

    async def allow(self, guid: str) -> None:
        """Put a peer on the list."""
        row = listed(guid, self._clock())
        await self._database.run(lambda tables: rows.put_member(tables, row))
        self._remember(rows.admitted(row))

    async def revoke_member(self, guid: str) -> bool:
        """Take a peer's admission back, by whatever it had come; return whether it had one."""
        now = self._clock()
        taken = await self._database.run(lambda tables: rows.revoke_member(tables, guid, now))
        self._members.pop(guid, None)
        return bool(taken)

    async def revoke_invitation(self, name: str, *, keep: bool) -> list[str] | None:
        """Let nobody new come by an invitation, and, unless `keep`, nobody who has come by it stay.
        Return who goes; None where the store has seen no such invitation: it is refused from now on
        all the same."""
        now = self._clock()
        known, gone = await self._database.run(
            lambda tables: rows.revoke_invitation(tables, name, now, keep=keep)
        )
        for guid in gone:
            member = self._members.get(guid)
            if member is not None and member.invitation == name:
                del self._members[guid]
        return gone if known else None

    async def forget(self, guid: str) -> bool:
        """Remove all admissions of a peer, those that were taken back too; return whether there was
        any. It may come by the same invitation again then. A ban stays."""
        count = await self._database.run(lambda tables: rows.forget(tables, guid))
        await self._database.scrub()
        return self._members.pop(guid, None) is not None or count > 0

    async def announce(self, invitation: Invitation) -> None:
        """Know an invitation before anybody comes by it."""
        await self._database.run(lambda tables: rows.see(tables, invitation))

    async def redeem(self, invitation: Invitation, guid: str) -> Member | Refusal:
        """Let a peer come by an invitation. Who has come by it before is counted once."""
        now = self._clock()
        found = await self._database.run(lambda tables: rows.redeem(tables, invitation, guid, now))
        if isinstance(found, Refusal):
            return found
        member = rows.admitted(found)
        self._remember(member)
        return member

    async def invitations(self) -> list[InvitationKept]:
        """Return all that the store has seen, the newest end first."""
        return await self._database.run(rows.invitations)

    def members(self) -> list[Member]:
        """Return all who are admitted by the list or an invitation."""
        return list(self._members.values())

    def _remember(self, member: Member) -> None:
        """The list goes before every invitation, and of those the one that lasts longest."""
        known = self._members.get(member.guid)
        if known is None or _rank(member) >= _rank(known):
            self._members[member.guid] = member


def listed(guid: str, now: float) -> MemberRow:
    """Return what is kept of a peer on the list."""
    return MemberRow(guid, "", now, None, "", 0.0, None)


def _rank(member: Member) -> tuple[bool, float]:
    return not member.invitation, math.inf if member.expires is None else member.expires
