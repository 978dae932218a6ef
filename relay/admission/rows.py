"""The tables of what an operator has said, and what is read from them and written into them.

Each function is called in the store's thread, in a transaction (`Database.run`). Times are Unix
time.
"""

import sqlite3
from dataclasses import dataclass
from typing import NamedTuple

from protocol.invitation import Invitation
from relay.admission.bans import Ban
from relay.admission.grants import PATIENCE, Outcome, Refusal

__all__ = ["MIGRATIONS", "InvitationKept", "InvitationRow", "Member", "MemberRow", "expired"]

MIGRATIONS = (
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
    """
    CREATE TABLE shared (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID
    """,
)
"""The last table is what a node of a cluster knows of the bucket that the rest is a copy of."""


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


_MEMBER = "guid, invitation, since, expires, modes, rate, revoked"


class MemberRow(NamedTuple):
    """All that is kept of an admission."""

    guid: str
    invitation: str
    since: float
    expires: float | None
    modes: str
    rate: float
    revoked: float | None


class InvitationRow(NamedTuple):
    """All that is kept of an invitation."""

    id: str
    note: str
    expires: float
    uses: int
    revoked: float | None


def load(tables: sqlite3.Connection) -> tuple[list[Ban], list[Member]]:
    bans = [
        Ban(subject, since, expires, reason)
        for subject, since, expires, reason in tables.execute(
            "SELECT subject, since, expires, reason FROM bans"
        )
    ]
    rows = tables.execute(f"SELECT {_MEMBER} FROM members WHERE revoked IS NULL")
    return bans, [admitted(MemberRow(*row)) for row in rows]


def admitted(row: MemberRow) -> Member:
    """Return who is admitted by a row."""
    return Member(
        row.guid, row.since, row.invitation, row.expires, tuple(row.modes.split()), row.rate
    )


def put_ban(tables: sqlite3.Connection, ban: Ban) -> None:
    tables.execute(
        "INSERT OR REPLACE INTO bans VALUES (?, ?, ?, ?)",
        (ban.subject, ban.since, ban.expires, ban.reason),
    )


def drop_bans(tables: sqlite3.Connection, subjects: list[str]) -> None:
    tables.executemany("DELETE FROM bans WHERE subject = ?", [(subject,) for subject in subjects])


def put_member(tables: sqlite3.Connection, row: MemberRow) -> None:
    tables.execute("INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?, ?)", _as_stored(row))


def _as_stored(row: MemberRow) -> tuple[object, ...]:
    return row.guid, row.invitation, row.since, row.expires, row.modes, row.rate, row.revoked


def revoke_member(tables: sqlite3.Connection, guid: str, now: float) -> list[str]:
    rows = tables.execute(
        "UPDATE members SET revoked = ? WHERE guid = ? AND revoked IS NULL RETURNING invitation",
        (now, guid),
    )
    return [invitation for (invitation,) in rows.fetchall()]


def forget(tables: sqlite3.Connection, guid: str) -> int:
    return tables.execute("DELETE FROM members WHERE guid = ?", (guid,)).rowcount


