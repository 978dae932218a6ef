"""What an operator can do with a running relay. Each change is stored before it is said to be done,
and has taken hold on who is here by then.
"""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, assert_never

from protocol.invitation import BadInvitation, read_statement
from protocol.messages import PeerState
from relay.admission import PATIENCE, Admission, Outcome, Refusal, subject_of
from relay.config import RelayConfig
from relay.control import ControlConnection
from relay.keys import Keys
from relay.log import guarded
from relay.mailbox import Mailbox
from relay.metrics import Metrics
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
    Drain,
    Failed,
    Forget,
    Invitations,
    InvitationShown,
    InvitationsShown,
    Peers,
    PeerShown,
    PeersShown,
    ProcessShown,
    Revoke,
    Status,
    StatusShown,
    Top,
    TopShown,
    Used,
)
from relay.plane import Planes
from relay.presence import Presence
from relay.process import build_info, process_now
from relay.store import StoreFailed, StoreUnsure
from relay.tally import Figures

if TYPE_CHECKING:
    from relay.dns import DnsServer

__all__ = ["Desk", "Present"]

_AT_ONCE = 100
"""Connections that are looked at before others have their turn: some 2 ms, where networks of five
sizes are banned."""
_FIGURES = 1.0
"""Seconds between two looks at what each peer has had."""
_NOTHING = Figures()
_FORGOTTEN = Refusal(
    "what this relay kept of this peer is removed, by its operator",
    PATIENCE,
    outcome=Outcome.REVOKED,
)
_ID = 16
"""Hexadecimal characters of an invitation's id."""


class Running(Protocol):
    """The relay itself, as its operator may see it."""

    guid: str
    keys: Keys
    urls: tuple[str, ...]
    admin_urls: tuple[str, ...]
    config: RelayConfig
    drain_asked: asyncio.Event

    @property
    def draining(self) -> bool: ...

    @property
    def connections(self) -> Collection[ControlConnection]: ...


