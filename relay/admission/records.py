"""What of the operator's state nodes of a cluster tell one another: one value under one key each.

PURE: MessagePack in and out. A value that another version has written is `Unreadable`, and nothing.
"""

from collections.abc import Callable
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from relay.admission.bans import Ban, subject_of
from relay.admission.rows import InvitationRow, MemberRow

__all__ = [
    "EPOCH",
    "LATE",
    "BanSaid",
    "Epoch",
    "Forgotten",
    "Free",
    "InvitationSaid",
    "MemberSaid",
    "Record",
    "RevokedSaid",
    "Unreadable",
    "key_of",
    "lifetime_of",
    "read",
    "use_key",
    "write",
]

EPOCH = "epoch"
"""The key of what tells one bucket from another."""
LATE = 86_400.0
"""Seconds for which a ban that is over stays: clocks differ."""
_LONGEST = 1e8
"""Seconds beyond which a ban has no end there."""
_ORDER = 7 * 86_400.0
"""Seconds for which an order to forget a peer waits for nodes that are away."""
_Short = Annotated[str, Meta(max_length=256)]
_Id = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]


class Unreadable(Exception):
    """It is of another version, or under another key than its own."""


class _Said(msgspec.Struct, frozen=True, tag_field="kind"):
    pass


class Epoch(_Said, frozen=True, tag="epoch"):
    """This bucket, and no other one."""

    id: _Short


class BanSaid(_Said, frozen=True, tag="ban"):
    """Somebody is kept out."""

    subject: _Short
    since: float
    expires: float | None
    reason: _Short

    @property
    def ban(self) -> Ban:
        return Ban(self.subject, self.since, self.expires, self.reason)


class MemberSaid(_Said, frozen=True, tag="member"):
    """A peer is admitted, or was. By an invitation it is one of its uses."""

    guid: _Short
    invitation: _Short
    """Empty: it is on the list."""
    since: float
    expires: float | None
    modes: _Short
    rate: float
    revoked: float | None

    @property
    def row(self) -> MemberRow:
        return MemberRow(
            self.guid,
            self.invitation,
            self.since,
            self.expires,
            self.modes,
            self.rate,
            self.revoked,
        )


class Free(_Said, frozen=True, tag="free"):
    """A use of an invitation that was somebody's, and is nobody's now."""


class InvitationSaid(_Said, frozen=True, tag="invitation"):
    """An invitation was seen."""

    id: _Id
    note: _Short
    expires: float
    uses: Annotated[int, Meta(ge=0)]


class RevokedSaid(_Said, frozen=True, tag="revoked"):
    """An invitation was taken back."""

    id: _Id
    at: float


class Forgotten(_Said, frozen=True, tag="forgotten"):
    """Each node is to remove what it keeps of a peer."""

    guid: _Short
    by: bytes
    """Of the process that has said so, which has done it already."""


Record: TypeAlias = Epoch | BanSaid | MemberSaid | Free | InvitationSaid | RevokedSaid | Forgotten

write = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(Record).decode


def read(key: str, value: bytes, name: Callable[[str], str]) -> Record:
    """Read what is under a key.

    Raises:
        Unreadable: it says nothing here.
    """
    try:
        record: Record = _read(value)
        if isinstance(record, BanSaid) and subject_of(record.subject) != record.subject:
            raise Unreadable("a ban of nobody")
    except (msgspec.MsgspecError, ValueError) as error:
        raise Unreadable(str(error)) from None
    if isinstance(record, Free) or (isinstance(record, MemberSaid) and record.invitation):
        wanted = f"use.{'' if isinstance(record, Free) else record.invitation + '.'}"
        if not key.startswith(wanted) or slot_of(key) is None:
            raise Unreadable("it is under a key of something else")
    elif key != key_of(record, name):
        raise Unreadable("it is under a key of something else")
    return record


def key_of(record: Record, name: Callable[[str], str]) -> str:
    """Return the key of what has but one; `name` makes a word of what a key cannot hold."""
    match record:
        case Epoch():
            return EPOCH
        case BanSaid():
            return f"ban.{name(record.subject)}"
        case MemberSaid():
            return f"listed.{name(record.guid)}"
        case InvitationSaid():
            return f"invitation.{record.id}"
        case RevokedSaid():
            return f"revoked.{record.id}"
        case Forgotten():
            return f"forgotten.{name(record.guid)}"
        case Free():
            raise ValueError("a use has the key of its number")


def lifetime_of(record: Record, now: float) -> float | None:
    """Return for how many seconds something stays under its key; None: until it is taken away."""
    lifetime = None
    if isinstance(record, BanSaid) and record.expires is not None:
        lifetime = max(0.0, record.expires - now) + LATE
    elif isinstance(record, Forgotten):
        lifetime = _ORDER
    return lifetime if lifetime is None or lifetime < _LONGEST else None


def use_key(invitation: str, slot: int) -> str:
    """Return the key of a use of an invitation."""
    return f"use.{invitation}.{slot}"


def slot_of(key: str) -> tuple[str, int] | None:
    """Return of which use of which invitation a key is; None: of none."""
    kind, _, rest = key.partition(".")
    invitation, _, slot = rest.partition(".")
    if kind != "use" or len(invitation) != 16 or not (slot.isascii() and slot.isdecimal()):
        return None
    return (invitation, int(slot)) if len(slot) <= 7 else None


def ban_said(ban: Ban) -> BanSaid:
    return BanSaid(ban.subject, ban.since, ban.expires, ban.reason[:256])


def member_said(row: MemberRow) -> MemberSaid:
    return MemberSaid(
        row.guid, row.invitation, row.since, row.expires, row.modes, row.rate, row.revoked
    )


def invitation_said(row: InvitationRow) -> InvitationSaid:
    return InvitationSaid(row.id, row.note, row.expires, row.uses)