def revoke_invitation(
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


def see(tables: sqlite3.Connection, invitation: Invitation) -> None:
    tables.execute(
        "INSERT INTO invitations VALUES (?, ?, ?, ?, NULL) ON CONFLICT (id) DO UPDATE "
        "SET note = excluded.note, expires = excluded.expires, uses = excluded.uses",
        (invitation.id, invitation.note, float(invitation.expires), invitation.uses),
    )


def redeem(
    tables: sqlite3.Connection, invitation: Invitation, guid: str, now: float
) -> MemberRow | Refusal:
    name = invitation.id
    see(tables, invitation)
    (revoked,) = tables.execute("SELECT revoked FROM invitations WHERE id = ?", (name,)).fetchone()
    row = tables.execute(
        f"SELECT {_MEMBER} FROM members WHERE guid = ? AND invitation = ?", (guid, name)
    ).fetchone()
    (used,) = tables.execute(
        "SELECT COUNT(*) FROM members WHERE invitation = ?", (name,)
    ).fetchone()
    known = None if row is None else MemberRow(*row)
    found = judged(Uses(invitation, known, revoked, used), guid, now)
    if isinstance(found, MemberRow) and known is None:
        put_member(tables, found)
    return found


@dataclass(frozen=True, slots=True)
class Uses:
    """What is known of an invitation as a peer shows it."""

    invitation: Invitation
    known: MemberRow | None
    """The same peer, come by it before."""
    revoked: float | None
    """When it was taken back."""
    used: int


def judged(uses: Uses, guid: str, now: float) -> MemberRow | Refusal:
    """Return whether, and as what, a peer is admitted by an invitation: as `known`, or anew."""
    invitation, known = uses.invitation, uses.known
    if known is not None and known.revoked is not None:
        reason = "this peer's admission was taken back: ask the relay's operator"
        return Refusal(reason, outcome=Outcome.REVOKED)
    if known is not None:
        if admitted(known).is_over(now):
            return expired("the time for which the invitation admits has ended")
        return known
    if uses.revoked is not None:
        reason = "the invitation was taken back: ask the relay's operator for another one"
        return Refusal(reason, outcome=Outcome.REVOKED)
    if invitation.expires <= now:
        return expired("the invitation has expired")
    if uses.used >= invitation.uses:
        reason = "the invitation is used up: ask the relay's operator for another one"
        return Refusal(reason, outcome=Outcome.USED_UP)
    return MemberRow(
        guid,
        invitation.id,
        now,
        now + invitation.lifetime if invitation.lifetime else None,
        " ".join(invitation.modes),
        invitation.requests_per_second,
        None,
    )


def expired(what: str) -> Refusal:
    """Return the refusal of what has ended: an operator may extend it, so it is not for good."""
    reason = f"{what}: ask the relay's operator for another one"
    return Refusal(reason, PATIENCE, outcome=Outcome.EXPIRED)


def invitations(tables: sqlite3.Connection) -> list[InvitationKept]:
    rows = tables.execute(
        "SELECT id, note, expires, uses, revoked, "
        "(SELECT COUNT(*) FROM members WHERE invitation = id) FROM invitations "
        "ORDER BY expires DESC, id"
    )
    return [
        InvitationKept(name, note, expires, uses, used, revoked)
        for name, note, expires, uses, revoked, used in rows
    ]


# -- the copy of what nodes of a cluster share ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Copy:
    """All that the tables have."""

    bans: list[Ban]
    members: list[MemberRow]
    invitations: list[InvitationRow]
    shared: dict[str, str]
    """What is known of the bucket that this is a copy of; empty: of none."""


def copied(tables: sqlite3.Connection) -> Copy:
    bans, _ = load(tables)
    return Copy(
        bans,
        [MemberRow(*row) for row in tables.execute(f"SELECT {_MEMBER} FROM members")],
        [
            InvitationRow(*row)
            for row in tables.execute("SELECT id, note, expires, uses, revoked FROM invitations")
        ],
        dict(tables.execute("SELECT name, value FROM shared")),
    )


def replace(tables: sqlite3.Connection, copy: Copy) -> None:
    """Have what is in a copy, and nothing else."""
    for name in ("bans", "members", "invitations", "shared"):
        tables.execute(f"DELETE FROM {name}")
    for ban in copy.bans:
        put_ban(tables, ban)
    tables.executemany(
        "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?, ?)", map(_as_stored, copy.members)
    )
    tables.executemany(
        "INSERT OR REPLACE INTO invitations VALUES (?, ?, ?, ?, ?)", copy.invitations
    )
    put_shared(tables, copy.shared)


def put_invitation(tables: sqlite3.Connection, row: InvitationRow) -> None:
    tables.execute("INSERT OR REPLACE INTO invitations VALUES (?, ?, ?, ?, ?)", row)


def drop_member(tables: sqlite3.Connection, guid: str, invitation: str) -> None:
    tables.execute("DELETE FROM members WHERE guid = ? AND invitation = ?", (guid, invitation))


def forget_shared(tables: sqlite3.Connection) -> None:
    tables.execute("DELETE FROM shared")


def put_shared(tables: sqlite3.Connection, said: dict[str, str]) -> None:
    tables.executemany("INSERT OR REPLACE INTO shared VALUES (?, ?)", said.items())
