"""What an operator has said and what has come of it, kept in the store: bans, members, invitations.

What is asked with each registration is in memory too: bans, and who is a member. It changes there
when it is on the disk, and never before. Times are Unix time, so that they mean the same after a
restart.
"""

import math
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from protocol.invitation import Invitation
from relay.admission.bans import Ban, Bans
from relay.admission.grants import PATIENCE, Outcome, Refusal
from relay.config import ConfigError
from relay.store import Database, StoreFailed

__all__ = ["Book", "InvitationKept", "Member", "expired"]

_MIGRATIONS = (
    """
    CREATE TABLE bans (
        subject TEXT PRIMARY KEY, since REAL NOT NULL, expires REAL, reason TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE invitations (
        id TEXT PRIMARY KEY, note TEXT NOT NULL, expires REAL NOT NULL, uses INTEGER NOT NULL,
        revoked REAL
    ) WITHOUT ROWID;
    CREATE TABLE members (
        guid TEXT NOT NULL, invitation TEXT NOT NULL, since REAL NOT NULL, expires REAL,
        modes TEXT NOT NULL, rate REAL NOT NULL, revoked REAL,
        PRIMARY KEY (guid, invitation)
    ) WITHOUT ROWID;
    CREATE INDEX members_by_invitation ON members (invitation)
    """,
)


@dataclass(frozen=True, slots=True)
class Member:
    """A peer that is admitted, by the list or by an invitation."""

    guid: str
    since: float
    invitation: str = ""
    """The id of the one that it came by; empty: it is on the list."""
    expires: float | None = None
    modes: tuple[str, ...] = ()
    """Empty: all."""
    rate: float = 0.0
    """Service requests a second; 0: as everybody's."""

    def is_over(self, now: float) -> bool:
        """Whether its time has ended."""
        return self.expires is not None and self.expires <= now


@dataclass(frozen=True, slots=True)
class InvitationKept:
    """An invitation as the store knows it."""

    id: str
    note: str
    expires: float
    uses: int
    used: int
    revoked: float | None = None


