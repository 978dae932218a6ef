"""Keeps one peer registered in a zone: carries out what the registration's machine decides.

Whatever goes wrong meanwhile, expected or not, is a failure of the registration, which is tried
again after a pause; it ends nothing else.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import dns.rcode

from peers.config import log
from peers.dns.events import (
    Action,
    Begin,
    Changed,
    Confirm,
    Conflict,
    End,
    Event,
    Failed,
    Found,
    GiveUp,
    Look,
    NotRegistered,
    Refused,
    Registered,
    Remove,
    Taken,
    Update,
    Withdraw,
)
from peers.dns.primary import Primary, Reply
from peers.dns.registration import Registration
from peers.dns.states import State
from peers.tasks import unless
from protocol.dns_records import ZoneRecord, location_record_sets
from protocol.endpoint import SignedEntry
from protocol.errors import (
    Code,
    ConnectionClosed,
    NameServerUnavailable,
    RoamRelayError,
    UpdateRefused,
)

__all__ = ["Keeper", "LocationNow"]

_CONFLICTS = (dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN)
_NEXT_STEP = {
    dns.rcode.REFUSED: "the server's policy must let this key change its own name and what is "
    "below it",
    dns.rcode.NOTAUTH: "the server is not the zone's primary, or does not know the key",
    dns.rcode.NOTZONE: "the name is not in the zone",
    dns.rcode.NOTIMP: "the server takes no updates",
}

LocationNow = Callable[[int], tuple[int, Mapping[str, Sequence[SignedEntry]]]]
"""Returns the location record of now, as far as anybody may know it, under a number above the given
one."""

_Work = Look | Confirm | Update | Remove

_log = logging.getLogger("peers")


class Keeper:
    """`run` it in a task; `changed` whenever what it says may be different."""

    def __init__(self, primary: Primary, machine: Registration, location: LocationNow) -> None:
        self._primary = primary
        self._machine = machine
        self._location = location
        self._work: _Work | None = None
        """What is to be under way."""
        self._turn = asyncio.Event()
        """Something else is to be under way, or nothing."""
        self._settled = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def changed(self) -> None:
        """Publish anew as soon as possible; an update that is under way is given up, as it may
        come from an address that is gone."""
        self._tell(Changed())

    async def published(self, timeout: float) -> None:
        """Wait until the zone holds what is said now.

        Raises:
            UpdateRefused, NameServerUnavailable: it does not, or not in time.
            RoamRelayError: something unexpected has happened; it is in the log.
            ConnectionClosed: the records were taken back.
        """
        machine = self._machine
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not machine.is_settled:
                    await self._settled.wait()
        match machine.state:
            case State.HELD:
                return
            case State.GONE:
                raise ConnectionClosed(f"no longer registered in {self._primary.zone}")
            case _:
                raise machine.failure or NameServerUnavailable(
                    f"not registered in {self._primary.zone} within {timeout:g} s"
                )

    async def run(self) -> None:
        """Publish, and again on every change, after every failure, and from time to time. Ends on
        cancellation, or where another instance has taken the name over."""
        self._running = asyncio.current_task()
        self._tell(Begin())
        while not self._machine.is_over:
            await self._step()

    async def withdraw(self) -> None:
        """Take this peer's records out of the zone, if it has put any there. Tries once, whether
        or not `run` still runs; nothing is under way afterwards, however this ends."""
        try:
            self._tell(Withdraw())
            if self._running is not None:
                self._running.cancel()
                due = self._machine.next_timeout()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await asyncio.wait({self._running})
            while not self._machine.is_over:
                await self._step()
        finally:
            self._tell(End())

    # -- inside ---------------------------------------------------------------------------------

    async def _step(self) -> None:
        """Do what is under way until it is answered or given up, or until the next thing is due."""
        self._turn.clear()
        work = self._work
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._machine.next_timeout()):
                if work is None:
                    # No timeout where nothing is due: `changed` or the end comes some day.
                    await self._turn.wait()
                else:
                    await unless(self._turn, partial(self._do, work))
        self._carry_out(self._machine.handle_timeout(asyncio.get_running_loop().time()))

    def _tell(self, event: Event) -> None:
        self._carry_out(self._machine.handle(event, asyncio.get_running_loop().time()))

    def _carry_out(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case GiveUp():
                    self._begin(None)
                case Look() | Confirm() | Update() | Remove():
                    self._begin(action)
                case Registered():
                    log.info("registered", zone=self._primary.zone, seq=action.record.seq)
                case NotRegistered():
                    self._primary.forget()
                    if action.failure.code is not Code.INTERNAL:  # That is in the log already.
                        reason = action.failure.reason
                        log.warning(
                            "not registered in the DNS", zone=self._primary.zone, reason=reason
                        )
        if self._machine.is_settled:
            self._settled.set()
        else:
            self._settled.clear()

    def _begin(self, work: _Work | None) -> None:
        self._work = work
        self._turn.set()

    async def _do(self, work: _Work) -> None:
        try:
            event = await self._answer(work)
        except RoamRelayError as error:
            event = Failed(work.attempt, error)
        except Exception as error:
            _log.error("unexpected while registering in the DNS: %r", error, exc_info=error)
            failure = RoamRelayError(f"unexpected: {error!r}", code=Code.INTERNAL)
            failure.__cause__ = error
            event = Failed(work.attempt, failure)
        # An answer may come in the very turn in which it was given up for something else.
        if event is not None and self._work is work:
            self._work = None
            self._tell(event)

    async def _answer(self, work: _Work) -> Event | None:
        """Return what came of it; None where it was given up before it began."""
        match work:
            case Look():
                return Found(work.attempt, await self._primary.look())
            case Confirm():
                followed, proven = await self._primary.confirm(work.above)
                return Found(work.attempt, followed, confirmed=True, proven=proven)
            case Update():
                return await self._update(work)
            case Remove():
                reply = await self._primary.update(work.followed, {})
                log.info("withdrawn", zone=self._primary.zone, code=dns.rcode.to_text(reply.code))
                return self._meaning(work.attempt, reply)

    async def _update(self, work: Update) -> Event | None:
        seq, services = self._location(work.above)
        instance = self._machine.instance
        sets = location_record_sets(
            self._primary.guid, self._primary.zone, seq, services, bytes.fromhex(instance)
        )
        if not self._machine.sending(work.attempt, ZoneRecord(seq, tuple(services), instance)):
            return None
        return self._meaning(work.attempt, await self._primary.update(work.followed, sets))

    def _meaning(self, attempt: int, reply: Reply) -> Event:
        """Return what the server's word means for the registration."""
        if reply.code == dns.rcode.NOERROR and reply.obstacle:
            # Some of it is there: what is taken back at the end must be looked for.
            return Failed(attempt, UpdateRefused(reply.obstacle))
        if reply.code == dns.rcode.NOERROR:
            return Taken(attempt)
        if reply.obstacle:
            return Refused(attempt, UpdateRefused(reply.obstacle))
        said = dns.rcode.to_text(reply.code)
        if reply.code in _CONFLICTS:
            return Conflict(attempt, f"{reply.server} said {said}")
        hint = _NEXT_STEP.get(reply.code, "")
        return Refused(
            attempt,
            UpdateRefused(
                f"{reply.server} refused the update of {self._primary.zone}: {said}"
                + (f" ({hint})" if hint else "")
            ),
        )
