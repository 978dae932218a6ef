"""How one connection's peer is admitted: asked once it has proven its key, and again when the grant
ends. What a grant allows is asked here, and who decides is in `relay.admission`.
"""

from collections.abc import Callable

from protocol.errors import Code
from protocol.invitation import Invitation
from protocol.messages import Mode
from relay.admission import Applicant, Grant, Outcome, Refusal
from relay.control.handshake import Claim
from relay.control.reception import Reception
from relay.limits import cause_of

__all__ = ["Admittance"]

_NOTHING_YET = Grant()


def _to_nobody(refusal: Refusal) -> None:
    """Nobody is there any more."""


class Admittance:
    """The admittance of one connection. `refuse` is called when the peer has to go."""

    __slots__ = ("_applicant", "_ends", "_grant", "_reception", "_refuse", "cost")

    def __init__(self, reception: Reception, refuse: Callable[[Refusal], None]) -> None:
        self._reception = reception
        self._refuse = refuse
        self._grant = _NOTHING_YET
        self._ends: float | None = None
        """When the grant does; None while it has no end, or somebody was asked for the next."""
        self._applicant: Applicant | None = None
        """Kept only where it may have to be asked again: there are as many as connections."""
        self.cost = 1.0
        """What one service request costs the peer, where its rate is another than everybody's."""

    def ask(self, claim: Claim, presented: bytes, host: str, later: Callable[[], None]) -> bool:
        """Ask for a peer that has proven its key. Return whether it is admitted now: else it is
        refused, now or later, or `later` is called."""
        admission = self._reception.admission
        cause = cause_of(host)
        applicant = Applicant(claim.hello.guid, host, cause.network, cause.wide)
        if presented and admission.asks_invitation and admission.needs_invitation(applicant.guid):
            found = self._open(claim, presented, applicant.network)
            if isinstance(found, Refusal):
                admission.refused(applicant, found)
                self._refuse(found)
                return False
            applicant = Applicant(applicant.guid, host, cause.network, cause.wide, found)
        self._applicant = applicant
        return self._put(applicant, later)

    def end(self) -> None:
        """The connection is over: nothing of it is held here any more, or a collection had to find
        the two."""
        self._refuse = _to_nobody
        self._ends = self._applicant = None

    def allows(self, mode: Mode) -> bool:
        """Whether the peer may ask for a session in a mode."""
        modes = self._grant.modes  # Grant.allows, without its call: asked with every request.
        return modes is None or mode in modes

    def watch_time(self, now: float) -> None:
        """Ask again when the grant has ended: call it every second."""
        if self._ends is not None and now >= self._ends and self._applicant is not None:
            self._ends = None
            self._put(self._applicant, lambda: None)

    def _put(self, applicant: Applicant, later: Callable[[], None]) -> bool:
        asking, admitted = True, False

        def answered(decided: Grant | Refusal) -> None:
            nonlocal admitted
            if isinstance(decided, Refusal):
                self._refuse(decided)
                return
            self._take(decided)
            if asking:
                admitted = True
            else:
                later()

        self._reception.admission.ask(applicant, answered)
        asking = False
        return admitted

    def _take(self, grant: Grant) -> None:
        reception = self._reception
        self._grant = grant
        if grant.lifetime is None:
            self._applicant = None
        self._ends = None if grant.lifetime is None else reception.clock() + grant.lifetime
        rate = grant.requests_per_second
        self.cost = 1.0 if rate is None else reception.requests.per_second / rate

    def _open(self, claim: Claim, presented: bytes, network: str) -> Invitation | Refusal:
        reception = self._reception
        if wait := reception.invitations.take(network, reception.clock()):
            reason = "too many invitations from here"
            return Refusal(reason, wait, Code.LIMIT_EXCEEDED, Outcome.BUSY)
        return reception.operators.open(presented, claim.relay, claim.nonce, claim.hello.guid)
