"""What nodes of a cluster have said of who is admitted, as one of them has heard it; and what of
its own rows is more than that.

PURE: what was heard goes in, rows come out.
"""

import math
from collections.abc import Callable, Iterator
from enum import Enum, auto

from protocol.invitation import Invitation
from relay.admission.bans import Ban
from relay.admission.records import (
    BanSaid,
    Epoch,
    Forgotten,
    Free,
    InvitationSaid,
    MemberSaid,
    Record,
    RevokedSaid,
    ban_said,
    invitation_said,
    key_of,
    member_said,
    slot_of,
    use_key,
)
from relay.admission.rows import Copy, InvitationRow, MemberRow, Uses

__all__ = ["More", "Union"]


class More(Enum):
    """What of a node's own rows is put into the bucket."""

    ALL = auto()
    """What goes beyond it: they are of another bucket, or this one is older than they."""
    LOST = auto()
    """What is not there, and was not taken away by a node: this one was here just now."""
    FOREIGN = auto()
    """What somebody else has written over: it may have been taken away since."""


class Union:
    """All that is in one bucket. `name` makes a part of a key of what a key cannot hold."""

    def __init__(self, name: Callable[[str], str]) -> None:
        self._name = name
        self._records: dict[str, Record] = {}
        self._revisions: dict[str, int] = {}
        """Of each key, whoever has put something there."""
        self._uses: dict[str, dict[int, MemberSaid]] = {}
        """Of each invitation, by number."""
        self._keys_of: dict[str, set[str]] = {}
        """Of each peer: what admits it, or did."""
        self._dropped: set[str] = set()
        """Keys of what a node has taken away."""
        self.revision = 0
        """The last one heard."""
        self.foreign: set[str] = set()
        """Keys under which is what no relay of the cluster has put there."""

    @property
    def epoch(self) -> str | None:
        """What tells this bucket from others; None: it is new."""
        record = self._records.get("epoch")
        return record.id if isinstance(record, Epoch) else None

    def hear(self, key: str, revision: int, record: Record | None) -> Record | None:
        """Something was put under a key, or taken away; return what was known of it."""
        before = self._records.get(key)
        self.note(key, revision)
        self.foreign.discard(key)
        if isinstance(before, MemberSaid):
            self._forget(key, before)
        if record is None:
            self._records.pop(key, None)
            self._dropped.add(key)
            return before
        self._dropped.discard(key)
        self._records[key] = record
        if isinstance(record, MemberSaid):
            self._keys_of.setdefault(record.guid, set()).add(key)
            if (slot := slot_of(key)) is not None:
                self._uses.setdefault(slot[0], {})[slot[1]] = record
        return before

    def note(self, key: str, revision: int) -> None:
        """Something is under a key that is not understood."""
        self.revision = max(self.revision, revision)
        self._revisions[key] = revision

    def drop_old(self, then: float) -> None:
        """Drop bans that were over by then: the bucket has dropped them too."""
        for key, record in list(self._records.items()):
            if isinstance(record, BanSaid) and (record.expires or math.inf) <= then:
                del self._records[key]

    def hear_foreign(self, key: str, revision: int) -> None:
        """Somebody else has put something under a key: what was there holds."""
        self.note(key, revision)
        self.foreign.add(key)

    def get(self, key: str) -> Record | None:
        return self._records.get(key)

    def revision_of(self, key: str) -> int:
        """Return the revision of what is under a key; 0: nothing was ever."""
        return self._revisions.get(key, 0)

    def records(self) -> Iterator[tuple[str, int, Record]]:
        """Return all of them, with their keys and revisions."""
        for key, record in self._records.items():
            yield key, self._revisions[key], record

    def of(self, guid: str) -> list[tuple[str, MemberSaid]]:
        """Return what admits a peer, or did."""
        found = ((key, self._records[key]) for key in sorted(self._keys_of.get(guid, ())))
        return [(key, one) for key, one in found if isinstance(one, MemberSaid)]

    def come_by(self, invitation: str) -> list[tuple[str, MemberSaid]]:
        """Return who has come by an invitation."""
        uses = self._uses.get(invitation, {})
        return [(use_key(invitation, slot), record) for slot, record in uses.items()]

    def free_use(self, invitation: str) -> str:
        """Return the key of the first use of an invitation that nobody has."""
        uses = self._uses.get(invitation, {})
        slot = len(uses)
        if slot in uses:
            slot = next(one for one in range(len(uses) + 1) if one not in uses)
        return use_key(invitation, slot)

    def uses(self, invitation: Invitation, guid: str) -> Uses:
        """Return what is known of an invitation that a peer shows."""
        name = invitation.id
        known = next((one.row for _, one in self.of(guid) if one.invitation == name), None)
        return Uses(invitation, known, self.revoked(name), len(self._uses.get(name, ())))

    def revoked(self, invitation: str) -> float | None:
        """Return when an invitation was taken back."""
        record = self._records.get(f"revoked.{invitation}")
        return record.at if isinstance(record, RevokedSaid) else None

    def copy(self, shared: dict[str, str]) -> Copy:
        """Return all of it as rows."""
        bans: list[Ban] = []
        members: list[MemberRow] = []
        invitations: dict[str, InvitationRow] = {}
        for record in self._records.values():
            match record:
                case BanSaid():
                    bans.append(record.ban)
                case MemberSaid():
                    members.append(record.row)
                case InvitationSaid() | RevokedSaid():
                    invitations[record.id] = self.invitation(record.id)
                case Epoch() | Free() | Forgotten():
                    pass
        return Copy(bans, members, list(invitations.values()), shared)

    def invitation(self, name: str) -> InvitationRow:
        """Return what is kept of an invitation."""
        seen, revoked = self._records.get(f"invitation.{name}"), self.revoked(name)
        if not isinstance(seen, InvitationSaid):
            return InvitationRow(name, "", 0.0, 0, revoked)
        return InvitationRow(name, seen.note, seen.expires, seen.uses, revoked)

    # -- what a node has besides ----------------------------------------------------------------

    def more(self, copy: Copy, now: float, what: More) -> list[tuple[str, Record]]:
        """Return what a node's own rows say beyond this, each with the key for it; that of a use of
        an invitation is empty: it is the next free one."""
        found: list[tuple[str, Record]] = []
        for record in _said(copy, now):
            if isinstance(record, MemberSaid) and record.invitation:
                there = next(
                    (one for one in self.of(record.guid) if one[1].invitation == record.invitation),
                    None,
                )
                key = "" if there is None else there[0]
                is_lost = there is None and any(one.startswith("use.") for one in self.foreign)
                wanted = what is More.ALL or is_lost
                if wanted and _adds(record, None if there is None else there[1]):
                    found.append((key, record))
                continue
            key = key_of(record, self._name)
            is_lost = key in self.foreign or (
                what is More.LOST and key not in self._records and key not in self._dropped
            )
            if (what is More.ALL or is_lost) and _adds(record, self._records.get(key)):
                found.append((key, record))
        return found

    # -- inside ---------------------------------------------------------------------------------

    def _forget(self, key: str, member: MemberSaid) -> None:
        keys = self._keys_of.get(member.guid, set())
        keys.discard(key)
        if not keys:
            self._keys_of.pop(member.guid, None)
        if (slot := slot_of(key)) is not None:
            self._uses.get(slot[0], {}).pop(slot[1], None)


def _said(copy: Copy, now: float) -> Iterator[Record]:
    for ban in copy.bans:
        if ban.expires is None or ban.expires > now:
            yield ban_said(ban)
    for invitation in copy.invitations:
        if invitation.uses:
            yield invitation_said(invitation)
        if invitation.revoked is not None:
            yield RevokedSaid(invitation.id, invitation.revoked)
    for member in copy.members:
        yield member_said(member)


def _adds(own: Record, there: Record | None) -> bool:
    """Return whether what a node has goes before what is there already: of two bans the one that
    lasts longer, of the list the later word, of uses that they were taken back."""
    match own, there:
        case BanSaid(), BanSaid():
            return there.expires is not None and (
                own.expires is None or own.expires > there.expires
            )
        case MemberSaid(), MemberSaid():
            if own.invitation:
                return own.revoked is not None and there.revoked is None
            if own.revoked is not None:
                return there.revoked is None and own.revoked >= there.since
            return there.revoked is not None and own.since > there.revoked
        case _, (None | Free() | Forgotten()):
            return True
        case _:
            return False
