"""The door for peers: who has proven a key is admitted, or not; and who is here may have to go.

Bans come first. Then the program's own function decides, where there is one; else the list and the
invitations do, as far as the relay is not open. Whatever fails admits nobody.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal

from protocol.errors import Code
from relay.admission.bans import Ban
from relay.admission.book import Book
from relay.admission.grants import PATIENCE, Admit, Applicant, Grant, Outcome, Refusal
from relay.admission.invitations import grant_of, invited_only
from relay.admission.rows import expired
from relay.limits import Counts
from relay.log import guarded, log, short
from relay.metrics import Metrics
from relay.store import StoreFailed
from relay.tally import Figures

__all__ = ["Admission", "AdmissionRules"]

_MAX_UNDECIDED, _MAX_UNDECIDED_OF_ONE = 1024, 64
"""Peers in all, and of one network, that wait to be decided: the program's function, or the store,
is asked for so many at once."""
_BUSY = 5.0
_UNDECIDED = 30.0
"""Seconds after which a peer may ask again that could not be decided."""
_LOGGED_EVERY = 60.0
"""Seconds between two tracebacks of the program's function: strangers make it be called."""

_OPEN = Grant()


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """How one relay admits."""

    who: Literal["open", "listed", "invited"]
    listed: frozenset[str]
    """GUIDs of the configuration."""
    timeout: float
    """Seconds for the program's function."""
    admit: Admit | None = None
    """The program's function, in place of the list and the invitations."""


