"""What an operator can do with a running relay. Each change is stored before it is said to be done,
and has taken hold on who is here by then.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from protocol.invitation import BadInvitation, read_statement
from relay.admission import PATIENCE, Admission, Outcome, Refusal, subject_of
from relay.control import ControlConnection
from relay.log import guarded
from relay.operator.commands import (
    Allow,
    Announce,
    Answer,
    Asked,
    Ban,
    Bans,
    BanShown,
    BansShown,
    Done,
    Failed,
    Forget,
    Invitations,
    InvitationShown,
    InvitationsShown,
    Peers,
    PeerShown,
    PeersShown,
    Revoke,
)
from relay.plane import Planes
from relay.presence import Presence
from relay.store import StoreFailed

if TYPE_CHECKING:
    from relay.dns import DnsServer

__all__ = ["Desk", "Present"]

_AT_ONCE = 100
"""Connections that are looked at before others have their turn: some 2 ms, where networks of five
sizes are banned."""
_ID = 16
"""Hexadecimal characters of an invitation's id."""


@dataclass(frozen=True, slots=True)
class Present:
    """Who and what is at the relay now."""

    presence: Presence
    planes: Planes
    dns: "DnsServer | None"
    connections: Callable[[], Iterable[ControlConnection]]


class Desk:
    """The operator's desk of one relay."""

    def __init__(
        self,
        admission: Admission,
        present: Present,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """`clock` is the relay's own, `wall_clock` gives Unix time."""
        self._admission = admission
        self._present = present
        self._clock = clock
        self._wall_clock = wall_clock

    async def do(self, asked: Asked) -> Answer:
        """Do what is asked; what cannot be done is `Failed`, and says why."""
        try:
            match asked:
                case Ban():
                    return await self._ban(asked)
                case Allow():
                    return await self._allow(asked)
                case Revoke():
                    return await self._revoke(asked)
                case Announce():
                    return await self._announce(asked)
                case Peers():
                    return await self._peers(asked.limit)
                case Bans():
                    return self._bans(asked.limit)
                case Invitations():
                    return await self._invitations(asked.limit)
                case Forget():
                    return await self._remove(asked)
                case _:
                    assert_never(asked)
        except (ValueError, BadInvitation) as error:
            return Failed(str(error))
        except StoreFailed as error:
            return Failed(f"the relay cannot store it, so nothing has changed: {error}")

    async def review(self) -> int:
        """Send away who is here and is not admitted any more; return how many connections ended."""
        judge = self._admission.judge
        # Who is not registered yet is asked about anyway.
        return await self._end(
            lambda one: judge(one.guid, one.observed_host) if one.is_registered else None
        )

    async def end(self, guid: str, refusal: Refusal) -> int:
        """Send a peer away; return how many connections ended."""
        return await self._end(
            lambda one: refusal if one.has_proven_key and one.guid == guid else None
        )

    # -- changes --------------------------------------------------------------------------------

    async def _ban(self, asked: Ban) -> Answer:
        subject = subject_of(asked.subject)
        expires = None if asked.seconds is None else self._wall_clock() + asked.seconds
        await self._admission.book.ban(subject, expires, asked.reason)
        await self._forget(subject)
        return Done(subject, "banned", await self.review())

    async def _allow(self, asked: Allow) -> Answer:
        subject = subject_of(asked.subject)
        lifted = await self._admission.book.lift(subject)
        if "/" in subject:
            if not lifted:
                return Failed(f"{subject} is not banned: 'relay bans' lists what is")
            return Done(subject, "its ban is lifted")
        await self._admission.book.allow(subject)
        return Done(subject, "on the list" + (", and its ban is lifted" if lifted else ""))

    async def _revoke(self, asked: Revoke) -> Answer:
        text = asked.subject.strip().lower()
        if len(text) == _ID and all(digit in "0123456789abcdef" for digit in text):
            gone = await self._admission.book.revoke_invitation(text, keep=asked.keep_peers)
            said = "revoked" if gone is not None else "revoked, though nobody has come by it yet"
            return Done(text, said, await self.review())
        subject = subject_of(text)
        if "/" in subject:
            return Failed(
                f"a network is not admitted by itself: 'relay ban {subject}' keeps it out"
            )
        had = await self._admission.book.revoke_member(subject)
        await self._forget(subject)
        reason = "this peer's admission was taken back by the relay's operator"
        ended = await self.end(subject, Refusal(reason, outcome=Outcome.REVOKED))
        if not had and not ended:
            return Failed(
                f"{subject} is neither here nor on the list: 'relay ban {subject}' keeps it out"
            )
        return Done(
            subject, "revoked" if had else "sent away, but it may come back: 'relay ban'", ended
        )

    async def _announce(self, asked: Announce) -> Answer:
        invitation = read_statement(asked.statement)
        await self._admission.book.announce(invitation)
        return Done(invitation.id, "known")

    async def _remove(self, asked: Forget) -> Answer:
        subject = subject_of(asked.subject)
        if "/" in subject:
            return Failed("nothing is kept of a network but its ban: 'relay allow' lifts that")
        reason = "what this relay kept of this peer is removed, by its operator"
        # First: what is here is kept for as long as it is.
        ended = await self.end(subject, Refusal(reason, PATIENCE, outcome=Outcome.REVOKED))
        found = [name async for name in self._forgotten(subject)]
        said = f"forgotten ({', '.join(found)})" if found else "nothing was kept of it"
        if self._admission.book.bans.of(subject, "", self._wall_clock()) is not None:
            said += "; its ban stays, until 'relay allow' lifts it"
        return Done(subject, said, ended)

    async def _forgotten(self, guid: str) -> AsyncIterator[str]:
        """Remove all that is kept of a GUID; yield what there was. Whatever keeps anything is here,
        and in docs/privacy.md."""
        if await self._present.presence.forget(guid):
            yield "when it was here"
        if await self._admission.book.forget(guid):
            yield "its admissions"
        if self._present.dns is not None and await self._present.dns.messages.forget(guid):
            yield "its records in the zone"

    async def _end(self, judge: Callable[[ControlConnection], Refusal | None]) -> int:
        """End connections by what a judge says of each, and the planes of their peers. The loop is
        not held for long, however many there are."""
        ended = 0
        gone: set[str] = set()
        connections = list(self._present.connections())
        for number, one in enumerate(connections, 1):
            refusal = judge(one)
            if refusal is not None:
                gone.add(one.guid)
                with guarded("sending a peer away"):
                    one.refuse(refusal)
                ended += 1
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        bans, now = self._admission.book.bans, self._wall_clock()
        with guarded("ending planes"):
            await self._present.planes.end_of(
                lambda guid, host: guid in gone or bans.of(guid, host, now) is not None
            )
        return ended

    async def _forget(self, subject: str) -> None:
        """Take a peer that has to go out of the zone; it can put nothing there any more."""
        if self._present.dns is not None and "/" not in subject:
            with guarded("taking a peer out of the zone"):
                await self._present.dns.messages.forget(subject)

    # -- lists ----------------------------------------------------------------------------------

    async def _peers(self, limit: int) -> Answer:
        now, wall = self._clock(), self._wall_clock()
        registry, book = self._present.presence.registry, self._admission.book
        here: dict[str, list[ControlConnection]] = {}
        for number, one in enumerate(list(self._present.connections()), 1):
            if one.is_registered:
                here.setdefault(one.guid, []).append(one)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        shown = []
        for number, (guid, flows) in enumerate(itertools.islice(here.items(), limit), 1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            peer, member = registry.get(guid), book.member(guid)
            shown.append(
                PeerShown(
                    guid,
                    tuple(sorted({flow.observed_host for flow in flows})),
                    tuple(sorted(peer.services)) if peer is not None else (),
                    wall - (now - min(flow.opened for flow in flows)),
                    (member.invitation or None) if member is not None else None,
                )
            )
        return PeersShown(len(here), tuple(shown))

    def _bans(self, limit: int) -> Answer:
        bans = self._admission.book.bans
        return BansShown(
            len(bans),
            tuple(
                BanShown(ban.subject, ban.since, ban.expires, ban.reason)
                for ban in itertools.islice(bans, limit)
            ),
        )

    async def _invitations(self, limit: int) -> Answer:
        found = await self._admission.book.invitations()
        shown = (
            InvitationShown(one.id, one.note, one.expires, one.uses, one.used, one.revoked)
            for one in found[:limit]
        )
        return InvitationsShown(len(found), tuple(shown))
