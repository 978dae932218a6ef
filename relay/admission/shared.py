"""The book of one node of a cluster: what the operator says at any node holds at all.

Rule 1: what is in the bucket is what there is. A change goes there first, and is done when this
node has heard it there, behind all that came before; each node keeps what it has heard in its own
store, and goes on with that while NATS is away (`replica.py`).
Rule 2: a use of an invitation is a key of its own, which one node alone can make.
Rule 3: what a node had before it met this bucket (another one, or none), or had heard of it and the
bucket has lost, is put into it, as far as it goes beyond what is there (`union.py`).
"""

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

from protocol.invitation import Invitation
from relay.admission import rows
from relay.admission.bans import Ban
from relay.admission.book import listed
from relay.admission.bucket import Bucket
from relay.admission.grants import Refusal
from relay.admission.records import (
    Forgotten,
    Free,
    InvitationSaid,
    MemberSaid,
    Record,
    RevokedSaid,
    ban_said,
    key_of,
    member_said,
    slot_of,
)
from relay.admission.replica import TRIES, Replica, State
from relay.admission.rows import Member, Uses
from relay.store import StoreFailed

__all__ = ["SharedBook"]


class SharedBook(Replica):
    """The book of one node of a cluster."""

    def __init__(self, file: str | None, clock: Callable[[], float], bucket: Bucket) -> None:
        super().__init__(file, clock, bucket)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of invitations: peers come by one after the other."""

    def check_open(self) -> None:
        self._shares()

    # -- changes --------------------------------------------------------------------------------

    async def ban(self, subject: str, expires: float | None, reason: str) -> Ban:
        if not self._shares():
            return await super().ban(subject, expires, reason)
        ban = Ban(subject, self._clock(), expires, reason)
        await self._say(ban_said(ban))
        return ban

    async def lift(self, subject: str) -> bool:
        if not self._shares():
            return await super().lift(subject)
        key = f"ban.{self._bucket.name(subject)}"
        if self._union.get(key) is None:
            return False
        await self._until(await self._bucket.drop(key))
        return True

    async def allow(self, guid: str) -> None:
        if not self._shares():
            await super().allow(guid)
            return
        await self._say(member_said(listed(guid, self._clock())))

    async def revoke_member(self, guid: str) -> bool:
        if not self._shares():
            return await super().revoke_member(guid)
        found = [key for key, one in self._union.of(guid) if one.revoked is None]
        for key in found:
            await self._change(key, lambda there: self._taken_back(there, guid))
        return bool(found)

    async def revoke_invitation(self, name: str, *, keep: bool) -> list[str] | None:
        if not self._shares():
            return await super().revoke_invitation(name, keep=keep)
        known = self._union.get(f"invitation.{name}") is not None
        if self._union.revoked(name) is None:
            await self._say(RevokedSaid(name, self._clock()))
        gone = [] if keep else self._union.come_by(name)
        gone = [(key, one) for key, one in gone if one.revoked is None]
        await self._all(
            [
                self._change(key, lambda there, one=one: self._taken_back(there, one.guid))  # type: ignore[misc]
                for key, one in gone
            ]
        )
        return [one.guid for _, one in gone] if known else None

    async def forget(self, guid: str) -> bool:
        if not self._shares():
            return await super().forget(guid)
        found = self._union.of(guid)
        for key, _ in found:
            if slot_of(key) is None:
                await self._until(await self._bucket.drop(key))
            else:
                await self._change(key, lambda there: _freed(there, guid))
        # Whoever is away does it when it is back.
        await self._say(Forgotten(guid, self._own))
        return bool(found)

    async def announce(self, invitation: Invitation) -> None:
        if not self._shares():
            await super().announce(invitation)
            return
        await self._see(invitation)

    async def redeem(self, invitation: Invitation, guid: str) -> Member | Refusal:
        if not self._shares():
            return await super().redeem(invitation, guid)
        async with self._turn(invitation.id):
            return await self._redeem(invitation, guid)

    # -- inside: changes ------------------------------------------------------------------------

    async def _redeem(self, invitation: Invitation, guid: str) -> Member | Refusal:
        await self._see(invitation)
        for _ in range(TRIES):
            uses: Uses = self._union.uses(invitation, guid)
            found = rows.judged(uses, guid, self._clock())
            if isinstance(found, Refusal):
                return found
            if uses.known is not None:
                return rows.admitted(found)
            key = self._union.free_use(invitation.id)
            revision = await self._put(key, member_said(found))
            if revision is None:
                continue
            await self._until(revision)
            if 0 < self._union.revision_of(f"revoked.{invitation.id}") < revision:
                # Taken back at another node, before: that was not heard yet.
                await self._change(key, lambda there: _freed(there, guid))
                continue
            return rows.admitted(found)
        raise StoreFailed("too many come by this invitation at once")

    def _turn(self, invitation: str) -> asyncio.Lock:
        turn = self._turns.get(invitation)
        if turn is None:
            turn = self._turns[invitation] = asyncio.Lock()
        return turn

    def _shares(self) -> bool:
        """Return whether a change goes to the bucket; False: this node is alone.

        Raises:
            StoreFailed: it cannot be shared now.
        """
        if self._state is State.SHARED:
            return True
        if self._state is State.ALONE:
            return False
        raise StoreFailed(
            f"it is to hold at all nodes, and cannot be shared now ({self._reason}): 'relay check' "
            "says what is wrong with NATS; say it again when that is mended"
        )

    async def _say(self, record: Record) -> None:
        await self._until(await self._place(key_of(record, self._bucket.name), record))

    async def _change(self, key: str, change: Callable[[Record | None], Record | None]) -> None:
        """Change what is under a key, whatever others do meanwhile."""
        for _ in range(TRIES):
            record = change(self._union.get(key))
            if record is None:
                return
            revision = await self._put(key, record)
            if revision is not None:
                await self._until(revision)
                return
        raise StoreFailed("others change the same all the time: say it again")

    def _taken_back(self, there: Record | None, guid: str) -> Record | None:
        if not isinstance(there, MemberSaid) or there.guid != guid or there.revoked is not None:
            return None
        return member_said(there.row._replace(revoked=self._clock()))

    async def _see(self, invitation: Invitation) -> None:
        said = InvitationSaid(
            invitation.id, invitation.note, float(invitation.expires), invitation.uses
        )
        if self._union.get(f"invitation.{said.id}") != said:
            await self._say(said)


def _freed(there: Record | None, guid: str) -> Record | None:
    return Free() if isinstance(there, MemberSaid) and there.guid == guid else None