class Admission:
    """The admission of one relay."""

    def __init__(
        self,
        rules: AdmissionRules,
        book: Book,
        metrics: Metrics,
        clock: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """`clock` gives Unix time."""
        self._rules = rules
        self._metrics = metrics
        self._clock = clock
        self._spawn = spawn
        self._undecided = Counts(_MAX_UNDECIDED_OF_ONE, _MAX_UNDECIDED)
        self._logged = -_LOGGED_EVERY
        self.book = book

    @property
    def asks_invitation(self) -> bool:
        """Whether peers are asked for an invitation, where they have one."""
        return self._rules.admit is not None or self._rules.who == "invited"

    def needs_invitation(self, guid: str) -> bool:
        """Whether an invitation that a peer shows would be looked at."""
        return self._rules.admit is not None or not isinstance(self._known(guid), Grant)

    def ask(self, applicant: Applicant, answer: Callable[[Grant | Refusal], None]) -> None:
        """Decide about a peer that has proven its key. `answer` is called once: now, where nobody
        has to be waited for."""
        decided = self._at_once(applicant)
        if decided is not None:
            self._answered(applicant, decided, answer)
            return
        place = self._undecided.take(applicant.network, applicant.wide)
        if place is None:
            reason = "too many peers wait to be admitted"
            busy = Refusal(reason, _BUSY, Code.LIMIT_EXCEEDED, Outcome.BUSY)
            self._answered(applicant, busy, answer)
            return

        async def decide() -> None:
            decided: Grant | Refusal = _undecided(Outcome.FAILED)
            with place, guarded("deciding who is admitted"):
                decided = await self._decide(applicant)
            # It may have been banned meanwhile.
            self._answered(applicant, self._banned(applicant) or decided, answer)

        self._spawn(decide())

    def judge(self, guid: str, host: str) -> Refusal | None:
        """Say of a peer that is here whether it has to go, as far as the relay itself knows."""
        ban = self.book.bans.of(guid, host, self._clock())
        if ban is not None:
            return _refused_by(ban, self._clock())
        if self._rules.admit is not None or self._rules.who == "open":
            return None
        known = self._known(guid)
        if isinstance(known, Refusal):
            return known
        reason = "this peer's admission was taken back by the relay's operator"
        return Refusal(reason, outcome=Outcome.REVOKED) if known is None else None

    def refused(self, applicant: Applicant, refusal: Refusal) -> None:
        """Count and log a refusal."""
        self._metrics.admissions[refusal.outcome.value] += 1
        self._metrics.tally.add(applicant.guid, Figures(refusals=1))
        self._metrics.refusals.add(
            refusal.outcome.value,
            applicant.host,
            peer=short(applicant.guid),
            invitation=applicant.invitation.id if applicant.invitation else "",
        )

    # -- inside ---------------------------------------------------------------------------------

    def _banned(self, applicant: Applicant) -> Refusal | None:
        now = self._clock()
        ban = self.book.bans.of(applicant.guid, applicant.host, now)
        return None if ban is None else _refused_by(ban, now)

    def _at_once(self, applicant: Applicant) -> Grant | Refusal | None:
        """Decide what needs nobody else; None where somebody has to be asked."""
        banned = self._banned(applicant)
        if banned is not None:
            return banned
        rules = self._rules
        if rules.admit is not None:
            return None
        if rules.who == "open":
            return _OPEN
        known = self._known(applicant.guid)
        if isinstance(known, Grant):
            return known
        if rules.who == "invited" and applicant.invitation is not None:
            return None
        return known or invited_only(rules.who == "invited")

    def _known(self, guid: str) -> Grant | Refusal | None:
        """Return what is known of a peer without asking the store."""
        if guid in self._rules.listed:
            return _OPEN
        member = self.book.member(guid)
        if member is None or (member.invitation and self._rules.who != "invited"):
            return None
        now = self._clock()
        if member.is_over(now):
            return expired("the time for which the invitation admits has ended")
        return grant_of(member.modes, member.rate, member.expires, now)

    async def _decide(self, applicant: Applicant) -> Grant | Refusal:
        admit = self._rules.admit
        if admit is not None:
            return await self._by_program(admit, applicant)
        invitation = applicant.invitation
        if invitation is None:
            return invited_only(True)
        try:
            found = await self.book.redeem(invitation, applicant.guid)
        except StoreFailed as error:
            log.error("an invitation cannot be stored", reason=str(error))
            return _undecided(Outcome.FAILED)
        if isinstance(found, Refusal):
            return found
        log.info("invitation used", peer=short(found.guid), invitation=found.invitation)
        return grant_of(found.modes, found.rate, found.expires, self._clock())

    async def _by_program(self, admit: Admit, applicant: Applicant) -> Grant | Refusal:
        """Ask the program's function. It has a task of its own, so that one which takes no notice
        of being cancelled keeps nobody waiting."""

        async def call() -> Grant | Refusal:
            found = await admit(applicant.guid, applicant.network, applicant.invitation)
            if not isinstance(found, Grant | Refusal):
                raise TypeError(f"a Grant or a Refusal is wanted, not {found!r:.80}")
            return found

        task = asyncio.get_running_loop().create_task(call())
        task.add_done_callback(_heard)
        try:
            await asyncio.wait({task}, timeout=self._rules.timeout)
        finally:
            task.cancel()
        if not task.done():
            self._complain("the program did not decide in time who is admitted", None)
            return _undecided(Outcome.TIMED_OUT)
        if task.cancelled():
            self._complain("the program's decision who is admitted was cancelled", None)
            return _undecided(Outcome.FAILED)
        error = task.exception()
        if error is not None:
            self._complain("the program failed to decide who is admitted", error)
            return _undecided(Outcome.FAILED)
        return task.result()

    def _complain(self, what: str, error: BaseException | None) -> None:
        now = monotonic()
        if now - self._logged >= _LOGGED_EVERY:
            self._logged = now
            log.error(what, exc_info=error)

    def _answered(
        self,
        applicant: Applicant,
        decided: Grant | Refusal,
        answer: Callable[[Grant | Refusal], None],
    ) -> None:
        if isinstance(decided, Refusal):
            self.refused(applicant, decided)
        else:
            self._metrics.admissions[Outcome.GRANTED.value] += 1
        answer(decided)


def _refused_by(ban: Ban, now: float) -> Refusal:
    """A ban of a key is for good, unless it ends; that of a network ends for who leaves it."""
    if ban.is_network:
        reason = "this relay's operator does not admit peers from this network"
        return Refusal(reason, PATIENCE, outcome=Outcome.BANNED)
    reason = "this relay's operator does not admit this peer"
    if ban.expires is None:
        return Refusal(reason, outcome=Outcome.BANNED)
    return Refusal(f"{reason} for now", max(1.0, ban.expires - now), outcome=Outcome.BANNED)


def _undecided(outcome: Outcome) -> Refusal:
    # Not NOT_ADMITTED: an older peer would take that as final.
    reason = "this relay cannot decide now who is admitted"
    return Refusal(reason, _UNDECIDED, Code.INTERNAL, outcome)


def _heard(task: "asyncio.Task[Grant | Refusal]") -> None:
    """What comes when nobody waits any more is passed over."""
    if not task.cancelled():
        task.exception()