class Book:
    """The book of one relay; without a file it is forgotten at the end. Call `open` first and
    `close` last. Each change raises `StoreFailed` where the store does not take it; nothing has
    changed then."""

    VERSION = len(_MIGRATIONS)
    """Of its tables: a newer program has written what is above."""

    def __init__(self, file: str | None, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        self._database = Database(file, _MIGRATIONS, "state")
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
            bans, members = await self._database.run(_load)
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
            bans, members = await self._database.run(_load)
        except StoreFailed:
            return False
        self._is_behind = False
        self._take(bans, members)
        return True

    async def close(self) -> None:
        """Close the store."""
        await self._database.close()

    def member(self, guid: str) -> Member | None:
        """Return who is admitted, and until when; it may be over."""
        return self._members.get(guid)

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
        await self._database.run(lambda tables: _put_ban(tables, ban))
        self.bans.put(ban)
        return ban

    async def lift(self, subject: str) -> bool:
        """Take a ban back; return whether there was one."""
        await self._database.run(lambda tables: _drop_bans(tables, [subject]))
        return self.bans.lift(subject) is not None

    async def drop_old(self) -> None:
        """Drop bans that are over."""
        over = [
            ban.subject
            for ban in self.bans
            if ban.expires is not None and ban.expires <= self._clock()
        ]
        if over:
            await self._database.run(lambda tables: _drop_bans(tables, over))
            self.bans.expired(self._clock())

    async def allow(self, guid: str) -> None:
        """Put a peer on the list."""
        member = Member(guid, self._clock())
        await self._database.run(lambda tables: _put_member(tables, member))
        self._remember(member)

    async def revoke_member(self, guid: str) -> bool:
        """Take a peer's admission back, by whatever it had come; return whether it had one."""
        now = self._clock()
        rows = await self._database.run(lambda tables: _revoke_member(tables, guid, now))
        self._members.pop(guid, None)
        return bool(rows)

    async def revoke_invitation(self, name: str, *, keep: bool) -> list[str] | None:
        """Let nobody new come by an invitation, and, unless `keep`, nobody who has come by it stay.
        Return who goes; None where the store has seen no such invitation: it is refused from now on
        all the same."""
        now = self._clock()
        known, gone = await self._database.run(
            lambda tables: _revoke_invitation(tables, name, now, keep=keep)
        )
        for guid in gone:
            member = self._members.get(guid)
            if member is not None and member.invitation == name:
                del self._members[guid]
        return gone if known else None

    async def forget(self, guid: str) -> bool:
        """Remove all admissions of a peer, those that were taken back too; return whether there was
        any. It may come by the same invitation again then. A ban stays."""
        rows = await self._database.run(lambda tables: _forget(tables, guid))
        await self._database.scrub()
        return self._members.pop(guid, None) is not None or rows > 0

    async def announce(self, invitation: Invitation) -> None:
        """Know an invitation before anybody comes by it."""
        await self._database.run(lambda tables: _see(tables, invitation))

    async def redeem(self, invitation: Invitation, guid: str) -> Member | Refusal:
        """Let a peer come by an invitation. Who has come by it before is counted once."""
        now = self._clock()
        found = await self._database.run(lambda tables: _redeem(tables, invitation, guid, now))
        if isinstance(found, Member):
            self._remember(found)
        return found

    async def invitations(self) -> list[InvitationKept]:
        """Return all that the store has seen, the newest end first."""
        return await self._database.run(_invitations)

    def members(self) -> list[Member]:
        """Return all who are admitted by the list or an invitation."""
        return list(self._members.values())

    def _remember(self, member: Member) -> None:
        """The list goes before every invitation, and of those the one that lasts longest."""
        known = self._members.get(member.guid)
        if known is None or _rank(member) >= _rank(known):
            self._members[member.guid] = member


def _rank(member: Member) -> tuple[bool, float]:
    return not member.invitation, math.inf if member.expires is None else member.expires


# -- in the store's thread, each in a transaction ------------------------------------------------


def _load(tables: sqlite3.Connection) -> tuple[list[Ban], list[Member]]:
    bans = [
        Ban(subject, since, expires, reason)
        for subject, since, expires, reason in tables.execute(
            "SELECT subject, since, expires, reason FROM bans"
        )
    ]
    members = [
        _member(row)
        for row in tables.execute(
            "SELECT guid, since, invitation, expires, modes, rate FROM members "
            "WHERE revoked IS NULL"
        )
    ]
    return bans, members


def _member(row: tuple[str, float, str, float | None, str, float]) -> Member:
    guid, since, invitation, expires, modes, rate = row
    return Member(guid, since, invitation, expires, tuple(modes.split()), rate)


def _put_ban(tables: sqlite3.Connection, ban: Ban) -> None:
    tables.execute(
        "INSERT OR REPLACE INTO bans VALUES (?, ?, ?, ?)",
        (ban.subject, ban.since, ban.expires, ban.reason),
    )


def _drop_bans(tables: sqlite3.Connection, subjects: list[str]) -> None:
    tables.executemany("DELETE FROM bans WHERE subject = ?", [(subject,) for subject in subjects])


def _put_member(tables: sqlite3.Connection, member: Member) -> None:
    tables.execute(
        "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?, NULL)",
        (
            member.guid,
            member.invitation,
            member.since,
            member.expires,
            " ".join(member.modes),
            member.rate,
        ),
    )


def _revoke_member(tables: sqlite3.Connection, guid: str, now: float) -> list[str]:
    rows = tables.execute(
        "UPDATE members SET revoked = ? WHERE guid = ? AND revoked IS NULL RETURNING invitation",
        (now, guid),
    )
    return [invitation for (invitation,) in rows.fetchall()]


def _forget(tables: sqlite3.Connection, guid: str) -> int:
    return tables.execute("DELETE FROM members WHERE guid = ?", (guid,)).rowcount


def _revoke_invitation(
    tables: sqlite3.Connection, name: str, now: float, *, keep: bool
) -> tuple[bool, list[str]]:
    known = tables.execute("SELECT 1 FROM invitations WHERE id = ?", (name,)).fetchone()
    if known is None:
        tables.execute("INSERT INTO invitations VALUES (?, '', 0, 0, ?)", (name, now))
    else:
        tables.execute(
            "UPDATE invitations SET revoked = COALESCE(revoked, ?) WHERE id = ?", (now, name)
        )
    if keep:
        return known is not None, []
    rows = tables.execute(
        "UPDATE members SET revoked = ? WHERE invitation = ? AND revoked IS NULL RETURNING guid",
        (now, name),
    )
    return known is not None, [guid for (guid,) in rows.fetchall()]


def _see(tables: sqlite3.Connection, invitation: Invitation) -> None:
    tables.execute(
        "INSERT INTO invitations VALUES (?, ?, ?, ?, NULL) ON CONFLICT (id) DO UPDATE "
        "SET note = excluded.note, expires = excluded.expires, uses = excluded.uses",
        (invitation.id, invitation.note, float(invitation.expires), invitation.uses),
    )


def _redeem(
    tables: sqlite3.Connection, invitation: Invitation, guid: str, now: float
) -> Member | Refusal:
    name = invitation.id
    _see(tables, invitation)
    (revoked,) = tables.execute("SELECT revoked FROM invitations WHERE id = ?", (name,)).fetchone()
    known = tables.execute(
        "SELECT guid, since, invitation, expires, modes, rate, revoked FROM members "
        "WHERE guid = ? AND invitation = ?",
        (guid, name),
    ).fetchone()
    if known is not None and known[6] is not None:
        reason = "this peer's admission was taken back: ask the relay's operator"
        return Refusal(reason, outcome=Outcome.REVOKED)
    if known is not None:
        member = _member(known[:6])
        if member.is_over(now):
            return expired("the time for which the invitation admits has ended")
        return member
    if revoked is not None:
        reason = "the invitation was taken back: ask the relay's operator for another one"
        return Refusal(reason, outcome=Outcome.REVOKED)
    if invitation.expires <= now:
        return expired("the invitation has expired")
    (used,) = tables.execute(
        "SELECT COUNT(*) FROM members WHERE invitation = ?", (name,)
    ).fetchone()
    if used >= invitation.uses:
        reason = "the invitation is used up: ask the relay's operator for another one"
        return Refusal(reason, outcome=Outcome.USED_UP)
    member = Member(
        guid,
        now,
        name,
        now + invitation.lifetime if invitation.lifetime else None,
        invitation.modes,
        invitation.requests_per_second,
    )
    _put_member(tables, member)
    return member


def expired(what: str) -> Refusal:
    """Return the refusal of what has ended: an operator may extend it, so it is not for good."""
    reason = f"{what}: ask the relay's operator for another one"
    return Refusal(reason, PATIENCE, outcome=Outcome.EXPIRED)


def _invitations(tables: sqlite3.Connection) -> list[InvitationKept]:
    rows = tables.execute(
        "SELECT id, note, expires, uses, revoked, "
        "(SELECT COUNT(*) FROM members WHERE invitation = id) FROM invitations "
        "ORDER BY expires DESC, id"
    )
    return [
        InvitationKept(name, note, expires, uses, used, revoked)
        for name, note, expires, uses, revoked, used in rows
    ]