@dataclass(frozen=True, slots=True)
class Present:
    """Who and what is at the relay now."""

    presence: Presence
    planes: Planes
    dns: "DnsServer | None"
    metrics: Metrics
    relay: Running
    mailbox: Mailbox | None = None


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
        self._banned: set[str] = set()
        """Whom the zone has dropped."""
        self._to_drop: list[str] = []
        """Whom it is still to drop."""
        self._figured = -math.inf
        """When what each peer has had was last asked for."""

    def turned_away(self) -> None:
        """Somebody could not be heard: too many are being heard."""
        self._present.metrics.refusals.add("operators", "this host")

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
                case Top():
                    return await self._top(asked)
                case Bans():
                    return self._bans(asked.limit)
                case Invitations():
                    return await self._invitations(asked.limit)
                case Forget():
                    return await self._remove(asked)
                case Status():
                    return self._status()
                case Drain():
                    return self._drain()
                case _:
                    assert_never(asked)
        except (ValueError, BadInvitation) as error:
            return Failed(str(error))
        except StoreUnsure as error:
            return Failed(f"it may hold, or not ({error}): say it again")
        except StoreFailed as error:
            return Failed(f"the relay cannot store it, so nothing has changed: {error}")

    async def review(self) -> int:
        """Send away who is here and is not admitted any more; return how many connections ended."""
        judge = self._admission.judge
        # Who is not registered yet is asked about anyway.
        return await self._end(
            lambda one: judge(one.guid, one.observed_host) if one.is_registered else None,
            lambda guid, host: judge(guid, host) is not None,
        )

    async def end(self, guid: str, refusal: Refusal) -> int:
        """Send a peer away; return how many connections ended."""
        return await self._end(
            lambda one: refusal if one.has_proven_key and one.guid == guid else None,
            lambda one, _: one == guid,
        )

    async def hear(self) -> None:
        """Take over what was said at other nodes, or to other processes of this machine."""
        book = self._admission.book
        if await book.refresh():
            await self.review()
            banned = {ban.subject for ban in book.bans}
            self._banned &= banned
            self._to_drop = list(banned - self._banned)
        some, self._to_drop = self._to_drop[:_AT_ONCE], self._to_drop[_AT_ONCE:]
        for subject in some:
            await self._forget(subject)
            self._banned.add(subject)
        for order in book.orders():
            await self.end(order.guid, _FORGOTTEN)
            await self._present.presence.forget(order.guid)
            await self._forget(order.guid)
            await book.carried_out(order)

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
        self._admission.book.check_open()
        # First: what is here is kept for as long as it is.
        ended = await self.end(subject, _FORGOTTEN)
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
        if self._present.mailbox is not None and await self._present.mailbox.forget(guid):
            yield "letters to it and from it"

    async def _end(
        self,
        judge: Callable[[ControlConnection], Refusal | None],
        is_gone: Callable[[str, str], bool],
    ) -> int:
        """End connections by what a judge says of each, the planes of their peers, and those of who
        is gone though it has its connection elsewhere: it may be at another node. The loop is not
        held for long, however many there are."""
        ended = 0
        gone: set[str] = set()
        connections = list(self._present.relay.connections)
        for number, one in enumerate(connections, 1):
            refusal = judge(one)
            if refusal is not None:
                gone.add(one.guid)
                with guarded("sending a peer away"):
                    one.refuse(refusal)
                ended += 1
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        with guarded("ending planes"):
            await self._present.planes.end_of(
                lambda guid, host: guid in gone or is_gone(guid, host)
            )
        return ended

    async def _forget(self, subject: str) -> None:
        """Take a peer that has to go out of the zone; it can put nothing there any more."""
        if self._present.dns is not None and "/" not in subject:
            with guarded("taking a peer out of the zone"):
                await self._present.dns.messages.drop(subject)

    # -- lists ----------------------------------------------------------------------------------

    async def _peers(self, limit: int) -> Answer:
        await self._figure()
        tally = self._present.metrics.tally
        now, wall = self._clock(), self._wall_clock()
        registry, book = self._present.presence.registry, self._admission.book
        here: dict[str, list[ControlConnection]] = {}
        for number, one in enumerate(list(self._present.relay.connections), 1):
            if one.is_registered:
                here.setdefault(one.guid, []).append(one)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        shown = []
        for number, (guid, flows) in enumerate(itertools.islice(here.items(), limit), 1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            peer, member, had = registry.get(guid), book.member(guid), tally.of(guid)
            shown.append(
                PeerShown(
                    guid,
                    tuple(sorted({flow.observed_host for flow in flows})),
                    tuple(sorted(peer.services)) if peer is not None else (),
                    wall - (now - min(flow.opened for flow in flows)),
                    (member.invitation or None) if member is not None else None,
                    had.sent,
                    had.received,
                    had.planes,
                    had.requests,
                    had.refusals,
                )
            )
        return PeersShown(len(here), tuple(shown))

    async def _top(self, asked: Top) -> Answer:
        await self._figure()
        present, metrics = self._present, self._present.metrics
        process = process_now()
        rows = (
            Used(
                guid,
                present.presence.registry.get(guid) is not None,
                had.sent,
                had.received,
                had.planes,
                had.requests,
                had.refusals,
            )
            for guid, had in metrics.tally.most(asked.by, asked.limit)
        )
        return TopShown(
            at=self._clock(),
            build=build_info(),
            process=ProcessShown(
                process.cpu_seconds,
                process.resident_bytes,
                process.descriptors,
                process.max_descriptors,
                process.started,
            ),
            loop_lag=metrics.loop.lag,
            connections=len(present.relay.connections),
            registered=present.presence.registry.counts(self._clock())[PeerState.ONLINE.value],
            planes=present.planes.live,
            messages_in=metrics.messages_in,
            messages_out=metrics.messages_out,
            requests=sum(metrics.requests.values()),
            refusals=metrics.refusals.total(),
            plane_bytes=metrics.plane_bytes,
            peers=tuple(rows),
        )

    def _status(self) -> Answer:
        present, relay = self._present, self._present.relay
        return StatusShown(
            relay.guid,
            tuple(one.guid for one in relay.keys.served[1:]),
            relay.urls,
            relay.admin_urls,
            relay.draining,
            relay.config.admission,
            relay.config.state,
            process_now().started,
            build_info(),
            present.presence.registry.counts(self._clock())[PeerState.ONLINE.value],
            len(relay.connections),
            present.planes.live,
        )

    def _drain(self) -> Answer:
        relay = self._present.relay
        was = relay.draining or relay.drain_asked.is_set()
        relay.drain_asked.set()
        return Done(relay.guid, "drains already" if was else "drains", 0)

    def forget_figures(self) -> None:
        """Ask anew what each peer has had, however short ago that was asked."""
        self._figured = -math.inf

    async def _figure(self) -> None:
        """Have the tally told what peers have had that are here: at most once a second, and the
        loop is not held for long, however many they are."""
        now = self._clock()
        if now - self._figured < _FIGURES:
            return
        self._figured = now
        tally = self._present.metrics.tally
        for number, (guid, had) in enumerate(self._untold(), 1):
            if had is not _NOTHING:
                tally.add(guid, had)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _untold(self) -> Iterator[tuple[str, Figures]]:
        for one in list(self._present.relay.connections):
            # Who has said nothing has had nothing but what goes with the next look.
            yield one.guid, one.had.take() if one.is_registered and one.had.sent else _NOTHING
        yield from self._present.planes.untold()

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
